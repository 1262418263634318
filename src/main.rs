//! Calls the library and maps an error to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match xgbrun::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(xgbrun::cli::report(&error)),
    }
}
