//! What a GGUF file's metadata may say of a model: read, known to say nothing, or refused where it
//! would change numbers.
//!
//! Keys: `Keys` of gguf-py; what llama.cpp makes of them for these architectures.

use anyhow::Result;

use crate::error::{bail, error};
use crate::source::{Gguf, GgufValue, TensorSource};

/// Keys that are read, or that say nothing of a model without experts, below the architecture's
/// name.
const READ: [&str; 21] = [
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.causal",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "vocab_size",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
    "pooling_type",
    "attention.sliding_window",
    "attention.scale",
];

/// Keys that llama.cpp knows and that mean another computation, unless they are 0, false or the
/// number beside them.
const REFUSED: [(&str, f64); 40] = [
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("router_logit_softcapping", 0.0),
    ("logit_scale", 1.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("use_parallel_residual", 0.0),
    ("nextn_predict_layers", 0.0),
    ("leading_dense_block_count", 0.0),
    ("interleave_moe_layer_step", 0.0),
    ("moe_every_n_layers", 0.0),
    ("full_attention_interval", 0.0),
    ("activation_sparsity_scale", 0.0),
    ("embedding_length_out", 0.0),
    ("embedding_length_per_layer_input", 0.0),
    ("n_deepstack_layers", 0.0),
    ("altup.num_inputs", 0.0),
    ("swiglu_clamp_exp", 0.0),
    ("swiglu_clamp_shexp", 0.0),
    ("swin_norm", 0.0),
    ("attention.q_lora_rank", 0.0),
    ("attention.kv_lora_rank", 0.0),
    ("attention.key_length_mla", 0.0),
    ("attention.value_length_mla", 0.0),
    ("attention.key_length_swa", 0.0),
    ("attention.value_length_swa", 0.0),
    ("attention.shared_kv_layers", 0.0),
    ("attention.sliding_window_pattern", 0.0),
    ("attention.output_scale", 1.0),
    ("attention.temperature_length", 0.0),
    ("attention.temperature_scale", 0.0),
    ("attention.relative_buckets_count", 0.0),
    ("rope.dimension_sections", 0.0),
    ("rope.dimension_count_swa", 0.0),
    ("rope.freq_base_swa", 0.0),
    ("ssm.conv_kernel", 0.0),
    ("ssm.state_size", 0.0),
    ("decoder_block_count", 0.0),
];

/// Refuses what is no model: adapters, projectors, importance matrices.
///
/// Errors (class data).
pub(super) fn check_type(gguf: &Gguf) -> Result<()> {
    let stated = gguf.optional("general.type", GgufValue::as_str)?;
    let has = |key: &str| gguf.get(key).is_some();
    let clip = gguf.get("general.architecture").and_then(GgufValue::as_str) == Some("clip");
    let kind = match stated {
        None if has("adapter.type") => "adapter",
        None if has("imatrix.chunk_count") => "imatrix",
        None | Some("model") if clip => "mmproj",
        None | Some("model") => return Ok(()),
        Some(kind) => kind,
    };
    let shown = gguf.path().display();
    let error = |what: String| error!(Data, "`{shown}` is {what}, not a model");
    Err(match kind {
        "adapter" => error("a LoRA adapter in GGUF".into()).hint(
            "give the model itself; an adapter is read as PEFT keeps it, `adapter_config.json` \
             with `adapter_model.safetensors`",
        ),
        "mmproj" => error("the projector of a model that sees or hears".into())
            .hint("give the file of the language model that lies beside it"),
        "imatrix" => error("an importance matrix, which helps to quantise".into())
            .hint("give the file of the model that was quantised with it"),
        other => error(format!("of the type `{other}`")),
    }
    .into())
}

/// A file's metadata below its architecture's name.
pub(super) struct Metadata<'a> {
    pub gguf: &'a Gguf,
    pub architecture: &'static str,
}

