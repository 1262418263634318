//! Run folders as a run would leave them, written line by line.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A run folder to be; the default is a finished run of 16 rounds of 4 steps on 6 layers.
pub struct Fixture {
    pub manifest: Value,
    pub recipe: String,
    pub lines: Vec<Value>,
    pub summary: Option<Value>,
    /// What comes after the last whole line.
    pub tail: String,
}

pub const ROUNDS: usize = 16;
pub const STEPS: usize = 4;
const LAYERS: usize = 6;

/// The layers of a round.
pub fn layers(round: usize) -> Vec<usize> {
    let mut layers = vec![round * 5 % LAYERS, (round * 5 + 1 + round % 3) % LAYERS];
    layers.sort_unstable();
    layers
}

pub fn loss(step: usize) -> f64 {
    (2500.0 / (step as f64 + 4.0) + if step.is_multiple_of(2) { 125.0 } else { 250.0 }).round()
        / 1000.0
}

/// Some gains are below zero, one was not measured.
pub fn gain(round: usize) -> Option<f64> {
    (round != 5).then_some(0.25 - 0.015625 * round as f64 - if round % 4 == 3 { 0.25 } else { 0.0 })
}

pub fn evaluation(split: &str, round: usize, accuracy: f64) -> Value {
    json!({
        "split": split, "round": round, "timing": { "seconds": 2.5 },
        "metrics": {
            "protocol": "lm-eval", "accuracy": accuracy, "standard_error": 0.03125, "items": 256,
            "majority": 0.3,
        },
    })
}

/// What a run of one task logs.
pub fn lines() -> Vec<Value> {
    let mut lines = vec![evaluation("test", 0, 0.25)];
    for round in 0..ROUNDS {
        for step in round * STEPS + 1..=(round + 1) * STEPS {
            lines.push(json!({
                "round": round, "step": step, "loss": loss(step), "lr": 0.001,
                "gradient_norm": 0.5, "tokens": step * 64, "layers": layers(round),
                "timing": {
                    "seconds": 0.5 * step as f64, "step_seconds": 0.5, "tokens_per_second": 128.0,
                },
            }));
        }
        let norms: serde_json::Map<String, Value> =
            layers(round).iter().map(|l| (l.to_string(), json!(0.25 * (*l + 1) as f64))).collect();
        lines.push(json!({
            "timing": { "seconds": 1.0 },
            "merge": {
                "round": round, "kind": "low_rank", "layers": layers(round), "parameters": 4608,
                "steps": STEPS, "eta": 1.0, "gain": gain(round), "update_norms": norms,
            },
        }));
        if (round + 1) % 4 == 0 {
            lines.push(evaluation("validation", round + 1, 0.25 + 0.03125 * (round + 1) as f64));
        }
    }
    lines.push(evaluation("test", ROUNDS, 0.625));
    lines
}

impl Default for Fixture {
    fn default() -> Self {
        let manifest = json!({
            "engine": "0.1.0", "recipe": "recipes/commonsense.rhai",
            "recipe_sha256": "ab".repeat(32),
            "parameters": { "model": "m", "rounds": ROUNDS, "lr": 0.001 },
            "seed": 7, "threads": 2, "device": "cpu", "dtype": "f32", "kernels": "x86-v4",
            "digests": { "m/model.safetensors": "cd".repeat(32) },
        });
        let summary = json!({
            "base": {}, "tuned": {}, "best_round": 16, "trainable_now": 4608,
            "trained_in_total": 73728, "weights_digest": "ef".repeat(32),
            "timing": {
                "seconds": 83.5, "tokens_per_second": 321.7, "peak_rss_mib": 181.9,
                "predicted_peak_mib": 171.2,
            },
        });
        Self {
            manifest,
            recipe: "// a <recipe> & more\nlet p = 1;\n".into(),
            lines: lines(),
            summary: Some(summary),
            tail: String::new(),
        }
    }
}

impl Fixture {
    pub fn write(&self, folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(folder.join("run.json"), self.manifest.to_string()).unwrap();
        fs::write(folder.join("recipe.rhai"), &self.recipe).unwrap();
        fs::write(folder.join("metrics.jsonl"), lines + &self.tail).unwrap();
        if let Some(summary) = &self.summary {
            fs::write(folder.join("summary.json"), summary.to_string()).unwrap();
        }
        folder.to_path_buf()
    }
}
