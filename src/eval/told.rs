//! What a model said to each item of a set, one by one, as lm-evaluation-harness's `--log_samples`
//! keeps it.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::generate::Decode;
use super::{EncodedSet, Measured};
use crate::data::{Example, HeadTask, Says, Wanted};

/// An item and what was said to it.
pub type Told = Map<String, Value>;

impl EncodedSet<'_> {
    /// Each item that was measured, in order, with its number: of choices that among the items that
    /// there were, of others that among those measured.
    pub fn told(&self, measured: &Measured, decode: &dyn Decode) -> Result<Vec<Told>> {
        let numbers: Vec<usize> = match self {
            Self::Choices(items) => items.iter().map(|item| item.index).collect(),
            _ => (0..self.len()).collect(),
        };
        let told = |(i, number): (usize, usize)| {
            let mut out = Told::from_iter([("item".to_owned(), json!(number))]);
            if let Some(prompt) = self.prompt(i) {
                out.insert("prompt".into(), decode.decode(prompt)?.into());
            }
            out.append(&mut self.one(i, measured));
            Ok(out)
        };
        // A model without numbers said nothing.
        let said = measured.scores.len().max(measured.predictions.len());
        numbers.into_iter().enumerate().take(said).map(told).collect()
    }

    /// The tokens that were asked; of a sequence that is measured as a whole, none.
    fn prompt(&self, i: usize) -> Option<&[u32]> {
        match self {
            Self::Choices(items) => Some(&items[i].prompt),
            Self::Questions(items, _) => Some(&items[i].prompt),
            Self::Labelled(examples, _) => Some(&examples[i].ids),
            Self::Sequences(_) => None,
        }
    }

    /// What was said to item `i`.
    fn one(&self, i: usize, measured: &Measured) -> Told {
        let scores = measured.scores.get(i).map(Vec::as_slice).unwrap_or_default();
        match self {
            Self::Choices(items) => {
                let mut out =
                    object(json!({ "choices": items[i].names, "loglikelihoods": scores }));
                out.append(&mut judged(&items[i].names, measured, i));
                out.extend(items[i].target.map(|target| ("target".to_owned(), json!(target))));
                out
            }
            Self::Questions(items, _) => {
                let text = measured.predictions[i].text.clone();
                let mut out = object(json!({ "choices": items[i].names, "text": text }));
                out.append(&mut judged(&items[i].names, measured, i));
                out
            }
            Self::Sequences(_) => object(json!({
                "nll": scores.first(), "tokens": scores.get(1).map(|n| *n as u64),
            })),
            Self::Labelled(examples, task) => labelled(&examples[i], task, scores, measured, i),
        }
    }
}

/// What a head said.
fn labelled(
    example: &Example,
    task: &HeadTask,
    logits: &[f64],
    measured: &Measured,
    i: usize,
) -> Told {
    if task.says == Says::Number {
        let wanted = match example.labelled.as_ref().map(|labelled| &labelled.wanted) {
            Some(Wanted::Number(number)) => Some(*number),
            _ => None,
        };
        return object(json!({ "prediction": logits.first(), "answer": wanted }));
    }
    let names = match &task.says {
        Says::Class(labels) => labels.clone(),
        _ => (0..logits.len()).map(|choice| choice.to_string()).collect(),
    };
    let mut out = object(json!({
        "choices": names, "logits": logits, "probabilities": softmax(logits),
    }));
    out.append(&mut judged(&names, measured, i));
    out
}

/// What was predicted and what is right, by name.
fn judged(names: &[String], measured: &Measured, i: usize) -> Told {
    let prediction = &measured.predictions[i];
    object(json!({
        "prediction": prediction.predicted.and_then(|index| names.get(index)),
        "answer": names.get(prediction.label),
        "correct": prediction.predicted == Some(prediction.label),
    }))
}

