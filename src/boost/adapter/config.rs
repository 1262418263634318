//! What `adapter_config.json` says of the numbers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::keys::{self, MERGE, shown};
use super::targets::{ByPattern, Targets, texts};
use crate::error::{Error, error};
use crate::model::Model;
use crate::model::arch::HeadKind;

/// The way out where the start cannot be told from the adapter.
const CONVERT: &str = "let peft convert it to plain LoRA: save the adapter once as it begins, with \
    `init_lora_weights` set to \
     true, and at the end `save_pretrained(…, path_initial_model_for_weight_conversion=…)` with \
     the path of the first";

/// What loading such an adapter does to the weights below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing; modules without factors in the file stay as they are.
    Nothing,
    /// Nothing; modules without factors in the file get random ones.
    Random,
    /// The first singular components of each weight are taken out.
    Pissa,
    /// The first components of each weight's QR decomposition are taken out.
    Olora,
}

/// Rows of embedding or head that are replaced.
#[derive(Debug)]
pub(super) enum Rows {
    /// Of the embedding.
    Embedding(Vec<i64>),
    /// By the end of a module's name.
    Of(BTreeMap<String, Vec<i64>>),
}

/// What is read of `adapter_config.json`.
#[derive(Debug)]
pub(super) struct LoraConfig {
    /// `task_type`.
    task: Option<String>,
    pub start: Start,
    pub targets: Targets,
    pub modules_to_save: Vec<String>,
    pub rows: Option<Rows>,
    pub dora: bool,
    pub lora_bias: bool,
    /// Whether it says that weights are [in, out].
    pub fan_in_fan_out: bool,
    /// Whether embedding and head stay tied, where the model ties them.
    pub tying: bool,
    /// The model that it was trained on.
    pub base: Option<String>,
    /// What a person should know of it, and of training on from it.
    pub notes: Vec<String>,
    pub training: Vec<String>,
    rank: usize,
    ranks: ByPattern<usize>,
    alpha: f64,
    alphas: ByPattern<f64>,
    rslora: bool,
}

impl LoraConfig {
    /// Reads a config's text. Errors (class data): no JSON, another kind of adapter, a key that is
    /// not followed, a value that cannot be.
    pub fn read(text: &str) -> Result<Self, Error> {
        let json = object(text)?;
        let fields = LoraConfigFields(&json);
        kind(&fields)?;
        let task = task(&fields)?;
        keys::check(&json)?;
        let modules_to_save = fields.names("modules_to_save")?;
        let mut config = Self {
            task,
            start: start(json.get("init_lora_weights"))?,
            targets: Targets::read(&json, &modules_to_save)?,
            modules_to_save,
            rows: rows(json.get("trainable_token_indices"))?,
            dora: fields.flag("use_dora")?,
            lora_bias: fields.flag("lora_bias")?,
            fan_in_fan_out: fields.flag("fan_in_fan_out")?,
            tying: fields.flag("ensure_weight_tying")?,
            base: fields.text("base_model_name_or_path").map(str::to_owned),
            notes: vec![],
            training: vec![],
            rank: fields.or("r", 8, rank)?,
            ranks: fields.patterns("rank_pattern", rank)?,
            alpha: fields.or("lora_alpha", 8.0, Value::as_f64)?,
            alphas: fields.patterns("alpha_pattern", Value::as_f64)?,
            rslora: fields.flag("use_rslora")?,
        };
        config.note(&fields)?;
        config.agree(&fields)?;
        Ok(config)
    }

    /// Whether PEFT itself names a module to save, of whichever model: the heads of classifiers.
    pub fn names_any_head(&self, saved: &str) -> bool {
        self.task.as_deref() == Some("SEQ_CLS") && ["classifier", "score"].contains(&saved)
    }

    /// Errors (class data): an adapter for a head that the model does not have.
    pub fn suits(&self, model: &Model) -> Result<(), Error> {
        let (has, says) = match model.config().head.kind() {
            HeadKind::Sequence => (Some("SEQ_CLS"), "says something of whole sequences"),
            HeadKind::CausalLm => (Some("CAUSAL_LM"), "predicts next tokens"),
            HeadKind::MaskedLm => (None, "predicts masked tokens"),
            HeadKind::MultipleChoice => (None, "chooses among choices"),
            HeadKind::Base => (Some("FEATURE_EXTRACTION"), "has no head"),
        };
        let Some(task) = self.task.as_deref().filter(|task| Some(*task) != has) else {
            return Ok(());
        };
        Err(error!(
            Data,
            "`task_type` is \"{task}\", but the model {says}";
            hint: "an adapter for another task has a head of its own, which this model lacks; \
                   `model.head(…)` gives a model a head"
        ))
    }

