//! Encoders, and heads on all architectures, against transformers and peft, on tiny random models
//! that `encoders.py` makes: what is read, computed and written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use xgbrun::boost::adapter::{self, Weights};
use xgbrun::model::load::{Loaded, load};
use xgbrun::model::{Adapter, GradRequest, Gradients, Model, ParamId, Tokens, save};
use xgbrun::ops::logits::Targets;
use xgbrun::source::{self, Grants};

use crate::common;

/// Runs `encoders.py`.
fn python(mode: &str, home: &Path) -> Result<()> {
    let python = common::model("peer/bin/python").context("the peer")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/encoders.py");
    let mut command = Command::new(python);
    let out = command.args([script, mode]).arg(home).env("HF_HUB_OFFLINE", "1").output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

pub fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

pub fn open(folder: &Path, dtype: DType) -> Result<Loaded> {
    let name = folder.to_str().context("a path that is no text")?;
    let files = source::model(&source::resolve(name, &Grants::everything())?)?;
    load(&files, &Device::Cpu, dtype)
}

pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(flat).collect(),
        other => other.as_f64().into_iter().collect(),
    }
}

/// ‖got − want‖ / ‖want‖, and the largest difference.
pub fn distance(got: &[f64], want: &Value) -> Result<(f64, f64)> {
    let want = flat(want);
    ensure!(got.len() == want.len(), "{} numbers, not {}", got.len(), want.len());
    let square = |numbers: &[f64]| numbers.iter().map(|x| x * x).sum::<f64>();
    let apart: Vec<f64> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
    let most = apart.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    Ok(((square(&apart) / square(&want)).sqrt(), most))
}

/// A model's folder with what was expected of it.
struct Case {
    name: String,
    home: PathBuf,
    want: Value,
    tokens: Tokens,
    /// What the head reads.
    rows: Vec<usize>,
    /// Where choices begin.
    items: Vec<usize>,
    classes: Vec<u32>,
    values: Vec<f64>,
}

impl Case {
    fn new(home: &Path, name: &str) -> Result<Self> {
        let home = home.join(name);
        let want = json(&home.join("expected.json"))?;
        let (kind, head) = name.split_once('-').context("a name")?;
        let (sequences, items): (Vec<Vec<u32>>, Vec<usize>) = if head == "choice" {
            let items: Vec<Vec<Vec<u32>>> = serde_json::from_value(want["ids"].clone())?;
            let ends = items.iter().scan(0, |end, item| {
                *end += item.len();
                Some(*end)
            });
            let starts = std::iter::once(0).chain(ends).collect();
            (items.into_iter().flatten().collect(), starts)
        } else {
            (serde_json::from_value(want["ids"].clone())?, vec![])
        };
        let mut starts = vec![0];
        sequences.iter().for_each(|s| starts.push(starts[starts.len() - 1] + s.len()));
        let types: Vec<Vec<u32>> = serde_json::from_value(want["types"].clone())?;
        let rows = match head {
            "base" => (0..starts[starts.len() - 1]).collect(),
            "masked" => {
                let places: Vec<(usize, usize, u32)> =
                    serde_json::from_value(want["masked"].clone())?;
                places.iter().map(|(row, at, _)| starts[*row] + at).collect()
            }
            _ if matches!(kind, "llama" | "gpt2") => {
                starts[1..].iter().map(|end| end - 1).collect()
            }
            _ => starts[..starts.len() - 1].to_vec(),
        };
        let wanted: Vec<f64> = flat(&want["wanted"]).into_iter().filter(|x| *x != -100.0).collect();
        let classes = wanted.iter().map(|x| *x as u32).collect();
        let tokens = Tokens::sequences(sequences.concat(), &starts).typed(types.concat());
        Ok(Self { name: name.into(), home, want, tokens, rows, items, classes, values: wanted })
    }

    fn is(&self, head: &str) -> bool {
        self.name.ends_with(head)
    }

