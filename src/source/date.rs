//! A day of the calendar, for chat templates that write one (`strftime_now`).

use anyhow::Result;

use crate::error::Error;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A day, at midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: u32,
    month: u32,
    day: u32,
}

impl Date {
    /// A day as `YYYY-MM-DD`. Errors (class usage): another text, or a day that no calendar has.
    pub fn parse(text: &str) -> Result<Self> {
        let digits = |part: &str, count: usize| {
            part.parse()
                .ok()
                .filter(|_| part.len() == count && part.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut parts = text.split('-');
        let mut next = |count| parts.next().and_then(|part| digits(part, count));
        let date = (next(4), next(2), next(2));
        if let ((Some(year), Some(month), Some(day)), None) = (date, parts.next()) {
            let date = Self { year, month, day };
            if (1..=12).contains(&month) && day >= 1 && day <= date.days_of(month) {
                return Ok(date);
            }
        }
        Err(Error::usage(format!("`{text}` is no date"))
            .hint("a date is YYYY-MM-DD, as 2026-01-31")
            .into())
    }

    /// The date in the writing of Python's `strftime`, in English. The time of day is midnight.
    ///
    /// Errors (class data), without a place: a directive that is not known.
    pub fn format(self, pattern: &str) -> Result<String> {
        let mut out = String::new();
        let mut letters = pattern.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                out.push(letter);
                continue;
            }
            let mut directive = letters.next();
            let bare = directive == Some('-');
            if bare {
                directive = letters.next();
            }
            let Some(text) = directive.and_then(|directive| self.directive(directive)) else {
                return Err(Error::data(format!(
                    "`{pattern}` asks of a date what is not known here"
                ))
                .into());
            };
            out.push_str(if bare && text.len() > 1 { text.trim_start_matches('0') } else { &text });
            if bare && !text.is_empty() && text.bytes().all(|byte| byte == b'0') && text.len() > 1 {
                out.push('0');
            }
        }
        Ok(out)
    }

    fn directive(self, directive: char) -> Option<String> {
        let Self { year, month, day } = self;
        let (name, weekday) = (MONTHS[month as usize - 1], DAYS[self.weekday()]);
        let of_year = (1..month).map(|month| self.days_of(month)).sum::<u32>() + day;
        Some(match directive {
            'Y' => format!("{year:04}"),
            'y' => format!("{:02}", year % 100),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'e' => format!("{day:>2}"),
            'j' => format!("{of_year:03}"),
            'B' => name.to_owned(),
            'b' | 'h' => name[..3].to_owned(),
            'A' => weekday.to_owned(),
            'a' => weekday[..3].to_owned(),
            'F' => format!("{year:04}-{month:02}-{day:02}"),
            'D' | 'x' => format!("{month:02}/{day:02}/{:02}", year % 100),
            'w' => ((self.weekday() + 1) % 7).to_string(),
            'u' => (self.weekday() + 1).to_string(),
            'H' | 'M' | 'S' => "00".to_owned(),
            'I' => "12".to_owned(),
            'p' => "AM".to_owned(),
            'T' | 'X' => "00:00:00".to_owned(),
            'R' => "00:00".to_owned(),
            'c' => format!("{} {} {day:>2} 00:00:00 {year:04}", &weekday[..3], &name[..3]),
            'f' => "000000".to_owned(),
            'z' | 'Z' => String::new(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }

    fn days_of(self, month: u32) -> u32 {
        let leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Days since a Monday, by Zeller's congruence.
    fn weekday(self) -> usize {
        // Year 0 has a year before it here.
        let (year, month) = if self.month < 3 {
            (self.year + 399, self.month + 12)
        } else {
            (self.year + 400, self.month)
        };
        let (of_century, century) = (year % 100, year / 100);
        let saturday = self.day
            + 13 * (month + 1) / 5
            + of_century
            + of_century / 4
            + century / 4
            + 5 * century;
        ((saturday + 5) % 7) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        let date = Date::parse("2024-02-09").unwrap();
        for (pattern, want) in [
            ("%d %b %Y", "09 Feb 2024"),
            ("%d %B %Y", "09 February 2024"),
            ("%B %-d, %Y", "February 9, 2024"),
            ("%Y-%m-%d", "2024-02-09"),
            ("%A %a %j %y 100%%", "Friday Fri 040 24 100%"),
            ("%H:%M:%S %-H", "00:00:00 0"),
            ("%c|%x|%w%u", "Fri Feb  9 00:00:00 2024|02/09/24|55"),
        ] {
            assert_eq!(date.format(pattern).unwrap(), want, "{pattern}");
        }
        assert!(date.format("%Q").is_err() && date.format("%").is_err());
        for (text, day) in [
            ("2000-01-01", "Saturday"),
            ("1999-12-31", "Friday"),
            ("2026-11-30", "Monday"),
            ("1900-03-01", "Thursday"),
        ] {
            assert_eq!(Date::parse(text).unwrap().format("%A").unwrap(), day, "{text}");
        }
    }

    #[test]
    fn days_that_no_calendar_has_are_refused() {
        for text in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-1-1",
            "24-01-01",
            "2024-01-01-01",
            "today",
            "",
            "2024-+1-01",
        ] {
            assert!(Date::parse(text).is_err(), "{text}");
        }
        Date::parse("2024-02-29").unwrap();
    }
}
