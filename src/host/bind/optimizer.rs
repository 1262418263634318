//! `adamw` and `sgd`: how a booster's factors are stepped.

use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde_json::{Value, json};

use super::{Answer, refuse, told_list};
use crate::error::Error;
use crate::host::options::{FromOption, Mismatch, Options};

/// An optimiser and its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Optimizer {
    AdamW { lr: Rate, beta1: f64, beta2: f64, eps: f64, weight_decay: f64 },
    Sgd { lr: Rate, momentum: f64, weight_decay: f64 },
}

/// A learning rate: one for all steps, or one for each.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    Constant(f64),
    PerStep(Vec<f64>),
}

impl Optimizer {
    /// As the journal tells it from others.
    pub fn told(&self) -> Value {
        let rate = |lr: &Rate| match lr {
            Rate::Constant(lr) => json!(lr),
            Rate::PerStep(rates) => told_list(rates.iter().map(|lr| json!(lr)).collect()),
        };
        match self {
            Self::AdamW { lr, beta1, beta2, eps, weight_decay } => {
                json!({ "rule": "adamw", "lr": rate(lr), "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay })
            }
            Self::Sgd { lr, momentum, weight_decay } => {
                json!({ "rule": "sgd", "lr": rate(lr), "momentum": momentum, "weight_decay": weight_decay })
            }
        }
    }
}

impl FromOption for Rate {
    const WHAT: &'static str = "a finite number or an array of them, one a step";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        if value.is_array() {
            Vec::from_option(value, key).map(Self::PerStep)
        } else {
            f64::from_option(value, key).map(Self::Constant)
        }
    }
}

impl FromOption for Optimizer {
    const WHAT: &'static str = "`adamw(…)` or `sgd(…)`";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        value.clone().try_cast().ok_or_else(|| Mismatch::new::<Self>(value, key))
    }
}

#[export_module]
pub(super) mod natives {
    /// AdamW (Loshchilov and Hutter, arXiv 1711.05101): decay is multiplied by the learning rate,
    /// as in PyTorch. Options: `lr` (a number, or one a step), `beta1` (0.9), `beta2` (0.999),
    /// `eps` (1e-8), `weight_decay` (0, the norm for low-rank fine-tuning, unlike PyTorch's 0.01).
    ///
    /// # Example
    /// ```rhai
    /// let o = adamw(#{ lr: 1e-3 });
    /// ```
    #[rhai_fn(return_raw)]
    pub fn adamw(options: Map) -> Answer<Optimizer> {
        read_adamw(options).map_err(refuse)
    }

    /// Stochastic gradient descent, as PyTorch's. Options: `lr` (a number, or one a step),
    /// `momentum` (0), `weight_decay` (0).
    ///
    /// # Example
    /// ```rhai
    /// let o = sgd(#{ lr: 0.1, momentum: 0.9 });
    /// ```
    #[rhai_fn(return_raw)]
    pub fn sgd(options: Map) -> Answer<Optimizer> {
        read_sgd(options).map_err(refuse)
    }
}

fn read_adamw(options: Map) -> Result<Optimizer, Error> {
    let mut o = Options::new("adamw", options, &["lr", "beta1", "beta2", "eps", "weight_decay"])?;
    let lr = rate(&mut o)?;
    let (beta1, beta2) = (fraction(&mut o, "beta1", 0.9)?, fraction(&mut o, "beta2", 0.999)?);
    let eps: f64 = o.take_or("eps", 1e-8)?;
    o.check("eps", eps > 0.0, "above 0", eps)?;
    let weight_decay = decay(&mut o)?;
    Ok(Optimizer::AdamW { lr, beta1, beta2, eps, weight_decay })
}

fn read_sgd(options: Map) -> Result<Optimizer, Error> {
    let mut o = Options::new("sgd", options, &["lr", "momentum", "weight_decay"])?;
    Ok(Optimizer::Sgd {
        lr: rate(&mut o)?,
        momentum: fraction(&mut o, "momentum", 0.0)?,
        weight_decay: decay(&mut o)?,
    })
}

fn decay(o: &mut Options) -> Result<f64, Error> {
    let value: f64 = o.take_or("weight_decay", 0.0)?;
    o.check("weight_decay", value >= 0.0, "0 or more", value)?;
    Ok(value)
}

fn rate(o: &mut Options) -> Result<Rate, Error> {
    let lr = o.take("lr")?;
    match &lr {
        Rate::Constant(lr) => o.check("lr", *lr >= 0.0, "0 or more", lr)?,
        Rate::PerStep(all) => {
            o.check("lr", !all.is_empty(), "a number or one a step", "an empty array")?;
            for (i, lr) in all.iter().enumerate() {
                o.check(&format!("lr[{i}]"), *lr >= 0.0, "0 or more", lr)?;
            }
        }
    }
    Ok(lr)
}

fn fraction(o: &mut Options, key: &str, default: f64) -> Result<f64, Error> {
    let value = o.take_or(key, default)?;
    o.check(key, (0.0..1.0).contains(&value), "at least 0 and below 1", value)?;
    Ok(value)
}
