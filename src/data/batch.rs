//! Examples laid end to end, without padding.

use anyhow::{Result, ensure};

use crate::data::example::{Example, Labelled, Wanted};
use crate::ops::logits::Targets;

/// Sequences in one flat run of N tokens, with the S places where the loss is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// N token ids, sequence after sequence.
    pub ids: Vec<u32>,
    /// Where each sequence starts, and at the end N (`cu_seqlens`): sequences + 1 numbers.
    pub starts: Vec<usize>,
    /// `token_type_ids`, N; empty where all are 0.
    pub types: Vec<u32>,
    /// S flat indices, rising: the hidden state there predicts the next token, or is what a head
    /// reads.
    pub rows: Vec<usize>,
    /// S token ids: `targets[j]` is the token at `rows[j] + 1`. Of a head its classes, or which
    /// choices are right.
    pub targets: Vec<u32>,
    /// S numbers that a head should say.
    pub numbers: Vec<f64>,
    /// Where in `rows` the choices of each item begin, and their end; empty without choices.
    pub items: Vec<usize>,
}

impl Batch {
    /// Packs whole examples in the order given.
    ///
    /// # Errors
    /// No examples, an example without tokens, or none with a supervised token.
    pub fn pack(examples: &[&Example]) -> Result<Self> {
        let tokens = examples.iter().map(|example| example.ids.len()).sum();
        let mut batch = Batch {
            ids: Vec::with_capacity(tokens),
            starts: vec![0],
            types: vec![],
            rows: Vec::new(),
            targets: Vec::new(),
            numbers: vec![],
            items: vec![],
        };
        for (e, example) in examples.iter().enumerate() {
            let (tokens, marks) = (example.ids.len(), example.supervised.len());
            ensure!(tokens > 0, "example {e} of a batch has no tokens");
            ensure!(tokens == marks, "example {e} of a batch has {tokens} tokens, {marks} marks");
            batch.push(example);
        }
        ensure!(
            !batch.rows.is_empty(),
            "a batch of {} examples has no supervised token",
            examples.len()
        );
        Ok(batch)
    }

    /// What is wanted of the rows.
    pub fn wanted(&self) -> Targets<'_> {
        match (self.items.is_empty(), self.numbers.is_empty()) {
            (false, _) => Targets::Choices { starts: &self.items, right: &self.targets },
            (_, false) => Targets::Numbers(&self.numbers),
            _ => Targets::Classes(&self.targets),
        }
    }

    /// Losses that it gives: supervised tokens, or labels.
    pub fn supervised(&self) -> usize {
        self.wanted().len()
    }

    fn push(&mut self, Example { ids, supervised, labelled }: &Example) {
        let start = self.ids.len();
        if let Some(labelled) = labelled {
            self.push_labelled(ids, labelled);
            return;
        }
        for i in (1..ids.len()).filter(|&i| supervised[i]) {
            self.rows.push(start + i - 1);
            self.targets.push(ids[i]);
        }
        self.ids.extend_from_slice(ids);
        self.starts.push(self.ids.len());
    }

    fn push_labelled(&mut self, ids: &[u32], labelled: &Labelled) {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.starts.extend(labelled.starts[1..].iter().map(|at| start + at));
        if !(self.types.is_empty() && labelled.types.is_empty()) {
            self.types.resize(start, 0);
            self.types.extend(&labelled.types);
            self.types.resize(self.ids.len(), 0);
        }
        match &labelled.wanted {
            Wanted::Class(class) => self.targets.push(*class),
            Wanted::Tokens(tokens) => self.targets.extend(tokens),
            Wanted::Number(number) => self.numbers.push(*number),
            Wanted::Choice(right) => {
                self.targets.push(*right);
                if self.items.is_empty() {
                    self.items.push(0);
                }
                self.items.push(self.rows.len() + labelled.rows.len());
            }
        }
        self.rows.extend(labelled.rows.iter().map(|row| start + row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_predict_the_token_after_them_and_never_across_sequences() {
        let a = Example::new(vec![5, 6, 7], vec![true, false, true]);
        let b = Example::new(vec![8], vec![true]);
        let c = Example::new(vec![9, 1], vec![false, true]);
        let batch = Batch::pack(&[&a, &b, &c]).unwrap();
        assert_eq!(batch.ids, [5, 6, 7, 8, 9, 1]);
        assert_eq!(batch.starts, [0, 3, 4, 6]);
        assert_eq!(batch.rows, [1, 4]);
        assert_eq!(batch.targets, [7, 1]);
        assert!(
            batch
                .rows
                .iter()
                .zip(&batch.targets)
                .all(|(&row, &target)| batch.ids[row + 1] == target)
        );
    }

    #[test]
    fn labels_go_with_the_rows_that_a_head_reads() {
        let one = |types: &[u32], starts: &[usize], rows: &[usize], wanted| {
            let ids: Vec<u32> = (0..starts[starts.len() - 1] as u32).collect();
            let (types, starts, rows) = (types.to_vec(), starts.to_vec(), rows.to_vec());
            let labelled = Some(Labelled { types, starts, rows, wanted });
            Example { labelled, ..Example::new(ids.clone(), vec![false; ids.len()]) }
        };
        let a = one(&[], &[0, 2], &[0], Wanted::Class(1));
        let b = one(&[0, 1, 1], &[0, 3], &[2], Wanted::Class(0));
        let batch = Batch::pack(&[&a, &b, &a]).unwrap();
        assert_eq!(batch.starts, [0, 2, 5, 7]);
        assert_eq!(batch.types, [0, 0, 0, 1, 1, 0, 0]);
        assert_eq!((&batch.rows[..], &batch.targets[..]), (&[0, 4, 5][..], &[1, 0, 1][..]));
        assert_eq!(batch.supervised(), 3);
        let c = one(&[], &[0, 1], &[0], Wanted::Number(2.5));
        assert_eq!(Batch::pack(&[&c, &c]).unwrap().numbers, [2.5, 2.5]);
        let d = one(&[], &[0, 2, 3], &[0, 2], Wanted::Choice(1));
        let batch = Batch::pack(&[&d, &d]).unwrap();
        assert_eq!((&batch.items[..], batch.supervised()), (&[0, 2, 4][..], 2));
        assert_eq!((batch.rows, batch.starts), (vec![0, 2, 3, 5], vec![0, 2, 3, 5, 6]));
    }

    #[test]
    fn nothing_to_learn_is_an_error() {
        let mute = Example::new(vec![1, 2], vec![false, false]);
        let empty = Example::new(vec![], vec![]);
        let odd = Example::new(vec![1, 2], vec![true]);
        assert!(Batch::pack(&[]).is_err());
        assert_eq!(
            Batch::pack(&[&mute]).unwrap_err().to_string(),
            "a batch of 1 examples has no supervised token"
        );
        assert_eq!(
            Batch::pack(&[&mute, &empty]).unwrap_err().to_string(),
            "example 1 of a batch has no tokens"
        );
        assert_eq!(
            Batch::pack(&[&odd]).unwrap_err().to_string(),
            "example 0 of a batch has 2 tokens, 1 marks"
        );
    }
}
