//! The options of `booster.fit`.

use std::collections::BTreeSet;

use rhai::Map;

use super::optimizer::{OptimizerOption, Rate};
use crate::error::Error;
use crate::host::options::Options;
use crate::session::MOST_SEQUENCES;
use crate::train::{Factor, FitOptions, GradientCheckpointing};

/// Reads them. Errors (class usage) name the option.
pub(super) fn parse(map: Map) -> Result<FitOptions, Error> {
    let mut o = Options::new(
        "fit",
        map,
        &[
            "steps",
            "optimizer",
            "batch",
            "accumulate",
            "clip",
            "l2",
            "lr_ratio",
            "freeze",
            "active",
            "gradient_checkpointing",
        ],
    )?;
    let steps: usize = o.take("steps")?;
    o.check("steps", (1..=1_000_000_000).contains(&steps), "from 1 to 1000000000", steps)?;
    let OptimizerOption { kind, lr } = o.take("optimizer")?;
    let batch = sequences(&mut o)?;
    let accumulate: usize = o.take_or("accumulate", 1)?;
    o.check(
        "accumulate",
        (1..=MOST_SEQUENCES / batch).contains(&accumulate),
        "1 or more, and a step of 65536 sequences at most",
        format!("{accumulate} batches of {batch}"),
    )?;
    let clip: Option<f64> = o.take_opt("clip")?;
    if let Some(clip) = clip {
        o.check("clip", clip > 0.0, "above 0", clip)?;
    }
    let l2: f64 = o.take_or("l2", 0.0)?;
    o.check("l2", l2 >= 0.0, "0 or more", l2)?;
    let name: String = o.take_or("gradient_checkpointing", "auto".into())?;
    let Some(gradient_checkpointing) = GradientCheckpointing::from_name(&name) else {
        o.check(
            "gradient_checkpointing",
            false,
            "\"off\", \"on\" or \"auto\"",
            format!("{name:?}"),
        )?;
        return Err(Error::usage("unknown `gradient_checkpointing`"));
    };
    let lr_ratio: f64 = o.take_or("lr_ratio", 1.0)?;
    o.check("lr_ratio", lr_ratio > 0.0, "above 0", lr_ratio)?;
    let freeze = match o.take_opt::<String>("freeze")? {
        None => None,
        Some(name) => {
            let factor = Factor::from_name(&name);
            o.check("freeze", factor.is_some(), "\"A\" or \"B\"", format!("{name:?}"))?;
            factor
        }
    };
    let active: Vec<Vec<usize>> = o.take_or("active", vec![])?;
    o.check(
        "active",
        active.is_empty() || active.len() == steps,
        "an array of layers for each step",
        format!("{} for {steps} steps", active.len()),
    )?;
    let active = active.into_iter().map(BTreeSet::from_iter).collect();
    let lr = match lr {
        Rate::Constant(lr) => vec![lr],
        Rate::PerStep(rates) => {
            o.check(
                "optimizer",
                rates.len() == steps,
                "given a learning rate for each step",
                format!("{} for {steps} steps", rates.len()),
            )?;
            rates
        }
    };
    Ok(FitOptions {
        steps,
        batch,
        accumulate,
        optimizer: kind,
        lr,
        clip,
        l2,
        lr_ratio,
        freeze,
        active,
        gradient_checkpointing,
    })
}

/// The option `batch`: sequences that go through the network together.
pub(super) fn sequences(o: &mut Options) -> Result<usize, Error> {
    let batch: usize = o.take_or("batch", 8)?;
    o.check("batch", (1..=MOST_SEQUENCES).contains(&batch), "from 1 to 65536", batch)?;
    Ok(batch)
}
