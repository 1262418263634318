//! Measures of predictions against what is right: accuracy, F1, Matthews correlation; Pearson's and
//! Spearman's correlations of numbers. An undefined one is 0, as in scikit-learn.

/// The share of predictions that are right; a prediction of `None` is wrong.
pub fn accuracy(labels: &[usize], predicted: &[Option<usize>]) -> f64 {
    let right = labels
        .iter()
        .zip(predicted)
        .filter(|(label, predicted)| Some(**label) == **predicted)
        .count();
    ratio(right as f64, labels.len() as f64)
}

/// Standard error of a share `p` of `n` items, √(p (1 − p) / n).
pub fn standard_error(p: f64, n: usize) -> f64 {
    ratio(p * (1.0 - p), n as f64).sqrt()
}

/// F1 of the class `positive`, 2 tp / (2 tp + fp + fn).
pub fn f1(labels: &[usize], predicted: &[Option<usize>], positive: usize) -> f64 {
    let (mut both, mut either) = (0, 0);
    for (&label, &predicted) in labels.iter().zip(predicted) {
        let (truth, found) = (label == positive, predicted == Some(positive));
        both += usize::from(truth && found);
        either += usize::from(truth) + usize::from(found);
    }
    ratio(2.0 * both as f64, either as f64)
}

/// The mean F1 of the classes that occur, as a label or as a prediction; no prediction is none.
pub fn macro_f1(labels: &[usize], predicted: &[Option<usize>]) -> f64 {
    let classes: std::collections::BTreeSet<usize> =
        labels.iter().copied().chain(predicted.iter().copied().flatten()).collect();
    ratio(classes.iter().map(|&class| f1(labels, predicted, class)).sum(), classes.len() as f64)
}

/// Matthews correlation of any number of classes (Gorodkin 2004); no prediction counts as a class
/// of its own: (c s − Σ p t) / √((s² − Σ p²)(s² − Σ t²)), with s items, c of them right, and t_k
/// labels and p_k predictions of class k.
pub fn matthews(labels: &[usize], predicted: &[Option<usize>]) -> f64 {
    let classes = labels
        .iter()
        .copied()
        .chain(predicted.iter().copied().flatten())
        .max()
        .map_or(0, |most| most + 1);
    let (mut t, mut p) = (vec![0f64; classes + 1], vec![0f64; classes + 1]);
    let mut right = 0.0;
    for (&label, &predicted) in labels.iter().zip(predicted) {
        t[label] += 1.0;
        p[predicted.unwrap_or(classes)] += 1.0;
        right += f64::from(u8::from(Some(label) == predicted));
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let s = labels.len() as f64;
    ratio(right * s - dot(&p, &t), ((s * s - dot(&p, &p)) * (s * s - dot(&t, &t))).sqrt())
}

/// Pearson's correlation; 0 where either side does not vary.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| ratio(x.iter().sum(), x.len() as f64);
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += (a - ma) * (b - mb);
        aa += (a - ma) * (a - ma);
        bb += (b - mb) * (b - mb);
    }
    // A mean is rounded: numbers all alike may lie a little beside it.
    let varies = |x: &[f64]| x.iter().any(|v| *v != x[0]);
    if varies(a) && varies(b) { ratio(ab, aa.sqrt() * bb.sqrt()).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Spearman's correlation: Pearson's of the ranks, equal numbers sharing their mean rank.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    pearson(&ranks(a), &ranks(b))
}

/// The rank of every number from 1, equal ones at the mean of their places.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut out = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let rank = start as f64 + (group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|&i| out[i] = rank);
        start += group.len();
    }
    out
}

/// a / b, and 0 where that is undefined.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
    }

    #[test]
    fn two_classes_by_hand() {
        // tp 2, fp 1, fn 1, tn 2 for class 1.
        let labels = [1, 1, 1, 0, 0, 0];
        let predicted = [1, 1, 0, 1, 0, 0].map(Some);
        close(accuracy(&labels, &predicted), 4.0 / 6.0);
        close(standard_error(0.5, 100), 0.05);
        close(f1(&labels, &predicted, 1), 2.0 / 3.0);
        // (2·2 − 1·1) / √(3·3·3·3)
        close(matthews(&labels, &predicted), 1.0 / 3.0);
        close(macro_f1(&labels, &predicted), 2.0 / 3.0);
        let reversed = [0, 0, 0, 1, 1, 1].map(Some);
        close(matthews(&labels, &reversed), -1.0);
    }

    #[test]
    fn three_classes_by_hand() {
        // F1: class 0 2·2/(2+3), class 1 2·1/(2+1), class 2 2·1/(2+2).
        let labels = [0, 0, 1, 1, 2, 2];
        let predicted = [0, 0, 0, 1, 2, 2].map(Some);
        close(f1(&labels, &predicted, 0), 0.8);
        close(macro_f1(&labels, &predicted), (0.8 + 2.0 / 3.0 + 1.0) / 3.0);
        // c = 5, s = 6, p = (3, 1, 2), t = (2, 2, 2): (30 − 12) / √((36 − 14)(36 − 12)).
        close(matthews(&labels, &predicted), 18.0 / (22.0f64 * 24.0).sqrt());
    }

    #[test]
    fn no_prediction_is_wrong_and_no_class() {
        let labels = [0, 0, 1, 1];
        let predicted = [Some(0), None, Some(1), Some(1)];
        close(accuracy(&labels, &predicted), 0.75);
        close(f1(&labels, &predicted, 0), 2.0 / 3.0);
        close(macro_f1(&labels, &predicted), (2.0 / 3.0 + 1.0) / 2.0);
        // p = (1, 2, 1), t = (2, 2, 0): (12 − 6) / √((16 − 6)(16 − 8)).
        close(matthews(&labels, &predicted), 6.0 / 80f64.sqrt());
    }

    #[test]
    fn correlations_by_hand() {
        close(pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), 1.0);
        close(pearson(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]), 0.8);
        close(spearman(&[1.0, 10.0, 100.0], &[3.0, 2.0, 1.0]), -1.0);
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 7.0]), [2.5, 1.0, 2.5, 4.0]);
        // Ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): 4.5 / √(4.5 · 5).
        close(spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]), 4.5 / 22.5f64.sqrt());
    }

    #[test]
    fn what_is_undefined_is_zero() {
        for value in [
            accuracy(&[], &[]),
            standard_error(0.0, 0),
            standard_error(1.0, 5),
            f1(&[0, 0], &[Some(0), Some(0)], 1),
            macro_f1(&[], &[]),
            matthews(&[], &[]),
            matthews(&[0, 1], &[Some(0), Some(0)]),
            matthews(&[1, 1], &[Some(1), Some(1)]),
            matthews(&[0, 1], &[None, None]),
            pearson(&[], &[]),
            pearson(&[1.0], &[2.0]),
            pearson(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]),
            spearman(&[1.0, 2.0], &[3.0, 3.0]),
        ] {
            assert_eq!(value, 0.0);
        }
    }
}
