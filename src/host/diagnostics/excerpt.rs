//! The source line with a caret.

use std::fmt;

use super::Place;
use crate::session::plain;

/// How much of a long line is shown.
const WIDTH: usize = 120;

/// Writes where, the line, and carets with a note behind them:
/// ```text
///  ──▶ recipes/commonsense.rhai:12:25
/// 12 │     let booster = model.boster(#{ rank: 1 });
///    │                         ^^^^^^ a note
/// ```
pub(super) fn write(f: &mut fmt::Formatter<'_>, place: &Place, note: &str) -> fmt::Result {
    let number = place.line.to_string();
    let margin = number.len() + 1;
    let chars: Vec<char> = place.text.chars().collect();
    let at = place.column.saturating_sub(1).min(chars.len());
    let length = token(&chars[at..]);
    // A long line is cut to a window around the column.
    let from = if chars.len() > WIDTH { at.saturating_sub(WIDTH / 2) } else { 0 };
    let to = chars.len().min(from + WIDTH);
    let show = |range: &[char]| plain(&range.iter().collect::<String>());
    let (before, line) = (show(&chars[from..at.min(to)]), show(&chars[from..to]));
    let (left, right) = (if from > 0 { "…" } else { "" }, if to < chars.len() { "…" } else { "" });
    let pad = " ".repeat(before.chars().count() + left.chars().count());
    let carets = "^".repeat(show(&chars[at..(at + length).min(to)]).chars().count().max(1));
    writeln!(
        f,
        "{:>width$} {}:{}:{}",
        "──▶",
        plain(&place.source),
        place.line,
        place.column,
        width = margin + 1
    )?;
    writeln!(f, "{number} │ {}", format!("{left}{line}{right}").trim_end())?;
    writeln!(f, "{:margin$}│ {}", "", format!("{pad}{carets} {note}").trim_end())
}

/// Length of the token that `text` begins with: a word, a number, a string or one sign.
fn token(text: &[char]) -> usize {
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    match text.first() {
        None => 0,
        Some(c) if word(c) => text.iter().take_while(|c| word(c)).count(),
        Some(quote @ ('"' | '`' | '\'')) => {
            let mut escaped = false;
            for (i, c) in text.iter().enumerate().skip(1) {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    c if c == quote => return i + 1,
                    _ => {}
                }
            }
            1
        }
        Some(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown(Place, &'static str);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write(f, &self.0, self.1)
        }
    }

    fn shown(text: &str, line: usize, column: usize) -> String {
        Shown(Place { source: "r.rhai".into(), line, column, text: text.into() }, "note")
            .to_string()
    }

    #[test]
    fn carets_lie_under_the_token() {
        assert_eq!(
            shown("let ü = foo(1);", 7, 9),
            "──▶ r.rhai:7:9\n7 │ let ü = foo(1);\n  │         ^^^ note\n"
        );
        assert_eq!(
            shown("\tfoo(\"a b\");", 12, 6),
            " ──▶ r.rhai:12:6\n12 │     foo(\"a b\");\n   │         ^^^^^ note\n"
        );
        assert_eq!(shown("x", 120, 9), "  ──▶ r.rhai:120:9\n120 │ x\n    │  ^ note\n");
    }

    #[test]
    fn a_long_line_is_cut_and_control_characters_are_shown() {
        let text = format!("{}\u{1b}bad{}", "a".repeat(200), "b".repeat(200));
        let shown = shown(&text, 1, 202);
        assert!(shown.lines().all(|l| l.chars().count() < WIDTH + 20), "{shown}");
        assert!(
            shown.contains("…aaa") && shown.contains("\\u{1b}bad") && shown.contains("bbb…"),
            "{shown}"
        );
    }
}
