//! `xgbrun ask RUN QUESTION`.

use std::fmt::Write as _;
use std::io::{Write as _, stdout};

use anyhow::Result;

use super::args::AskArgs;
use super::console;
use super::interrupt::INTERRUPTED;
use super::places;
use crate::data::item::Instruction;
use crate::data::{Published, Template, ask};
use crate::error::bail;
use crate::run::FinishedRun;
use crate::session::{Console, Guard, Limits, Model, Progress, Reply, Session, plain, winner};
use crate::source::Date;

pub fn run(args: &AskArgs) -> Result<()> {
    let guard = Guard::new(&Limits::endless(), &INTERRUPTED);
    let console = console::console(args.compute.quiet);
    let kept = FinishedRun::open(&args.run)?;
    let places = places::of_model(&kept, &args.param)?;
    let rounds = rounds(&args.rounds, kept.ensemble.rounds())?;
    let boosters = kept.boosters();
    let date = args.date.as_deref().map(Date::parse).transpose()?;
    let settings = args.compute.settings_as(&kept.manifest.dtype, places)?;
    let session = Session::unrecorded(settings, guard, console.clone());
    let model = session.base_of_run(&kept, date)?;
    let (question, template) = asked(args, &kept, &model, &*console)?;
    let prompt = model.question(&question, template, args.max_tokens as usize)?;
    let last = if question.choices.is_empty() {
        rounds.last().copied().unwrap_or(0)
    } else {
        boosters.len()
    };
    let mut answers = vec![];
    let mut layers = vec![];
    for round in 0..=last {
        session.guard.check()?;
        if let Some((path, weight)) = round.checked_sub(1).and_then(|i| boosters.get(i)) {
            layers.push(model.add_booster(path, *weight)?);
            if round == boosters.len() {
                model.agrees(&kept)?;
            }
        }
        if !question.choices.is_empty() || rounds.contains(&round) {
            answers.push((round, model.answer(&prompt)?));
        }
        let (done, total) = (round as u64, last as u64);
        console.progress(&Progress {
            what: "ask: round".into(),
            done,
            total,
            detail: String::new(),
        });
    }
    drop(console);
    let mut out = table(&question, &rounds, &answers);
    out += &turn(&question, &answers, &layers);
    Ok(stdout().write_all(out.as_bytes())?)
}

/// The question, and how it is worded. Errors (class usage): an option that the model does not
/// follow.
fn asked(
    args: &AskArgs,
    kept: &FinishedRun,
    model: &Model,
    console: &dyn Console,
) -> Result<(Instruction, Template)> {
    let judges = model.judges();
    if args.pair.is_some() && (!judges || model.says_choices()) {
        bail!(Usage, "`--pair` is for a model whose head says something of a text or two");
    }
    let template = match (&args.template, kept.manifest.template.as_deref()) {
        (Some(name), _) => Template::parse(name)?,
        (None, Some("recipe")) if judges => {
            console.note(
                "the run was trained with its recipe's own template, which words records; the text \
                 is taken for what it makes of one, with `--pair` for a second",
            );
            Template::None
        }
        (None, Some(name)) if name == "recipe" || Published::find(name).is_some() => {
            console.note(
                "the run was trained with a template that words records; the question is worded by \
                 `alpaca`",
            );
            Template::Alpaca
        }
        (None, Some(name)) => Template::parse(name)?,
        (None, None) => Template::Alpaca,
    };
    let question = match judges && !model.says_choices() {
        true => ask::judged(&args.question, args.pair.as_deref(), model.labels()),
        false => ask::question(&args.question),
    };
    if model.says_choices() && question.choices.is_empty() {
        bail!(
            Usage,
            "the model's head chooses among choices, and the question names none";
            hint: "for example `Which is cold? Answer1: fire Answer2: snow`"
        );
    }
    Ok((question, template))
}

/// The rounds to ask after, ascending. Errors (class usage): one beyond the boosters.
fn rounds(asked: &[usize], boosters: usize) -> Result<Vec<usize>> {
    if let Some(round) = asked.iter().find(|round| **round > boosters) {
        bail!(Usage, "the run has no round {round}: it merged {boosters} boosters");
    }
    let mut rounds =
        if asked.is_empty() { vec![0, boosters / 2, boosters] } else { asked.to_vec() };
    rounds.sort_unstable();
    rounds.dedup();
    Ok(rounds)
}

fn label(round: usize) -> String {
    if round == 0 { "base".into() } else { format!("round {round}") }
}

/// As [`label`], within a sentence.
fn named(round: usize) -> String {
    if round == 0 { "the base".into() } else { label(round) }
}

