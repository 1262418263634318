use super::*;
use crate::error::{Class, class_of};
use crate::model::{Tokens, testing};
use candle_core::DType;

/// Token i is the letter at its place in the alphabet; token 12 is special.
struct Letters;

impl Decode for Letters {
    fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(ids
            .iter()
            .filter(|id| **id != 12)
            .filter_map(|&id| char::from_u32('a' as u32 + id))
            .collect())
    }
    fn special(&self) -> Vec<(String, u32)> {
        vec![("<m>".into(), 12)]
    }
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![3, 1, 4, 1, 5], vec![9], vec![2, 6], vec![5, 3, 5, 8, 9, 7, 9, 3], vec![2, 3, 8, 4]]
}

fn all(model: &Model, prompts: &[Vec<u32>], how: &Generation) -> Result<Vec<Generated>> {
    generate(model, &testing::adapter(model, &[1], false)?, prompts, &Letters, how, |_| Ok(()))
}

/// A model whose texts end with these tokens.
fn ending(eos: &[u32]) -> Result<Model> {
    testing::model(&testing::with(|c| c.common.eos_token_ids = eos.to_vec()), DType::F64)
}

#[test]
fn a_batch_gives_what_each_prompt_gives_alone() -> Result<()> {
    let many: Vec<Vec<u32>> = prompts().into_iter().cycle().take(150).collect();
    for beams in [1, 3, 4] {
        for eos in [&[][..], &[7]] {
            let model = ending(eos)?;
            let how = Generation { max_tokens: 9, beams, ..Generation::default() };
            let together = all(&model, &prompts(), &how)?;
            for (prompt, got) in prompts().into_iter().zip(&together) {
                assert_eq!(
                    all(&model, &[prompt], &how)?,
                    std::slice::from_ref(got),
                    "{beams} beams, ends {eos:?}"
                );
            }
            // More than run at a time: who waits takes the place of who is done.
            let all = all(&model, &many, &how)?;
            assert!(all.iter().zip(together.iter().cycle()).all(|(a, b)| a == b));
        }
    }
    Ok(())
}

#[test]
fn greedy_takes_the_likeliest_of_whole_sequences() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let adapter = testing::adapter(&model, &[1], false)?;
    let how = Generation { max_tokens: 6, ..Generation::default() };
    for (prompt, got) in prompts().into_iter().zip(all(&model, &prompts(), &how)?) {
        let mut ids = prompt.clone();
        for _ in 0..6 {
            let logits =
                model.logits(&Tokens::one(ids.clone()), &[ids.len() - 1], &adapter)?.squeeze(0)?;
            ids.push(logits.argmax(0)?.to_scalar()?);
        }
        assert_eq!(got.ids, ids[prompt.len()..]);
        assert_eq!(got.text, Letters.decode(&got.ids)?);
        assert!(
            all(&ending(&got.ids[..1])?, std::slice::from_ref(&prompt), &how)?[0].ids.is_empty()
        );
    }
    Ok(())
}

/// The text with the best score a token of all that have three tokens, or end before.
fn best_of_all(model: &Model, prompt: &[u32], eos: Option<u32>) -> Result<Vec<u32>> {
    let adapter = testing::adapter(model, &[1], false)?;
    let (mut best, mut open) = ((f64::NEG_INFINITY, vec![]), vec![(0.0, Vec::<u32>::new())]);
    for length in 1..=3 {
        let mut next = vec![];
        for (sum, ids) in open {
            let whole = Tokens::one([prompt, &ids].concat());
            let last = whole.ids.len() - 1;
            for token in 0..13u32 {
                let sum = sum - model.nll(&whole, &[last], &[token], &adapter)?[0];
                let ended = Some(token) == eos;
                let ids = if ended { ids.clone() } else { [&ids[..], &[token]].concat() };
                let score = sum / length as f64;
                if (ended || length == 3) && score > best.0 {
                    best = (score, ids.clone());
                }
                if !ended {
                    next.push((sum, ids));
                }
            }
        }
        open = next;
    }
    Ok(best.1)
}

