//! Rotary embedding in `config.json`, as transformers 5.24's `RotaryEmbeddingConfigMixin`
//! understands it.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::fields::ConfigFields;
use crate::error::{bail, did_you_mean, error};
use crate::model::nn::rope_scaling::{Longrope, RopeScaling, Yarn};

/// The kinds of scaling that are known.
const KINDS: [&str; 7] =
    ["default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional"];

/// Keys that scalings of every kind may have.
const ALWAYS: [&str; 4] = ["rope_theta", "rope_type", "type", "partial_rotary_factor"];

/// Keys that a kind of scaling has beside those.
fn keys_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "linear" | "dynamic" | "proportional" => &["factor"],
        "yarn" => &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ],
        "longrope" => &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "short_factor",
            "long_factor",
        ],
        "llama3" => {
            &["factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"]
        }
        _ => &[],
    }
}

/// Theta where nothing says one.
const THETA: f64 = 10_000.0;

/// Theta and scaling of a model with heads of width `e` that is said to see `positions` tokens.
///
/// transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters`. Where
/// both are there, `rope_scaling` stands in for all of the other, whose theta is lost.
pub(super) fn read(
    f: &ConfigFields,
    e: usize,
    positions: usize,
    notes: &mut Vec<String>,
) -> Result<(f64, RopeScaling)> {
    let scaling = f.raw("rope_scaling").filter(|v| said(v));
    let parameters = f.raw("rope_parameters").filter(|v| said(v));
    let Some(chosen) = scaling.or(parameters) else {
        whole_heads(f)?;
        return Ok((f.number_or("rope_theta", THETA)?, RopeScaling::None));
    };
    let place = if scaling.is_some() { "rope_scaling" } else { "rope_parameters" };
    let object = of_all_layers(chosen, place)?;
    let s = ConfigFields(chosen);
    let theta = nearer("rope_theta", &s, f).number_or("rope_theta", THETA)?;
    if scaling.is_some()
        && let Some(other) = parameters
    {
        both(chosen, other, theta, notes);
    }
    let key = if s.raw("rope_type").is_some() { "rope_type" } else { "type" };
    let kind = s.text(key)?.unwrap_or("default");
    let read = Scaling { s: &s, f, e, positions, kind };
    let scaling = read.scaling()?;
    if kind != "proportional" {
        whole_heads(nearer("partial_rotary_factor", &s, f))?;
    }
    read.unused(object.keys(), notes);
    Ok((theta, scaling))
}

/// The parameters that a scaling has, one set for all layers.
fn of_all_layers<'a>(scaling: &'a Value, place: &str) -> Result<&'a Map<String, Value>> {
    let Some(object) = scaling.as_object() else {
        bail!(Data, "config.json: the rope scaling is {scaling}, not an object")
    };
    if let Some((key, _)) = object.iter().find(|(_, v)| v.is_object()) {
        bail!(
            Data,
            "config.json: `{place}` has parameters for a type of layers (`{key}`), which \
             transformers' models of this type do not know"
        );
    }
    Ok(object)
}

/// The first of two places if it has a key, else the second.
fn nearer<'a, 'v>(
    key: &str,
    first: &'a ConfigFields<'v>,
    second: &'a ConfigFields<'v>,
) -> &'a ConfigFields<'v> {
    if first.raw(key).is_some() { first } else { second }
}

/// Whether a value is one for Python, where nothing, zero and what is empty are not.
fn said(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) => true,
    }
}

/// Notes what is passed over where a config speaks twice.
fn both(chosen: &Value, other: &Value, theta: f64, notes: &mut Vec<String>) {
    let without_theta = |v: &Value| {
        let mut v = v.clone();
        v.as_object_mut().map(|map| map.remove("rope_theta"));
        v
    };
    let lost = other.get("rope_theta").and_then(Value::as_f64).filter(|lost| *lost != theta);
    if let Some(lost) = lost {
        notes.push(format!(
            "config.json has `rope_scaling` and `rope_parameters`: the first is taken, as \
             transformers does, and with it the theta {theta}, not {lost}"
        ));
    } else if without_theta(chosen) != without_theta(other) {
        notes.push(
            "config.json has `rope_scaling` and `rope_parameters`: the first is taken, as \
             transformers does"
                .into(),
        );
    }
}

/// Errors where heads are said to be rotated in part: transformers' models of these types rotate
/// them whole all the same.
fn whole_heads(place: &ConfigFields) -> Result<()> {
    if place.number("partial_rotary_factor")?.is_some_and(|p| p != 1.0) {
        bail!(
            Data,
            "config.json: `partial_rotary_factor` other than 1 is not known: transformers' models \
             of this type rotate whole heads"
        );
    }
    Ok(())
}

/// One scaling that is being read.
struct Scaling<'a> {
    s: &'a ConfigFields<'a>,
    f: &'a ConfigFields<'a>,
    e: usize,
    positions: usize,
    kind: &'a str,
}

