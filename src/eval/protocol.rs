//! How a set is measured, and what comes of it. Results of different protocols cannot be compared.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value};

use super::extract::Extract;
use super::generate::{Decode, Generated, Generation, generate};
use super::{Measured, Prediction, choices, metrics, nll};
use crate::data::{ChoiceItem, Example, GenerationItem};
use crate::error::{bail, did_you_mean, error};
use crate::model::{Adapter, Model};

/// A way to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `lm-eval`: the choice with the largest sum of log-probabilities is the prediction, for
    /// `accuracy_norm` the largest per character (EleutherAI/lm-evaluation-harness `acc`,
    /// `acc_norm`).
    Choices,
    /// `llm-adapters`: the first name in a text generated with 4 beams and at most 32 tokens
    /// (AGI-Edgerunners/LLM-Adapters, `commonsense_evaluate.py`).
    LlmAdapters,
    /// `perplexity`: e to the mean negative log-likelihood of the supervised tokens.
    Likelihood,
    /// `head`: what the model's head says: the class or choice with the largest logit, or the
    /// number itself.
    Head,
}

/// The names that [`Protocol::parse`] knows.
pub const NAMES: [&str; 4] = ["lm-eval", "llm-adapters", "perplexity", "head"];

impl Protocol {
    /// Beams that `llm-adapters` searches with.
    pub const BEAMS: usize = 4;

    /// Tokens that `llm-adapters` generates at most.
    pub const NEW_TOKENS: usize = 32;

