//! Encoders of BERT's family (Devlin et al. 2019): learned positions, a norm of what the first
//! layer reads, post-norm blocks that attend in both directions, and heads over them.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::quantized::gguf_file;
use serde_json::{Value, json};

use super::fields::activation_name;
use super::{
    Architecture, ArchitectureEntry, Builder, CommonConfig, GgufTensor, HeadConfig, Target,
    class_of,
};
use crate::error::bail;
use crate::model::nn::{
    Attention, Embeddings, Head, HeadActivation, HeadLinear, MaskedLmHead, Mlp, Norm, NormKind,
    NormOrder, Pooled, Qkv, SequenceHead, TransformerBlock,
};
use crate::model::{Network, ParamId, ParamKind};
use crate::ops::activation::Activation;

/// Sizes and options.
#[derive(Clone, Debug)]
pub struct Config {
    pub common: CommonConfig,
    /// F
    pub intermediate_size: usize,
    /// H
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    /// Rows of the table of token types; 0 without one.
    pub type_vocab_size: usize,
    /// The row of the first position.
    pub position_offset: usize,
    /// Whether the files hold a pooler that the head does not use.
    pub pooler: bool,
    pub variant: &'static Variant,
}

/// In what a model of the family differs from others.
pub struct Variant {
    pub entry: &'static ArchitectureEntry,
    /// What names of all but the heads begin with.
    pub prefix: &'static str,
    /// q, k, v, o, up and down.
    pub targets: [&'static Target; 6],
    /// Of the attention, and of the feed-forward part.
    pub norms: [&'static str; 2],
    /// The first linear of the heads for sequences and for choices, with its function.
    pub dense: [(&'static str, HeadActivation); 2],
    /// The last linear of these heads.
    pub out: [&'static str; 2],
    /// dense, norm and bias of the masked language model's head.
    pub masked: [&'static str; 3],
    /// The function of that head, where it is not `hidden_act`.
    pub masked_activation: Option<Activation>,
    /// What `config.json` calls its own sizes, beside those that all have.
    pub to_json: fn(&Config, &mut Value),
}

impl std::fmt::Debug for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.entry.model_type)
    }
}

/// A linear module of a layer.
pub const fn target(name: &'static str, path: &'static str, into_residual: bool) -> Target {
    Target { name, path, into_residual, transposed: false }
}

impl Config {
    fn norm(&self, b: &mut Builder, name: &str) -> Result<Norm> {
        b.norm(name, NormKind::Layer, self.common.hidden_size, self.layer_norm_eps)
    }

    fn name(&self, inside: &str) -> String {
        format!("{}{inside}", self.variant.prefix)
    }

    fn embeddings(&self, b: &mut Builder) -> Result<Embeddings> {
        let hidden = self.common.hidden_size;
        let mut table = |name: &str, rows, kind| {
            let name = self.name(&format!("embeddings.{name}_embeddings.weight"));
            b.matrix(&name, (rows, hidden), kind)
        };
        let tokens = table("word", self.common.vocab_size, ParamKind::Embedding)?;
        let positions = self.common.max_position_embeddings + self.position_offset;
        let positions = Some(table("position", positions, ParamKind::PositionEmbedding)?);
        let types = match self.type_vocab_size {
            0 => None,
            rows => Some(table("token_type", rows, ParamKind::PositionEmbedding)?),
        };
        let name = self.name("embeddings.LayerNorm");
        let norm = Some(b.embedding_norm(&name, hidden, self.layer_norm_eps)?);
        Ok(Embeddings {
            tokens,
            positions,
            position_offset: self.position_offset as u32,
            types,
            norm,
        })
    }

    fn block(&self, layer: usize, b: &mut Builder) -> Result<TransformerBlock> {
        let (hidden, inner) = (self.common.hidden_size, self.intermediate_size);
        let [q, k, v, o, up, down] = self.variant.targets;
        b.enter(self.variant.entry.family.layers, layer);
        let mut square = |target| b.linear(target, (hidden, hidden), true);
        let qkv = Qkv::Separate { q: square(q)?, k: square(k)?, v: square(v)? };
        let attention = Attention {
            layer,
            qkv,
            qk_norm: None,
            o: square(o)?,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_attention_heads,
            head_dim: hidden / self.num_attention_heads,
            causal: false,
            window: None,
        };
        let norm1 = self.norm(b, self.variant.norms[0])?;
        let mlp = Mlp {
            gate: None,
            up: b.linear(up, (inner, hidden), true)?,
            down: b.linear(down, (hidden, inner), true)?,
            activation: self.hidden_act,
        };
        let norm2 = self.norm(b, self.variant.norms[1])?;
        b.leave();
        Ok(TransformerBlock { order: NormOrder::Post, norm1, attention, norm2, mlp })
    }

    fn head(&self, b: &mut Builder, tokens: &ParamId) -> Result<Head> {
        let (hidden, vocab) = (self.common.hidden_size, self.common.vocab_size);
        let (which, outputs) = match &self.common.head {
            HeadConfig::Sequence(sequence) => (0, sequence.outputs()),
            HeadConfig::MultipleChoice => (1, 1),
            HeadConfig::MaskedLm => {
                let [dense, norm, bias] = self.variant.masked;
                return Ok(Head::MaskedLm(MaskedLmHead {
                    dense: b.head_linear(dense, (hidden, hidden), true)?,
                    activation: self.variant.masked_activation.unwrap_or(self.hidden_act),
                    norm: b.head_norm(norm, hidden, self.layer_norm_eps)?,
                    decoder: HeadLinear {
                        weight: tokens.clone(),
                        bias: Some(b.head_vector(bias, vocab)?),
                    },
                }));
            }
            HeadConfig::CausalLm | HeadConfig::Base => return Ok(Head::None),
        };
        let (dense, activation) = self.variant.dense[which];
        let dense = b.head_linear(dense, (hidden, hidden), true)?;
        let out = b.head_linear(self.variant.out[which], (outputs, hidden), true)?;
        let dense = Some((dense, activation));
        Ok(Head::Sequence(SequenceHead { pooled: Pooled::First, dense, out }))
    }

    /// The pooler's name, where the files hold one that the head does not use: another head may.
    fn spare_pooler(&self) -> Option<String> {
        let kept = matches!(self.common.head, HeadConfig::Base | HeadConfig::MaskedLm);
        (self.pooler && kept).then(|| self.name("pooler.dense"))
    }
}

impl Architecture for Config {
    fn entry(&self) -> &'static ArchitectureEntry {
        self.variant.entry
    }

    fn common(&self) -> &CommonConfig {
        &self.common
    }

    fn common_mut(&mut self) -> &mut CommonConfig {
        &mut self.common
    }

    fn boxed(&self) -> Box<dyn Architecture> {
        Box::new(self.clone())
    }

    fn settle(&mut self, has: &dyn Fn(&str) -> bool) {
        self.pooler = has(&self.name("pooler.dense.weight"));
    }

    fn check(&self) -> Result<()> {
        let c = &self.common;
        if !c.hidden_size.is_multiple_of(self.num_attention_heads) {
            let heads = self.num_attention_heads;
            bail!(Data, "a width of {} is no multiple of {heads} heads", c.hidden_size);
        }
        if c.max_position_embeddings > 1 << 24 || self.type_vocab_size > 1 << 24 {
            bail!(
                Data,
                "impossible sizes: {} positions, {} token types",
                c.max_position_embeddings,
                self.type_vocab_size
            );
        }
        c.check(self.intermediate_size, c.hidden_size)
    }

    fn build(&self, b: &mut Builder) -> Result<Network> {
        let embeddings = self.embeddings(b)?;
        let blocks = (0..self.common.num_hidden_layers)
            .map(|layer| self.block(layer, b))
            .collect::<Result<_>>()?;
        if let Some(pooler) = self.spare_pooler() {
            let hidden = self.common.hidden_size;
            b.unread_linear(&pooler, (hidden, hidden))?;
        }
        let head = self.head(b, &embeddings.tokens)?;
        Ok(Network { embeddings, blocks, norm: None, head, rotary: None })
    }

    fn to_json(&self) -> Value {
        let c = &self.common;
        let mut json = json!({
            "architectures": [class_of(self)],
            "model_type": self.entry().model_type,
            "vocab_size": c.vocab_size,
            "tie_word_embeddings": c.tie_word_embeddings,
            "bos_token_id": c.bos_token_id,
            "eos_token_id": c.eos_to_json(),
        });
        (self.variant.to_json)(self, &mut json);
        json
    }

    fn gguf_name(&self) -> &'static str {
        self.entry().model_type
    }

    fn gguf_tensors(&self) -> BTreeMap<String, GgufTensor> {
        BTreeMap::new()
    }

    fn gguf_metadata(&self) -> Result<Vec<(&'static str, gguf_file::Value)>> {
        bail!(
            Usage,
            "an encoder (`{}`) is not written as GGUF, which has no words for its heads",
            self.entry().model_type;
            hint: "`model.save(…)` writes a folder that transformers loads"
        )
    }
}

/// `hidden_act` and the sizes by BERT's names.
pub fn usual_json(config: &Config, json: &mut Value) {
    let c = &config.common;
    json["hidden_size"] = json!(c.hidden_size);
    json["num_hidden_layers"] = json!(c.num_hidden_layers);
    json["num_attention_heads"] = json!(config.num_attention_heads);
    json["intermediate_size"] = json!(config.intermediate_size);
    json["hidden_act"] = json!(activation_name(config.hidden_act));
    json["max_position_embeddings"] = json!(c.max_position_embeddings + config.position_offset);
    json["type_vocab_size"] = json!(config.type_vocab_size);
    json["layer_norm_eps"] = json!(config.layer_norm_eps);
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::arch::{self, SequenceConfig};
    use crate::model::testing;
    use crate::seed::Stream;

    /// A tiny encoder of a class, whose files hold a pooler.
    fn tiny(model_type: &str, class: &str, hidden_act: &str) -> Result<Box<dyn Architecture>> {
        let json = json!({
            "model_type": model_type, "architectures": [class], "hidden_size": 8,
            "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
            "vocab_size": 20, "max_position_embeddings": 16, "hidden_act": hidden_act,
            "pad_token_id": 1,
        });
        let mut architecture = arch::from_json(&json, &mut vec![])?;
        architecture.settle(&|_| true);
        Ok(architecture)
    }

    #[test]
    fn a_pooler_that_no_head_reads_is_kept_and_not_trained() -> Result<()> {
        for class in ["BertForMaskedLM", "BertModel"] {
            let model = testing::model(&*tiny("bert", class, "gelu")?, DType::F32)?;
            let pooler = |id: &&ParamId| id.name.starts_with("bert.pooler.");
            assert_eq!(model.params().filter(|(id, _)| pooler(id)).count(), 2);
            assert!(!model.head_params().iter().any(|id| pooler(&id)));
            // A head that reads it begins with what the files hold.
            let head = HeadConfig::Sequence(SequenceConfig::Regression);
            let with = model.with_head(head, &mut Stream::new(1, "head"))?;
            let (mine, its) = (model.param("bert.pooler.dense.weight"), with.head_params());
            let its = its.iter().find(|id| Some(*id) == mine);
            let numbers = |model: &crate::model::Model| -> Result<Vec<f32>> {
                let all = model.copies(&mine.into_iter().cloned().collect())?;
                Ok(all.values().next().map(|t| t.flatten_all()?.to_vec1()).transpose()?.unwrap())
            };
            assert!(its.is_some() && numbers(&model)? == numbers(&with)?);
        }
        Ok(())
    }

    /// `RobertaLMHead` has gelu whatever `hidden_act` says.
    #[test]
    fn the_function_of_a_masked_head_is_that_of_its_class() -> Result<()> {
        for (model_type, class, want) in [
            ("roberta", "RobertaForMaskedLM", Activation::Gelu),
            ("bert", "BertForMaskedLM", Activation::Relu),
        ] {
            let architecture = tiny(model_type, class, "relu")?;
            let network = architecture.build(&mut Builder::meta(DType::F32))?;
            let Head::MaskedLm(head) = network.head else { panic!("{class} has another head") };
            assert_eq!(head.activation, want);
        }
        Ok(())
    }
}