    /// Says what was passed over.
    fn note(&mut self, fields: &LoraConfigFields) -> Result<(), Error> {
        let dropout = fields.or("lora_dropout", 0.0, Value::as_f64)?;
        if dropout != 0.0 {
            self.training.push(format!(
                "it was trained with `lora_dropout` {dropout}; training on uses no dropout"
            ));
        }
        if fields.given("velora_config").is_some() {
            self.training.push(
                "it was trained with VeLoRA, which compresses what a step keeps; training on does \
                 not"
                .into(),
            );
        }
        if fields.0.get("init_lora_weights").and_then(Value::as_str) == Some("mica") {
            self.training.push(
                "MiCA trains A alone; training on moves B too, unless `fit` is told to `freeze: \
                 \"B\"`"
                    .into(),
            );
        }
        Ok(())
    }

    /// Errors (class data): values that PEFT refuses together, or does not know.
    fn agree(&self, fields: &LoraConfigFields) -> Result<(), Error> {
        let known = |bias: &Value| matches!(bias.as_str(), Some("none" | "all" | "lora_only"));
        if let Some(bias) = fields.given("bias").filter(|bias| !known(bias)) {
            return Err(error!(
                Data,
                "`bias` is {}; known are \"none\", \"all\" and \"lora_only\"",
                shown(bias)
            ));
        }
        let named = fields.0.get("init_lora_weights").is_some_and(Value::is_string);
        if self.lora_bias && (self.dora || named) {
            return Err(error!(
                Data,
                "`lora_bias` is true beside `use_dora` or a named `init_lora_weights`, which PEFT \
                 does not allow"
            ));
        }
        Ok(())
    }

    /// The rank of a module's factors, and the scale of their product.
    pub fn scaled(&self, module: &str) -> Result<(usize, f64), Error> {
        let rank = self.ranks.of(module)?.unwrap_or(self.rank);
        let alpha = self.alphas.of(module)?.unwrap_or(self.alpha);
        Ok((rank, if self.rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 }))
    }
}

/// Errors (class data): a text that is no JSON object.
fn object(text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(error!(Data, "its config is no JSON object")),
        Err(e) => Err(error!(Data, "its config is no JSON: {e}")),
    }
}

/// Errors (class data): an adapter that is not of LoRA.
fn kind(fields: &LoraConfigFields) -> Result<(), Error> {
    /// Keys of mlx-lm's configs.
    const MLX: [&str; 3] = ["lora_parameters", "fine_tune_type", "lora_layers"];
    Err(match fields.given("peft_type") {
        Some(kind) if kind == "LORA" => return Ok(()),
        Some(kind) => {
            error!(
                Data,
                "`peft_type` is {}, only \"LORA\" is known",
                shown(kind);
                hint: "if it changes weights, {MERGE}"
            )
        }
        None if MLX.iter().any(|key| fields.0.contains_key(*key)) => error!(
            Data,
            "it is an adapter of mlx-lm, whose factors lie and are named differently";
            hint: "fuse it with `mlx_lm.fuse --model … --adapter-path … --save-path fused` and \
                   give the fused model"
        ),
        None => error!(Data, "its config has no `peft_type`, so it is no adapter of PEFT"),
    })
}

/// The task of an adapter, where it names one. Errors (class data): one that is not known.
fn task(fields: &LoraConfigFields) -> Result<Option<String>, Error> {
    /// Those with a head that models have here, or none.
    const KNOWN: [&str; 3] = ["CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION"];
    match fields.given("task_type") {
        None => Ok(None),
        Some(Value::String(task)) if KNOWN.contains(&task.as_str()) => Ok(Some(task.clone())),
        Some(task) => Err(error!(
            Data,
            "`task_type` is {}: known are \"CAUSAL_LM\", \"SEQ_CLS\" and \
             \"FEATURE_EXTRACTION\"",
            shown(task);
            hint: "an adapter for another task has a head of its own"
        )),
    }
}