fn object(value: Value) -> Told {
    if let Value::Object(object) = value { object } else { Told::new() }
}

/// Shares that sum to 1.
fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|z| (z - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ChoiceItem, GenerationItem, Labelled};
    use crate::eval::Prediction;

    struct Ids;

    impl Decode for Ids {
        fn decode(&self, ids: &[u32]) -> Result<String> {
            Ok(format!("{ids:?}"))
        }

        fn special(&self) -> Vec<(String, u32)> {
            vec![]
        }
    }

    fn measured(scores: &[&[f64]], predicted: Option<usize>, text: Option<&str>) -> Measured {
        let prediction = Prediction { label: 1, predicted, text: text.map(str::to_owned) };
        Measured {
            metrics: Map::new(),
            tokens: 0,
            predictions: vec![prediction],
            scores: scores.iter().map(|s| s.to_vec()).collect(),
        }
    }

    fn told(set: EncodedSet, measured: &Measured) -> Value {
        Value::Object(set.told(measured, &Ids).unwrap().remove(0))
    }

    #[test]
    fn each_protocol_tells_what_it_has() {
        let names = vec!["no".to_owned(), "yes".to_owned()];
        let choice = ChoiceItem {
            index: 7,
            prompt: vec![3],
            choices: vec![vec![1], vec![2]],
            given: vec![],
            choice_chars: vec![2, 3],
            names: names.clone(),
            label: 1,
            target: None,
        };
        assert_eq!(
            told(EncodedSet::Choices(&[choice]), &measured(&[&[-1.5, -2.0]], Some(0), None)),
            json!({
                "item": 7, "prompt": "[3]", "choices": ["no", "yes"],
                "loglikelihoods": [-1.5, -2.0], "prediction": "no", "answer": "yes",
                "correct": false,
            })
        );
        let question = GenerationItem { prompt: vec![4], names: names.clone(), label: 1 };
        assert_eq!(
            told(EncodedSet::Questions(&[question], &Ids), &measured(&[], None, Some("hm"))),
            json!({
                "item": 0, "prompt": "[4]", "choices": ["no", "yes"], "text": "hm",
                "prediction": null, "answer": "yes", "correct": false,
            })
        );
        let mut example = Example::new(vec![5, 6], vec![false, true]);
        let examples = std::slice::from_ref(&example);
        assert_eq!(
            told(EncodedSet::Sequences(examples), &measured(&[&[2.5, 1.0]], None, None)),
            json!({ "item": 0, "nll": 2.5, "tokens": 1 })
        );
        let starts = vec![0, 2];
        let wanted = Wanted::Class(1);
        example.labelled = Some(Labelled { types: vec![], starts, rows: vec![0], wanted });
        let task = HeadTask { says: Says::Class(names), last: false };
        let examples = std::slice::from_ref(&example);
        assert_eq!(
            told(EncodedSet::Labelled(examples, &task), &measured(&[&[0.5, 0.5]], Some(1), None)),
            json!({
                "item": 0, "prompt": "[5, 6]", "choices": ["no", "yes"], "logits": [0.5, 0.5],
                "probabilities": [0.5, 0.5], "prediction": "yes", "answer": "yes", "correct": true,
            })
        );
        example.labelled.as_mut().unwrap().wanted = Wanted::Number(2.5);
        let task = HeadTask { says: Says::Number, last: false };
        let examples = std::slice::from_ref(&example);
        let said = Measured { predictions: vec![], ..measured(&[&[2.25]], None, None) };
        assert_eq!(
            told(EncodedSet::Labelled(examples, &task), &said),
            json!({ "item": 0, "prompt": "[5, 6]", "prediction": 2.25, "answer": 2.5 })
        );
        // On shapes nothing was said.
        let nothing = Measured { predictions: vec![], ..measured(&[], None, None) };
        assert!(EncodedSet::Sequences(examples).told(&nothing, &Ids).unwrap().is_empty());
    }
}
