//! Weights: tied heads, missing prefixes, other types, more layers than the config has.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use xgbrun::error::{Class, class_of};
use xgbrun::model::load::{self, Loaded};
use xgbrun::model::{ParamId, meta};
use xgbrun::source::{Grants, model as files, resolve};

use crate::harness::{case, eval, made, program, ran, transformers};

/// What the program says of a folder, and what it may not read.
const REFUSED: [(&str, &str); 16] = [
    ("adapter-beside", "`adapter_config.json` beside its weights"),
    ("a-bias", "`model.layers.1.self_attn.q_proj.bias`"),
    ("a-norm", "`model.layers.1.self_attn.q_norm.weight`"),
    ("an-adapter", "`model.layers.1.self_attn.q_proj.lora_A.weight`"),
    ("bnb", "quantised (bitsandbytes)"),
    ("both-prefixes", "`model.norm.weight` and `norm.weight`"),
    ("gptq", "quantised (GPTQ or AWQ)"),
    (
        "index-of-nothing",
        "the index names the tensor `lm_head.weight` in `model-00001-of-00002.safetensors`, which \
         does not have it",
    ),
    ("int8", "stored as I8"),
    ("more-layers", "`model.layers.3.input_layernorm.weight` (and 8 more)"),
    ("pointer", "is a Git LFS pointer"),
    ("prefix-base_model-model", "begin with `base_model.model.`"),
    ("prefix-language_model", "begin with `language_model.`"),
    ("prefix-module", "begin with `module.`"),
    ("prefix-orig_mod", "begin with `_orig_mod.`"),
    ("untied-no-head", "no tensor `lm_head.weight`"),
];

/// What a person is told of those that are read.
const NOTED: [(&str, &str); 11] = [
    ("cache-scales", "2 scales of an 8-bit key-value cache"),
    ("e4m3", "stored as F8_E4M3"),
    ("e5m2", "stored as F8_E5M2"),
    ("fewer-layers", "the weights have 3 layers, the config asks for the first 2"),
    ("index-of-more", "the index names the tensor `model.extra` (and 1 more), which no file has"),
    ("index-of-tied-head", "the index names the tensor `lm_head.weight`, which no file has"),
    ("tied-only-head", "the embedding is read from `lm_head.weight`"),
    ("tied-own-head", "another matrix than the embedding"),
    ("tied-f64-own-head", "another matrix than the embedding"),
    ("tied-rounded-head", "another matrix than the embedding"),
    ("value-head", "2 tensors of another head"),
];

fn loaded(home: &Path, name: &str) -> anyhow::Result<Loaded> {
    load::open(home.join(name).to_str().unwrap(), &Grants::everything(), &Device::Cpu, DType::F32)
}

#[test]
fn weights_are_those_of_transformers_or_are_refused() {
    let Some((home, expected)) = made("weights.py") else { return };
    let home = home.path();
    for (name, want) in expected["losses"].as_object().unwrap() {
        let Some((_, words)) = REFUSED
            .iter()
            .chain([&("two-index-names-first", "several files with different numbers")])
            .find(|r| r.0 == name)
        else {
            eval(home, name, "rows.jsonl", &[]).has_nll(want.as_f64().unwrap());
            let notes = loaded(home, name).unwrap().notes;
            match NOTED.iter().find(|noted| noted.0 == name) {
                Some((_, words)) => {
                    assert!(notes.len() == 1 && notes[0].contains(words), "{name}: {notes:?}")
                }
                None if name == "tied-own-head-base" => assert_eq!(notes.len(), 1),
                None => assert!(notes.is_empty(), "{name}: {notes:?}"),
            }
            continue;
        };
        let error = loaded(home, name).err().unwrap_or_else(|| panic!("{name} was read"));
        assert!(format!("{error:#}").contains(words), "{name}: {error:#}");
        assert_eq!(class_of(&error), Class::Data, "{name}");
    }
    shapes_are_those_of_the_weights(home);
    what_is_saved_is_what_transformers_reads(home);
}

