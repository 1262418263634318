//! The inputs that fuzzing kept, each through what the fuzzer does with it: none may panic.

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "fuzz/bodies.rs"]
mod bodies;

#[test]
fn kept_inputs_end_in_an_answer_or_an_error() {
    // One that is caught on its way is a panic too.
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, body) in [("recipe", bodies::recipe as fn(&[u8])), ("readers", bodies::readers)] {
        let mut paths: Vec<_> =
            fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 100, "{name}: only {} inputs", paths.len());
        for path in paths {
            body(&fs::read(&path).unwrap());
            assert_eq!(PANICS.load(Ordering::Relaxed), 0, "{}", path.display());
        }
    }
    bodies::leave();
}
