//! Choice scoring by log-likelihood: the prediction is the choice with the largest sum of token
//! log-probabilities after the prompt, or the largest sum per character
//! (EleutherAI/lm-evaluation-harness `acc` and `acc_norm`).
//!
//! The prompt of an item, and what all its choices begin with, goes through the network once.

use anyhow::Result;

use super::BATCH_TOKENS;
use crate::data::ChoiceItem;
use crate::model::cost::Work;
use crate::model::{Adapter, Model, Tokens};

/// Scores of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Log-probability of every choice of every item, in nats.
    pub sums: Vec<Vec<f64>>,
    /// Tokens that went through the network.
    pub tokens: usize,
}

impl Scores {
    /// Of every item the choice with the largest sum, the first of equals.
    pub fn largest(&self) -> Vec<usize> {
        self.sums.iter().map(|sums| largest(sums)).collect()
    }

    /// Of every item the choice with the largest sum per character.
    pub fn largest_per_character(&self, items: &[ChoiceItem]) -> Vec<usize> {
        let divide = |(sums, item): (&Vec<f64>, &ChoiceItem)| {
            largest(
                &sums
                    .iter()
                    .zip(&item.choice_chars)
                    .map(|(s, &n)| s / n.max(1) as f64)
                    .collect::<Vec<f64>>(),
            )
        };
        self.sums.iter().zip(items).map(divide).collect()
    }
}

