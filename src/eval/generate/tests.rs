use super::*;
use crate::error::{Class, class_of};
use crate::model::{Tokens, testing};
use candle_core::DType;

/// Token i is the letter at its place in the alphabet; the last of 13 ends a text where asked.
struct Letters(Option<u32>);

impl Decode for Letters {
    fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(ids.iter().filter_map(|&id| char::from_u32('a' as u32 + id)).collect())
    }
    fn eos(&self) -> Option<u32> {
        self.0
    }
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![3, 1, 4, 1, 5], vec![9], vec![2, 6], vec![5, 3, 5, 8, 9, 7, 9, 3], vec![2, 3, 8, 4]]
}

fn all(model: &Model, prompts: &[Vec<u32>], letters: &Letters, how: &Generation) -> Result<Vec<Generated>> {
    generate(model, &testing::overlay(model, &[1], false)?, prompts, letters, how, |_| Ok(()))
}

#[test]
fn a_batch_gives_what_each_prompt_gives_alone() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let many: Vec<Vec<u32>> = prompts().into_iter().cycle().take(150).collect();
    for beams in [1, 3, 4] {
        for eos in [None, Some(7)] {
            let how = Generation { max_tokens: 9, beams, ..Generation::default() };
            let together = all(&model, &prompts(), &Letters(eos), &how)?;
            for (prompt, got) in prompts().into_iter().zip(&together) {
                assert_eq!(all(&model, &[prompt], &Letters(eos), &how)?, std::slice::from_ref(got), "{beams} beams, end {eos:?}");
            }
            // More than run at a time: who waits takes the place of who is done.
            let all = all(&model, &many, &Letters(eos), &how)?;
            assert!(all.iter().zip(together.iter().cycle()).all(|(a, b)| a == b));
        }
    }
    Ok(())
}

#[test]
fn greedy_takes_the_likeliest_of_whole_sequences() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let overlay = testing::overlay(&model, &[1], false)?;
    let how = Generation { max_tokens: 6, ..Generation::default() };
    for (prompt, got) in prompts().into_iter().zip(all(&model, &prompts(), &Letters(None), &how)?) {
        let mut ids = prompt.clone();
        for _ in 0..6 {
            let logits = model.logits(&Tokens::one(ids.clone()), &[ids.len() - 1], &overlay)?.squeeze(0)?;
            ids.push(logits.argmax(0)?.to_scalar()?);
        }
        assert_eq!(got.ids, ids[prompt.len()..]);
        assert_eq!(got.text, Letters(None).decode(&got.ids)?);
        assert!(all(&model, std::slice::from_ref(&prompt), &Letters(Some(got.ids[0])), &how)?[0].ids.is_empty());
    }
    Ok(())
}

/// With as many beams as there are texts, beam search finds the best of all texts.
#[test]
fn wide_beams_find_the_best_of_all_texts() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let overlay = testing::overlay(&model, &[1], false)?;
    for (eos, prompt) in [(None, 0), (Some(7u32), 1), (Some(4), 2), (Some(0), 3)] {
        let prompt = &prompts()[prompt];
        // All texts of three tokens, or that end before.
        let (mut best, mut open) = ((f64::NEG_INFINITY, vec![]), vec![(0.0, Vec::<u32>::new())]);
        for length in 1..=3 {
            let mut next = vec![];
            for (sum, ids) in open {
                let whole: Vec<u32> = prompt.iter().chain(&ids).copied().collect();
                for token in 0..13u32 {
                    let p = -model.nll(&Tokens::one(whole.clone()), &[whole.len() - 1], &[token], &overlay)?[0];
                    let mut ids = ids.clone();
                    if Some(token) != eos {
                        ids.push(token);
                    }
                    let score = (sum + p) / length as f64;
                    if (Some(token) == eos || length == 3) && score > best.0 {
                        best = (score, ids.clone());
                    }
                    if Some(token) != eos {
                        next.push((sum + p, ids));
                    }
                }
            }
            open = next;
        }
        let how = Generation { max_tokens: 3, beams: 169, ..Generation::default() };
        assert_eq!(all(&model, std::slice::from_ref(prompt), &Letters(eos), &how)?[0].ids, best.1, "end {eos:?}");
    }
    Ok(())
}

