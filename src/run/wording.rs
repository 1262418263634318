//! Numbers as people read them.

/// A number with its thousands apart: `294 912`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(" ")
}

/// A time in the units that suit it: `3.2 s`, `2 min 5 s`, `2 h 1 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => format!("{seconds:.1} s"),
        (0, minutes) => format!("{minutes} min {} s", whole % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_easy_to_read() {
        assert_eq!(
            [7, 4608, 294_912, 1_000_000].map(grouped),
            ["7", "4 608", "294 912", "1 000 000"]
        );
        assert_eq!(
            [3.24, 59.96, 125.0, 7260.0].map(duration),
            ["3.2 s", "1 min 0 s", "2 min 5 s", "2 h 1 min"]
        );
    }
}