/// Scores all items; `progress` hears how many are done and may end it with an error.
/// Errors where a likelihood is no number.
pub fn score(
    model: &Model,
    adapter: &Adapter,
    items: &[ChoiceItem],
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<Scores> {
    let mut scores = Scores { sums: Vec::with_capacity(items.len()), tokens: 0 };
    let mut end = 0;
    for batch in batches(model, items) {
        end += batch.spans.len();
        scores.tokens += batch.tokens.ids.len();
        let nll = model.nll(&batch.tokens, &batch.rows, &batch.targets, adapter)?;
        for spans in &batch.spans {
            let sums: Vec<f64> = spans
                .iter()
                .map(|parts| -parts.iter().flat_map(|r| &nll[r.clone()]).sum::<f64>())
                .collect();
            super::finite(sums.iter().sum())?;
            scores.sums.push(sums);
        }
        progress(end)?;
    }
    Ok(scores)
}

/// Of `items` those whose likeliest choice is not the right one, by their index; of a model without
/// numbers, all. `progress` as in [`score`].
pub fn wrong(
    model: &Model,
    items: &[ChoiceItem],
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<usize>> {
    if model.is_meta() {
        return Ok(items.iter().map(|item| item.index).collect());
    }
    let scores = score(model, &Adapter::default(), items, progress)?;
    let wrong =
        scores.largest().into_iter().zip(items).filter(|(found, item)| *found != item.label);
    Ok(wrong.map(|(_, item)| item.index).collect())
}

/// The items in batches of about [`BATCH_TOKENS`], one after the other.
fn batches<'a>(model: &'a Model, items: &'a [ChoiceItem]) -> impl Iterator<Item = Packed> + 'a {
    let mut left = items;
    std::iter::from_fn(move || {
        let (first, rest) = left.split_first()?;
        left = rest;
        let mut batch = Packed::default();
        batch.push(model, first);
        while let Some((next, rest)) =
            left.split_first().filter(|_| batch.tokens.ids.len() < BATCH_TOKENS)
        {
            batch.push(model, next);
            left = rest;
        }
        Some(batch)
    })
}

/// What scoring them takes: the work of each batch.
pub fn work(model: &Model, items: &[ChoiceItem]) -> Vec<Work> {
    batches(model, items).map(|batch| Work::of(&batch.tokens, batch.rows.len())).collect()
}

/// The index of the largest value, the first of equals.
fn largest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Items laid end to end, with the rows whose predictions are wanted.
#[derive(Default)]
struct Packed {
    tokens: Tokens,
    rows: Vec<usize>,
    targets: Vec<u32>,
    /// Per item and choice: the ranges of `rows` that make its sum.
    spans: Vec<Vec<[std::ops::Range<usize>; 2]>>,
}

impl Packed {
    fn push(&mut self, model: &Model, item: &ChoiceItem) {
        let longest = item.choices.iter().map(Vec::len).max().unwrap_or(0);
        let same = model.same_positions(item.prompt.len(), item.prompt.len() + longest);
        if same && !item.prompt.is_empty() {
            self.shared(item);
        } else {
            self.alone(item);
        }
    }

    /// Each choice with a prompt of its own, as frequencies depend on the whole length: that of
    /// lm-evaluation-harness, which leaves out the last token.
    fn alone(&mut self, item: &ChoiceItem) {
        let mut spans = Vec::with_capacity(item.choices.len());
        for (i, choice) in item.choices.iter().enumerate() {
            let mut ids: Vec<u32> = item.prompt.iter().chain(choice).copied().collect();
            ids.pop();
            let offset = self.tokens.ids.len();
            let start = self.rows.len();
            let given = item.given.get(i).copied().unwrap_or(0);
            let first = offset + item.prompt.len() + given - 1;
            self.want(first..offset + ids.len(), &choice[given..]);
            spans.push([start..start, start..self.rows.len()]);
            self.tokens.append(Tokens::one(ids));
        }
        self.spans.push(spans);
    }

    fn shared(&mut self, item: &ChoiceItem) {
        // The common start of all choices is computed once, but each keeps a token of its own.
        let shortest = item.choices.iter().map(Vec::len).min().unwrap_or(0);
        let first = item.choices.first().map(Vec::as_slice).unwrap_or_default();
        // What is given differs from the first token on.
        let shortest = if item.given.is_empty() { shortest } else { 0 };
        let common = (0..shortest.saturating_sub(1))
            .take_while(|&i| item.choices.iter().all(|c| c[i] == first[i]))
            .count();
        let prompt: Vec<u32> = item.prompt.iter().chain(&first[..common]).copied().collect();
        let rests: Vec<Vec<u32>> = item.choices.iter().map(|c| c[common..].to_vec()).collect();

        let offset = self.tokens.ids.len();
        let last = offset + prompt.len() - 1;
        let shared = self.want((offset + item.prompt.len() - 1)..last, &first[..common]);
        let mut at = last + 1;
        let mut spans = Vec::with_capacity(rests.len());
        for (i, rest) in rests.iter().enumerate() {
            let start = self.rows.len();
            let given = item.given.get(i).copied().unwrap_or(0);
            if given == 0 {
                self.want(last..last + 1, &rest[..1]);
            }
            let behind = given.max(1);
            self.want(at + behind - 1..at + rest.len() - 1, &rest[behind..]);
            spans.push([shared.clone(), start..self.rows.len()]);
            at += rest.len();
        }
        self.spans.push(spans);
        self.tokens.append(Tokens::shared_prompt(&prompt, &rests));
    }

    /// Asks for the predictions of `targets` after `rows`.
    fn want(&mut self, rows: std::ops::Range<usize>, targets: &[u32]) -> std::ops::Range<usize> {
        let start = self.rows.len();
        self.rows.extend(rows);
        self.targets.extend(targets);
        start..self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;
    use candle_core::DType;

    #[test]
    fn shared_computation_gives_what_whole_sequences_give() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let item = |prompt: &[u32], choices: &[&[u32]], label| ChoiceItem {
            index: 0,
            prompt: prompt.to_vec(),
            choices: choices.iter().map(|c| c.to_vec()).collect(),
            given: vec![],
            choice_chars: choices.iter().map(|c| 2 * c.len()).collect(),
            names: vec![String::new(); choices.len()],
            label,
            target: None,
        };
        let items = [
            item(&[3, 1, 4], &[&[1, 5, 9], &[1, 5, 2, 6]], 1),
            item(&[2], &[&[7], &[7, 7], &[8]], 0),
            item(&[5, 3], &[&[5, 8, 9], &[7], &[5, 8, 9]], 0),
        ];
        let adapter = testing::adapter(&model, &[1], false)?;
        let scores = score(&model, &adapter, &items, |_| Ok(()))?;
        for (item, sums) in items.iter().zip(&scores.sums) {
            for (choice, sum) in item.choices.iter().zip(sums) {
                let ids: Vec<u32> = item.prompt.iter().chain(choice).copied().collect();
                let rows: Vec<usize> = (item.prompt.len() - 1..ids.len() - 1).collect();
                let whole: f64 =
                    model.nll(&Tokens::one(ids), &rows, choice, &adapter)?.iter().sum();
                assert!((whole + sum).abs() < 1e-10, "{whole} and {sum}");
            }
        }
        assert_eq!(scores.sums.len(), 3);
        Ok(())
    }

    #[test]
    fn what_is_given_is_seen_and_not_scored() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let none = Adapter::default();
        let item = |prompt: &[u32], given: &[usize], choices: &[&[u32]]| ChoiceItem {
            index: 0,
            prompt: prompt.to_vec(),
            choices: choices.iter().map(|c| c.to_vec()).collect(),
            given: given.to_vec(),
            choice_chars: vec![1; choices.len()],
            names: vec![String::new(); choices.len()],
            label: 0,
            target: None,
        };
        let items = [
            item(&[3, 1], &[1, 2], &[&[5, 9, 2], &[5, 6, 9, 2]]),
            item(&[3], &[0, 1], &[&[9, 2], &[4, 9, 2]]),
            item(&[], &[1, 2], &[&[5, 9], &[6, 7, 9]]),
        ];
        let sums = score(&model, &none, &items, |_| Ok(()))?.sums;
        for (item, sums) in items.iter().zip(&sums) {
            for ((choice, given), sum) in item.choices.iter().zip(&item.given).zip(sums) {
                let ids: Vec<u32> = item.prompt.iter().chain(choice).copied().collect();
                let first = item.prompt.len() + given;
                let rows: Vec<usize> = (first - 1..ids.len() - 1).collect();
                let wanted = &choice[*given..];
                let whole: f64 = model.nll(&Tokens::one(ids), &rows, wanted, &none)?.iter().sum();
                assert!((whole + sum).abs() < 1e-10, "{whole} and {sum}");
            }
        }
        Ok(())
    }

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(largest(&[-2.0, -1.0, -1.0]), 1);
        assert_eq!(largest(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), 0);
    }
}