#[test]
fn a_stop_text_ends_and_is_cut_off() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let long = Generation { max_tokens: 12, ..Generation::default() };
    let whole = &all(&model, &prompts()[..1], &Letters(None), &long)?[0];
    let stop = whole.text[3..5].to_string();
    let end = whole.text.find(&stop).unwrap_or_default();
    for beams in [1, 3] {
        let how = Generation { beams, stop: vec!["zz".into(), stop.clone()], ..long.clone() };
        let got = &all(&model, &prompts()[..1], &Letters(None), &how)?[0];
        assert!(!got.text.contains(&stop));
        if beams == 1 {
            assert_eq!((got.text.as_str(), got.ids.len()), (&whole.text[..end], end + 2));
        }
    }
    Ok(())
}

#[test]
fn what_is_drawn_depends_on_the_seed_alone() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let how = |seed| Generation { max_tokens: 20, temperature: Some(1.5), top_k: Some(9), top_p: Some(0.9), seed, ..Generation::default() };
    let drawn = all(&model, &prompts(), &Letters(None), &how(1))?;
    assert_eq!(all(&model, &prompts(), &Letters(None), &how(1))?, drawn);
    assert_ne!(all(&model, &prompts(), &Letters(None), &how(2))?, drawn);
    assert_eq!(all(&model, &prompts()[..2], &Letters(None), &how(1))?, drawn[..2]);
    // The same prompt twice is drawn twice.
    let twice = all(&model, &[vec![9], vec![9]], &Letters(None), &how(1))?;
    assert_ne!(twice[0], twice[1]);
    // Of one token only the likeliest is left to draw.
    let one = Generation { top_k: Some(1), top_p: None, ..how(3) };
    let greedy = Generation { max_tokens: 20, ..Generation::default() };
    assert_eq!(all(&model, &prompts(), &Letters(None), &one)?, all(&model, &prompts(), &Letters(None), &greedy)?);
    Ok(())
}

#[test]
fn wrong_options_are_told() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F32)?;
    let base = Generation::default;
    for (how, message) in [
        (Generation { beams: 0, ..base() }, "`beams` must be from 1 to 1024, found 0"),
        (Generation { beams: 4, temperature: Some(0.1), ..base() }, "`beams` above 1 search for the likeliest text"),
        (Generation { temperature: Some(0.0), ..base() }, "`temperature` must be from 0.001 to 1000, found 0"),
        (Generation { temperature: Some(f64::NAN), ..base() }, "`temperature` must be from 0.001 to 1000, found NaN"),
        (Generation { top_k: Some(3), ..base() }, "`top_k` is for sampling, which wants a `temperature`"),
        (Generation { top_p: Some(0.5), ..base() }, "`top_p` is for sampling, which wants a `temperature`"),
        (Generation { temperature: Some(1.0), top_k: Some(0), ..base() }, "`top_k` must be 1 at least"),
        (Generation { temperature: Some(1.0), top_p: Some(1.5), ..base() }, "`top_p` must be above 0 and at most 1, found 1.5"),
        (Generation { stop: vec![String::new()], ..base() }, "a text in `stop` is empty"),
        (Generation { max_tokens: 60, ..base() }, "the model sees 64 tokens: too few for a prompt of 5 (number 1) and 60 new ones"),
        (Generation { max_tokens: usize::MAX, ..base() }, "the model sees 64 tokens"),
    ] {
        let Err(error) = all(&model, &prompts(), &Letters(None), &how) else { panic!("{message}") };
        assert_eq!(class_of(&error), Class::Usage);
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let Err(error) = all(&model, &[vec![1], vec![]], &Letters(None), &base()) else { panic!("an empty prompt") };
    assert_eq!(error.to_string(), "cannot generate from an empty prompt (number 2)");
    let none = Generation { max_tokens: 0, ..base() };
    assert_eq!(all(&model, &prompts()[..1], &Letters(None), &none)?, [Generated { ids: vec![], text: String::new() }]);
    assert_eq!(all(&model, &[], &Letters(None), &base())?, []);
    Ok(())
}
