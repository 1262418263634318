//! Values to begin with, by the size of a model and of its data: docs/starting.md says where they
//! come from.

use std::cell::RefCell;

use anyhow::Result;

use crate::data::formats::Layout;
use crate::data::item::Document;
use crate::data::{Dataset, Item};
use crate::error::{bail, error};
use crate::model::HeadConfig;
use crate::model::meta::{self, Assume};
use crate::source::{self, Grants};

/// Learning rates by architecture (Thinking Machines Lab 2025, *LoRA Without Regret*): 5e-5 · 10 ·
/// (2000 / hidden_size)^p for LoRA.
const EXPONENTS: [(&str, f64); 2] = [("qwen2", 0.0775), ("qwen3", 0.0775)];
/// Of Llama, and of others, of which none is published.
const EXPONENT: f64 = 0.781;
/// A booster's rate over LoRA's, as measured here: each has a few steps only.
const OVER_LORA: f64 = 3.0;
/// Batches by weights: what is larger than the last has the last.
const BATCHES: [(usize, usize); 2] = [(1_000_000_000, 8), (usize::MAX, 4)];
/// κ
const STEPS: usize = 8;
/// The fewest and the most boosters that a start has.
const ROUNDS: (usize, usize) = (8, 200);

/// What a recipe begins with.
#[derive(Debug, PartialEq)]
pub struct Start {
    pub rate: f64,
    /// Layers of a booster.
    pub layers: usize,
    pub batch: usize,
    pub steps: usize,
    pub rounds: usize,
    /// What is said of model and data.
    pub model: String,
    pub data: String,
    /// The option `template`, as a script writes it; none for plain texts.
    pub template: Option<String>,
    /// The split that is measured.
    pub split: &'static str,
}

impl Start {
    /// For a model and data by their names. Errors: what cannot be read; an encoder (class usage).
    pub fn of(model: &str, data: &str) -> Result<Self> {
        let files = source::model(&source::resolve(model, &Grants::everything())?)?;
        let loaded = meta::load(&files, candle_core::DType::F32, Assume::Worst)?;
        let entry = loaded.model.architecture().entry();
        if loaded.model.config().head != HeadConfig::CausalLm {
            return Err(error!(
                Usage,
                "`{model}` is a `{}`, which is no language model",
                entry.model_type;
                hint: "recipes/glue.rhai and docs/heads.md begin with an encoder and a head"
            )
            .into());
        }
        let (weights, layers) = (loaded.model.parameters(), loaded.model.layers());
        let hidden = loaded.model.config().hidden_size;
        let chats = loaded.tokenizer.chat_template().is_some();
        let read = read(data)?;
        let sizes = Sizes { model_type: entry.model_type, weights, layers, hidden };
        let (rate, batch) = (sizes.rate(), sizes.batch());
        let passes = read.items.div_ceil(batch * STEPS);
        Ok(Self {
            rate,
            layers: sizes.layers_of_a_booster(),
            batch,
            steps: STEPS,
            rounds: passes.clamp(ROUNDS.0, ROUNDS.1),
            model: format!("{} layers, {} M weights", layers, weights.div_ceil(1_000_000)),
            data: format!("{} items to train on", read.items),
            template: read.kind.template(chats),
            split: read.split,
        })
    }
}

/// What values depend on.
struct Sizes {
    model_type: &'static str,
    weights: usize,
    layers: usize,
    hidden: usize,
}

impl Sizes {
    /// To two digits.
    fn rate(&self) -> f64 {
        let own = EXPONENTS.iter().find(|(name, _)| *name == self.model_type);
        let p = own.map_or(EXPONENT, |(_, p)| *p);
        let rate = OVER_LORA * 5e-4 * (2000.0 / self.hidden as f64).powf(p);
        format!("{rate:.1e}").parse().unwrap_or(rate)
    }

    fn batch(&self) -> usize {
        let fits = |(most, _): &&(usize, usize)| self.weights < *most;
        BATCHES.iter().find(fits).map_or(1, |(_, batch)| *batch)
    }

    /// A third of all: eleven of 32 did best in the paper's ablation on LLaMA3-8B.
    fn layers_of_a_booster(&self) -> usize {
        (self.layers as f64 / 3.0).round().max(1.0) as usize
    }
}

