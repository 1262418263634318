//! Fewer points than were recorded: averages over stretches, and a line through noise.

use super::curves::sure;
use super::line::{ChartLine, LineForm};
use crate::run::sweep::PointGroup;

/// The least steps that a smoothed point is the mean of, where there are so many.
const LEAST: usize = 5;

/// At most `most` points, each the average of as many neighbours as the others, give or take one.
/// Also says of how many at most.
pub fn thinned(points: &[(f64, f64)], most: usize) -> (Vec<(f64, f64)>, usize) {
    let each = points.len().div_ceil(most).max(1);
    let count = points.len().div_ceil(each);
    let mean = |i: usize| {
        let part = &points[i * points.len() / count..(i + 1) * points.len() / count];
        let n = part.len() as f64;
        let (x, y) = part.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        (x / n, y / n)
    };
    ((0..count).map(mean).collect(), each)
}

/// The average of each point with its neighbours, a twentieth of all points together and at least
/// five. Near an end it is that of the first or last so many: no average is of fewer, which would
/// show the noise of a single batch as a rise or fall. Also says over how many.
pub fn smoothed(points: &[(f64, f64)]) -> (Vec<(f64, f64)>, usize) {
    let over = (points.len() / 40 * 2 + 1).max(LEAST).min(points.len());
    // Sums from the start, so that a long run takes no longer than its length.
    let mut sums = vec![0.0];
    for (i, (_, y)) in points.iter().enumerate() {
        sums.push(sums[i] + y);
    }
    let mean = |(i, (x, _)): (usize, &(f64, f64))| {
        let from = i.saturating_sub(over / 2).min(points.len() - over);
        (*x, (sums[from + over] - sums[from]) / over as f64)
    };
    (points.iter().enumerate().map(mean).collect(), over)
}

/// A line whose points have no errors.
pub fn sure_line(name: String, look: usize, form: LineForm, points: &[(f64, f64)]) -> ChartLine {
    ChartLine { name, look, form, points: sure(points) }
}

/// The numbers of at most `most` groups, in order: where there are more, the best.
pub fn best_first(groups: &[PointGroup], smaller: bool, most: usize) -> Vec<usize> {
    let sign = if smaller { -1.0 } else { 1.0 };
    let value = |i: &usize| groups[*i].mean.map_or(f64::NEG_INFINITY, |mean| sign * mean);
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    order.truncate(most);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|i| (i as f64, 2.0 * i as f64)).collect()
    }

    #[test]
    fn few_points_stay_and_many_are_averaged() {
        assert_eq!(thinned(&line(400), 400), (line(400), 1));
        let (thin, each) = thinned(&line(1001), 400);
        assert_eq!((thin.len(), each, thin[0]), (334, 3, (0.5, 1.0)));
        // The last is of as many as the others.
        assert_eq!(thin[333], (999.0, 1998.0));
        assert_eq!(thinned(&[], 400), (vec![], 1));
    }

    #[test]
    fn a_straight_line_is_smooth() {
        let (smooth, over) = smoothed(&line(80));
        assert_eq!((&smooth[2..78], over), (&line(80)[2..78], 5));
        let zigzag: Vec<_> = (0..120).map(|i| (i as f64, (i % 2) as f64)).collect();
        let (smooth, over) = smoothed(&zigzag);
        assert_eq!((over, smooth[0].1, smooth[60].1), (7, 3.0 / 7.0, 4.0 / 7.0));
        assert_eq!(smoothed(&line(3)).0, [0.0, 1.0, 2.0].map(|x| (x, 2.0)));
        assert_eq!(smoothed(&[]).0, []);
    }

    #[test]
    fn one_wild_batch_at_an_end_is_no_spike() {
        let mut losses: Vec<_> = (0..200).map(|i| (i as f64, 0.85)).collect();
        for wild in [0, 199] {
            losses[wild].1 = 2.18;
        }
        let (smooth, over) = smoothed(&losses);
        assert_eq!(over, 11);
        assert!(smooth.iter().all(|(_, y)| (y - 0.85).abs() < 1.33 / 11.0 + 1e-9), "{smooth:?}");
    }
}