impl Metadata<'_> {
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// A count that fits what a model can have; one that is stated layer by layer is the same in
    /// all. Errors (class data): a missing or impossible one.
    pub fn size(&self, name: &str) -> Result<usize> {
        match self.maybe(name)? {
            Some(n) => Ok(n),
            None => {
                let key = self.key(name);
                self.within(&key, self.gguf.required(&key, GgufValue::as_u64)?)
            }
        }
    }

    /// As [`Metadata::size`], of one that may be missing.
    pub fn maybe(&self, name: &str) -> Result<Option<usize>> {
        let key = self.key(name);
        same_in_all_layers(self.gguf, &key)?.map(|n| self.within(&key, n)).transpose()
    }

    fn within(&self, key: &str, n: u64) -> Result<usize> {
        match usize::try_from(n) {
            Ok(n) if (1..1 << 31).contains(&n) => Ok(n),
            _ => {
                bail!(Data, "`{}`: `{key}` is {n}, which no model has", self.gguf.path().display())
            }
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.gguf.optional(&self.key(name), GgufValue::as_f64)
    }

    /// Tokens of the vocabulary, by the embedding. Errors (class data): no such matrix.
    pub fn vocab_size(&self) -> Result<usize> {
        match self.gguf.shape("token_embd.weight") {
            Some(&[vocab_size, _]) => Ok(vocab_size),
            _ => bail!(
                Data,
                "`{}` has no tensor `token_embd.weight` of two dimensions",
                self.gguf.path().display()
            ),
        }
    }

    /// The id of a token that the tokenizer's metadata name.
    pub fn token(&self, name: &str) -> Result<Option<u32>> {
        let id = self.gguf.optional(&format!("tokenizer.ggml.{name}"), GgufValue::as_u64)?;
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    }

    /// Checks all that they say; what is passed over and worth knowing goes into `notes`. Heads
    /// have `head_dim` numbers, the model sees `positions` tokens.
    ///
    /// Errors (class data): a key that means another computation than this engine's.
    pub fn check(&self, head_dim: usize, positions: usize, notes: &mut Vec<String>) -> Result<()> {
        experts(self.gguf, &self.key("expert_count"))?;
        self.head_sizes(head_dim)?;
        self.attention(head_dim)?;
        self.window(positions, notes)?;
        let pooling = self.key("pooling_type");
        if self.gguf.optional(&pooling, GgufValue::as_u64)?.unwrap_or(0) != 0 {
            notes.push(format!(
                "its `{pooling}` makes it a model of embeddings; here it tells the next token"
            ));
        }
        self.refuse()?;
        self.pass_over(notes);
        Ok(())
    }

    /// Errors where a key of [`REFUSED`] says something.
    fn refuse(&self) -> Result<()> {
        for (name, usual) in REFUSED {
            let key = self.key(name);
            match self.gguf.get(&key) {
                Some(value) if !is_nothing(value) && value.as_f64() != Some(usual) => bail!(
                    Data,
                    "`{}`: `{key}` is {value}: a model that needs it is not known",
                    self.gguf.path().display()
                ),
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes keys that are not known.
    fn pass_over(&self, notes: &mut Vec<String>) {
        let known = |name: &str| {
            READ.contains(&name)
                || REFUSED.iter().any(|(known, _)| *known == name)
                || name.starts_with("rope.scaling.")
                || name.starts_with("expert_")
        };
        let own = self.key("");
        let is_unknown = |key: &&str| key.strip_prefix(&own).is_some_and(|name| !known(name));
        for key in self.gguf.keys().filter(is_unknown) {
            notes.push(format!("its metadata `{key}` is not known and was passed over"));
        }
    }

    fn head_sizes(&self, head_dim: usize) -> Result<()> {
        let (gguf, shown) = (self.gguf, self.gguf.path().display());
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(found) = gguf.optional(&self.key(name), GgufValue::as_u64)?
                && found != head_dim as u64
            {
                bail!(
                    Data,
                    "`{shown}`: `{}` is {found}, and a head has {head_dim} numbers; another size \
                     is not known",
                    self.key(name)
                );
            }
        }
        Ok(())
    }

    fn attention(&self, head_dim: usize) -> Result<()> {
        let (gguf, shown) = (self.gguf, self.gguf.path().display());
        let key = self.key("attention.causal");
        if gguf.optional(&key, GgufValue::as_bool)? == Some(false) {
            bail!(
                Data,
                "`{shown}`: `{key}` is false: the model is an encoder, which cannot be trained or \
                 measured here"
            );
        }
        let (usual, key) = (1.0 / (head_dim as f64).sqrt(), self.key("attention.scale"));
        if let Some(scale) = gguf.optional(&key, GgufValue::as_f64)?
            && scale != 0.0
            && (scale / usual - 1.0).abs() > 1e-6
        {
            bail!(
                Data,
                "`{shown}`: `{key}` is {scale}, not the usual {usual}; another scale is not known"
            );
        }
        Ok(())
    }

    /// Notes a window that a sequence can outgrow.
    fn window(&self, positions: usize, notes: &mut Vec<String>) -> Result<()> {
        let key = self.key("attention.sliding_window");
        if let Some(window) = self.gguf.optional(&key, GgufValue::as_u64)?
            && window > 0
            && window < positions as u64
        {
            notes.push(format!(
                "its `{key}` is {window} and was passed over: attention sees all tokens before, as \
                 in llama.cpp"
            ));
        }
        Ok(())
    }
}

/// A number that is the same in all layers, stated once or layer by layer.
///
/// Errors (class data): it differs from layer to layer, or is no whole number.
fn same_in_all_layers(gguf: &Gguf, key: &str) -> Result<Option<u64>> {
    let Some(GgufValue::Integers(all)) = gguf.get(key) else {
        return gguf.optional(key, GgufValue::as_u64);
    };
    let shown = gguf.path().display();
    match all.first().map(|first| (*first, u64::try_from(*first))) {
        Some((first, _)) if all.iter().any(|n| *n != first) => {
            let other = all.iter().position(|n| *n != first).unwrap_or(0);
            bail!(
                Data,
                "`{shown}`: `{key}` is {first} in layer 0 and {} in layer {other}: layers of \
                 different sizes are not known",
                all[other]
            )
        }
        Some((_, Ok(n))) => Ok(Some(n)),
        _ => bail!(
            Data,
            "`{shown}`: `{key}` is {}, which tells no size",
            GgufValue::Integers(all.clone())
        ),
    }
}

/// Errors (class data) where the model is a mixture of experts.
fn experts(gguf: &Gguf, key: &str) -> Result<()> {
    let count = gguf.optional(key, GgufValue::as_u64)?.unwrap_or(0);
    // Older files hold an expert's tensors one by one: `blk.0.ffn_up.3.weight`.
    let is_expert = |name: &&str| {
        name.contains(".ffn_")
            && (name.contains("_exps.") || name.contains("_inp.") || name.matches('.').count() > 3)
    };
    let tensor = gguf.names().into_iter().find(is_expert);
    if count == 0 && tensor.is_none() {
        return Ok(());
    }
    let tensor = tensor.map_or(String::new(), |name| format!(", with tensors such as `{name}`"));
    bail!(
        Data,
        "`{}`: the model is a mixture of {count} experts, as Mixtral (`{key}`){tensor}; only \
         models without are known",
        gguf.path().display()
    )
}

/// Whether a value switches something off.
fn is_nothing(value: &GgufValue) -> bool {
    match value {
        GgufValue::Integers(all) => all.iter().all(|n| *n == 0),
        GgufValue::Floats(all) => all.iter().all(|x| *x == 0.0),
        GgufValue::Bool(on) => !on,
        value => value.as_f64() == Some(0.0),
    }
}
