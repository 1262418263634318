//! A folder's weights under the published names: what transformers 5.24 reads from names and
//! tensors that people have.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::arch::{self, Architecture, Family, HEAD, HeadConfig};
use super::params::ParamKind;
use crate::error::{and_more, bail, error};
use crate::source::{self, ModelFolder, Safetensors, TensorSource, unread};

/// Stored tensors by published name; those without one keep their own.
pub struct Stored {
    source: Safetensors,
    names: BTreeMap<String, String>,
}

/// The file that makes a folder an adapter's.
const ADAPTER: &str = "adapter_config.json";

/// The weights of a folder. Errors (class data): those of [`Safetensors::open`]; a tensor of the
/// model that the index names and no file has, or that another file has with other numbers. Others
/// that no file has are told in `notes`.
pub fn open(
    folder: &ModelFolder,
    architecture: &dyn Architecture,
    notes: &mut Vec<String>,
) -> Result<Safetensors> {
    no_adapter(folder)?;
    let source = Safetensors::open(&folder.weights)?;
    let index = source::weight_map(folder)?;
    agrees(&source, &index, architecture, notes)?;
    for name in source.copies() {
        let last = source.file_of(name).and_then(|file| file.file_name()).unwrap_or_default();
        if index.get(name).is_none_or(|file| *last != **file) {
            bail!(
                Data,
                "tensor `{name}` is in several files with different numbers: transformers would \
                 read it from `{}`, which the index does not name for it",
                last.display()
            );
        }
    }
    Ok(source)
}

/// Errors (class data) where the folder is an adapter's too.
fn no_adapter(folder: &ModelFolder) -> Result<()> {
    if !folder.root.join(ADAPTER).is_file() {
        return Ok(());
    }
    Err(error!(
        Data,
        "the folder has an `{ADAPTER}` beside its weights: transformers would load the adapter \
         over its base";
        hint: "give the base, and the adapter by `--adapter` or `load_adapter`; or take the \
               adapter's files out"
    )
    .into())
}

/// Errors (class data) where the index names a tensor of the model that no file has; others are
/// told in `notes`.
fn agrees(
    source: &Safetensors,
    index: &BTreeMap<String, String>,
    architecture: &dyn Architecture,
    notes: &mut Vec<String>,
) -> Result<()> {
    let wanted = PublishedNames::of(architecture)?;
    let tied = architecture.common().tie_word_embeddings;
    let (absent, spare): (Vec<_>, Vec<_>) = index
        .iter()
        .filter(|(name, _)| source.shape(name).is_none())
        .partition(|(name, _)| wanted.needs(name, tied));
    if let Some((name, file)) = absent.first() {
        bail!(
            Data,
            "the index names the tensor `{name}` in `{file}`, which does not have it";
            hint: "copy or download the shards again, all of the same version"
        );
    }
    if let Some((name, _)) = spare.first() {
        let more = and_more(spare.len());
        notes.push(format!(
            "the index names the tensor `{name}`{more}, which no file has and the model does \
             without: passed over"
        ));
    }
    Ok(())
}

/// The published names that a model may have.
struct PublishedNames {
    names: BTreeSet<String>,
    embedding: String,
    family: &'static Family,
    layers: usize,
}

