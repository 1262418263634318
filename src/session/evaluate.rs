//! Measuring a model: each task of a set by a protocol, and the average.

use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::booster::Booster;
use super::console::Progress;
use super::dry_run::Event;
use super::model::{Model, ModelState};
use super::part::Part;
use super::reads::HeadReads;
use super::set::Set;
use super::{Effects, Session};
use crate::data::{ChoiceItem, Example, GenerationItem, HeadTask, Split, mmlu};
use crate::error::bail;
use crate::eval::{EncodedSet, Protocol, Told, average, average_by_group};
use crate::model::Adapter;
use crate::model::cost::Work;
use crate::model::meta::Assume;
use crate::run::{Evaluation, EvaluationTiming};
use crate::source::Tokenizer;
use crate::train::memory::step_bytes;

/// How a set is measured.
#[derive(Clone)]
pub struct EvaluateOptions {
    /// Only the first so many items of each task.
    pub items: Option<usize>,
    /// Laid over the model, not merged; then nothing is recorded.
    pub booster: Option<Booster>,
    /// η, by which the booster's product is multiplied.
    pub eta: f64,
    /// What suits the items, where none is named: `lm-eval` for choices, otherwise `perplexity`.
    pub protocol: Option<Protocol>,
    /// What was said to each item is kept too, in `predictions.jsonl`.
    pub predictions: bool,
    /// The most tokens of a question with an answer, where that is less than the model sees.
    pub max_length: Option<usize>,
}

/// What a measurement gave.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Of several tasks the unweighted average, with those of each under `tasks`.
    pub metrics: Map<String, Value>,
    /// Tokens that went through the network.
    pub tokens: usize,
    /// What was said to each item of each task, where the options ask for it.
    pub told: Vec<Told>,
    /// Items measured.
    pub items: usize,
    /// Items that could not be.
    pub left_out: usize,
    /// Time in the network.
    pub seconds: f64,
    /// What each pass took.
    works: Vec<Work>,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            items: None,
            booster: None,
            eta: 1.0,
            protocol: None,
            predictions: false,
            max_length: None,
        }
    }
}

impl Model {
    /// Measures the model on `set` and records it under the set's split and the model's round.
    /// Answers with the metrics; of several tasks these are the unweighted average, with those of
    /// each task under `tasks`.
    pub fn evaluate(&self, set: &Set, options: &EvaluateOptions) -> Result<Map<String, Value>> {
        let (session, started, split) = (self.session(), Instant::now(), set.split().name());
        let round = format!("round {}: ", self.round());
        let say = |name: &str, metrics: &Map<String, Value>| {
            session.console.detail(&format!("{round}{name}: {}", shown(metrics)));
        };
        let Measurement { metrics, works, told, .. } = self.measured(set, options, &round, say)?;
        session.console.note(&format!("{round}{split} {}", brief(&metrics)));
        session.observe(|| Event::Evaluate {
            split: split.into(),
            items: metrics.get("items").and_then(Value::as_u64).unwrap_or_default() as usize,
            passes: works.len(),
            work: works.iter().copied().fold(Work::default(), Work::and),
            largest: works.iter().copied().fold(Work::default(), Work::or),
        })?;
        if options.booster.is_none() {
            let m = self.state();
            let (split, round, model) = (split.into(), m.round(), m.index);
            let timing = EvaluationTiming { seconds: started.elapsed().as_secs_f64() };
            let task = match set.parts() {
                [one] => one.task.clone(),
                _ => String::new(),
            };
            let (point, metrics) = (None, metrics.clone());
            let evaluation = Evaluation { split, round, model, task, point, metrics };
            session.console.evaluated(&evaluation);
            session.call.tell("evaluation", serde_json::to_value(&evaluation)?);
            session.run.with(|run| {
                if options.predictions {
                    let bytes = run.predicted(&evaluation, &told)?;
                    session.call.tell("predictions", bytes);
                }
                run.evaluated(evaluation, timing)
            })?;
        }
        Ok(metrics)
    }

