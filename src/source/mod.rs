//! Names (`builtin:`, a granted path, a hub id, a GGUF file) turned into verified files, tensors,
//! tokenizers and data files. Everything read here counts as hostile until it is checked.

pub mod data;
pub mod gguf;
mod gguf_header;
pub mod grants;
pub mod hub;
mod hub_data;
pub mod lfs;
mod links;
pub mod model;
pub mod name;
mod places;
pub mod safetensors;
mod splits;
pub mod tensors;
pub mod tokenizer;
mod tokenizer_gguf;
mod tokenizer_train;
mod tokenizer_write;

pub use data::{DataFiles, Embedded, data, data_with};
pub use gguf::{Gguf, Value};
pub use grants::{Grants, expanded};
pub use model::{ModelFiles, ModelFolder, model};
pub use name::{Name, looks_like_path, resolve};
pub use places::{Places, right_one};
pub use safetensors::Safetensors;
pub use splits::{SPLIT_NAMES, split_of, stem_of, without_packing, without_shard};
pub use tensors::TensorSource;
pub use tokenizer::Tokenizer;
