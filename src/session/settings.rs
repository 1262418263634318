//! What a session is started with.

use std::path::PathBuf;
use std::time::Duration;

use candle_core::{DType, Device};

use super::limits::Limits;
use crate::source::Places;

/// What the command line decides of a recipe.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The run folder; `None` makes `runs/NAME-TIME`.
    pub out: Option<PathBuf>,
    /// `-p NAME=VALUE`, in the order given.
    pub params: Vec<(String, String)>,
    /// What `--params` gives where `-p` does not: values that let the recipe read nothing.
    pub params_of_file: serde_json::Map<String, serde_json::Value>,
    pub seed: u64,
    /// Threads that compute, for `run.json`; [`crate::device::set_threads`] sets them.
    pub threads: usize,
    pub device: Device,
    /// Storage type of weights.
    pub dtype: DType,
    /// Any model and data set may be fetched from the hub.
    pub allow_hub: bool,
    /// How long a fit goes on before it is kept as it is then.
    pub checkpoint: Duration,
    pub limits: Limits,
    /// Where the names of a run lie that is gone on with.
    pub places: Places,
}

impl Default for Settings {
    /// On the CPU in f32, with seed 0 and the threads that there are.
    fn default() -> Self {
        Self {
            out: None,
            params: vec![],
            params_of_file: Default::default(),
            seed: 0,
            threads: rayon::current_num_threads(),
            device: Device::Cpu,
            dtype: DType::F32,
            allow_hub: false,
            checkpoint: Duration::from_secs(60),
            limits: Limits::default(),
            places: Places::default(),
        }
    }
}