    /// Measures the model on `set` and records nothing.
    pub fn measure(&self, set: &Set, options: &EvaluateOptions) -> Result<Measurement> {
        self.measured(set, options, "", |_, _| {})
    }

    /// Measures the model on `set`; the name of what is measured stands behind `prefix` where
    /// progress is shown, and `say` hears of each task and of their average.
    fn measured(
        &self,
        set: &Set,
        options: &EvaluateOptions,
        prefix: &str,
        say: impl Fn(&str, &Map<String, Value>),
    ) -> Result<Measurement> {
        let adapter = match &options.booster {
            Some(booster) => self.laid_over(booster, options.eta)?,
            None => Adapter::default(),
        };
        let (session, m, split) = (self.session(), self.with_weights()?, set.split());
        let run = EvaluationRun { session, m: &m, split, options, adapter, prefix };
        let several = set.parts().len() > 1;
        let (mut tasks, mut all) = (vec![], vec![]);
        for part in set.parts() {
            let name = if several { part.task.as_str() } else { "" };
            let name = [name, split.name()].join(" ").trim().to_owned();
            let mut one = run.task(part, &name)?;
            if session.assume() == Some(Assume::Best) {
                better(&mut one.metrics, session.counts.measured.fetch_add(1, Ordering::Relaxed));
            }
            say(&name, &one.metrics);
            tasks.push((part.task.clone(), one.metrics.clone()));
            all.push(one);
        }
        let metrics = match &tasks[..] {
            [] => bail!(Usage, "a set without a task cannot be measured"),
            [(_, metrics)] => metrics.clone(),
            several if set.parts().iter().all(|part| part.wording.is_mmlu()) => {
                average_by_group(several, mmlu::group)
            }
            several => average(several),
        };
        if several {
            say(&format!("{} average", split.name()), &metrics);
        }
        Ok(Measurement {
            metrics,
            told: all.iter_mut().flat_map(|one| std::mem::take(&mut one.told)).collect(),
            tokens: all.iter().map(|one| one.tokens).sum(),
            items: all.iter().map(|one| one.items).sum(),
            left_out: all.iter().map(|one| one.left_out).sum(),
            seconds: all.iter().map(|one| one.seconds).sum(),
            works: all.into_iter().flat_map(|one| one.works).collect(),
        })
    }

    /// Takes over a measurement of an earlier process.
    pub fn recall_evaluation(&self, effects: &Effects) -> Result<()> {
        // Of a booster that is laid over, nothing is recorded.
        let Some(evaluation) = effects.get("evaluation") else { return Ok(()) };
        let evaluation: Evaluation = serde_json::from_value(evaluation.clone())?;
        self.session().console.evaluated(&evaluation);
        let predictions = effects.get("predictions").and_then(Value::as_u64);
        self.session().run.note(|run| {
            run.recall_evaluation(evaluation);
            predictions.into_iter().for_each(|bytes| run.recall_predictions(bytes));
        })
    }

    /// A booster's adapter with its product multiplied by `eta`. Errors (class usage): a booster
    /// that was merged or is of another model; another weight than 1 of whole tensors.
    fn laid_over(&self, booster: &Booster, eta: f64) -> Result<Adapter> {
        let mut b = booster.state();
        b.unmerged("evaluate with")?;
        self.owns(booster.model())?;
        b.materialize(self.session(), &mut *self.with_weights()?)?;
        let adapter = &b.learner.adapter;
        if eta == 1.0 {
            return Ok(adapter.clone());
        }
        if !adapter.full().is_empty() {
            let what = if adapter.is_low_rank() { "booster with a head" } else { "dense booster" };
            bail!(Usage, "a {what} is measured as it is; leave out `eta`");
        }
        Ok(adapter.scaled(eta))
    }
}

/// A measurement that is under way.
struct EvaluationRun<'a> {
    session: &'a Session,
    m: &'a ModelState,
    split: Split,
    options: &'a EvaluateOptions,
    adapter: Adapter,
    prefix: &'a str,
}

