//! A day of the calendar, for chat templates that write one (`strftime_now`).

use anyhow::Result;
use time::Month;

use crate::error::{bail, error};

/// Directives of `strftime` that give the same at midnight of any day.
const CONSTANT: [(&str, &str); 10] = [
    ("HMS", "00"),
    ("I", "12"),
    ("p", "AM"),
    ("TX", "00:00:00"),
    ("R", "00:00"),
    ("f", "000000"),
    ("zZ", ""),
    ("n", "\n"),
    ("t", "\t"),
    ("%", "%"),
];

/// A day, at midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(time::Date);

impl Date {
    /// A day as `YYYY-MM-DD`. Errors (class usage): another text, or a day that no calendar has.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split('-');
        let date = (digits(parts.next(), 4), digits(parts.next(), 2), digits(parts.next(), 2));
        if let ((Some(year), Some(month), Some(day)), None) = (date, parts.next())
            && let Ok(month) = Month::try_from(month as u8)
            && let Ok(date) = time::Date::from_calendar_date(year.into(), month, day as u8)
        {
            return Ok(Self(date));
        }
        Err(error!(Usage, "`{text}` is no date"; hint: "a date is YYYY-MM-DD, as 2026-01-31")
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
                bail!(Data, "`{pattern}` asks of a date what is not known here");
            };
            out.push_str(if bare && text.len() > 1 { text.trim_start_matches('0') } else { &text });
            if bare && !text.is_empty() && text.bytes().all(|byte| byte == b'0') && text.len() > 1 {
                out.push('0');
            }
        }
        Ok(out)
    }

    fn directive(self, directive: char) -> Option<String> {
        if let Some((_, text)) = CONSTANT.iter().find(|(known, _)| known.contains(directive)) {
            return Some((*text).to_owned());
        }
        let Self(date) = self;
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (name, weekday) = (date.month().to_string(), date.weekday());
        let weekday_name = weekday.to_string();
        Some(match directive {
            'Y' => format!("{year:04}"),
            'y' => format!("{:02}", year % 100),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'e' => format!("{day:>2}"),
            'j' => format!("{:03}", date.ordinal()),
            'B' => name,
            'b' | 'h' => name[..3].to_owned(),
            'A' => weekday_name,
            'a' => weekday_name[..3].to_owned(),
            'F' => format!("{year:04}-{month:02}-{day:02}"),
            'D' | 'x' => format!("{month:02}/{day:02}/{:02}", year % 100),
            'w' => weekday.number_days_from_sunday().to_string(),
            'u' => weekday.number_from_monday().to_string(),
            'c' => format!("{} {} {day:>2} 00:00:00 {year:04}", &weekday_name[..3], &name[..3]),
            _ => return None,
        })
    }
}

/// A number of exactly so many digits.
fn digits(part: Option<&str>, count: usize) -> Option<u16> {
    let part = part.filter(|p| p.len() == count && p.bytes().all(|b| b.is_ascii_digit()))?;
    part.parse().ok()
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
