//! A tiny model and a tiny task, written as files: seeded numbers, sizes that train in
//! milliseconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::tiny_tokenizer;

/// D, F, heads, key-value heads, width of a head.
pub const WIDTH: usize = 16;
pub const FF: usize = 24;
pub const HEADS: usize = 4;
pub const GROUPS: usize = 2;
pub const HEAD_WIDTH: usize = WIDTH / HEADS;

/// A tensor to write: published name, shape, numbers.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

/// A model folder to be; the default is a Llama of three layers with a head of its own, stored in
/// F32.
#[derive(Clone)]
pub struct Tiny {
    pub model_type: &'static str,
    pub layers: usize,
    /// `F32`, `F16` or `BF16`.
    pub dtype: Dtype,
    /// Two files and an index instead of one file.
    pub sharded: bool,
    pub tied: bool,
    /// Put over the config's own keys.
    pub config: Value,
    pub seed: u64,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            model_type: "llama",
            layers: 3,
            dtype: Dtype::F32,
            sharded: false,
            tied: false,
            config: json!({}),
            seed: 1,
        }
    }
}

/// Rope scaling as Llama 3.1 has it, for contexts as short as ours.
pub fn llama3_rope() -> Value {
    json!({ "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }})
}

impl Tiny {
    pub fn config(&self) -> Value {
        let architecture = match self.model_type {
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ => "LlamaForCausalLM",
        };
        let mut config = json!({
            "architectures": [architecture], "model_type": self.model_type, "hidden_size": WIDTH,
            "intermediate_size": FF, "num_hidden_layers": self.layers, "num_attention_heads": HEADS,
            "num_key_value_heads": GROUPS, "head_dim": HEAD_WIDTH,
            "vocab_size": tiny_tokenizer::size(), "max_position_embeddings": 512,
            "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "tie_word_embeddings": self.tied, "bos_token_id": null,
            "eos_token_id": tiny_tokenizer::eos(), "torch_dtype": "float32",
        });
        for (key, value) in self.config.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }

    /// Every tensor by its published name, in the order of the network.
    pub fn tensors(&self) -> Vec<Tensor> {
        let (q, kv, vocabulary) = (HEADS * HEAD_WIDTH, GROUPS * HEAD_WIDTH, tiny_tokenizer::size());
        let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![vocabulary, WIDTH])];
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize]| {
                shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()))
            };
            add("input_layernorm.weight", &[WIDTH]);
            for (name, rows) in [("q", q), ("k", kv), ("v", kv)] {
                add(&format!("self_attn.{name}_proj.weight"), &[rows, WIDTH]);
                if self.model_type == "qwen2" {
                    add(&format!("self_attn.{name}_proj.bias"), &[rows]);
                }
            }
            if self.model_type == "qwen3" {
                add("self_attn.q_norm.weight", &[HEAD_WIDTH]);
                add("self_attn.k_norm.weight", &[HEAD_WIDTH]);
            }
            add("self_attn.o_proj.weight", &[WIDTH, q]);
            add("post_attention_layernorm.weight", &[WIDTH]);
            add("mlp.gate_proj.weight", &[FF, WIDTH]);
            add("mlp.up_proj.weight", &[FF, WIDTH]);
            add("mlp.down_proj.weight", &[WIDTH, FF]);
        }
        shapes.push(("model.norm.weight".into(), vec![WIDTH]));
        if !self.tied {
            shapes.push(("lm_head.weight".into(), vec![vocabulary, WIDTH]));
        }
        let mut numbers = Numbers(self.seed);
        let filled = |(name, shape): (String, Vec<usize>)| {
            let centre = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            let values =
                (0..shape.iter().product()).map(|_| centre + 0.4 * numbers.next()).collect();
            (name, shape, values)
        };
        shapes.into_iter().map(filled).collect()
    }

    /// Writes config.json, the weights, tokenizer.json and tokenizer_config.json to `folder`.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.json"), format!("{:#}\n", self.config())).unwrap();
        tiny_tokenizer::write(folder);
        let tensors = self.tensors();
        if !self.sharded {
            return write_safetensors(&folder.join("model.safetensors"), &tensors, self.dtype);
        }
        let mut map = BTreeMap::new();
        for (i, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
            let name = format!("model-{:05}-of-00002.safetensors", i + 1);
            write_safetensors(&folder.join(&name), part, self.dtype);
            map.extend(part.iter().map(|(tensor, ..)| (tensor.clone(), name.clone())));
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
}

/// Tensors as a safetensors file of one type.
pub fn write_safetensors(path: &Path, tensors: &[Tensor], dtype: Dtype) {
    let bytes = |values: &[f32]| -> Vec<u8> {
        match dtype {
            Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    };
    let stored: Vec<Vec<u8>> = tensors.iter().map(|(_, _, values)| bytes(values)).collect();
    let views = tensors.iter().zip(&stored).map(|((name, shape, _), bytes)| {
        (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    let metadata = [("format".to_string(), "pt".to_string())];
    safetensors::serialize_to_file(views, Some(metadata.into_iter().collect()), path).unwrap();
}

/// SplitMix64, as numbers in [-1, 1).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Items in the LLM-Adapters format, `count` of them from number `first` on; the answer alternates.
pub fn items(first: usize, count: usize) -> Value {
    const THINGS: [&str; 6] = ["snow", "rain", "sand", "fire", "wood", "iron"];
    let item = |n: usize| {
        let (right, wrong) = (THINGS[n % 6], THINGS[(n + 1 + n / 6) % 6]);
        let (one, two, answer) =
            if n.is_multiple_of(2) { (right, wrong, "answer1") } else { (wrong, right, "answer2") };
        json!({
            "instruction": format!("Which is {right} {n}?\n\nAnswer1: {one} Answer2: \
                                    {two}\n\nAnswer format: answer1/answer2"),
            "input": "", "output": format!("the correct answer is {answer}"), "answer": answer,
        })
    };
    (first..first + count).map(item).collect()
}

/// Writes train.json (30 items, three of which a task holds out for validation) and test.json (6).
pub fn write_task(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("train.json"), format!("{:#}\n", items(0, 30))).unwrap();
    fs::write(folder.join("test.json"), format!("{:#}\n", items(100, 6))).unwrap();
}

/// The text of test.txt.
pub const TEXT: &str = "Snow is not warm, and sand is not wet.\nThe answer that the task describes \
                        is: fire, wood, iron; 3 × 7 = 21.\n";

/// Writes train.txt (24 short documents) and test.txt, whose measure is a likelihood.
pub fn write_text(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let document = |n: usize| {
        format!(
            "Document {n} is about the number {} and the letter {}.\n",
            n * n,
            char::from(b'a' + n as u8)
        )
    };
    fs::write(
        folder.join("train.txt"),
        (0..24).map(document).collect::<Vec<_>>().join("<|endoftext|>\n"),
    )
    .unwrap();
    fs::write(folder.join("test.txt"), TEXT).unwrap();
}
