//! Keys of `config.json`: read, known to say nothing, or refused.

use std::path::Path;

use candle_core::{DType, Device};
use serde_json::Value;
use xgbrun::data::ChoiceItem;
use xgbrun::eval::choices::score;
use xgbrun::eval::generate::{Decode, Generation, generate};
use xgbrun::model::gguf_save::{self, Storage};
use xgbrun::model::load::{self, Loaded};
use xgbrun::model::{Adapter, Model, Tokens, save};
use xgbrun::source::Grants;

use crate::common;
use crate::harness::{case, eval, made, transformers};

fn loaded(folder: &Path) -> anyhow::Result<Loaded> {
    load::open(folder.to_str().unwrap(), &Grants::everything(), &Device::Cpu, DType::F32)
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The mean loss of whole sequences.
fn loss(model: &Model, rows: &[Vec<u32>]) -> f64 {
    let of = |row: &Vec<u32>| {
        let places: Vec<usize> = (0..row.len() - 1).collect();
        model
            .nll(&Tokens::one(row.clone()), &places, &row[1..], &Adapter::default())
            .unwrap()
            .iter()
            .sum::<f64>()
    };
    rows.iter().map(of).sum::<f64>() / rows.iter().map(|row| row.len() - 1).sum::<usize>() as f64
}

/// Never a number that is not transformers', and no refusal without the key's name of what
/// transformers measures.
#[test]
fn every_key_changes_what_it_changes_in_transformers_or_is_named() {
    let Some((home, expected)) = made("configs.py") else { return };
    let rows: Vec<Vec<u32>> = expected["rows"].as_array().unwrap().iter().map(ids).collect();
    let (mut faults, mut measured, mut refused) = (vec![], 0, 0);
    for case in expected["cases"].as_array().unwrap() {
        let (folder, key, change) =
            (case["folder"].as_str().unwrap(), case["key"].as_str().unwrap(), &case["change"]);
        let want = case["loss"].as_f64();
        match (loaded(&home.path().join(folder)).map(|loaded| loss(&loaded.model, &rows)), want) {
            (Ok(got), Some(want)) if (got - want).abs() < 1e-4 => measured += 1,
            (Ok(got), Some(want)) => {
                faults.push(format!("{folder} {change}: {got}, transformers has {want}"))
            }
            (Err(error), Some(_))
                if names_it(&format!("{error:#}"), key, change.as_str().unwrap()) =>
            {
                refused += 1
            }
            (Err(error), Some(_)) => faults.push(format!("{folder} {change}: {error:#}")),
            (Err(error), None) if format!("{error:?}").contains("panicked") => {
                faults.push(format!("{folder}: {error:?}"))
            }
            (_, None) => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(measured > 280 && refused < 60, "{measured} measured, {refused} refused");
    generates_and_scores(home.path(), &expected);
    exported_as_gguf(home.path(), &expected, &rows);
}

/// Rope scalings and windows as GGUF, read back, and as a folder made of that: the same numbers, or
/// a refusal.
fn exported_as_gguf(home: &Path, expected: &Value, rows: &[Vec<u32>]) {
    let keys = ["rope_scaling", "rope_parameters", "sliding_window", "layer_types"];
    let (mut folders, mut refused) = (vec![], 0);
    for case in expected["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| keys.contains(&case["key"].as_str().unwrap()))
    {
        let folder = case["folder"].as_str().unwrap();
        let Ok(model) = loaded(&home.join(folder)) else { continue };
        let (want, file) = (loss(&model.model, rows), home.join(format!("{folder}.gguf")));
        if let Err(error) =
            gguf_save::save(&model.model, &model.tokenizer, "tiny", Storage::F32, &file)
        {
            assert!(
                format!("{error}").contains("GGUF") || format!("{error}").contains("llama.cpp"),
                "{folder}: {error}"
            );
            refused += 1;
            continue;
        }
        let again = loaded(&file).unwrap();
        let got = loss(&again.model, rows);
        assert!(
            (got - want).abs() < 1e-5,
            "{folder} {}: {got} as GGUF, {want} before",
            case["change"]
        );
        let made = format!("{folder}-made");
        save::save(
            &again.model,
            &again.tokenizer,
            &again.extras,
            &[],
            save::SHARD,
            &home.join(&made),
        )
        .unwrap();
        folders.push((made, want));
    }
    assert!(folders.len() > 40 && refused > 15, "{} exported, {refused} refused", folders.len());
    let losses = transformers(
        home,
        "configs.py",
        &folders.iter().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>(),
    );
    for (folder, want) in folders {
        let got = losses[&folder].as_f64().unwrap();
        assert!(
            (got - want).abs() < 1e-4,
            "{folder}: transformers has {got}, the model had {want}"
        );
    }
}

/// Whether a refusal names the key, or one that was set along with it.
fn names_it(error: &str, key: &str, change: &str) -> bool {
    error.contains(key)
        || change.split('\'').skip(1).step_by(2).any(|word| error.contains(&format!("`{word}`")))
}

/// A tokenizer that knows no texts.
struct Mute;

impl Decode for Mute {
    fn decode(&self, _: &[u32]) -> anyhow::Result<String> {
        Ok(String::new())
    }
    fn special(&self) -> Vec<(String, u32)> {
        vec![]
    }
}

/// Windows in some layers and frequencies that depend on the length, with a cache and over a shared
/// prompt.
fn generates_and_scores(home: &Path, expected: &Value) {
    for case in expected["generated"].as_array().unwrap() {
        let folder = case["folder"].as_str().unwrap();
        let config = home.join(folder).join("config.json");
        // Whatever token comes, the text goes on.
        let mut json: Value =
            serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
        json["eos_token_id"] = Value::Null;
        std::fs::remove_file(&config).unwrap();
        std::fs::write(&config, json.to_string()).unwrap();
        let model = loaded(&home.join(folder)).unwrap().model;
        let (prompt, want) = (ids(&case["prompt"]), ids(&case["ids"]));
        let how = Generation { max_tokens: want.len(), ..Generation::default() };
        let got = generate(
            &model,
            &Adapter::default(),
            std::slice::from_ref(&prompt),
            &Mute,
            &how,
            |_| Ok(()),
        )
        .unwrap();
        assert_eq!(got[0].ids, want, "{folder}");

        let choices: Vec<Vec<u32>> = case["choices"].as_array().unwrap().iter().map(ids).collect();
        let (names, choice_chars) = (vec![String::new(); choices.len()], vec![1; choices.len()]);
        let item = ChoiceItem {
            index: 0,
            prompt,
            choices,
            given: vec![],
            choice_chars,
            names,
            label: 0,
            target: None,
        };
        // Beside another item, which has frequencies of its own.
        let sums =
            score(&model, &Adapter::default(), &[item.clone(), item], |_| Ok(())).unwrap().sums;
        for (got, want) in
            sums.iter().flat_map(|sums| sums.iter().zip(case["sums"].as_array().unwrap()))
        {
            assert!((got - want.as_f64().unwrap()).abs() < 2e-3, "{folder}: {got} is not {want}");
        }
    }
}

#[test]
fn layers_have_windows_as_their_types_say() {
    for (name, nll) in [
        ("qwen2-no-max-window-layers", 6.29488),
        ("qwen3-layer-types", 6.15340),
        ("qwen2-types-all-full", 6.29488),
    ] {
        let Some(folder) = case("silent-layer-types") else { return };
        eval(&folder, name, &format!("{name}/rows.jsonl"), &[]).has_nll(nll);
    }
}

#[test]
fn of_two_rope_dialects_the_one_of_transformers_is_taken() {
    let Some(folder) = case("silent-config-both-rope-keys") else { return };
    let ran = eval(&folder, "model", "model/rows.jsonl", &[]);
    ran.has_nll(6.17934);
    ran.says(&["`rope_scaling` and `rope_parameters`: the first is taken"]);
}

#[test]
fn rope_scaling_of_all_kinds() {
    let Some(folder) = case("refused-rope-scaling") else { return };
    for (name, nll) in
        [("yarn", 6.19239), ("dynamic", 6.18073), ("llama3-original-at-the-top", 6.17518)]
    {
        eval(&folder, name, &format!("{name}/rows.jsonl"), &[]).has_nll(nll);
    }
    // Of yarn.gguf: the file's weights in transformers, with yarn of its metadata.
    for (name, nll) in [
        ("llama3-factor-8-original-64.gguf", 6.16534),
        ("factors-of-1.gguf", 6.18139),
        ("yarn.gguf", 6.18775),
    ] {
        eval(&folder, name, "rows.jsonl", &[]).has_nll(nll);
    }
}

#[test]
fn published_models_as_they_are_need_no_note() {
    let (Some(gguf), Some(folder)) = (common::model(common::GGUF), common::model(common::FOLDER))
    else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("rows.jsonl"),
        "{\"ids\": [1, 504, 1420], \"mask_first\": 1}\n",
    )
    .unwrap();
    for model in [gguf, folder] {
        let ran = eval(home.path(), model.to_str().unwrap(), "rows.jsonl", &[]);
        let notes: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with('`')).collect();
        assert_eq!((ran.code, notes), (Some(0), vec![]), "{}", ran.stderr);
    }
}
