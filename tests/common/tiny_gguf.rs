//! The tiny Llama as a GGUF file.

use super::gguf::{Meta, gguf};
use super::tiny::{FF, GROUPS, HEAD_WIDTH, HEADS, Tiny, WIDTH};
use super::tiny_tokenizer;

/// GGUF's name of a published tensor.
fn own(name: &str) -> String {
    let plain = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    let inside = [
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("model.layers", "blk"),
    ];
    plain.map_or_else(
        || {
            inside
                .iter()
                .fold(name.to_string(), |name, (published, own)| name.replace(published, own))
        },
        str::to_owned,
    )
}

/// Rows in the order of the published files, brought into the one of Llama's GGUF files: the halves
/// of a head interleaved.
fn interleaved(values: &[f32], heads: usize) -> Vec<f32> {
    let row = |r: usize| &values[r * WIDTH..(r + 1) * WIDTH];
    let half = HEAD_WIDTH / 2;
    let order = (0..heads).flat_map(|head| {
        (0..half).flat_map(move |i| [0, half].map(|part| head * HEAD_WIDTH + part + i))
    });
    order.flat_map(|r| row(r).to_vec()).collect()
}

/// The bytes of the file; `change` may alter the number of a key of the metadata.
pub fn bytes(tiny: &Tiny, change: impl Fn(&str, u32) -> u32) -> Vec<u8> {
    let tensors = tiny.tensors();
    let stored: Vec<(String, Vec<u64>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape, values)| {
            let values = match () {
                _ if name.contains("q_proj") => interleaved(values, HEADS),
                _ if name.contains("k_proj") => interleaved(values, GROUPS),
                _ => values.clone(),
            };
            (
                own(name),
                shape.iter().rev().map(|n| *n as u64).collect(),
                values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            )
        })
        .collect();
    let (tokens, merges) = (tiny_tokenizer::tokens(), tiny_tokenizer::merges());
    let merges: Vec<String> =
        merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    let types: Vec<i32> =
        (0..tokens.len()).map(|id| if id == tiny_tokenizer::eos() { 3 } else { 1 }).collect();
    let scores = vec![0.0; tokens.len()];
    let size = |key: &'static str, n: usize| (key, Meta::U32(change(key, n as u32)));
    let metadata = [
        ("general.architecture", Meta::Text("llama")),
        size("llama.embedding_length", WIDTH),
        size("llama.feed_forward_length", FF),
        size("llama.block_count", tiny.layers),
        size("llama.attention.head_count", HEADS),
        size("llama.attention.head_count_kv", GROUPS),
        size("llama.context_length", 512),
        ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-6)),
        ("llama.rope.freq_base", Meta::F32(10000.0)),
        ("tokenizer.ggml.model", Meta::Text("gpt2")),
        ("tokenizer.ggml.pre", Meta::Text("gpt-2")),
        ("tokenizer.ggml.tokens", Meta::Texts(tokens.iter().map(String::as_str).collect())),
        ("tokenizer.ggml.merges", Meta::Texts(merges.iter().map(String::as_str).collect())),
        ("tokenizer.ggml.token_type", Meta::I32s(types)),
        ("tokenizer.ggml.scores", Meta::F32s(scores)),
        ("tokenizer.ggml.add_bos_token", Meta::Bool(false)),
        size("tokenizer.ggml.eos_token_id", tiny_tokenizer::eos()),
    ];
    let tensors: Vec<_> = stored
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), shape.clone(), 0, bytes.clone()))
        .collect();
    gguf(&metadata, &tensors)
}
