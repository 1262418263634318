//! The script host: the only folder that names Rhai.
//!
//! A recipe is untrusted input. It has no file system, network, process or clock of its own; all it
//! can reach are the natives in `bind`, and these reach everything through one handle, `Host`.

mod aliases;
mod api;
mod bind;
mod bounded;
mod context;
mod diagnostics;
mod engine;
mod foreign;
mod journaled;
mod modules;
mod options;
mod params;
mod precheck;
mod recipe;
mod replay;
mod script_error;
mod script_work;
mod signature;

pub use api::{Entry, definitions as api_definitions, entries as api_entries};
pub use bind::{template_file, template_of};
pub use diagnostics::Report;
pub use foreign::{Foreign, foreign};
pub use recipe::{Finished, examine, resume, run};

#[cfg(test)]
mod testing {
    //! A host for tests: it runs a script from a string and keeps what was printed.

    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};

    use super::context::Host;
    use super::*;
    use crate::session::{Console, Guard, Limits, Progress, Settings, lock};

    #[derive(Default)]
    pub struct Recorder(Mutex<Vec<String>>);

    impl Recorder {
        pub fn lines(&self) -> Vec<String> {
            lock(&self.0).clone()
        }
    }

    impl Console for Recorder {
        fn print(&self, line: &str) {
            lock(&self.0).push(line.into());
        }

        fn note(&self, _: &str) {}

        fn progress(&self, _: &Progress) {}

        fn merged(&self, _: &crate::run::Merge, _: usize) {}
    }

    pub fn host(
        text: &str,
        limits: Limits,
        interrupt: &'static AtomicBool,
    ) -> (Arc<Host>, Arc<Recorder>) {
        let settings = Settings { threads: 1, limits, ..Settings::default() };
        let console = Arc::new(Recorder::default());
        let guard = Guard::new(&settings.limits, interrupt);
        let sources = Arc::new(modules::Sources::new("test.rhai", text, PathBuf::from("/nowhere")));
        (Arc::new(Host::new(settings, guard, console.clone(), sources, None)), console)
    }
}
