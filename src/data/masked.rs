//! Texts for a head that says masked tokens (BERT, Devlin et al. 2019, §3.1): of each draw 15 % of
//! the tokens count, of which 80 % are written as the mask, 10 % as a token by chance and 10 % as
//! they are. Each pass over a set draws anew, as in RoBERTa (Liu et al. 2019).

use std::sync::Arc;

use anyhow::Result;

use super::encode::{EncodeOptions, EncodeReport, Encoded};
use super::example::{Example, Labelled, Wanted};
use super::feed::Examples;
use super::item::{Document, Item};
use super::tokenizer::{Encode, tokens};
use crate::error::{bail, error};
use crate::seed::Stream;

/// The share of tokens that a draw asks for.
const SHARE: f64 = 0.15;

/// The tokens that masking needs of a tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Masking {
    mask: u32,
    /// Tokens that stand around a text.
    before: Vec<u32>,
    after: Vec<u32>,
    /// Tokens that one by chance is of.
    vocab_size: usize,
}

impl Masking {
    /// Errors (class data): a tokenizer without a mask token.
    pub fn of(tokenizer: &dyn Encode) -> Result<Self> {
        let mask = tokenizer.roles().into_iter().find(|(role, _)| role == "mask_token");
        let id = |text: String| match tokenizer.encode(&text).ok()?.as_slice() {
            [id] => Some(*id),
            _ => None,
        };
        let Some(mask) = mask.and_then(|(_, text)| id(text)) else {
            bail!(Data, "the tokenizer has no `mask_token`, which a head of masked tokens needs")
        };
        // The mask itself is a text of one token, whatever stands around it.
        let whole = tokenizer.encode_whole(&tokenizer.token(mask).unwrap_or_default(), None, 64)?;
        let at = whole.ids.iter().position(|id| *id == mask).unwrap_or(whole.ids.len());
        let after = whole.ids.get(at + 1..).unwrap_or_default().to_vec();
        let vocab_size = tokenizer.vocab_size().min(tokenizer.rows());
        Ok(Self { mask, before: whole.ids[..at].to_vec(), after, vocab_size })
    }

    /// The example with some of the tokens that are marked in it masked, one at least, and those as
    /// what is wanted.
    pub fn draw(&self, example: &Example, stream: &mut Stream) -> Example {
        let marked: Vec<usize> =
            (0..example.ids.len()).filter(|&at| example.supervised[at]).collect();
        let mut rows: Vec<usize> =
            marked.iter().copied().filter(|_| stream.uniform() < SHARE).collect();
        if rows.is_empty() && !marked.is_empty() {
            rows.push(marked[stream.below(marked.len())]);
        }
        let mut ids = example.ids.clone();
        let wanted = Wanted::Tokens(rows.iter().map(|&at| ids[at]).collect());
        for &at in &rows {
            match stream.uniform() {
                u if u < 0.8 => ids[at] = self.mask,
                u if u < 0.9 => ids[at] = stream.below(self.vocab_size) as u32,
                _ => {}
            }
        }
        let starts = vec![0, ids.len()];
        let labelled = Some(Labelled { types: vec![], starts, rows, wanted });
        Example { supervised: vec![false; ids.len()], ids, labelled }
    }
}