/// What items are.
enum Kind {
    Questions,
    Talks,
    Texts,
    /// Records with these columns.
    Rows(Vec<String>),
}

impl Kind {
    fn of(item: &Item) -> Self {
        match item {
            Item::Instruction(_) => Self::Questions,
            Item::Chat(_) => Self::Talks,
            Item::Row(_) | Item::Text(_) | Item::Tokens(_) => Self::Texts,
        }
    }

    /// The option of `data::load`; `chats` says whether the model has a template of its own.
    fn template(&self, chats: bool) -> Option<String> {
        match self {
            Self::Questions if !chats => Some("\"alpaca\"".into()),
            Self::Questions | Self::Talks => Some("\"chat\"".into()),
            Self::Texts => None,
            Self::Rows(columns) => {
                let column = |name: Option<&String>| match name {
                    Some(name) => format!("{{{{ row['{}'] }}}}", name.replace('\'', "\\'")),
                    None => String::new(),
                };
                let (prompt, answer) = (column(columns.first()), column(columns.last()));
                Some(format!("#{{ prompt: `{prompt}\\n`, answer: `{answer}` }}"))
            }
        }
    }
}

/// What is read of data.
struct Read {
    items: usize,
    kind: Kind,
    split: &'static str,
}

fn read(name: &str) -> Result<Read> {
    let files = source::data(&source::resolve(name, &Grants::everything())?)?;
    // Records with columns of their own are items once a template words them.
    let columns = RefCell::new(vec![]);
    let convert = |item| match item {
        Item::Row(row) => {
            *columns.borrow_mut() = row.fields.keys().cloned().collect();
            Ok(Item::Text(Document { place: row.place, text: String::new(), ended: false }))
        }
        item => Ok(item),
    };
    let open = |layout: &Layout| Dataset::open_all(name, &files, 0, layout, &convert);
    let tasks = match open(&Layout::default()) {
        Ok(tasks) => tasks,
        // Its error is that of what is usual.
        Err(error) => open(&Layout { rows: true, ..Layout::default() }).map_err(|_| error)?,
    };
    let items = tasks.iter().map(|task| task.train.as_ref().map_or(0, Vec::len)).sum();
    let Some(first) = tasks.iter().find_map(|task| task.train.as_ref()?.first()) else {
        bail!(Data, "`{name}` has nothing to train on: no split `train`")
    };
    let has = |of: fn(&Dataset) -> bool| tasks.iter().any(of);
    let split = match (has(|task| task.test.is_some()), has(|task| task.validation.is_some())) {
        (true, _) => "test",
        (false, true) => "validation",
        (false, false) => "train",
    };
    let columns = columns.into_inner();
    let kind = if columns.is_empty() { Kind::of(first) } else { Kind::Rows(columns) };
    Ok(Read { items, kind, split })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(model_type: &'static str, millions: usize, layers: usize, hidden: usize) -> Sizes {
        Sizes { model_type, weights: millions * 1_000_000, layers, hidden }
    }

    /// The rows of the table in docs/starting.md.
    #[test]
    fn the_table_of_the_docs_holds() {
        let table = include_str!("../../docs/starting.md");
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| {
                line.starts_with("| ") && line.contains(" × ") && !line.contains("hidden_size")
            })
            .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let known = [
            ("SmolLM2-135M", sizes("llama", 135, 30, 576)),
            ("Qwen2.5-0.5B", sizes("qwen2", 494, 24, 896)),
            ("Llama-3.2-1B", sizes("llama", 1236, 16, 2048)),
            ("Qwen3-4B", sizes("qwen3", 4022, 36, 2560)),
            ("Llama-3.1-8B", sizes("llama", 8030, 32, 4096)),
        ];
        assert_eq!(rows.len(), known.len());
        for (row, (name, sizes)) in rows.iter().zip(known) {
            let shape = format!("{} × {}", sizes.layers, sizes.hidden);
            let values = [
                name.to_owned(),
                shape,
                sizes.layers_of_a_booster().to_string(),
                format!("{:e}", sizes.rate()),
                sizes.batch().to_string(),
            ];
            assert_eq!(row, &values);
        }
    }
}
