//! What is done with an input of the fuzzer. Each input ends in an answer or an error: a panic is a
//! defect, also one that is caught.

#![allow(dead_code, reason = "a fuzz target uses one of them")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::{env, fs, process};

use xgbrun::boost::{Update, adapter};
use xgbrun::data::{Dataset, Layout};
use xgbrun::device;
use xgbrun::host;
use xgbrun::model::load::{self, Loaded};
use xgbrun::model::meta::Assume;
use xgbrun::run::{Ensemble, Left, Manifest};
use xgbrun::session::{Limits, Settings};
use xgbrun::source::{Grants, Safetensors, TensorSource, Tokenizer};

/// A folder of this process.
static HOME: LazyLock<PathBuf> = LazyLock::new(|| {
    let home = env::temp_dir().join(format!("xgbrun-fuzz-{}", process::id()));
    fs::create_dir_all(&home).unwrap();
    home
});

static MICRO: LazyLock<Loaded> = LazyLock::new(|| open("builtin:micro").unwrap());

/// Removes the folder of this process.
pub fn leave() {
    fs::remove_dir_all(&*HOME).unwrap();
}

/// A recipe, checked on shapes with the best and with the worst that it could measure.
pub fn recipe(bytes: &[u8]) {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let path = put("recipe.rhai", bytes);
    for assume in [Assume::Best, Assume::Worst] {
        let compute = device::select("cpu").unwrap().device;
        let settings = Settings {
            threads: 1,
            dtype: device::storage_dtype("auto", &compute).unwrap(),
            device: compute,
            limits: Limits {
                operations: 20_000,
                string: 20_000,
                array: 2_000,
                map: 500,
                memory: 64,
                created: 10,
                models: 3,
                seconds: 1,
                ..Limits::default()
            },
            ..Settings::default()
        };
        let _ = host::examine(&path, settings, assume, &NEVER);
    }
}

/// A file: the first byte says of which kind.
pub fn readers(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 15 {
        0 => safetensors(&put("model.safetensors", bytes)),
        1 => drop(open(put("model.gguf", bytes).to_str().unwrap())),
        2 => data("items.json", bytes),
        3 => data("items.jsonl", bytes),
        4 => data("items.csv", bytes),
        5 => data("items.tsv", bytes),
        6 => data("items.txt", bytes),
        7 => data("items.parquet", bytes),
        8 => {
            let config =
                br#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}"#;
            let folder = folder(
                "adapter",
                [("adapter_config.json", &config[..]), ("adapter_model.safetensors", bytes)],
            );
            let _ = adapter::load(&folder, &MICRO.model, adapter::Weights::Base);
        }
        9 => {
            let folder = folder(
                "adapter",
                [("adapter_config.json", bytes), ("adapter_model.safetensors", b"")],
            );
            let _ = adapter::load(&folder, &MICRO.model, adapter::Weights::Base);
        }
        10 => {
            let _ = Update::load(&put("0000.safetensors", bytes), &MICRO.model);
        }
        11 => {
            let _ = Tokenizer::from_file(&put("tokenizer.json", bytes));
        }
        12 => {
            let _ = Ensemble::load(&folder("boosters", [("ensemble.json", bytes)]));
        }
        13 => {
            let _ = Manifest::read(&folder("run", [("run.json", bytes)]));
        }
        _ => {
            let run = br#"{
                "engine": "", "recipe": "recipe.rhai", "recipe_sha256": "", "parameters": {},
                "seed": 0, "threads": 1, "device": "cpu", "dtype": "f32", "kernels": "",
                "digests": {}
            }"#;
            let _ = Left::open(
                &folder("run", [("run.json", run), ("recipe.rhai", b""), ("journal.jsonl", bytes)]),
                None,
                false,
            );
        }
    }
}

fn safetensors(path: &Path) {
    let Ok(file) = Safetensors::open(&[path.to_owned()]) else { return };
    let cpu = device::select("cpu").unwrap().device;
    let dtype = device::storage_dtype("f32", &cpu).unwrap();
    for name in file.names() {
        let _ = file.load(name, dtype, &cpu);
    }
}

fn data(name: &str, bytes: &[u8]) {
    if let Ok(task) = Dataset::from_file(&put(name, bytes), 0, &Layout::default(), &Ok) {
        let _ = task.train.map(|items| items.len());
    }
}

fn open(name: &str) -> Option<Loaded> {
    let cpu = device::select("cpu").unwrap().device;
    let dtype = device::storage_dtype("f32", &cpu).unwrap();
    load::open(name, &Grants::everything(), &cpu, dtype).ok()
}

fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = HOME.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn folder<const N: usize>(name: &str, files: [(&str, &[u8]); N]) -> PathBuf {
    let folder = HOME.join(name);
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    folder
}
