//! The protocols `lm-eval` and `perplexity` against a script with transformers.

use crate::common;
use crate::generation::{ask, open};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xgbrun::data::{
    EncodeOptions, Item, Layout, LossOn, Template, encode_choices, encode_train, formats,
};
use xgbrun::eval::{EncodedSet, choices};
use xgbrun::model::Adapter;
use xgbrun::model::load::Loaded;

/// Tokens of a block of text.
const BLOCK: usize = 256;

/// `blocks` of WikiText-2's validation part (None: all) and so many questions of ARC-Easy.
fn compare(blocks: Option<usize>, questions: usize) -> Result<()> {
    let (Some(python), Some(folder)) =
        (common::model("peer/bin/python"), common::model(common::FOLDER))
    else {
        return Ok(());
    };
    let Some(text) = common::shared("data/text/wikitext-2/valid.txt") else { return Ok(()) };
    let Some(data) = common::shared("data/commonsense/ARC-Easy/test.json") else { return Ok(()) };
    let Loaded { model, tokenizer, .. } = open(&folder)?;
    let none = Adapter::default();

    let options = EncodeOptions { max_length: BLOCK, loss: LossOn::All };
    let mut examples = encode_train(
        &formats::read(&text, &Layout::default())?,
        Template::Alpaca,
        &tokenizer,
        &options,
    )?
    .examples;
    examples.truncate(blocks.unwrap_or(usize::MAX));
    let found = EncodedSet::Sequences(&examples).measure(&model, &none, |_| Ok(()))?.metrics;

    let items = formats::read(&data, &Layout::default())?;
    let items = &items[..questions];
    let (encoded, _) = encode_choices(items, Template::Alpaca, &tokenizer, 2048)?;
    let sums = choices::score(&model, &none, &encoded, |_| Ok(()))?.sums;
    let scored = EncodedSet::Choices(&encoded).measure(&model, &none, |_| Ok(()))?.metrics;

    let asked = items.iter().map(|item| match item {
        Item::Instruction(i) => Ok(json!({
            "prompt": Template::Alpaca.test_prompt(i)?, "choices": i.choices, "label": i.label,
        })),
        _ => anyhow::bail!("not an instruction"),
    });
    let asked: Vec<Value> = asked.collect::<Result<_>>()?;
    let job = json!({
        "model": folder, "text": text, "block": BLOCK, "blocks": blocks, "questions": asked,
    });
    let want = ask(&python, "likelihood.py", &job)?;

    let number = |value: &Value| value.as_f64().context("a number");
    println!(
        "perplexity {} and {} of {} tokens",
        found["perplexity"], want["perplexity"], want["tokens"]
    );
    println!(
        "acc {} and {}, acc_norm {} and {}",
        scored["accuracy"], want["acc"], scored["accuracy_norm"], want["acc_norm"]
    );
    ensure!(
        found["tokens"] == want["tokens"],
        "{} tokens counted, not {}",
        found["tokens"],
        want["tokens"]
    );
    let (got, perplexity) = (number(&found["perplexity"])?, number(&want["perplexity"])?);
    ensure!((got / perplexity - 1.0).abs() < 5e-5, "perplexity {got}, not {perplexity}");
    let theirs: Vec<Vec<f64>> = serde_json::from_value(want["sums"].clone())?;
    let mut worst = 0f64;
    for (i, (got, want)) in sums.iter().zip(&theirs).enumerate() {
        for (got, want) in got.iter().zip(want) {
            worst = worst.max((got - want).abs());
            ensure!((got - want).abs() < 1e-3, "item {}: a choice scores {got}, not {want}", i + 1);
        }
    }
    println!("{questions} items, sums within {worst:.1e}");
    ensure!(
        (sums.len(), theirs.len()) == (questions, questions),
        "{} and {} items were scored",
        sums.len(),
        theirs.len()
    );
    for (ours, theirs) in [("accuracy", "acc"), ("accuracy_norm", "acc_norm")] {
        ensure!(
            number(&scored[ours])? == number(&want[theirs])?,
            "{ours} {}, not {}",
            scored[ours],
            want[theirs]
        );
    }
    Ok(())
}

#[test]
fn perplexity_and_choices_are_those_of_transformers() -> Result<()> {
    // Some 20 000 tokens.
    compare(Some(78), 24)
}

#[test]
#[ignore = "the whole text takes many minutes"]
fn perplexity_of_the_whole_text_is_that_of_transformers() -> Result<()> {
    compare(None, 1)
}
