//! Errors as a script sees them.

use rhai::{Dynamic, EvalAltResult, Position};

use crate::error::{Class, Error, class_of};

/// What a native answers with.
pub(super) type Answer<T> = Result<T, Box<EvalAltResult>>;

/// The value that a script catches.
pub(super) fn value_of(error: &anyhow::Error) -> Dynamic {
    Dynamic::from(Error::from(error))
}

/// An error as a script sees it, with class and hint; it can be caught unless going on makes no
/// sense (interrupt, a disk that takes no more, a file that the run had kept and lost).
pub(super) fn to_script(error: &anyhow::Error) -> Box<EvalAltResult> {
    let class = class_of(error);
    let value = value_of(error);
    let fatal =
        |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<Error>().is_some_and(|e| e.fatal);
    Box::new(if class == Class::Interrupted || error.chain().any(|e| no_room(e) || fatal(e)) {
        EvalAltResult::ErrorTerminated(value, Position::NONE)
    } else {
        EvalAltResult::ErrorRuntime(value, Position::NONE)
    })
}

/// Whether a disk does not take what is to be kept: full, over a quota or a limit of file sizes,
/// read-only, broken.
fn no_room(e: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    const BROKEN: i32 = 5; // EIO
    e.downcast_ref::<std::io::Error>().is_some_and(|e| {
        matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem)
            || cfg!(unix) && e.raw_os_error() == Some(BROKEN)
    })
}
