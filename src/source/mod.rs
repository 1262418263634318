//! Names (`builtin:`, a granted path, a hub id, a GGUF file) turned into verified files, tensors,
//! tokenizers and data files. Everything read here counts as hostile until it is checked.

mod charsmap;
pub mod data;
pub mod date;
pub mod gguf;
mod gguf_blocks;
mod gguf_header;
mod gguf_split;
pub mod grants;
pub mod hub;
mod hub_data;
pub mod lfs;
mod links;
pub mod model;
pub mod name;
mod places;
mod pre_found;
pub mod pre_tokenizer;
pub mod safetensors;
mod sentencepiece;
mod splits;
pub mod tensors;
pub mod tokenizer;
mod tokenizer_class;
mod tokenizer_files;
mod tokenizer_gguf;
mod tokenizer_json;
mod tokenizer_keys;
mod tokenizer_pieces;
mod tokenizer_pipeline;
mod tokenizer_settings;
mod tokenizer_template;
mod tokenizer_tokens;
mod tokenizer_train;
mod tokenizer_write;

pub use data::{DataFiles, Embedded, data, data_with};
pub use date::Date;
pub use gguf::{Gguf, Value};
pub use grants::{Grants, expanded};
pub use model::{ModelFiles, ModelFolder, model, weight_map};
pub use name::{Name, looks_like_path, resolve};
pub use places::{Places, right_one};
pub use safetensors::{Safetensors, unread};
pub use splits::{SPLIT_NAMES, split_of, stem_of, without_packing, without_shard};
pub use tensors::TensorSource;
pub use tokenizer::Tokenizer;