    fn targets(&self) -> Targets<'_> {
        match () {
            () if self.is("number") => Targets::Numbers(&self.values),
            () if self.is("choice") => {
                Targets::Choices { starts: &self.items, right: &self.classes }
            }
            () => Targets::Classes(&self.classes),
        }
    }

    fn logits(&self, model: &Model, adapter: &Adapter) -> Result<Vec<f64>> {
        if self.is("base") {
            return numbers(&model.hidden_states(&self.tokens, adapter)?);
        }
        numbers(&model.logits(&self.tokens, &self.rows, adapter)?)
    }

    /// Whether logits are those of transformers.
    fn agrees(&self, model: &Model, adapter: &Adapter, want: &Value) -> Result<()> {
        let (_, apart) = distance(&self.logits(model, adapter)?, want)?;
        ensure!(apart < 1e-4, "{}: logits are off by {apart:e}", self.name);
        Ok(())
    }

    fn gradients(
        &self,
        model: &Model,
        adapter: &Adapter,
        full: &BTreeSet<ParamId>,
        gradient_checkpointing: bool,
    ) -> Result<(f64, Gradients)> {
        let weight = 1.0 / self.targets().len() as f64;
        let request = GradRequest { adapter, full, gradient_checkpointing };
        let (losses, gradients) =
            model.gradients(&self.tokens, &self.rows, self.targets(), weight, &request)?;
        Ok((losses.iter().sum::<f64>() * weight, gradients))
    }

    fn loss_is(&self, loss: f64, want: &str) -> Result<()> {
        let want = self.want[want].as_f64().context("a loss")?;
        ensure!((loss - want).abs() < 1e-5 * want.abs().max(1.0), "{}: {loss}, {want}", self.name);
        Ok(())
    }

    /// Gradients of all parameters, and of the adapter's factors and head.
    fn gradients_are_those_of_torch(&self, model: &Model, adapter: Option<&Adapter>) -> Result<()> {
        let all: BTreeSet<ParamId> = model.params().map(|(id, _)| id.clone()).collect();
        let near = |what: &str, gradient: &Tensor, want: &Value| -> Result<()> {
            let (apart, most) = distance(&numbers(gradient)?, want)?;
            // They move all scores of a query, or of an item, alike: rounding alone is left.
            let alike = ["key.bias", "k_lin.bias"].iter().any(|name| what.ends_with(name));
            let zero = alike || (self.is("choice") && what == "classifier.bias");
            ensure!(
                apart < 1e-3 || (zero && most < 1e-5),
                "{}: the gradient of {what} is off by {apart:e}",
                self.name
            );
            Ok(())
        };
        for again in [false, true] {
            let (loss, found) = self.gradients(model, &Adapter::default(), &all, again)?;
            self.loss_is(loss, "loss")?;
            ensure!(found.full.len() == all.len(), "{}: {}", self.name, found.full.len());
            for (id, gradient) in found.full {
                near(&id.name, &id.relaid(gradient)?, &self.want["gradients"][&id.name])?;
            }
        }
        let Some(adapter) = adapter else { return Ok(()) };
        let head = adapter.full().keys().cloned().collect();
        let (loss, found) = self.gradients(model, adapter, &head, false)?;
        self.loss_is(loss, "adapted_loss")?;
        let want = &self.want["adapted_gradients"];
        for (linear, (da, db)) in &found.pairs {
            for (part, gradient) in [("A", da), ("B", db)] {
                let name = format!("base_model.model.{}.lora_{part}.weight", linear.name);
                near(&name, gradient, &want[&name])?;
            }
        }
        for (id, gradient) in &found.full {
            let (module, rest) = id.name.split_once('.').context("a module")?;
            let name = format!("base_model.model.{module}.modules_to_save.{rest}");
            near(&id.name, gradient, &want[&name])?;
        }
        let count = want.as_object().map_or(0, serde_json::Map::len);
        ensure!(2 * found.pairs.len() + found.full.len() == count, "{}: {count}", self.name);
        Ok(())
    }

    fn tokens_are_those_of_transformers(&self, loaded: &Loaded) -> Result<()> {
        for case in self.want["encoded"].as_array().into_iter().flatten() {
            let (text, pair) = (case["text"].as_str().context("a text")?, case["pair"].as_str());
            let got = loaded.tokenizer.encode_whole(text, pair, 16)?;
            let want = (flat(&case["ids"]), flat(&case["types"]));
            let of = |ids: Vec<u32>| ids.into_iter().map(f64::from).collect::<Vec<_>>();
            ensure!((of(got.ids), of(got.types)) == want, "{}: {case}", self.name);
        }
        Ok(())
    }
}

