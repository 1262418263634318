//! One execution of a recipe, and the folder that holds all it produced.

mod evaluations;
mod folder;
mod manifest;
mod metrics;
mod summary;

pub use evaluations::{Best, Evaluation, Evaluations};
pub use folder::Folder;
pub use manifest::{Manifest, digest};
pub use metrics::{Metrics, Point, PointTiming};
pub use summary::{Summary, SummaryTiming, peak_rss_mib};
