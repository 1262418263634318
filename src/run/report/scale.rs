//! Numbers on paper: how they are written, where ticks lie, which place a value has.

/// Values from `low` to `high` at places from `from` to `to`, and the ticks between.
#[derive(Clone, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    pub ticks: Vec<f64>,
}

impl Scale {
    /// A scale over `values`, widened to the next ticks.
    pub fn round(values: impl IntoIterator<Item = f64>, places: (f64, f64), most: usize) -> Self {
        let (low, high) = range(values);
        let step = step(low, high, most, false);
        Self::new((low / step).floor() * step, (high / step).ceil() * step, step, places)
    }

    /// A scale of counts from 0 to the largest of `values`, with ticks at whole numbers.
    pub fn counts(values: impl IntoIterator<Item = f64>, places: (f64, f64), most: usize) -> Self {
        let (_, high) = range(values.into_iter().chain([0.0, 1.0]));
        Self::new(0.0, high, step(0.0, high, most, true), places)
    }

    fn new(low: f64, high: f64, step: f64, (from, to): (f64, f64)) -> Self {
        // A little room for what rounding does to the last tick.
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        let ticks =
            (0..=((last - first) as usize).min(20)).map(|i| (first + i as f64) * step).collect();
        Self { low, high, from, to, ticks }
    }

    /// The place of `value`, in units of the drawing.
    pub fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

/// The least and the greatest of `values`, a little apart where they are one.
fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .into_iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        (0.0, 1.0)
    } else if high - low > 1e-9 * high.abs().max(low.abs()) {
        (low, high)
    } else {
        let room = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
        (low - room, high + room)
    }
}

/// The distance of at most about `most` ticks: 1, 2 or 5 times a power of ten.
fn step(low: f64, high: f64, most: usize, whole: bool) -> f64 {
    let raw = (high - low) / most as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|n| n * power)
        .find(|s| *s >= raw * (1.0 - 1e-9))
        .unwrap_or(raw);
    if whole { step.max(1.0).round() } else { step }
}

/// Six significant digits at most, in the form that is shortest to read.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        let text = format!("{value:.5e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trimmed(digits));
    }
    let decimals = if size == 0.0 { 0 } else { (5 - size.log10().floor() as i32).clamp(0, 9) };
    let text = trimmed(&format!("{value:.*}", decimals as usize)).to_owned();
    text.replacen('-', "−", 1)
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let got =
            [0.0, 1.0, -0.25, 2.5000004, 0.1 + 0.2, 3e-3, 2e-5, -1.5e-7, 123_456.0, 1e7, 1.25e9]
                .map(number);
        assert_eq!(
            got,
            [
                "0", "1", "−0.25", "2.5", "0.3", "0.003", "2e-5", "-1.5e-7", "123456", "1e7",
                "1.25e9"
            ]
        );
    }

    #[test]
    fn ticks_are_round_numbers_that_hold_all_values() {
        let scale = Scale::round([0.23, 0.87], (100.0, 0.0), 5);
        assert_eq!(
            scale.ticks.iter().copied().map(number).collect::<Vec<_>>(),
            ["0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!((scale.at(0.2), scale.at(1.0)), (100.0, 0.0));
        let counts = Scale::counts([3.0], (0.0, 30.0), 8);
        assert_eq!((counts.ticks.len(), counts.at(3.0)), (4, 30.0));
        for values in [
            vec![],
            vec![0.0],
            vec![5.0, 5.0],
            vec![-1e99, 1e99],
            vec![1e15, 1e15 + 0.001],
            vec![1e-90],
        ] {
            let scale = Scale::round(values.clone(), (0.0, 1.0), 5);
            assert!((2..=12).contains(&scale.ticks.len()), "{values:?}: {:?}", scale.ticks);
            assert!(
                values.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(&scale.at(*v))),
                "{values:?}"
            );
        }
    }
}
