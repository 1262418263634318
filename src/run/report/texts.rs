//! Texts that the model generated on the way, by prompt and round.

use super::markup::{Element, el};
use super::page::{Size, TableCell, card, heads, numeral, table};
use super::read::Recorded;
use crate::run::Sample;

/// The most texts that are listed.
const MOST_TEXTS: usize = 300;

/// The card of the run's samples; `None` where it kept none.
pub fn samples(run: &Recorded) -> Option<Element> {
    let all = &run.samples;
    if all.is_empty() {
        return None;
    }
    let mut prompts: Vec<(usize, &str)> = vec![];
    for Sample { model, prompt, .. } in all {
        if !prompts.contains(&(*model, prompt)) && prompts.len() < MOST_TEXTS {
            prompts.push((*model, prompt));
        }
    }
    let each = MOST_TEXTS / prompts.len();
    let rows = prompts.iter().flat_map(|(model, prompt)| {
        let own = all.iter().filter(|s| s.model == *model && s.prompt == *prompt);
        let own: Vec<&Sample> = own.collect();
        spread(own.len(), each).into_iter().map(move |i| row(own[i])).collect::<Vec<_>>()
    });
    let rows: Vec<Vec<TableCell>> = rows.collect();
    let mut said = "What followed each prompt, by round.".to_owned();
    if rows.len() < all.len() {
        said +=
            &format!(" Listed are {} of {}; metrics.jsonl has them all.", rows.len(), all.len());
    }
    let table = table("samples", &heads(["prompt", "round", "text"]), rows);
    Some(card(Size::Whole, "Samples", [el("p").class("said").text(said), table]))
}

fn row(sample: &Sample) -> Vec<TableCell> {
    let text = TableCell::Long(sample.text.trim().to_owned());
    vec![TableCell::Text(sample.prompt.clone()), numeral(sample.round as f64), text]
}

/// At most `most` numbers below `count`, evenly apart, the first and the last among them.
fn spread(count: usize, most: usize) -> Vec<usize> {
    let most = most.max(2);
    if count <= most {
        return (0..count).collect();
    }
    (0..most).map(|i| i * (count - 1) / (most - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_are_among_those_shown() {
        assert_eq!(
            (spread(3, 5), spread(101, 3), spread(5, 1)),
            (vec![0, 1, 2], vec![0, 50, 100], vec![0, 4])
        );
    }
}
