//! A model's head: which one it has, and what it reads.

use anyhow::Result;
use serde_json::{Value, json};

use super::dry_run::Event;
use super::model::{Model, ModelState};
use super::reads::{Reads, head_task};
use crate::error::{bail, error};
use crate::model::{self, HeadConfig, SequenceConfig, arch, task_head};
use crate::run::Manifest;
use crate::seed::Stream;

/// Which head a model is to have.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadOptions {
    /// One of several classes, by their names.
    Classes(Vec<String>),
    /// A number.
    Regression,
    /// Which of an item's choices is right.
    Choices,
    /// Tokens that are masked.
    MaskedLm,
}

impl HeadOptions {
    fn config(self) -> Result<HeadConfig> {
        Ok(match self {
            Self::Classes(labels) => task_head::classes(labels)?,
            Self::Regression => HeadConfig::Sequence(SequenceConfig::Regression),
            Self::Choices => HeadConfig::MultipleChoice,
            Self::MaskedLm => HeadConfig::MaskedLm,
        })
    }

    /// As `run.json` keeps it.
    fn to_json(&self) -> Value {
        match self {
            Self::Classes(labels) => json!({ "kind": "classes", "labels": labels }),
            Self::Regression => json!({ "kind": "regression" }),
            Self::Choices => json!({ "kind": "choices" }),
            Self::MaskedLm => json!({ "kind": "masked_lm" }),
        }
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(match value["kind"].as_str()? {
            "classes" => {
                let labels = value["labels"].as_array()?.iter();
                Self::Classes(labels.map(|l| l.as_str().map(str::to_owned)).collect::<Option<_>>()?)
            }
            "regression" => Self::Regression,
            "choices" => Self::Choices,
            "masked_lm" => Self::MaskedLm,
            _ => return None,
        })
    }
}

impl Model {
    /// Gives the model a head in place of the one that it has. What its files hold of that head
    /// stays; the rest is drawn, from a stream of the seed. `metric` is what the run is told by.
    ///
    /// Errors (class usage): a head that its architecture does not have, boosters were merged.
    pub fn set_head(&self, options: &HeadOptions, metric: Option<&str>) -> Result<()> {
        let session = self.session();
        let mut m = self.state();
        if m.headed {
            bail!(
                Usage,
                "the model has a head that this run gave it already";
                hint: "load the model again, and call `model.head(…)` once"
            );
        }
        if m.round() > 0 || m.boosters.made > 0 {
            bail!(
                Usage,
                "a model gets its head before its first booster: its boosters are what they added \
                 to the model as it is";
                hint: "call `model.head(…)` behind `model::load(…)`"
            );
        }
        let index = m.index;
        m.give_head(options.clone(), session.settings.seed)?;
        if index == 0 {
            let mut told = options.to_json();
            if let Some(metric) = metric {
                told["metric"] = json!(metric);
            }
            session.run.begun(|run| run.note_head(told))?;
        }
        let opened = Event::Head(Box::new(session.event_of(self.name(), &m.network)));
        session.observe(|| opened)
    }

    /// The labels of its head, in the order of its logits; empty where it says none.
    pub fn labels(&self) -> Vec<String> {
        match &self.state().network.config().head {
            HeadConfig::Sequence(SequenceConfig::Classes(labels)) => labels.clone(),
            _ => vec![],
        }
    }

    /// Whether its head says something of whole sequences.
    pub fn judges(&self) -> bool {
        head_task(&self.state().network).is_some()
    }

    /// Whether its head says which choice of an item is right.
    pub fn says_choices(&self) -> bool {
        self.state().network.config().head == HeadConfig::MultipleChoice
    }

    /// Gives the model of an earlier run the head that it had there.
    pub(super) fn take_head(&self, manifest: &Manifest) -> Result<()> {
        match kept(manifest)? {
            Some((options, seed)) => self.state().give_head(options, seed),
            None => Ok(()),
        }
    }
}

/// The head that an earlier run gave its model, and the seed that it was drawn from. Errors (class
/// data): one that this program does not know.
fn kept(manifest: &Manifest) -> Result<Option<(HeadOptions, u64)>> {
    let Some(head) = &manifest.head else { return Ok(None) };
    let Some(options) = HeadOptions::from_json(head) else {
        return Err(error!(
            Data,
            "the run's `run.json` names a head {head}, which this program does not know"
        )
        .into());
    };
    Ok(Some((options, head["seed"].as_u64().unwrap_or(manifest.seed))))
}

/// The base of an earlier run with the head that it had there, if it got one.
pub(super) fn headed(base: &model::Model, manifest: &Manifest) -> Result<Option<model::Model>> {
    let Some((options, seed)) = kept(manifest)? else { return Ok(None) };
    base.with_head(options.config()?, &mut Stream::new(seed, "head")).map(Some)
}

/// What `run.json` says of a head that was drawn from the seed of another run.
pub(super) fn with_seed(head: &Value, seed: u64) -> Value {
    let mut head = head.clone();
    if head["seed"].is_null() {
        head["seed"] = json!(seed);
    }
    head
}

impl ModelState {
    fn give_head(&mut self, options: HeadOptions, seed: u64) -> Result<()> {
        let mut stream = Stream::new(seed, "head");
        self.network = self.network.with_head(options.config()?, &mut stream)?;
        let config = std::mem::take(&mut self.extras.config);
        self.extras.config = arch::corrected(self.network.architecture(), config);
        self.reads = Reads::of(&self.network, &self.tokenizer).into();
        self.headed = true;
        Ok(())
    }
}