impl Scaling<'_> {
    fn scaling(&self) -> Result<RopeScaling> {
        Ok(match self.kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear(self.need("factor")?),
            "dynamic" if self.e <= 2 => {
                bail!(Data, "config.json: dynamic rope scaling wants heads wider than 2")
            }
            "dynamic" => {
                RopeScaling::Dynamic { factor: self.need("factor")?, original: self.positions }
            }
            "yarn" => RopeScaling::Yarn(self.yarn()?),
            "longrope" => RopeScaling::Longrope(self.longrope()?),
            "llama3" => self.llama3()?,
            "proportional" => RopeScaling::Factors(self.proportional()?),
            other => {
                let other_name = matches!(other, "su" | "longrope2");
                let near = did_you_mean(if other_name { "longrope" } else { other }, KINDS);
                bail!(
                    Data,
                    "config.json: unknown rope scaling `{other}`; known are {}{near}",
                    KINDS.join(", ")
                )
            }
        })
    }

    fn need(&self, key: &str) -> Result<f64> {
        Ok(self
            .s
            .number(key)?
            .ok_or_else(|| error!(Data, "config.json: the rope scaling has no `{key}`"))?)
    }

    /// Tokens before the stretching: the config's own key wins over the scaling's, and both over
    /// all positions.
    fn original(&self) -> Result<f64> {
        const KEY: &str = "original_max_position_embeddings";
        nearer(KEY, self.f, self.s).number_or(KEY, self.positions as f64)
    }

    /// A factor that may be null, for what the lengths say.
    fn factor(&self, original: f64) -> Result<f64> {
        Ok(self.s.number("factor")?.unwrap_or(self.positions as f64 / original))
    }

    fn yarn(&self) -> Result<Yarn> {
        let original = self.original()?;
        if self.s.raw("factor").is_none() {
            self.need("factor")?;
        }
        let factor = self.factor(original)?;
        let mscale = |key: &str| {
            self.s.or(key, 0.0, "a number", |v| if v.is_null() { Some(0.0) } else { v.as_f64() })
        };
        let usual = match (mscale("mscale")?, mscale("mscale_all_dim")?) {
            (one, all) if one != 0.0 && all != 0.0 => {
                Yarn::mscale(factor, one) / Yarn::mscale(factor, all)
            }
            _ => Yarn::mscale(factor, 1.0),
        };
        Ok(Yarn {
            factor,
            original,
            attention: self.s.number("attention_factor")?.unwrap_or(usual),
            fast: self.s.number("beta_fast")?.unwrap_or(32.0),
            slow: self.s.number("beta_slow")?.unwrap_or(1.0),
            truncate: self.s.flag_or("truncate", true)?,
        })
    }

    fn longrope(&self) -> Result<Longrope> {
        let original = self.original()?;
        let factors = |key: &str| -> Result<Vec<f64>> {
            let Some(factors) = self.s.numbers(key)? else {
                bail!(Data, "config.json: the rope scaling has no `{key}`")
            };
            if factors.len() != self.e / 2 {
                bail!(
                    Data,
                    "config.json: `{key}` has {} factors, half a head has {} frequencies",
                    factors.len(),
                    self.e / 2
                );
            }
            Ok(factors)
        };
        let usual = Longrope::usual_attention(self.factor(original)?, original);
        let attention = self.s.number("attention_factor")?.unwrap_or(usual);
        Ok(Longrope {
            short: factors("short_factor")?,
            long: factors("long_factor")?,
            original,
            attention,
        })
    }

    fn llama3(&self) -> Result<RopeScaling> {
        let (low, high) = (self.need("low_freq_factor")?, self.need("high_freq_factor")?);
        if low == high {
            bail!(
                Data,
                "config.json: `low_freq_factor` and `high_freq_factor` are both {low}: no step \
                 lies between"
            );
        }
        Ok(RopeScaling::Llama3 {
            factor: self.need("factor")?,
            low,
            high,
            original: self.original()?,
        })
    }

    /// The first frequencies divided, the others none.
    fn proportional(&self) -> Result<Vec<f64>> {
        let place = nearer("partial_rotary_factor", self.s, self.f);
        let share = place.or("partial_rotary_factor", 1.0, "a number from 0 to 1", |v| {
            v.as_f64().filter(|p| (0.0..=1.0).contains(p))
        })?;
        let factor = self.s.number_or("factor", 1.0)?;
        let turning = (share * self.e as f64 / 2.0).floor() as usize;
        Ok((0..self.e / 2).map(|i| if i < turning { factor } else { f64::INFINITY }).collect())
    }

    /// Notes keys that transformers passes over with this kind.
    fn unused<'k>(&self, keys: impl Iterator<Item = &'k String>, notes: &mut Vec<String>) {
        let used = keys_of(self.kind);
        let more: Vec<String> = keys
            .filter(|k| !used.contains(&k.as_str()) && !ALWAYS.contains(&k.as_str()))
            .map(|k| format!("`{k}`"))
            .collect();
        if !more.is_empty() {
            notes.push(format!(
                "the rope scaling `{}` has no use for {}: passed over, as in transformers",
                self.kind,
                more.join(", ")
            ));
        }
    }
}