    /// The protocol of that name; an unknown one is a usage error with the nearest.
    pub fn parse(name: &str) -> Result<Self> {
        match [Self::Choices, Self::LlmAdapters, Self::Likelihood, Self::Head]
            .into_iter()
            .find(|p| p.name() == name)
        {
            Some(protocol) => Ok(protocol),
            None => {
                let near = did_you_mean(name, NAMES);
                Err(error!(
                    Usage,
                    "unknown protocol `{name}`{near}";
                    hint: "protocols are `lm-eval`, `llm-adapters`, `perplexity` and, of a \
                           model with a head, `head`"
                )
                .into())
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Choices => "lm-eval",
            Self::LlmAdapters => "llm-adapters",
            Self::Likelihood => "perplexity",
            Self::Head => "head",
        }
    }

    /// The metrics, headed by the name.
    pub(super) fn results(
        self,
        metrics: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Map<String, Value> {
        let named = std::iter::once(("protocol", self.name().into()));
        named.chain(metrics).map(|(key, value)| (key.to_string(), value)).collect()
    }
}

/// By [`Protocol::Choices`]; `progress` hears how many items are done and may end it with an error.
pub fn by_choices(
    model: &Model,
    adapter: &Adapter,
    items: &[ChoiceItem],
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Measured> {
    let scores = choices::score(model, adapter, items, progress)?;
    let predict = |(item, index): (&ChoiceItem, usize)| Prediction {
        label: item.label,
        predicted: Some(index),
        text: None,
    };
    let predictions: Vec<Prediction> = items.iter().zip(scores.largest()).map(predict).collect();
    let normalized = items
        .iter()
        .zip(scores.largest_per_character(items))
        .filter(|(item, index)| item.label == *index)
        .count();
    let extra = ("accuracy_norm", (normalized as f64 / items.len() as f64).into());
    let mut results =
        judged(Some(extra), items.iter().map(|item| item.names.as_slice()), &predictions);
    if let Some(targets) = items.iter().map(|item| item.target).collect::<Option<Vec<f64>>>() {
        let estimates = items.iter().zip(&scores.sums).map(|(item, sums)| estimate(item, sums));
        let estimates = estimates.collect::<Result<Vec<f64>>>()?;
        results.push(("pearson", metrics::pearson(&estimates, &targets).into()));
        results.push(("spearman", metrics::spearman(&estimates, &targets).into()));
    }
    Ok(Measured {
        metrics: Protocol::Choices.results(results),
        tokens: scores.tokens,
        predictions,
        scores: scores.sums,
    })
}

/// By [`Protocol::LlmAdapters`]; `progress` hears how many items are done and may end it with an
/// error.
pub fn by_answers(
    model: &Model,
    adapter: &Adapter,
    items: &[GenerationItem],
    tokenizer: &dyn Decode,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Measured> {
    let how = Generation {
        max_tokens: Protocol::NEW_TOKENS,
        beams: Protocol::BEAMS,
        ..Generation::default()
    };
    let prompts: Vec<Vec<u32>> = items.iter().map(|item| item.prompt.clone()).collect();
    let texts = generate(model, adapter, &prompts, tokenizer, &how, progress)?;
    let tokens = prompts.iter().map(Vec::len).chain(texts.iter().map(|text| text.ids.len())).sum();
    let (metrics, predictions) = answers(items, texts)?;
    Ok(Measured { metrics, tokens, predictions, scores: vec![] })
}

/// What generated texts answer.
fn answers(
    items: &[GenerationItem],
    texts: Vec<Generated>,
) -> Result<(Map<String, Value>, Vec<Prediction>)> {
    let mut extract = Extract::default();
    let mut unparsed = 0;
    let mut predictions = Vec::with_capacity(items.len());
    for (item, generated) in items.iter().zip(texts) {
        let text = generated.text.trim();
        let found = extract.first(&item.names, text)?;
        unparsed += usize::from(found.is_none());
        let predicted = found.and_then(|found| item.names.iter().position(|name| name == found));
        predictions.push(Prediction { label: item.label, predicted, text: Some(text.to_string()) });
    }
    let extra = ("unparsed", (unparsed as f64 / items.len() as f64).into());
    let results = judged(Some(extra), items.iter().map(|item| item.names.as_slice()), &predictions);
    Ok((Protocol::LlmAdapters.results(results), predictions))
}

/// By [`Protocol::Likelihood`]; `progress` hears how many examples are done and may end it with an
/// error.
pub fn by_likelihood(
    model: &Model,
    adapter: &Adapter,
    examples: &[Example],
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Measured> {
    let nll = nll::mean(model, adapter, examples, progress)?;
    let results = [
        ("nll", nll.mean.into()),
        ("perplexity", nll.mean.exp().into()),
        ("tokens", nll.supervised.into()),
    ];
    Ok(Measured {
        metrics: Protocol::Likelihood.results(results),
        tokens: nll.tokens,
        predictions: vec![],
        scores: nll.by_example,
    })
}

/// What all predictions have in common, with `extra` after the accuracy. Where all items share
/// their names also F1, of two names that of the second, of more the mean over names, and Matthews
/// correlation.
pub(super) fn judged<'a>(
    extra: Option<(&'static str, Value)>,
    mut names: impl Iterator<Item = &'a [String]>,
    predictions: &[Prediction],
) -> Vec<(&'static str, Value)> {
    let labels: Vec<usize> = predictions.iter().map(|p| p.label).collect();
    let predicted: Vec<Option<usize>> = predictions.iter().map(|p| p.predicted).collect();
    let accuracy = metrics::accuracy(&labels, &predicted);
    let mut out = vec![("accuracy", accuracy.into())];
    out.extend(extra);
    out.extend([
        ("standard_error", metrics::standard_error(accuracy, labels.len()).into()),
        ("items", labels.len().into()),
        ("majority", majority(&labels).into()),
    ]);
    if let Some(first) = names.next()
        && names.all(|other| other == first)
    {
        let f1 = if first.len() == 2 {
            metrics::f1(&labels, &predicted, 1)
        } else {
            metrics::macro_f1(&labels, &predicted)
        };
        out.push(("f1", f1.into()));
        out.push(("matthews", metrics::matthews(&labels, &predicted).into()));
    }
    out
}

/// The share of the commonest label: the accuracy of always choosing that one.
fn majority(labels: &[usize]) -> f64 {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for label in labels {
        *counts.entry(*label).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0) as f64 / labels.len().max(1) as f64
}

/// Σ p(choice) · number(choice), with p the softmax of the choices' sums.
/// Errors (class data) where a name is no number.
fn estimate(item: &ChoiceItem, sums: &[f64]) -> Result<f64> {
    let top = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut total, mut weighted) = (0.0, 0.0);
    for (name, sum) in item.names.iter().zip(sums) {
        let Some(number) = number(name) else {
            bail!(Data, "the choice `{name}` should be a number, as its item has a target")
        };
        let p = (sum - top).exp();
        total += p;
        weighted += p * number;
    }
    Ok(weighted / total)
}

/// The number that a choice's name writes.
fn number(name: &str) -> Option<f64> {
    name.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};
    use crate::model::testing;
    use candle_core::DType;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn keys(metrics: &Map<String, Value>) -> Vec<&str> {
        metrics.keys().map(String::as_str).collect()
    }

    #[test]
    fn names_are_known_and_suggested() -> Result<()> {
        for name in NAMES {
            assert_eq!(Protocol::parse(name)?.name(), name);
        }
        let Err(error) = Protocol::parse("lm_eval") else { panic!("an unknown name") };
        assert_eq!(
            (class_of(&error), error.to_string()),
            (Class::Usage, "unknown protocol `lm_eval`; did you mean `lm-eval`?".into())
        );
        Ok(())
    }

    fn generated(text: &str) -> Generated {
        Generated { ids: vec![], text: text.into() }
    }

    #[test]
    fn texts_are_judged_by_their_first_name() -> Result<()> {
        let item =
            |label| GenerationItem { prompt: vec![1], names: names(&["true", "false"]), label };
        let items = [0, 0, 1, 1, 1].map(item);
        let texts = [" true.", "false", "\nfalse true", "none", "true"].map(generated).to_vec();
        let (metrics, predictions) = answers(&items, texts)?;
        assert_eq!(
            keys(&metrics),
            [
                "protocol",
                "accuracy",
                "unparsed",
                "standard_error",
                "items",
                "majority",
                "f1",
                "matthews"
            ]
        );
        let want =
            [("accuracy", 0.4), ("unparsed", 0.2), ("majority", 0.6), ("f1", 0.4), ("items", 5.0)];
        for (key, want) in want {
            assert_eq!(metrics[key].as_f64(), Some(want), "{key}");
        }
        assert_eq!(
            predictions[0],
            Prediction { label: 0, predicted: Some(0), text: Some("true.".into()) }
        );
        assert_eq!(
            predictions.iter().map(|p| p.predicted).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(1), None, Some(0)]
        );
        Ok(())
    }

    #[test]
    fn a_published_name_that_the_item_has_not_is_a_wrong_answer() -> Result<()> {
        let other =
            [GenerationItem { prompt: vec![1], names: names(&["answer1", "answer2"]), label: 0 }];
        let (metrics, predictions) = answers(&other, vec![generated("answer4")])?;
        assert_eq!((metrics["unparsed"].as_f64(), predictions[0].predicted), (Some(0.0), None));
        Ok(())
    }

    /// Two choices called by `called`, of a token each.
    fn choice(label: usize, called: [&str; 2], target: Option<f64>) -> ChoiceItem {
        ChoiceItem {
            index: 0,
            prompt: vec![3, 1 + label as u32],
            choices: vec![vec![4], vec![5]],
            given: vec![],
            choice_chars: vec![1; 2],
            names: names(&called),
            label,
            target,
        }
    }

    /// The metrics of all choices.
    const COMMON: [&str; 6] =
        ["protocol", "accuracy", "accuracy_norm", "standard_error", "items", "majority"];

    #[test]
    fn choices_give_what_their_sums_say() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let none = Adapter::default();
        let items = [(0, 1.0), (1, 2.0), (1, 2.5)]
            .map(|(label, target)| choice(label, ["1", "2.5"], Some(target)));
        let found = by_choices(&model, &none, &items, |_| Ok(()))?;
        assert_eq!(
            keys(&found.metrics),
            [&COMMON[..], &["f1", "matthews", "pearson", "spearman"]].concat()
        );
        assert_eq!(found.metrics["majority"].as_f64(), Some(2.0 / 3.0));
        let right = found.predictions.iter().filter(|p| p.predicted == Some(p.label)).count();
        assert_eq!(found.metrics["accuracy"].as_f64(), Some(right as f64 / 3.0));
        // The estimates lie where the softmax of the two sums puts them.
        let sums = choices::score(&model, &none, &items, |_| Ok(()))?.sums;
        let estimates: Vec<f64> =
            sums.iter().map(|s| 1.0 + 1.5 / (1.0 + (s[0] - s[1]).exp())).collect();
        let want = metrics::pearson(&estimates, &[1.0, 2.0, 2.5]);
        assert!((found.metrics["pearson"].as_f64().unwrap_or(f64::NAN) - want).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn metrics_are_those_that_all_items_allow() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let measured =
            |items: &[ChoiceItem]| by_choices(&model, &Adapter::default(), items, |_| Ok(()));
        let mixed = measured(&[choice(0, ["a", "b"], None), choice(1, ["a", "c"], Some(1.0))])?;
        assert_eq!(keys(&mixed.metrics), COMMON);
        assert!(measured(&[choice(0, ["a", "2"], Some(1.0))]).is_err());
        Ok(())
    }

    #[test]
    fn generated_answers_are_measured_as_a_set() -> Result<()> {
        struct AnswerNames;
        impl Decode for AnswerNames {
            fn decode(&self, ids: &[u32]) -> Result<String> {
                Ok(format!("{} option1", ids.len()))
            }
            fn special(&self) -> Vec<(String, u32)> {
                vec![]
            }
        }
        let model = testing::model(&testing::config(), DType::F32)?;
        let items = [0, 1].map(|label| GenerationItem {
            prompt: vec![1, 2],
            names: names(&["option1", "option2"]),
            label,
        });
        let found = by_answers(&model, &Adapter::default(), &items, &AnswerNames, |_| Ok(()))?;
        assert_eq!((found.metrics["accuracy"].as_f64(), found.tokens), (Some(0.5), 68));
        assert_eq!(found.predictions[1].text.as_deref(), Some("32 option1"));
        Ok(())
    }
}
