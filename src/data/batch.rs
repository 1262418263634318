//! Examples laid end to end, without padding.

use anyhow::{Result, ensure};

use crate::data::encode::Example;

/// Sequences in one flat run of N tokens, with the S places where the loss is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// N token ids, sequence after sequence.
    pub ids: Vec<u32>,
    /// Where each sequence starts, and at the end N (`cu_seqlens`): sequences + 1 numbers.
    pub starts: Vec<usize>,
    /// S flat indices, rising: the hidden state there predicts the next token.
    pub rows: Vec<usize>,
    /// S token ids: `targets[j]` is the token at `rows[j] + 1`.
    pub targets: Vec<u32>,
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
            rows: Vec::new(),
            targets: Vec::new(),
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

    fn push(&mut self, Example { ids, supervised }: &Example) {
        let start = self.ids.len();
        for i in (1..ids.len()).filter(|&i| supervised[i]) {
            self.rows.push(start + i - 1);
            self.targets.push(ids[i]);
        }
        self.ids.extend_from_slice(ids);
        self.starts.push(self.ids.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_predict_the_token_after_them_and_never_across_sequences() {
        let a = Example { ids: vec![5, 6, 7], supervised: vec![true, false, true] };
        let b = Example { ids: vec![8], supervised: vec![true] };
        let c = Example { ids: vec![9, 1], supervised: vec![false, true] };
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
    fn nothing_to_learn_is_an_error() {
        let mute = Example { ids: vec![1, 2], supervised: vec![false, false] };
        let empty = Example { ids: vec![], supervised: vec![] };
        let odd = Example { ids: vec![1, 2], supervised: vec![true] };
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