/// The scaling as `rope_scaling` of a config; factors as `longrope` of one length, which is the
/// same rotation.
pub(super) fn to_json(scaling: &RopeScaling, positions: usize) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear(factor) => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Dynamic { factor, .. } => json!({"rope_type": "dynamic", "factor": factor}),
        RopeScaling::Llama3 { factor, low, high, original } => json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": *original as u64,
        }),
        RopeScaling::Yarn(yarn) => json!({
            "rope_type": "yarn", "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original as u64,
            "attention_factor": yarn.attention, "beta_fast": yarn.fast, "beta_slow": yarn.slow,
            "truncate": yarn.truncate,
        }),
        RopeScaling::Longrope(rope) => json!({
            "rope_type": "longrope", "short_factor": rope.short, "long_factor": rope.long,
            "factor": 1.0,
            "original_max_position_embeddings": rope.original as u64,
            "attention_factor": rope.attention,
        }),
        RopeScaling::Factors(factors) => json!({
            "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "factor": 1.0,
            "original_max_position_embeddings": positions as u64, "attention_factor": 1.0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: Value) -> Result<(f64, RopeScaling, Vec<String>)> {
        let mut notes = vec![];
        read(&ConfigFields(&config), 8, 256, &mut notes)
            .map(|(theta, scaling)| (theta, scaling, notes))
    }

    #[test]
    fn of_two_dialects_rope_scaling_is_taken() -> Result<()> {
        let (theta, scaling, notes) = of(json!({
            "rope_parameters": { "rope_type": "default", "rope_theta": 500.0 },
            "rope_scaling": { "type": "linear", "factor": 4.0 },
        }))?;
        assert_eq!((theta, scaling), (10_000.0, RopeScaling::Linear(4.0)));
        assert!(notes[0].contains("not 500"), "{notes:?}");
        let (theta, scaling, notes) =
            of(json!({ "rope_parameters": { "rope_theta": 500.0 }, "rope_scaling": {},
                "rope_theta": 7.0 }))?;
        assert_eq!((theta, scaling, notes.len()), (500.0, RopeScaling::None, 0));
        assert_eq!(of(json!({ "rope_theta": 7.0, "rope_scaling": null }))?.0, 7.0);
        Ok(())
    }

    #[test]
    fn the_original_length_at_the_top_wins() -> Result<()> {
        let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0 });
        let original = |config: Value| match of(config).unwrap().1 {
            RopeScaling::Llama3 { original, .. } => original,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            original(json!({ "rope_scaling": llama3, "original_max_position_embeddings": 64 })),
            64.0
        );
        let mut own = llama3.clone();
        own["original_max_position_embeddings"] = json!(32);
        assert_eq!(
            original(json!({ "rope_scaling": own, "original_max_position_embeddings": 64 })),
            64.0
        );
        assert_eq!(original(json!({ "rope_scaling": own })), 32.0);
        assert_eq!(original(json!({ "rope_scaling": llama3 })), 256.0);
        Ok(())
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (config, words) in [
            (json!({ "rope_scaling": { "type": "su", "factor": 2.0 } }), "`su`"),
            (
                json!({ "rope_scaling": { "rope_type": null, "type": "linear" } }),
                "`rope_type` is null",
            ),
            (json!({ "rope_scaling": { "type": "yarn" } }), "no `factor`"),
            (
                json!({ "rope_scaling": { "type": "longrope", "short_factor": [1.0],
                    "long_factor": [1.0] } }),
                "`short_factor` has 1",
            ),
            (
                json!({ "rope_parameters": { "full_attention": { "rope_type": "default" } } }),
                "`full_attention`",
            ),
            (json!({ "rope_theta": "1e4" }), "`rope_theta`"),
            (json!({ "partial_rotary_factor": 0.5 }), "`partial_rotary_factor`"),
        ] {
            let error = of(config).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let notes =
            of(json!({ "rope_scaling": { "type": "linear", "factor": 2.0, "finetuned": true } }))
                .unwrap()
                .2;
        assert!(notes[0].contains("`finetuned`"), "{notes:?}");
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        for scaling in [
            RopeScaling::Linear(2.0),
            RopeScaling::Dynamic { factor: 2.0, original: 256 },
            RopeScaling::Yarn(Yarn {
                factor: 4.0,
                original: 64.0,
                attention: 1.5,
                fast: 16.0,
                slow: 2.0,
                truncate: false,
            }),
            RopeScaling::Longrope(Longrope {
                short: vec![1.0; 4],
                long: vec![3.0; 4],
                original: 64.0,
                attention: 1.25,
            }),
        ] {
            let (_, again, notes) = of(json!({ "rope_scaling": to_json(&scaling, 256) }))?;
            assert_eq!((again, notes.len()), (scaling, 0));
        }
        let factors = RopeScaling::Factors(vec![1.0, 2.0, 3.0, 4.0]);
        let (_, again, _) = of(json!({ "rope_scaling": to_json(&factors, 256) }))?;
        assert_eq!(again.inv_freq(100.0, 8, 300), factors.inv_freq(100.0, 8, 300));
        assert_eq!((again.attention(), again.boundary()), (1.0, None));
        Ok(())
    }
}
