//! Every known architecture against transformers, on tiny random models that `architectures.py`
//! makes.

use crate::common;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use xgbrun::model::load::load;
use xgbrun::model::{Adapter, Tokens};
use xgbrun::source::{self, Grants};

#[test]
fn logits_are_those_of_transformers() -> Result<()> {
    let Some(python) = common::model("peer/bin/python") else { return Ok(()) };
    let home = tempfile::tempdir()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/architectures.py");
    let made =
        Command::new(python).arg(script).arg(home.path()).env("HF_HUB_OFFLINE", "1").output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut cases = 0;
    for entry in std::fs::read_dir(home.path())? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reference: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path.with_extension("json"))?)?;
        let ids: Vec<u32> = serde_json::from_value(reference["ids"].clone())?;
        let want: Vec<Vec<f32>> = serde_json::from_value(reference["logits"].clone())?;
        let files = source::model(&source::resolve(
            path.to_str().context("a path that is no text")?,
            &Grants::everything(),
        )?)?;
        let rows: Vec<usize> = (0..ids.len()).collect();
        for dtype in [DType::F32, DType::F64] {
            let model = load(&files, &Device::Cpu, dtype).with_context(|| name.clone())?.model;
            let logits = model
                .logits(&Tokens::one(ids.clone()), &rows, &Adapter::default())?
                .to_dtype(DType::F32)?
                .to_vec2::<f32>()?;
            let size = want.iter().flatten().fold(0f32, |m, x| m.max(x.abs()));
            let worst = logits
                .iter()
                .flatten()
                .zip(want.iter().flatten())
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            ensure!(
                worst < 1e-4 * size,
                "{name} in {dtype:?}: logits of up to {size} are off by {worst:e}"
            );
        }
        cases += 1;
    }
    ensure!(cases == 10, "{cases} architectures were compared");
    Ok(())
}
