//! Beam search against transformers, and its speed.

use crate::common;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use serde_json::{Value, json};
use xgbrun::data::{Item, Layout, Template, formats};
use xgbrun::eval::generate::{Generation, generate};
use xgbrun::model::Adapter;
use xgbrun::model::load::{Loaded, load};
use xgbrun::source::{self, Grants, Tokenizer};

pub fn open(path: &Path) -> Result<Loaded> {
    let name = path.to_str().context("a path that is no text")?;
    load(&source::model(&source::resolve(name, &Grants::everything())?)?, &Device::Cpu, DType::F32)
}

/// What a Python script beside this file answers to a job.
pub fn ask(python: &Path, script: &str, job: &Value) -> Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(script);
    let mut child = Command::new(python)
        .arg(script)
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no standard input")?.write_all(job.to_string().as_bytes())?;
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "the script failed");
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// The first test questions of ARC-Easy under the published prompt.
fn prompts(data: &Path, tokenizer: &Tokenizer, count: usize) -> Result<Vec<Vec<u32>>> {
    let items = formats::read(data, &Layout::default())?;
    items[..count]
        .iter()
        .map(|item| match item {
            Item::Instruction(item) => tokenizer.encode(&Template::LlmAdapters.test_prompt(item)?),
            _ => anyhow::bail!("not an instruction"),
        })
        .collect()
}

#[test]
fn beam_search_is_that_of_transformers() -> Result<()> {
    let (Some(python), Some(folder)) =
        (common::model("peer/bin/python"), common::model(common::FOLDER))
    else {
        return Ok(());
    };
    let Some(data) = common::shared("data/commonsense/ARC-Easy/test.json") else { return Ok(()) };
    let Loaded { model, tokenizer, .. } = open(&folder)?;
    let mut prompts = prompts(&data, &tokenizer, 6)?;
    // Prompts after which the model soon ends a text: hypotheses are finished before the limit.
    for text in [
        "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n",
    ] {
        prompts.push(tokenizer.encode(text)?);
    }
    let job = json!({ "model": folder, "prompts": prompts, "beams": 4, "max_tokens": 32 });
    let want: Vec<Vec<u32>> = serde_json::from_value(ask(&python, "generation.py", &job)?)?;
    let how = Generation { max_tokens: 32, beams: 4, ..Generation::default() };
    let got = generate(&model, &Adapter::default(), &prompts, &tokenizer, &how, |_| Ok(()))?;
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        ensure!(
            got.ids == *want,
            "prompt {i}: {:?}, not {:?}",
            got.text,
            tokenizer.decode(want, true)?
        );
    }
    ensure!(want.iter().any(|ids| ids.len() < 31), "no prompt ended before the limit");
    println!("{} prompts, {} tokens alike", want.len(), want.iter().map(Vec::len).sum::<usize>());
    Ok(())
}

/// Time of the published protocol on 64 questions.
#[test]
#[ignore = "takes a minute and measures only"]
fn speed() -> Result<()> {
    let (Some(folder), Some(data)) =
        (common::model(common::FOLDER), common::shared("data/commonsense/ARC-Easy/test.json"))
    else {
        return Ok(());
    };
    let Loaded { model, tokenizer, .. } = open(&folder)?;
    let prompts = prompts(&data, &tokenizer, 64)?;
    let mut seconds = vec![];
    for max_tokens in [1, 32] {
        let how = Generation { max_tokens, beams: 4, ..Generation::default() };
        let started = Instant::now();
        generate(&model, &Adapter::default(), &prompts, &tokenizer, &how, |_| Ok(()))?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let prompt_tokens: usize = prompts.iter().map(Vec::len).sum();
    let steps = 64.0 * 4.0 * 31.0;
    println!("prompts: {prompt_tokens} tokens in {:.1} s", seconds[0]);
    println!(
        "at most {steps} further tokens in {:.1} s: {:.0} tokens/s",
        seconds[1] - seconds[0],
        steps / (seconds[1] - seconds[0])
    );
    Ok(())
}