/// Encodes texts, in their order: each is divided into blocks of `max_length` tokens with the
/// special tokens that the tokenizer puts around a text; all others are marked.
///
/// Errors (class data): an item that is no text, a tokenizer without a mask, a limit that leaves no
/// room, nothing left.
pub fn encode_masked(
    items: &[Item],
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<Encoded> {
    let masking = Masking::of(tokenizer)?;
    let mut out = Encoded {
        examples: vec![],
        report: EncodeReport { items: items.len(), ..EncodeReport::default() },
    };
    for item in items {
        let Item::Text(document) = item else {
            return Err(error!(
                Data,
                "{} is no plain text, of which a head of masked tokens learns",
                item.place();
                hint: "give texts: a .txt file, or records with `text` alone"
            )
            .into());
        };
        out.add_text(document, tokenizer, &masking, options)?;
    }
    if out.examples.is_empty() {
        bail!(Data, "no text has a token that can be masked: {}", out.report);
    }
    Ok(out)
}

impl Encoded {
    fn add_text(
        &mut self,
        document: &Document,
        tokenizer: &dyn Encode,
        masking: &Masking,
        options: &EncodeOptions,
    ) -> Result<()> {
        let Masking { before, after, mask, .. } = masking;
        let around = before.len() + after.len();
        let Some(room) = options.max_length.checked_sub(around).filter(|room| *room > 0) else {
            bail!(
                Usage,
                "a length limit of {} tokens leaves no room beside {around} special ones",
                options.max_length
            )
        };
        let ids = tokens(tokenizer, &document.text, &document.place)?;
        let is_text = |id: &u32| id != mask && !before.contains(id) && !after.contains(id);
        for block in ids.chunks(room) {
            let marks = block.iter().map(is_text);
            let none = |n: usize| std::iter::repeat_n(false, n);
            let supervised: Vec<bool> =
                none(before.len()).chain(marks).chain(none(after.len())).collect();
            let counted = supervised.iter().filter(|mark| **mark).count();
            if counted == 0 {
                self.report.dropped += 1;
                continue;
            }
            let ids = [before, block, after].concat();
            self.report.examples += 1;
            self.report.tokens += ids.len();
            self.report.maskable += counted;
            self.examples.push(Example::new(ids, supervised));
        }
        Ok(())
    }
}

/// Marked examples that are masked when they are asked for, in each pass otherwise.
pub struct Masked {
    pub examples: Arc<dyn Examples>,
    pub masking: Masking,
    pub seed: u64,
    /// Of the random stream.
    pub name: String,
}

impl Examples for Masked {
    fn count(&self) -> usize {
        self.examples.count()
    }

    fn get(&self, i: usize, pass: u64) -> Result<Option<Example>> {
        let mut stream = Stream::new(self.seed, &format!("{}/pass {pass}/{i}", self.name));
        let example = self.examples.get(i, pass)?;
        Ok(example.map(|example| self.masking.draw(&example, &mut stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataLoader;

    const MASK: u32 = 3;

    fn masking() -> Masking {
        Masking { mask: MASK, before: vec![1], after: vec![2], vocab_size: 1000 }
    }

    /// [CLS], 998 tokens of the text, [SEP].
    fn example() -> Example {
        let ids = (0..1000).map(|i| {
            if i == 0 {
                1
            } else if i == 999 {
                2
            } else {
                7
            }
        });
        Example::new(ids.collect(), (0..1000).map(|i| i > 0 && i < 999).collect())
    }

    #[test]
    fn tokens_are_masked_in_the_published_shares() {
        let (mut asked, mut masked, mut kept) = (0, 0, 0);
        for n in 0..100 {
            let drawn = masking().draw(&example(), &mut Stream::new(n, "mask"));
            let labelled = drawn.labelled.unwrap();
            assert_eq!(labelled.wanted, Wanted::Tokens(vec![7; labelled.rows.len()]));
            assert_eq!((drawn.ids[0], drawn.ids[999]), (1, 2));
            asked += labelled.rows.len();
            masked += labelled.rows.iter().filter(|&&at| drawn.ids[at] == MASK).count();
            kept += labelled.rows.iter().filter(|&&at| drawn.ids[at] == 7).count();
            let others = (1..999).filter(|at| !labelled.rows.contains(at));
            assert!(others.into_iter().all(|at| drawn.ids[at] == 7));
        }
        let near = |got: usize, of: usize, want: f64| {
            let share = got as f64 / of as f64;
            assert!((share - want).abs() < 0.01, "{share} is not {want}");
        };
        near(asked, 99_800, 0.15);
        near(masked, asked, 0.8);
        near(kept, asked, 0.1);
    }

    #[test]
    fn a_short_text_has_one_masked_token() {
        let short = Example::new(vec![1, 9, 2], vec![false, true, false]);
        for n in 0..20 {
            let drawn = masking().draw(&short, &mut Stream::new(n, "mask"));
            assert_eq!(drawn.labelled.unwrap().rows, [1]);
        }
    }

    #[test]
    fn each_pass_masks_anew_and_a_resumed_one_alike() {
        let loader = || {
            let examples = Arc::new(vec![example(), example()]);
            let (masking, name) = (masking(), "mask".to_owned());
            let all = Masked { examples, masking, seed: 5, name };
            DataLoader::pooled(5, "data", vec![Arc::new(all)]).unwrap()
        };
        let all = loader().next(6).unwrap();
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a.ids != b.ids), "example {i} came before");
        }
        for stop in 0..6 {
            let mut first = loader();
            first.next(stop).unwrap();
            let mut second = loader();
            second.resume(&first.state()).unwrap();
            assert_eq!(second.next(6 - stop).unwrap(), all[stop..]);
        }
    }
}