/// What `init_lora_weights` means on loading. Errors (class data): a start that cannot be told from
/// the adapter.
fn start(value: Option<&Value>) -> Result<Start, Error> {
    let Some(value) = value else { return Ok(Start::Nothing) };
    let name = value.as_str().unwrap_or_default();
    Ok(match (value, name) {
        (Value::Bool(true), _) => Start::Nothing,
        (Value::Bool(false) | Value::Null, _) => Start::Random,
        (_, "eva" | "orthogonal" | "mica") => Start::Nothing,
        (_, "pissa") => Start::Pissa,
        _ if name.eq_ignore_ascii_case("olora") => Start::Olora,
        _ if name.eq_ignore_ascii_case("gaussian") => Start::Nothing,
        _ => return Err(no_start(value, name)),
    })
}

/// The error for a start that cannot be told from the adapter, or is not known.
fn no_start(value: &Value, name: &str) -> Error {
    const STARTS: &str =
        r#"true, false, "gaussian", "orthogonal", "eva", "mica", "pissa" and "olora""#;
    let is = format!("`init_lora_weights` is {}", shown(value));
    let (why, hint) = match name {
        _ if name.starts_with("pissa_niter_") => (
            "the components that were taken out of the weights are drawn anew each time (fast SVD)",
            CONVERT,
        ),
        _ if name.starts_with("corda") => (
            "the components that were taken out of the weights depend on data, which the adapter \
             does not hold",
            CONVERT,
        ),
        "lora_ga" => (
            "what was taken out of the weights depends on gradients, which the adapter does not \
             hold",
            CONVERT,
        ),
        "loftq" => (
            "its factors are for weights that LoftQ quantised",
            "save the quantised base too, and give the adapter `init_lora_weights` true",
        ),
        _ => return error!(Data, "{is}; known are {STARTS}"),
    };
    error!(Data, "{is}: {why}").hint(hint)
}

/// Reads `trainable_token_indices`.
fn rows(value: Option<&Value>) -> Result<Option<Rows>, Error> {
    let wrong = |value: &Value| {
        error!(Data, "`trainable_token_indices` is {}, not token ids", shown(value))
    };
    let ids = |value: &Value| {
        let ids: Option<Vec<i64>> =
            value.as_array().and_then(|ids| ids.iter().map(Value::as_i64).collect());
        ids.ok_or_else(|| wrong(value))
    };
    Ok(match value {
        None | Some(Value::Null) => None,
        Some(Value::Object(fields)) => Some(Rows::Of(
            fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), ids(value)?)))
                .collect::<Result<_, Error>>()?,
        )),
        Some(list) => Some(Rows::Embedding(ids(list)?)),
    })
}

/// A rank: a whole number above 0, and one that memory could hold.
fn rank(value: &Value) -> Option<usize> {
    value
        .as_u64()
        .and_then(|rank| usize::try_from(rank).ok())
        .filter(|rank| (1..=1 << 24).contains(rank))
}

/// The fields of a config, with errors that name them.
struct LoraConfigFields<'a>(&'a Map<String, Value>);

