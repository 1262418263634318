//! `adamw`, `sgd` and the other optimizers: how a booster's factors are stepped. Each line of the
//! registry in [`optim`](crate::train::optim) is a function of scripts.

use rhai::{Dynamic, FuncRegistration, Map, Module};
use serde_json::{Value, json};

use super::{Answer, refuse};
use crate::error::{Error, error};
use crate::host::options::{FromOption, Mismatch, Options};
use crate::train::OptimizerKind;
use crate::train::optim::{OPTIMIZERS, OptimizerInfo, Setting};

/// An optimizer and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerOption {
    pub(super) kind: OptimizerKind,
    pub(super) lr: Rate,
}

/// A learning rate: one for all steps, or one for each.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    Constant(f64),
    PerStep(Vec<f64>),
}

impl OptimizerOption {
    /// As the journal tells it from others, with `lr` as it tells the learning rate.
    pub(super) fn to_journal(&self, lr: Value) -> Value {
        let head = [("rule".to_owned(), json!(self.kind.info().name)), ("lr".to_owned(), lr)];
        Value::Object(head.into_iter().chain(self.kind.options()).collect())
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

impl FromOption for OptimizerOption {
    const WHAT: &'static str = "an optimizer, such as `adamw(…)`";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        value.clone().try_cast().ok_or_else(|| Mismatch::new::<Self>(value, key))
    }
}

/// A function for each line of the registry.
pub(super) fn natives() -> Module {
    let mut module = Module::new();
    for info in OPTIMIZERS {
        let make =
            |options: Map| -> Answer<OptimizerOption> { read(info, options).map_err(refuse) };
        FuncRegistration::new(info.name)
            .in_global_namespace()
            .with_params_info(["options: Map", "Answer<Optimizer>"])
            .with_comments(reference(info).lines().map(|line| format!("/// {line}")))
            .set_into_module(&mut module, make);
    }
    module
}

/// What the reference says of an optimizer, in Markdown.
fn reference(info: &OptimizerInfo) -> String {
    let OptimizerInfo { name, about, example, options, state, .. } = info;
    let options: String =
        options.iter().map(|(key, setting)| format!(", `{key}` ({setting})")).collect();
    let state = state.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    format!(
        "{about}\n\n\
         Options: `lr` (a number, or one a step){options}.\n\
         It keeps {state} of each number that it trains.\n\n\
         # Example\n\
         ```rhai\n\
         let o = {name}(#{{ {example} }});\n\
         ```"
    )
}

/// The name and the options of the optimizer `name`.
pub(super) fn options_of(name: &str) -> Option<(&'static str, Vec<&'static str>)> {
    let info = OPTIMIZERS.iter().find(|info| info.name == name)?;
    let own = info.options.iter().map(|(key, _)| *key);
    Some((info.name, std::iter::once("lr").chain(own).collect()))
}

fn read(info: &'static OptimizerInfo, options: Map) -> Result<OptimizerOption, Error> {
    let keys = options_of(info.name).map(|(_, keys)| keys).unwrap_or_default();
    let mut o = Options::new(info.name, options, &keys)?;
    let lr = rate(&mut o)?;
    let values = info
        .options
        .iter()
        .map(|(key, setting)| Ok((key.to_string(), value(&mut o, key, *setting)?)));
    let kind = (info.build)(values.collect::<Result<_, Error>>()?)
        .map_err(|e| error!(Usage, "`{}`: {e}", info.name))?;
    Ok(OptimizerOption { kind, lr })
}

/// What an option is set to, or its default.
fn value(o: &mut Options, key: &str, setting: Setting) -> Result<Value, Error> {
    let (default, holds, what): (f64, fn(f64) -> bool, _) = match setting {
        Setting::Fraction(x) => (x, |x| (0.0..1.0).contains(&x), "at least 0 and below 1"),
        Setting::Positive(x) => (x, |x| x > 0.0, "above 0"),
        Setting::NonNegative(x) => (x, |x| x >= 0.0, "0 or more"),
        Setting::Flag(on) => return Ok(o.take_or(key, on)?.into()),
        Setting::Count(n) => {
            let n: usize = o.take_or(key, n)?;
            o.check(key, (1..=99).contains(&n), "from 1 to 99", n)?;
            return Ok(n.into());
        }
    };
    let value: f64 = o.take_or(key, default)?;
    o.check(key, holds(value), what, value)?;
    Ok(value.into())
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
