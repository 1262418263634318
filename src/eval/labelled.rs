//! What a head says of whole sequences: the class or the choice with the largest logit, or a number
//! (GLUE, Wang et al. 2019).

use anyhow::Result;
use candle_core::DType;

use super::protocol::judged;
use super::{Measured, Prediction, Protocol, metrics, nll};
use crate::data::{Batch, Example, HeadTask, Says, Wanted};
use crate::model::{Adapter, Model};

/// Logits of each example: of its classes or choices, or its one number. `progress` hears how many
/// are done and may end it with an error. Errors where one is no number.
pub fn logits(
    model: &Model,
    adapter: &Adapter,
    examples: &[Example],
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<(Vec<Vec<f64>>, usize)> {
    let (mut all, mut tokens) = (vec![], 0);
    for some in nll::batches(examples) {
        let batch = Batch::pack(&some.iter().collect::<Vec<_>>())?;
        tokens += batch.ids.len();
        let z = model.logits(&nll::flat(&batch), &batch.rows, adapter)?;
        let mut rows = z.to_dtype(DType::F64)?.to_vec2::<f64>()?.into_iter();
        for example in some {
            let count = example.labelled.as_ref().map_or(1, |labelled| labelled.rows.len());
            let own: Vec<f64> = rows.by_ref().take(count).flatten().collect();
            super::finite(own.iter().sum())?;
            all.push(own);
        }
        progress(all.len())?;
    }
    Ok((all, tokens))
}

/// By [`Protocol::Head`].
pub fn measured(
    model: &Model,
    adapter: &Adapter,
    examples: &[Example],
    task: &HeadTask,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Measured> {
    let (logits, tokens) = logits(model, adapter, examples, progress)?;
    let wanted = examples.iter().filter_map(|example| Some(&example.labelled.as_ref()?.wanted));
    if task.says == Says::Number {
        let number = |wanted: &Wanted| match wanted {
            Wanted::Number(number) => Some(*number),
            _ => None,
        };
        let targets: Vec<f64> = wanted.filter_map(number).collect();
        let said: Vec<f64> = logits.iter().flatten().copied().collect();
        let squares = said.iter().zip(&targets).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let results = [
            ("pearson", metrics::pearson(&said, &targets).into()),
            ("spearman", metrics::spearman(&said, &targets).into()),
            ("mse", (squares / targets.len().max(1) as f64).into()),
            ("items", targets.len().into()),
        ];
        let metrics = Protocol::Head.results(results);
        return Ok(Measured { metrics, tokens, predictions: vec![], scores: logits });
    }
    let label = |wanted: &Wanted| match wanted {
        Wanted::Class(right) | Wanted::Choice(right) => *right as usize,
        Wanted::Number(_) | Wanted::Tokens(_) => 0,
    };
    let predictions: Vec<Prediction> = wanted
        .map(label)
        .zip(&logits)
        .map(|(label, z)| Prediction { label, predicted: largest(z), text: None })
        .collect();
    let names = if let Says::Class(labels) = &task.says { labels.as_slice() } else { &[] };
    // Choices of an item have no names in common.
    let shared = examples.iter().map(|_| names).filter(|names| !names.is_empty());
    let metrics = Protocol::Head.results(judged(None, shared, &predictions));
    Ok(Measured { metrics, tokens, predictions, scores: logits })
}

/// The index of the largest, the first of equals.
fn largest(z: &[f64]) -> Option<usize> {
    (0..z.len()).reduce(|best, i| if z[i] > z[best] { i } else { best })
}