/// Without numbers a model has the same tensors.
fn shapes_are_those_of_the_weights(home: &Path) {
    for name in ["tied-own-head", "tied-only-head", "tied-equal", "base", "fewer-layers", "e4m3"] {
        let model =
            files(&resolve(home.join(name).to_str().unwrap(), &Grants::everything()).unwrap())
                .unwrap();
        let (hollow, whole) = (
            meta::load(&model, DType::F32, meta::Assume::Best).unwrap(),
            loaded(home, name).unwrap(),
        );
        let names = |loaded: &Loaded| {
            let shape = |(id, t): (&ParamId, &Tensor)| (id.name.clone(), t.dims().to_vec());
            loaded.model.params().map(shape).collect::<Vec<_>>()
        };
        assert_eq!((names(&hollow), &hollow.notes), (names(&whole), &whole.notes), "{name}");
    }
}

/// Trains what is tied or not, with the rest; saves, exports, and goes back to the base on the way.
const RECIPE: &str = r#"
let p = params(#{ model: "", data: "" });
let model = model::load(p.model);
let task = data::load(p.data);
model.save("before");
let head = p.model.contains("own-head");
let booster = model.booster(
    #{ kind: "dense", layers: [], embedding: true, head: head, norms: true });
booster.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.01 }) });
model.merge(booster);
let after = model.digest();
model.replay();
if model.digest() != after { throw "the base is read in another way"; }
model.save("after");
"#;

fn what_is_saved_is_what_transformers_reads(home: &Path) {
    std::fs::write(home.join("recipe.rhai"), RECIPE).unwrap();
    std::fs::copy(home.join("rows.jsonl"), home.join("train.jsonl")).unwrap();
    let names = [
        "tied-own-head",
        "tied-own-head-base",
        "tied-only-head",
        "base",
        "f64",
        "e4m3",
        "fewer-layers",
        "two-equal",
    ];
    let mut folders = vec![];
    for name in names {
        let run = format!("run-{name}");
        let mut command = program(home);
        command.args([
            "recipe.rhai",
            "--device",
            "cpu",
            "--out",
            &run,
            "-p",
            &format!("model={name}"),
            "-p",
            "data=train.jsonl",
        ]);
        let ran_it = ran(&mut command);
        assert_eq!(ran_it.code, Some(0), "{name}: {}", ran_it.stderr);
        for (format, out) in
            [("--merged", format!("{run}-merged")), ("--gguf", format!("{run}.gguf"))]
        {
            let exported = ran(program(home).args(["export", &run, format, &out]));
            assert_eq!(exported.code, Some(0), "{name} {format}: {}", exported.stderr);
        }
        let loss = |model: &str| eval(home, model, "rows.jsonl", &[]).nll();
        let (before, after) = (loss(&format!("{run}/before")), loss(&format!("{run}/after")));
        assert!((before - loss(name)).abs() < 1e-6 && before != after, "{name}: {before}, {after}");
        for other in [format!("{run}-merged"), format!("{run}.gguf")] {
            assert!((loss(&other) - after).abs() < 1e-6, "{other}");
        }
        folders.extend(
            [format!("{run}/before"), format!("{run}/after"), format!("{run}-merged")].map(
                |folder| {
                    let ours = loss(&folder);
                    (folder, ours)
                },
            ),
        );
    }
    let losses = transformers(
        home,
        "weights.py",
        &folders.iter().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>(),
    );
    for (folder, ours) in folders {
        assert!(
            (losses[&folder].as_f64().unwrap() - ours).abs() < 1e-4,
            "{folder}: {ours}, transformers has {}",
            losses[&folder]
        );
    }
}

#[test]
fn a_stored_head_that_differs_from_the_embedding_is_the_head() {
    let Some(folder) = case("silent-tied-with-a-head-of-its-own") else { return };
    let ran = eval(&folder, "model", "model/rows.jsonl", &[]);
    ran.has_nll(24.76337);
    ran.says(&[
        "`tie_word_embeddings` is true, but `lm_head.weight` is another matrix than the embedding",
    ]);
}

#[test]
fn variants_of_weights_are_read() {
    let Some(folder) = case("refused-weights-variants") else { return };
    for (name, nll) in [
        ("only-lm-head", 6.15218),
        ("without-model-prefix", 6.13672),
        ("fewer-layers", 6.18464),
        ("fp8", 6.13343),
        ("two-copies", 6.13672),
    ] {
        eval(&folder, name, &format!("{name}/rows.jsonl"), &[]).has_nll(nll);
    }
}

#[test]
fn a_pointer_in_place_of_weights_says_what_to_do() {
    let Some(folder) = case("refused-tokenizer-files") else { return };
    eval(&folder, "lfs-weights", "lfs-weights/rows.jsonl", &[])
        .refused(3, &["is a Git LFS pointer", "git lfs pull"]);
}