/// With as many beams as there are texts, beam search finds the best of all texts.
#[test]
fn wide_beams_find_the_best_of_all_texts() -> Result<()> {
    for (eos, prompt) in [(None, 0), (Some(7u32), 1), (Some(4), 2), (Some(0), 3)] {
        let prompt = &prompts()[prompt];
        let model = ending(&eos.into_iter().collect::<Vec<_>>())?;
        let how = Generation { max_tokens: 3, beams: 169, ..Generation::default() };
        let found = all(&model, std::slice::from_ref(prompt), &how)?;
        assert_eq!(found[0].ids, best_of_all(&model, prompt, eos)?, "ends {eos:?}");
    }
    Ok(())
}

#[test]
fn a_stop_text_ends_and_is_cut_off() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let long = Generation { max_tokens: 12, ..Generation::default() };
    let whole = &all(&model, &prompts()[..1], &long)?[0];
    let stop = whole.text[3..5].to_string();
    let end = whole.text.find(&stop).unwrap_or_default();
    for beams in [1, 3] {
        let how = Generation { beams, stop: vec!["zz".into(), stop.clone()], ..long.clone() };
        let got = &all(&model, &prompts()[..1], &how)?[0];
        assert!(!got.text.contains(&stop));
        if beams == 1 {
            assert_eq!((got.text.as_str(), got.ids.len()), (&whole.text[..end], end + 2));
        }
    }
    Ok(())
}

#[test]
fn a_stop_that_is_a_special_token_ends_by_its_id() -> Result<()> {
    for beams in [1, 3] {
        for prompt in prompts() {
            // A token of the text is made the special one.
            let how = |stop: &[&str]| Generation {
                max_tokens: 9,
                beams,
                stop: stop.iter().map(ToString::to_string).collect(),
                ..Generation::default()
            };
            let by_config = all(&ending(&[12])?, std::slice::from_ref(&prompt), &how(&[]))?;
            let by_stop = all(&ending(&[])?, std::slice::from_ref(&prompt), &how(&["zz", "<m>"]))?;
            assert_eq!(by_config, by_stop, "{beams} beams");
        }
    }
    let mixed = Generation { stop: vec!["a".into(), "a<m>".into()], ..Generation::default() };
    let error = all(&ending(&[])?, &prompts()[..1], &mixed).unwrap_err();
    let message =
        "`stop`: \"a<m>\" holds the special token `<m>` beside other text, and is never met";
    assert_eq!((class_of(&error), error.to_string().as_str()), (Class::Usage, message));
    Ok(())
}

/// A text's first token loses its space, special tokens aside; tokens of 200 and more are bytes,
/// which are spoilt where a run of them is no text.
struct Pieces;

impl Decode for Pieces {
    fn decode(&self, ids: &[u32]) -> Result<String> {
        let (mut out, mut run) = (String::new(), vec![]);
        let close =
            |out: &mut String, run: &mut Vec<u8>| match String::from_utf8(std::mem::take(run)) {
                Ok(text) => out.push_str(&text),
                Err(e) => out.extend(e.as_bytes().iter().map(|_| char::REPLACEMENT_CHARACTER)),
            };
        for &id in ids.iter().filter(|id| **id != 12) {
            if id >= 200 {
                run.push((id - 200) as u8);
            } else {
                close(&mut out, &mut run);
                out.push(' ');
                out.extend(char::from_u32('a' as u32 + id));
            }
        }
        close(&mut out, &mut run);
        Ok(out.strip_prefix(' ').map_or(out.clone(), str::to_owned))
    }
    fn special(&self) -> Vec<(String, u32)> {
        vec![("<m>".into(), 12)]
    }
}

#[test]
fn a_text_follows_its_prompt() -> Result<()> {
    let bytes = |text: &str| text.bytes().map(|b| 200 + u32::from(b)).collect::<Vec<u32>>();
    let long: Vec<u32> = (0..40).map(|i| i % 12).collect();
    let specials = [vec![1], vec![12; 30]].concat();
    let emoji = [vec![1], bytes("🙂"), bytes("\n")].concat();
    for (prompt, ids, want) in [
        (vec![1, 2], vec![3, 4], " d e"),
        (long, vec![3, 4], " d e"),
        (specials, vec![3], " d"),
        // Behind nothing but special tokens a text begins.
        (vec![12], vec![3, 4], "d e"),
        (vec![1, 2], bytes("🙂"), "🙂"),
        (emoji.clone(), [bytes("🙂"), vec![3]].concat(), "🙂 d"),
        // The first bytes of a letter, as they are before it is whole.
        (emoji, bytes("🙂")[..2].to_vec(), "\u{fffd}\u{fffd}"),
        (vec![1], vec![12], ""),
        (vec![1], vec![], ""),
    ] {
        assert_eq!(
            Behind::of(&prompt, &Pieces)?.following(&ids, &Pieces)?,
            want,
            "{prompt:?} {ids:?}"
        );
        assert_eq!(
            Behind::end_of(&prompt, &Pieces)?.following(&ids, &Pieces)?,
            want,
            "{prompt:?} {ids:?}"
        );
    }
    Ok(())
}

