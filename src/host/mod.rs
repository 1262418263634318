//! The script host: the only folder that names Rhai.
//!
//! A recipe is untrusted input. It has no file system, network, process or clock of its own; all it
//! can reach are the natives in `bind`, and these reach everything through one handle, [`Host`].

mod bind;
mod console;
mod context;
mod diagnostics;
mod door;
mod engine;
mod guard;
mod limits;
mod modules;
mod options;
mod params;
mod recipe;

pub use console::{Console, Progress};
pub use context::{Host, Settings};
pub use diagnostics::Report;
pub use guard::Guard;
pub use limits::Limits;
pub use recipe::run;