impl<'a> LoraConfigFields<'a> {
    /// A value other than null.
    fn given(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A text that says something; `None` of any other value.
    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Errors (class data): no list of names.
    fn names(&self, key: &str) -> Result<Vec<String>, Error> {
        self.given(key).map_or(Ok(vec![]), |list| texts(key, list))
    }

    /// Errors (class data): neither true nor false.
    fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(error!(Data, "`{key}` is {}, neither true nor false", shown(value))),
        }
    }

    /// A number, or what PEFT takes where there is none.
    fn or<T>(&self, key: &str, default: T, read: impl Fn(&Value) -> Option<T>) -> Result<T, Error> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        read(value).ok_or_else(|| error!(Data, "`{key}` is {}, which it cannot be", shown(value)))
    }

    /// Numbers by pattern.
    fn patterns<T: Copy>(
        &self,
        key: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<ByPattern<T>, Error> {
        let wrong = |value: &Value| error!(Data, "`{key}` holds {}, which it cannot", shown(value));
        let one = |(pattern, value)| Ok((pattern, read(value).ok_or_else(|| wrong(value))?));
        let values = match self.given(key) {
            None => vec![],
            Some(Value::Object(fields)) => fields.iter().map(one).collect::<Result<_, Error>>()?,
            Some(value) => return Err(wrong(value)),
        };
        ByPattern::new(key, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(more: Value) -> Result<LoraConfig, Error> {
        let mut config = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 8 });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        LoraConfig::read(&config.to_string())
    }

    #[test]
    fn starts_that_take_nothing_out_pass() {
        for (value, want) in [
            (json!(true), Start::Nothing),
            (json!(false), Start::Random),
            (json!("gaussian"), Start::Nothing),
            (json!("orthogonal"), Start::Nothing),
            (json!("eva"), Start::Nothing),
            (json!("mica"), Start::Nothing),
            (json!("pissa"), Start::Pissa),
            (json!("OLoRA"), Start::Olora),
        ] {
            assert_eq!(read(json!({ "init_lora_weights": value })).unwrap().start, want);
        }
        assert_eq!(read(json!({})).unwrap().start, Start::Nothing);
    }

    #[test]
    fn starts_that_the_adapter_does_not_tell_are_refused() {
        for name in ["pissa_niter_4", "corda", "lora_ga"] {
            let error = read(json!({ "init_lora_weights": name })).unwrap_err();
            assert!(
                error.message.starts_with(&format!("`init_lora_weights` is \"{name}\": ")),
                "{}",
                error.message
            );
            assert!(error.hint.unwrap().contains("path_initial_model_for_weight_conversion"));
        }
        for value in [json!("loftq"), json!("next_year"), json!("True"), json!(1)] {
            assert!(
                read(json!({ "init_lora_weights": value }))
                    .unwrap_err()
                    .message
                    .starts_with("`init_lora_weights` is ")
            );
        }
    }

    #[test]
    fn scales_are_those_of_peft() {
        let q = "model.layers.0.self_attn.q_proj";
        let scaled = |more: Value| read(more).unwrap().scaled(q).unwrap();
        assert_eq!(scaled(json!({})), (4, 2.0));
        assert_eq!(scaled(json!({ "use_rslora": true })), (4, 4.0));
        assert_eq!(
            scaled(json!({ "lora_alpha": -2.5, "rank_pattern": { "q_proj": 5 } })),
            (5, -0.5)
        );
        assert_eq!(
            scaled(
                json!({ "alpha_pattern": { "^model.layers.0.self_attn.q_proj": 64, "q_proj": 1 } })
            ),
            (4, 16.0)
        );
        assert_eq!(
            LoraConfig::read(r#"{ "peft_type": "LORA" }"#).unwrap().scaled(q).unwrap(),
            (8, 1.0)
        );
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        for (more, want) in [
            (json!({ "r": 0 }), "`r` is 0, which it cannot be"),
            (json!({ "r": -2 }), "`r` is -2"),
            (json!({ "r": 4.0 }), "`r` is 4.0"),
            (json!({ "lora_alpha": "16" }), "`lora_alpha` is \"16\""),
            (json!({ "use_rslora": 1 }), "`use_rslora` is 1, neither true nor false"),
            (json!({ "rank_pattern": { "q": 0 } }), "`rank_pattern` holds 0"),
            (json!({ "alpha_pattern": [1] }), "`alpha_pattern` holds [1]"),
            (json!({ "bias": "some" }), "`bias` is \"some\"; known are"),
            (
                json!({ "modules_to_save": "lm_head" }),
                "`modules_to_save` is \"lm_head\", not a list",
            ),
            (
                json!({ "trainable_token_indices": [1.5] }),
                "`trainable_token_indices` is [1.5], not token ids",
            ),
            (json!({ "task_type": "TOKEN_CLS" }), "`task_type` is \"TOKEN_CLS\""),
            (json!({ "peft_type": "LOHA" }), "`peft_type` is \"LOHA\", only \"LORA\" is known"),
            (json!({ "lora_bias": true, "use_dora": true }), "`lora_bias` is true beside"),
        ] {
            let message = read(more).unwrap_err().message;
            assert!(message.starts_with(want), "{message} does not say {want}");
        }
    }

    #[test]
    fn an_adapter_of_mlx_is_told_apart() {
        let mlx = LoraConfig::read(
            r#"{ "fine_tune_type": "lora", "num_layers": 4, "lora_parameters": { "rank": 8 } }"#,
        )
        .unwrap_err();
        assert!(mlx.message.contains("mlx-lm") && mlx.hint.unwrap().contains("mlx_lm.fuse"));
    }
}