impl EvaluationRun<'_> {
    /// Measures one task, which messages call `name`.
    fn task(&self, part: &Part, name: &str) -> Result<Measurement> {
        let (session, m) = (self.session, self.m);
        let (items, left_out) = self.encode(part)?;
        let encoded = items.encoded(&m.tokenizer);
        let works = encoded.work(&m.network)?;
        expect_forward(session, m, &works);
        let (total, what) = (encoded.len() as u64, format!("{}evaluate {name}", self.prefix));
        let started = Instant::now();
        let measured = encoded.measure(&m.network, &self.adapter, |done| {
            let (what, done, detail) = (what.clone(), done as u64, String::new());
            session.console.progress(&Progress { what, done, total, detail });
            Ok(session.guard.check()?)
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let told = if self.options.predictions {
            encoded
                .told(&measured, m.tokenizer.as_ref())?
                .into_iter()
                .map(|mut told| {
                    told.shift_insert(0, "task".into(), part.task.as_str().into());
                    told
                })
                .collect()
        } else {
            vec![]
        };
        let (mut metrics, tokens, items) = (measured.metrics, measured.tokens, encoded.len());
        metrics.insert("template".into(), part.wording.name().into());
        Ok(Measurement { metrics, tokens, told, items, left_out, seconds, works })
    }

    /// The items of a task, as its protocol takes them, and how many are left out.
    fn encode(&self, part: &Part) -> Result<(Items, usize)> {
        let (session, m, split, most) = (self.session, self.m, self.split, self.options.items);
        let positions = m.network.config().max_position_embeddings;
        let longest = self.options.max_length.unwrap_or(positions);
        let task = m.reads.task()?.cloned();
        if let HeadReads::Masked = m.reads.head {
            if let Some(other) = self.options.protocol.filter(|p| *p != Protocol::Likelihood) {
                bail!(
                    Usage,
                    "protocol `{}` is not for a head of masked tokens, which is measured by \
                     `perplexity`",
                    other.name()
                );
            }
            let (items, out) = part.measured(session, split, &m.reads, most)?;
            return Ok((Items::Sequences(items), out));
        }
        if let Some(task) = task {
            if let Some(other) = self.options.protocol.filter(|p| *p != Protocol::Head) {
                bail!(
                    Usage,
                    "protocol `{}` needs a language model, and this model has a head: leave it out",
                    other.name()
                );
            }
            let (items, out) = part.measured(session, split, &m.reads, most)?;
            return Ok((Items::Labelled(items, task), out));
        }
        let suits = match self.options.protocol {
            Some(protocol) => protocol,
            None if part.has_choices(most)? => Protocol::Choices,
            None => Protocol::Likelihood,
        };
        Ok(match suits {
            Protocol::Choices => {
                let (items, out) = part.choices(session, split, &m.tokenizer, most, longest)?;
                (Items::Choices(items), out)
            }
            Protocol::Likelihood => {
                if part.has_shots() {
                    bail!(
                        Usage,
                        "protocol `{}` measures texts as they are trained on, without the solved \
                         examples that option `shots` of `data::load` puts before questions",
                        suits.name()
                    );
                }
                let (items, out) = part.measured(session, split, &m.reads, most)?;
                (Items::Sequences(items), out)
            }
            Protocol::Head => {
                bail!(
                    Usage,
                    "protocol `head` needs a model with a head: `model.head(…)` gives it one"
                )
            }
            Protocol::LlmAdapters => {
                let (items, out) = part.questions(session, split, &m.tokenizer, most, longest)?;
                (Items::Questions(items), out)
            }
        })
    }
}

/// Encoded items of a task.
enum Items {
    Choices(Vec<ChoiceItem>),
    Sequences(std::sync::Arc<Vec<Example>>),
    Questions(Vec<GenerationItem>),
    Labelled(std::sync::Arc<Vec<Example>>, HeadTask),
}

impl Items {
    fn encoded<'a>(&'a self, tokenizer: &'a Tokenizer) -> EncodedSet<'a> {
        match self {
            Self::Choices(items) => EncodedSet::Choices(items),
            Self::Sequences(examples) => EncodedSet::Sequences(examples),
            Self::Questions(items) => EncodedSet::Questions(items, tokenizer),
            Self::Labelled(examples, task) => EncodedSet::Labelled(examples, task),
        }
    }
}

/// Metrics that are assumed, better by one for each measurement before: whoever waits for the next
/// to be better goes on for ever, as nobody does who assumes the worst.
fn better(metrics: &mut Map<String, Value>, before: usize) {
    let step = before as f64;
    for (name, value) in metrics.iter_mut() {
        let by = match name.as_str() {
            "nll" => -step,
            "accuracy" | "accuracy_norm" | "f1" | "matthews" | "pearson" | "spearman" => step,
            _ => continue,
        };
        *value = json!(value.as_f64().unwrap_or_default() + by);
    }
    if let Some(nll) = metrics.get("nll").and_then(Value::as_f64) {
        metrics.insert("perplexity".into(), json!(nll.exp()));
    }
}

/// Tells the memory formula of passes forward.
pub(super) fn expect_forward(session: &Session, m: &ModelState, works: &[Work]) {
    let largest = works.iter().copied().fold(Work::default(), Work::or);
    let network = &m.network;
    let (cost, layers) = (network.cost(), network.layers());
    let (tokens, rows) = (largest.tokens, largest.rows);
    let bytes = step_bytes(&cost, network.compute(), tokens, rows, layers, false);
    session.expect(m.index, network, bytes);
}

/// What counts most of a measurement: `accuracy 0.7646 ± 0.0194, 8 tasks, 480 items`.
fn brief(metrics: &Map<String, Value>) -> String {
    let number = |key: &str| metrics.get(key).and_then(Value::as_f64);
    let first = |name: &&str| number(name).map(|value| format!("{name} {value:.4}"));
    let mut line = ["accuracy", "pearson", "nll"].iter().find_map(first).unwrap_or_default();
    if let Some(error) = number("standard_error") {
        line += &format!(" ± {error:.4}");
    }
    if let Some(tasks) = metrics.get("tasks").and_then(Value::as_object) {
        line += &format!(", {} tasks", tasks.len());
    }
    for count in ["items", "tokens"].iter().filter(|count| metrics.contains_key(**count)).take(1) {
        line += &format!(", {} {count}", metrics[*count]);
    }
    line
}

/// Metrics in a line; four digits behind the point are enough to read.
fn shown(metrics: &Map<String, Value>) -> String {
    let one = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("{key} {text}")),
        Value::Number(n) if n.is_f64() => {
            Some(format!("{key} {:.4}", n.as_f64().unwrap_or(f64::NAN)))
        }
        Value::Number(n) => Some(format!("{key} {n}")),
        _ => None,
    };
    metrics.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};
    use crate::session::{LoadOptions, Settings};

    #[test]
    fn a_line_says_what_counts_most() {
        let line = |metrics: Value| brief(metrics.as_object().unwrap());
        let tasks = json!({ "a": {}, "b": {} });
        let several = json!({
            "protocol": "lm-eval", "accuracy": 0.76463, "accuracy_norm": 0.7,
            "standard_error": 0.0194, "items": 480, "tasks": tasks,
        });
        assert_eq!(line(several), "accuracy 0.7646 ± 0.0194, 2 tasks, 480 items");
        let text = json!({ "nll": 2.5, "perplexity": 12.2, "tokens": 900 });
        assert_eq!(line(text), "nll 2.5000, 900 tokens");
        assert_eq!(line(json!({ "pearson": 0.5, "items": 3 })), "pearson 0.5000, 3 items");
    }

    #[test]
    fn a_set_without_a_task_is_refused() -> Result<()> {
        let home = tempfile::tempdir()?;
        let out = Some(home.path().join("run"));
        let session = Session::new(Settings { out, ..Settings::default() });
        let model = session.load("builtin:micro", &LoadOptions::default())?;
        let set = Set::new(Split::Test, vec![], None);
        let error = model.evaluate(&set, &EvaluateOptions::default()).unwrap_err();
        assert_eq!(class_of(&error), Class::Usage);
        assert_eq!(error.to_string(), "a set without a task cannot be measured");
        Ok(())
    }
}