/// Of choices a table with a column a round, the winners marked by `*`; of texts one below the
/// other.
fn table(question: &Instruction, rounds: &[usize], answers: &[(usize, Reply)]) -> String {
    let shown: Vec<&(usize, Reply)> =
        answers.iter().filter(|(round, _)| rounds.contains(round)).collect();
    let mut out = String::new();
    if question.choices.is_empty() {
        for (round, answer) in shown {
            if let Reply::Text(text) = answer {
                let text = if text.is_empty() {
                    "(nothing)".into()
                } else {
                    plain(text).replace('\n', "\n    ")
                };
                let _ = writeln!(out, "{}\n    {text}", label(*round));
            }
        }
        return out;
    }
    let width = question.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let columns: Vec<String> =
        shown.iter().map(|(round, _)| format!("{:>10}", label(*round))).collect();
    let _ = writeln!(out, "{:width$}  {}", "", columns.join("  "));
    for (i, name) in question.names.iter().enumerate() {
        let cell = |(_, answer): &&(usize, Reply)| match answer {
            Reply::Shares(shares) => {
                let mark = if winner(shares) == i { "* " } else { "" };
                format!("{:>10}", format!("{mark}{:.1} %", 100.0 * shares[i]))
            }
            Reply::Text(_) => String::new(),
        };
        let cells: Vec<String> = shown.iter().map(cell).collect();
        let _ = writeln!(out, "{:<width$}  {}", plain(name), cells.join("  "));
    }
    out
}

/// From which round on the answer is always that of the last; `layers` are those of each booster.
fn turn(question: &Instruction, answers: &[(usize, Reply)], layers: &[Vec<usize>]) -> String {
    let Some((_, last)) = answers.last() else { return String::new() };
    let kept = answers.iter().rev().take_while(|(_, answer)| answer.same(last)).count();
    let (before, after) = answers.split_at(answers.len() - kept);
    let (Some((was, earlier)), Some((round, _))) = (before.last(), after.first()) else {
        return if answers.len() > 1 {
            format!("the answer is the same from {} on\n", named(answers[0].0))
        } else {
            String::new()
        };
    };
    match (earlier, last) {
        (Reply::Shares(earlier), Reply::Shares(last)) => {
            let name = |shares: &[f64]| {
                question.names.get(winner(shares)).map(|n| plain(n)).unwrap_or_default()
            };
            let layers =
                layers.get(round - 1).map(|l| format!(", on layers {l:?}")).unwrap_or_default();
            format!(
                "the answer turned from `{}` to `{}` with booster {round}{layers}, and stayed\n",
                name(earlier),
                name(last)
            )
        }
        _ => {
            format!(
                "of the rounds asked, the answer is that of the last from {} on; after {} it was \
                 another\n",
                named(*round),
                named(*was)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_in_order_and_exist() {
        assert_eq!(rounds(&[], 64).unwrap(), [0, 32, 64]);
        assert_eq!(rounds(&[], 1).unwrap(), [0, 1]);
        assert_eq!(rounds(&[5, 0, 5], 5).unwrap(), [0, 5]);
        assert_eq!(
            rounds(&[6], 5).unwrap_err().to_string(),
            "the run has no round 6: it merged 5 boosters"
        );
    }

    #[test]
    fn shares_are_a_table_and_the_turn_is_told() {
        let question = ask::question("Which? Answer1: a Answer2: b");
        let shares = |a: f64| Reply::Shares(vec![a, 1.0 - a]);
        let answers: Vec<(usize, Reply)> =
            [0.6, 0.4, 0.7, 0.3, 0.2].into_iter().map(shares).enumerate().collect();
        let want = "               base     round 2     round 4\n\
                    answer1    * 60.0 %    * 70.0 %      20.0 %\n\
                    answer2      40.0 %      30.0 %    * 80.0 %\n";
        assert_eq!(table(&question, &[0, 2, 4], &answers), want);
        let layers = vec![vec![0], vec![1], vec![2, 5], vec![3]];
        let turned = "the answer turned from `answer1` to `answer2` with booster 3, on layers [2, \
                      5], and stayed\n";
        assert_eq!(turn(&question, &answers, &layers), turned);
        assert_eq!(
            turn(&question, &answers[3..], &layers),
            "the answer is the same from round 3 on\n"
        );
        assert_eq!(turn(&question, &answers[4..], &layers), "");
    }

    #[test]
    fn texts_stand_below_each_other_and_steer_no_terminal() {
        let question = ask::question("why?");
        let text = |text: &str| Reply::Text(text.into());
        let answers = [(0, text("")), (2, text("a\n\u{1b}b")), (4, text("a\n\u{1b}b"))];
        let want =
            "base\n    (nothing)\nround 2\n    a\n    \\u{1b}b\nround 4\n    a\n    \\u{1b}b\n";
        assert_eq!(table(&question, &[0, 2, 4], &answers), want);
        let turned = "of the rounds asked, the answer is that of the last from round 2 on; after \
                      the base it was another\n";
        assert_eq!(turn(&question, &answers, &[]), turned);
    }
}