const CASES: [&str; 19] = [
    "bert-base",
    "bert-masked",
    "bert-classes",
    "bert-number",
    "bert-choice",
    "roberta-base",
    "roberta-masked",
    "roberta-classes",
    "roberta-number",
    "roberta-choice",
    "distilbert-base",
    "distilbert-masked",
    "distilbert-classes",
    "distilbert-number",
    "distilbert-choice",
    "llama-classes",
    "llama-number",
    "gpt2-classes",
    "gpt2-number",
];

/// Reads a model and what belongs to it, computes, and writes it again.
fn read_and_computed(case: &Case) -> Result<()> {
    let loaded = open(&case.home.join("model"), DType::F32)?;
    ensure!(loaded.notes.is_empty(), "{}: {:?}", case.name, loaded.notes);
    case.tokens_are_those_of_transformers(&loaded)?;
    let Loaded { model, tokenizer, extras, .. } = loaded;
    case.agrees(&model, &Adapter::default(), &case.want["logits"])?;
    let folder = case.home.join("adapter");
    let booster = match folder.exists() {
        true => Some(adapter::load(&folder, &model, Weights::Base)?.booster),
        false => None,
    };
    if let Some(booster) = &booster {
        case.agrees(&model, &booster.adapter, &case.want["adapted"])?;
        adapter::save(booster, &model, &case.home.join("written"), "model")?;
    }
    if !case.is("base") {
        case.gradients_are_those_of_torch(&model, booster.as_ref().map(|b| &b.adapter))?;
    }
    save::save(&model, &tokenizer, &extras, &[], save::SHARD, &case.home.join("saved"))
}

/// What transformers and peft make of what was written.
fn written(case: &Case) -> Result<()> {
    let checked = json(&case.home.join("checked.json"))?;
    let model = open(&case.home.join("saved"), DType::F32)?.model;
    case.agrees(&model, &Adapter::default(), &checked["saved"])?;
    case.agrees(&model, &Adapter::default(), &case.want["logits"])?;
    if case.is("classes") {
        let labels = serde_json::json!({ "0": "no", "1": "yes", "2": "maybe" });
        ensure!(checked["labels"] == labels, "{}: {}", case.name, checked["labels"]);
    }
    if case.home.join("written").exists() {
        let booster = adapter::load(&case.home.join("written"), &model, Weights::Base)?.booster;
        case.agrees(&model, &booster.adapter, &checked["written"])?;
        case.agrees(&model, &booster.adapter, &case.want["adapted"])?;
    }
    Ok(())
}

#[test]
fn encoders_and_heads_are_read_trained_and_written() -> Result<()> {
    if common::model("peer/bin/python").is_none() {
        return Ok(());
    }
    let home = tempfile::tempdir()?;
    python("make", home.path())?;
    let cases = CASES.map(|name| Case::new(home.path(), name)).into_iter();
    let cases = cases.collect::<Result<Vec<_>>>()?;
    cases.iter().try_for_each(read_and_computed)?;
    python("check", home.path())?;
    cases.iter().try_for_each(written)
}
