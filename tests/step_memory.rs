//! A training step takes the memory that the formula says. A process of its own, since peaks only
//! rise.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use xgbrun::model::load::load;
use xgbrun::model::{Adapter, GradRequest, LinearId, Tokens};
use xgbrun::ops::linear::LoraPair;
use xgbrun::source::{self, Grants};
use xgbrun::sys::peak_rss_mib;
use xgbrun::train::memory::step_bytes;

#[test]
fn a_step_takes_what_the_formula_says() -> Result<()> {
    let Some(path) = [common::FOLDER, common::GGUF].into_iter().find_map(common::model) else {
        return Ok(());
    };
    let Some(text) = common::shared("data/text/tinystories_sample.txt") else { return Ok(()) };
    let name = path.to_str().context("a path that is no text")?;
    let model = load(
        &source::model(&source::resolve(name, &Grants::everything())?)?,
        &Device::Cpu,
        DType::F32,
    )?;
    let (ids, model) = (model.tokenizer.encode(&std::fs::read_to_string(text)?)?, model.model);
    let pair = |layer: usize, target: &str| -> Result<(LinearId, LoraPair)> {
        let linear = model.linear(layer, target).context("a module")?;
        let a = Tensor::ones((1, linear.inner), DType::F32, &Device::Cpu)?;
        let b = Tensor::zeros((linear.out, 1), DType::F32, &Device::Cpu)?;
        Ok((linear.clone(), LoraPair { a, b, scale: 1.0 }))
    };
    let pairs = [pair(9, "v_proj")?, pair(20, "down_proj")?];
    let adapter = Adapter::of_pairs(BTreeMap::from(pairs));
    let step = |sequences: usize, recompute| -> Result<(f64, f64)> {
        let n = 128 * sequences;
        let starts: Vec<usize> = (0..=sequences).map(|i| 128 * i).collect();
        let tokens = Tokens::sequences(ids.iter().copied().cycle().take(n).collect(), &starts);
        let rows: Vec<usize> = (0..n - 1).collect();
        let before = peak_rss_mib();
        model.gradients(
            &tokens,
            &rows,
            &vec![7; rows.len()],
            1.0,
            &GradRequest {
                adapter: &adapter,
                full: &BTreeSet::new(),
                gradient_checkpointing: recompute,
            },
        )?;
        Ok((
            peak_rss_mib() - before,
            step_bytes(&model.cost(), model.compute(), n, rows.len(), 9, recompute) as f64
                / (1 << 20) as f64,
        ))
    };
    // The smaller step first: what it frees may serve the larger one, never the other way round.
    let mut base = 0.0;
    for (sequences, recompute) in [(4, true), (4, false), (8, false)] {
        let (grown, formula) = step(sequences, recompute)?;
        base += grown;
        println!(
            "{sequences} sequences, recompute {recompute}: took {base:.0} MiB, formula \
             {formula:.0} MiB"
        );
        ensure!(
            (0.75..1.25).contains(&(base / formula)),
            "{sequences} sequences, recompute {recompute}: took {base:.0} MiB, formula \
             {formula:.0} MiB"
        );
    }
    Ok(())
}