impl PublishedNames {
    fn of(architecture: &dyn Architecture) -> Result<Self> {
        let params = arch::params(architecture)?;
        // Of a tied pair a file may hold the head alone.
        let head = (architecture.common().head == HeadConfig::CausalLm).then(|| HEAD.to_owned());
        let names = params.ids().map(|id| id.name.clone()).chain(head).collect();
        let embedding = params.ids().find(|id| matches!(id.kind, ParamKind::Embedding));
        Ok(Self {
            names,
            embedding: embedding.map(|id| id.name.clone()).unwrap_or_default(),
            family: &architecture.entry().family,
            layers: architecture.common().num_hidden_layers,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether a stored tensor must be there. Of a tied pair one will do.
    fn needs(&self, own: &str, tied: bool) -> bool {
        let name = self.published(own);
        self.has(&name) && !(tied && [&self.embedding, HEAD].contains(&name.as_str()))
    }

    /// The name that transformers reads a stored tensor under: with the base model's prefix put
    /// before or taken away where that gives a name that the model has.
    fn published(&self, own: &str) -> String {
        let prefix = self.family.base_model_prefix;
        for own in [own.to_owned(), renamed(own)] {
            if self.has(&own) {
                return own;
            }
            if let Some(name) = own.strip_prefix(prefix).filter(|name| self.has(name)) {
                return name.to_owned();
            }
            let longer = format!("{prefix}{own}");
            if self.has(&longer) {
                return longer;
            }
        }
        own.to_owned()
    }
}

/// The name of a norm's tensor that TensorFlow called otherwise.
fn renamed(own: &str) -> String {
    for (last, name) in
        [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")]
    {
        if let Some(before) = own.strip_suffix(last) {
            return format!("{before}{name}");
        }
    }
    own.to_owned()
}

impl Stored {
    /// Finds the published names; a config that ties head and embedding is corrected where the file
    /// holds a head of its own.
    ///
    /// Errors (class data): two tensors of one name, names that transformers does not know,
    /// quantised weights.
    pub fn new(
        source: Safetensors,
        architecture: &mut dyn Architecture,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let prefix = architecture.entry().family.base_model_prefix;
        architecture.settle(&|name| {
            let bare = name.strip_prefix(prefix).unwrap_or(name);
            [name, bare].iter().any(|name| source.shape(name).is_some())
        });
        let wanted = PublishedNames::of(architecture)?;
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for own in source.names() {
            let name = wanted.published(own);
            if let Some(other) = found.insert(name.clone(), own.to_owned()) {
                bail!(Data, "the weights have `{other}` and `{own}`, which are both `{name}`");
            }
        }
        let mut stored = Self { source, names: found };
        stored.known_prefix(&wanted)?;
        if architecture.common().head == HeadConfig::MaskedLm {
            stored.settle_decoder(&wanted)?;
        }
        stored.pass_over(&wanted, notes)?;
        let causal = architecture.common().head == HeadConfig::CausalLm;
        let tied = &mut architecture.common_mut().tie_word_embeddings;
        if *tied && causal {
            *tied = stored.settle_head(&wanted.embedding, notes)?;
        }
        stored.types(&wanted, notes)?;
        Ok(stored)
    }

    /// Errors where no name is known: transformers would begin with random numbers.
    fn known_prefix(&self, wanted: &PublishedNames) -> Result<()> {
        if self.names.keys().any(|name| wanted.has(name)) {
            return Ok(());
        }
        let prefix = self
            .names
            .keys()
            .find_map(|name| wanted.names.iter().find_map(|w| name.strip_suffix(w.as_str())));
        let Some(prefix) = prefix else { return Ok(()) };
        Err(error!(
            Data,
            "the names of the weights begin with `{prefix}`, which transformers does not know: it \
             would begin with random numbers";
            hint: "write the file again without `{prefix}` in its names"
        )
        .into())
    }

    /// Of a masked language model takes out the copies of the embedding and the bias to which they
    /// are tied. Errors (class data): other numbers.
    fn settle_decoder(&mut self, wanted: &PublishedNames) -> Result<()> {
        let Some((decoder, bias)) = wanted.family.tied_decoder else { return Ok(()) };
        for (part, tied) in [("weight", wanted.embedding.as_str()), ("bias", bias)] {
            let name = format!("{decoder}.{part}");
            let Some(own) = self.names.get(&name).filter(|_| !wanted.has(&name)) else { continue };
            match self.names.get(tied).cloned() {
                Some(other) if !self.source.same(own, &other)? => bail!(
                    Data,
                    "`{own}` has other numbers than `{other}`, to which it is tied: an encoder \
                     whose head has a decoder of its own is not known here"
                ),
                Some(_) => drop(self.names.remove(&name)),
                None => {
                    let own = own.clone();
                    self.names.remove(&name);
                    self.names.insert(tied.to_owned(), own);
                }
            }
        }
        Ok(())
    }

    /// Leaves out what changes no numbers, and says so.
    fn pass_over(&mut self, wanted: &PublishedNames, notes: &mut Vec<String>) -> Result<()> {
        let mut extra: BTreeMap<Extra, Vec<String>> = BTreeMap::new();
        for (name, own) in self.names.iter().filter(|(name, _)| !wanted.has(name)) {
            if let Some(method) = quantised(name) {
                bail!(
                    Data,
                    "the weights are quantised ({method}): they have a tensor `{own}`";
                    hint: "give the unquantised model, or a GGUF file"
                );
            }
            if let Some(kind) = Extra::of(name, wanted) {
                extra.entry(kind).or_default().push(name.clone());
            }
        }
        for (kind, names) in extra {
            notes.extend(kind.note(&names, wanted));
            names.iter().for_each(|name| drop(self.names.remove(name)));
        }
        Ok(())
    }

    /// Of a tied pair the file may hold one under either name, or two; different ones are not tied,
    /// as transformers has it. Whether they are.
    fn settle_head(&mut self, tied: &str, notes: &mut Vec<String>) -> Result<bool> {
        match (self.names.get(tied), self.names.get(HEAD)) {
            (Some(embedding), Some(head)) if self.source.same(embedding, head)? => {
                drop(self.names.remove(HEAD))
            }
            (Some(_), Some(head)) => {
                notes.push(format!(
                    "`tie_word_embeddings` is true, but `{head}` is another matrix than the \
                     embedding: the model has it as a head of its own, as in transformers"
                ));
                return Ok(false);
            }
            (None, Some(head)) => {
                notes.push(format!("the embedding is read from `{head}`, to which it is tied"));
                let head = self.names.remove(HEAD);
                self.names.extend(head.map(|own| (tied.to_owned(), own)));
            }
            (_, None) => {}
        }
        Ok(true)
    }

    /// Errors where weights are no floats; a note where they are floats of 8 bits.
    fn types(&self, wanted: &PublishedNames, notes: &mut Vec<String>) -> Result<()> {
        let mut short: BTreeMap<String, usize> = BTreeMap::new();
        for own in self.names.iter().filter(|(name, _)| wanted.has(name)).map(|(_, own)| own) {
            match self.source.dtype_name(own).as_deref() {
                Some("F64" | "F32" | "F16" | "BF16") | None => {}
                Some(kind @ ("F8_E4M3" | "F8_E5M2")) => {
                    *short.entry(kind.to_owned()).or_default() += 1
                }
                Some(other) => return Err(unread(own, other)),
            }
        }
        for (kind, count) in short {
            notes.push(format!(
                "{count} tensors are stored as {kind}: read as the numbers that they hold, without \
                 scales"
            ));
        }
        Ok(())
    }
}

/// The method whose weights have such a tensor.
fn quantised(name: &str) -> Option<&'static str> {
    if name.contains(".quant_state.") {
        return Some("bitsandbytes");
    }
    Some(match name.rsplit('.').next()? {
        "qweight" | "qzeros" | "g_idx" | "scales" => "GPTQ or AWQ",
        "absmax" | "quant_map" | "nested_absmax" | "nested_quant_map" | "SCB" | "weight_format" => {
            "bitsandbytes"
        }
        "weight_scale" | "weight_scale_inv" | "input_scale" | "weight_packed" | "weight_shape"
        | "weight_zero_point" => "fp8 or packed integers",
        "_data" | "_scale" | "qdata" => "torchao",
        _ => return None,
    })
}

/// What a file may hold though the model computes without it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extra {
    /// What the architecture computes by itself.
    Buffers,
    /// Layers beyond those of the config.
    Layers,
    /// Scales of a key-value cache in 8 bits.
    CacheScales,
    /// Heads beside the language model's.
    Heads,
}

impl Extra {
    fn of(name: &str, wanted: &PublishedNames) -> Option<Self> {
        let last = name.rsplit('.').next().unwrap_or_default();
        match last {
            _ if (wanted.family.buffer)(name) => Some(Self::Buffers),
            "k_scale" | "v_scale" | "q_scale" | "kv_scale" | "output_scale" => {
                Some(Self::CacheScales)
            }
            _ if wanted.family.layer_of(name).is_some_and(|layer| layer >= wanted.layers) => {
                Some(Self::Layers)
            }
            _ if wanted.family.other_heads.iter().any(|head| name.starts_with(head)) => {
                Some(Self::Heads)
            }
            _ => None,
        }
    }

    fn note(self, names: &[String], wanted: &PublishedNames) -> Option<String> {
        let (first, count) = (names.first()?, names.len());
        Some(match self {
            Self::Buffers => return None,
            Self::Layers => {
                let of = |name: &String| wanted.family.layer_of(name);
                let held = names.iter().filter_map(of).max()? + 1;
                format!(
                    "the weights have {held} layers, the config asks for the first {} of them: the \
                     others are passed over",
                    wanted.layers
                )
            }
            Self::CacheScales => {
                format!(
                    "{count} scales of an 8-bit key-value cache (`{first}`) are passed over: keys \
                     and values are not rounded here"
                )
            }
            Self::Heads => format!("{count} tensors of another head (`{first}`) are passed over"),
        })
    }
}

impl TensorSource for Stored {
    fn names(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.source.shape(self.names.get(name)?)
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        self.source.dtype_name(self.names.get(name)?)
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.source.load(self.names.get(name).map_or(name, String::as_str), dtype, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_put_and_taken_as_transformers_does() {
        let wanted = PublishedNames::of(&crate::model::testing::config()).unwrap();
        for (own, want) in [
            ("model.norm.weight", "model.norm.weight"),
            ("norm.weight", "model.norm.weight"),
            ("layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("model.model.norm.weight", "model.norm.weight"),
            ("model.lm_head.weight", "lm_head.weight"),
            ("lm_head.weight", "lm_head.weight"),
            ("module.model.norm.weight", "module.model.norm.weight"),
            ("language_model.norm.weight", "language_model.norm.weight"),
        ] {
            assert_eq!(wanted.published(own), want);
        }
    }

    #[test]
    fn what_changes_numbers_is_no_extra() {
        let wanted = PublishedNames::of(&crate::model::testing::config()).unwrap();
        for (name, extra) in [
            ("model.layers.0.self_attn.rotary_emb.inv_freq", true),
            ("model.layers.0.self_attn.k_proj.k_scale", true),
            ("model.layers.3.mlp.up_proj.weight", true),
            ("score.weight", true),
            ("model.layers.0.mlp.up_proj.bias", false),
            ("model.layers.0.self_attn.q_proj.lora_A.weight", false),
            ("model.layers.1.self_attn.q_norm.weight", false),
            ("lm_head.bias", false),
        ] {
            assert_eq!(Extra::of(name, &wanted).is_some(), extra, "{name}");
        }
        assert_eq!(quantised("model.layers.0.mlp.up_proj.qweight"), Some("GPTQ or AWQ"));
        assert_eq!(
            quantised("model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4"),
            Some("bitsandbytes")
        );
        assert_eq!(quantised("model.layers.0.mlp.up_proj.weight"), None);
    }
}