#[test]
fn what_is_drawn_depends_on_the_seed_alone() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F64)?;
    let how = |seed| Generation {
        max_tokens: 20,
        temperature: Some(1.5),
        top_k: Some(9),
        top_p: Some(0.9),
        seed,
        ..Generation::default()
    };
    let drawn = all(&model, &prompts(), &how(1))?;
    assert_eq!(all(&model, &prompts(), &how(1))?, drawn);
    assert_ne!(all(&model, &prompts(), &how(2))?, drawn);
    assert_eq!(all(&model, &prompts()[..2], &how(1))?, drawn[..2]);
    // The same prompt twice is drawn twice.
    let twice = all(&model, &[vec![9], vec![9]], &how(1))?;
    assert_ne!(twice[0], twice[1]);
    // Of one token only the likeliest is left to draw.
    let one = Generation { top_k: Some(1), top_p: None, ..how(3) };
    let greedy = Generation { max_tokens: 20, ..Generation::default() };
    assert_eq!(all(&model, &prompts(), &one)?, all(&model, &prompts(), &greedy)?);
    Ok(())
}

fn told(how: Generation, message: &str) -> Result<()> {
    let model = testing::model(&testing::config(), DType::F32)?;
    let Err(error) = all(&model, &prompts(), &how) else { panic!("{message}") };
    assert_eq!(class_of(&error), Class::Usage);
    assert!(error.to_string().starts_with(message), "{error}");
    Ok(())
}

#[test]
fn wrong_options_of_a_search_are_told() -> Result<()> {
    let base = Generation::default;
    told(Generation { beams: 0, ..base() }, "`beams` must be from 1 to 1024, found 0")?;
    told(Generation { stop: vec![String::new()], ..base() }, "a text in `stop` is empty")?;
    told(
        Generation { max_tokens: 60, ..base() },
        "the model sees 64 tokens: too few for a prompt of 5 (number 1) and 60 new ones",
    )?;
    told(Generation { max_tokens: usize::MAX, ..base() }, "the model sees 64 tokens")
}

#[test]
fn wrong_options_of_sampling_are_told() -> Result<()> {
    let at = |temperature| Generation { temperature: Some(temperature), ..Generation::default() };
    for (how, message) in [
        (Generation { beams: 4, ..at(0.1) }, "`beams` above 1 search for the likeliest text"),
        (at(0.0), "`temperature` must be from 0.001 to 1000, found 0"),
        (at(f64::NAN), "`temperature` must be from 0.001 to 1000, found NaN"),
        (
            Generation { top_k: Some(3), ..Generation::default() },
            "`top_k` is for sampling, which wants a `temperature`",
        ),
        (
            Generation { top_p: Some(0.5), ..Generation::default() },
            "`top_p` is for sampling, which wants a `temperature`",
        ),
        (Generation { top_k: Some(0), ..at(1.0) }, "`top_k` must be 1 at least"),
        (
            Generation { top_p: Some(1.5), ..at(1.0) },
            "`top_p` must be above 0 and at most 1, found 1.5",
        ),
    ] {
        told(how, message)?;
    }
    Ok(())
}

#[test]
fn an_empty_prompt_is_told_and_nothing_follows_where_nothing_is_wanted() -> Result<()> {
    let model = testing::model(&testing::config(), DType::F32)?;
    let base = Generation::default;
    let Err(error) = all(&model, &[vec![1], vec![]], &base()) else { panic!("an empty prompt") };
    assert_eq!(error.to_string(), "cannot generate from an empty prompt (number 2)");
    let none = Generation { max_tokens: 0, ..base() };
    assert_eq!(
        all(&model, &prompts()[..1], &none)?,
        [Generated { ids: vec![], text: String::new() }]
    );
    assert_eq!(all(&model, &[], &base())?, []);
    Ok(())
}
