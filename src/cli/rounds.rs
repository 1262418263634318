//! How many rounds are done, and how long those left will take.

/// Rounds of a run; times are seconds since the process began.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// Those that the recipe asks for.
    pub total: Option<usize>,
    pub done: usize,
    /// Those that an earlier process did.
    recalled: usize,
    /// When training began, and when the last round ended.
    began: Option<f64>,
    ended: f64,
}

impl Rounds {
    pub fn of(&mut self, total: usize) {
        self.total = Some(total).filter(|&n| n > 0);
    }

    pub fn begin(&mut self, now: f64) {
        self.began.get_or_insert(now);
    }

    pub fn end(&mut self, now: f64) {
        self.begin(now);
        self.done += 1;
        self.ended = now;
    }

    /// Counts a round that took this process no time.
    pub fn recall(&mut self) {
        self.done += 1;
        self.recalled += 1;
    }

    /// `round 24 of 64`
    pub fn shown(&self) -> String {
        let of = self.total.map_or(String::new(), |total| format!(" of {}", total.max(self.done)));
        format!("round {}{of}", self.done)
    }

    /// Time until all rounds are done, if they take as long as those that this process did:
    /// `25 s left`.
    pub fn left(&self, now: f64) -> Option<String> {
        let open = self.total?.checked_sub(self.done).filter(|&open| open > 0)?;
        let timed = self.done.checked_sub(self.recalled).filter(|&timed| timed > 0)?;
        let each = (self.ended - self.began?) / timed as f64;
        let left = (open as f64 * each - (now - self.ended)).max(0.0);
        Some(format!("{} left", coarse(left)))
    }
}

/// A time as exact as a guess is.
fn coarse(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5400 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_an_earlier_process_tell_nothing_of_time() {
        let mut rounds = Rounds::default();
        rounds.of(64);
        (0..16).for_each(|_| rounds.recall());
        assert_eq!((rounds.shown().as_str(), rounds.left(5.0)), ("round 16 of 64", None));
        rounds.begin(10.0);
        rounds.end(20.0);
        rounds.end(30.0);
        assert_eq!(rounds.shown(), "round 18 of 64");
        assert_eq!(rounds.left(35.0).as_deref(), Some("8 min left"));
        (0..46).for_each(|_| rounds.end(40.0));
        assert_eq!((rounds.shown().as_str(), rounds.left(40.0)), ("round 64 of 64", None));
        rounds.end(41.0);
        assert_eq!(rounds.shown(), "round 65 of 65");
    }

    #[test]
    fn guesses_are_coarse() {
        assert_eq!(
            [0.4, 89.0, 91.0, 3600.0, 9000.0].map(coarse),
            ["0 s", "89 s", "2 min", "60 min", "2 h 30 min"]
        );
    }
}
