//! Fewer points than were recorded: averages over stretches, and a line through noise.

/// At most `most` points, each the average of as many neighbours; the last may be of fewer. Also
/// says of how many.
pub fn thinned(points: &[(f64, f64)], most: usize) -> (Vec<(f64, f64)>, usize) {
    let each = points.len().div_ceil(most).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        let (x, y) = part.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        (x / n, y / n)
    };
    (points.chunks(each).map(mean).collect(), each)
}

/// The average of each point with its neighbours at both sides, as many on the one as on the other:
/// a twentieth of all points together, fewer at the ends. Also says over how many.
pub fn smoothed(points: &[(f64, f64)]) -> (Vec<(f64, f64)>, usize) {
    let half = points.len() / 40;
    // Sums from the start, so that a long run takes no longer than its length.
    let mut sums = vec![0.0];
    for (i, (_, y)) in points.iter().enumerate() {
        sums.push(sums[i] + y);
    }
    let mean = |(i, (x, _)): (usize, &(f64, f64))| {
        let side = half.min(i).min(points.len() - 1 - i);
        let (from, to) = (i - side, i + side + 1);
        (*x, (sums[to] - sums[from]) / (to - from) as f64)
    };
    (points.iter().enumerate().map(mean).collect(), 2 * half + 1)
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
        assert_eq!((thin.len(), each, thin[0], thin[333]), (334, 3, (1.0, 2.0), (999.5, 1999.0)));
        assert_eq!(thinned(&[], 400), (vec![], 1));
    }

    #[test]
    fn a_straight_line_is_smooth() {
        assert_eq!(smoothed(&line(80)), (line(80), 5));
        let zigzag: Vec<_> = (0..120).map(|i| (i as f64, (i % 2) as f64)).collect();
        let (smooth, over) = smoothed(&zigzag);
        assert_eq!((over, smooth[0].1, smooth[60].1), (7, 0.0, 4.0 / 7.0));
        assert_eq!(smoothed(&[]).0, []);
    }
}
