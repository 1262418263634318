//! Optimizers, a file each: options, state, and how a step moves a parameter.
//!
//! A new one is a file with an [`UpdateRule`], its `mod`, and a line in `optimizers!`. Its function
//! in scripts, the reference, checkpoints and memory formulas follow from these.

mod adamw;
mod lion;
mod muon;
mod optimizer;
mod parameters;
mod sgd;
#[cfg(test)]
mod tests;

use std::fmt;

use candle_core::{Result, Tensor, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use optimizer::Optimizer;
pub use parameters::Parameters;

/// How an optimizer moves one parameter. Its fields are its options; the learning rate comes with
/// every step.
pub trait UpdateRule: Copy + Sync + DeserializeOwned + Into<OptimizerKind> {
    /// Its function in scripts.
    const NAME: &'static str;
    /// What it is and where it comes from, and how it differs from PyTorch's, for the reference.
    const ABOUT: &'static str;
    /// Options that show it in a script.
    const EXAMPLE: &'static str;
    /// The fields, in their order.
    const OPTIONS: &'static [(&'static str, Setting)];
    /// Tensors that it keeps of a parameter, of its shape and 0 at first, as PyTorch names them.
    const STATE: &'static [&'static str];
    /// What it can step; a fit of anything else is refused.
    const PARAMETERS: Parameters = Parameters::All;
    /// [`UpdateRule::step`] in place, over any part of the numbers of a parameter; gives its bits.
    const FUSED: Option<Fused<Self>> = None;

    /// The definition, on tensors of any device and type: the parameter after the step. `state`
    /// becomes what is kept for the next.
    fn step(&self, p: &Tensor, g: &Tensor, state: &mut [Tensor], at: StepInfo) -> Result<Tensor>;
}

/// A pass over numbers of parameter, gradient and state, in f32 on the CPU.
pub type Fused<R> = fn(&R, &mut [f32], &[f32], &mut [&mut [f32]], StepInfo) -> Result<()>;

/// What of a step is not the parameter's own.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    pub lr: f64,
    /// Steps that the parameter took, with this one: t.
    pub t: i32,
}

/// The default of an option, and which values it may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Setting {
    /// At least 0 and below 1.
    Fraction(f64),
    Positive(f64),
    NonNegative(f64),
    Flag(bool),
    /// From 1 to 99.
    Count(usize),
}

impl fmt::Display for Setting {
    /// The default, as the reference writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fraction(x) | Self::Positive(x) | Self::NonNegative(x) => {
                if x == 0.0 || x >= 1e-4 { write!(f, "{x}") } else { write!(f, "{x:e}") }
            }
            Self::Flag(on) => write!(f, "{on}"),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

/// What an optimizer is, whatever its options.
#[derive(Debug)]
pub struct OptimizerInfo {
    pub name: &'static str,
    pub about: &'static str,
    pub example: &'static str,
    /// Options beside `lr`.
    pub options: &'static [(&'static str, Setting)],
    /// Names of the tensors that it keeps of each parameter.
    pub state: &'static [&'static str],
    pub parameters: Parameters,
    /// Whether it has a pass over f32 on the CPU.
    fused: bool,
    /// Makes it from all of its options.
    pub build: fn(Map<String, Value>) -> serde_json::Result<OptimizerKind>,
}

impl OptimizerInfo {
    const fn of<R: UpdateRule>() -> Self {
        Self {
            name: R::NAME,
            about: R::ABOUT,
            example: R::EXAMPLE,
            options: R::OPTIONS,
            state: R::STATE,
            parameters: R::PARAMETERS,
            fused: R::FUSED.is_some(),
            build: |options| serde_json::from_value::<R>(Value::Object(options)).map(Into::into),
        }
    }
}

macro_rules! optimizers {
    ($($module:ident::$rule:ident,)+) => {
        $(pub use $module::$rule;)+

        /// Which optimizer, with its options.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum OptimizerKind {
            $($rule($rule),)+
        }

        $(impl From<$rule> for OptimizerKind {
            fn from(rule: $rule) -> Self {
                Self::$rule(rule)
            }
        })+

        /// All that there are.
        pub const OPTIMIZERS: &[OptimizerInfo] = &[$(OptimizerInfo::of::<$rule>(),)+];

        impl OptimizerKind {
            pub fn info(&self) -> &'static OptimizerInfo {
                match self {
                    $(Self::$rule(_) => const { &OptimizerInfo::of::<$rule>() },)+
                }
            }

            /// Values of the options beside the learning rate, in their order.
            pub fn options(&self) -> Map<String, Value> {
                let options = match self {
                    $(Self::$rule(rule) => serde_json::to_value(rule),)+
                };
                match options {
                    Ok(Value::Object(options)) => options,
                    _ => Map::new(),
                }
            }

            /// As [`UpdateRule::step`].
            fn step(
                &self,
                p: &Tensor,
                g: &Tensor,
                state: &mut [Tensor],
                at: StepInfo,
            ) -> Result<Tensor> {
                match self {
                    $(Self::$rule(rule) => rule.step(p, g, state, at),)+
                }
            }

            /// As [`UpdateRule::FUSED`], over whole parameters.
            fn fused(
                &self,
                p: &Tensor,
                g: &Tensor,
                state: &mut [Vec<f32>],
                at: StepInfo,
            ) -> Result<()> {
                match self {
                    $(Self::$rule(rule) => optimizer::in_place(rule, p, g, state, at),)+
                }
            }
        }
    };
}

optimizers! {
    adamw::AdamW,
    sgd::Sgd,
    lion::Lion,
    muon::Muon,
}

/// The parts of a state, which are as many as the rule has names for.
fn parts<T, const N: usize>(state: &mut [T]) -> Result<&mut [T; N]> {
    let found = state.len();
    match state.try_into() {
        Ok(parts) => Ok(parts),
        Err(_) => bail!("a state of {found} tensors, and the rule has {N}"),
    }
}
