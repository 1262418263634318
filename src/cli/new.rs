//! `xgbrun new NAME`: a recipe to start from.

use std::fs::File;
use std::io::{ErrorKind, Write, stdout};
use std::path::Path;

use anyhow::Result;
use clap::Parser;

use super::starting::Start;
use crate::error::{bail, error};

/// The recipe: it runs as it stands.
const TEMPLATE: &str = include_str!("new.rhai");

/// Its lines that name the example's model and data, and load the data.
const MODEL_LINES: &str = "\
model: \"builtin:micro\",         // or a Hugging Face folder, a GGUF file, a hub id `owner/name`
    data:  \"builtin:microworld\",    // or a folder with train.json and test.json (JSONL, CSV,
                                    // TSV, Parquet as well)
";
const DATA_LINES: &str = "\
let task    = data::load(p.data, #{ template: \"alpaca\" });     // how questions are worded;
                                                               // `xgbrun api data::load`
";

const HELP: &str = "\
The recipe runs as it stands. Comments in it say what to change; `xgbrun api` lists what it can \
call. With a model and data of your own, layers, learning rate, batch and rounds suit their sizes, \
by the table in docs/starting.md.

Examples:
  xgbrun new mine                writes mine.rhai
  xgbrun new recipes/mine.rhai
  xgbrun new mine --model models/smollm2 --data data/ARC-Easy";

/// Write a commented recipe to start from.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun new",
    bin_name = "xgbrun new",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = HELP
)]
pub struct NewArgs {
    /// A file's name or path; `.rhai` is put behind it where it is not there
    #[arg(value_name = "NAME")]
    name: String,
    /// A model to begin with: a Hugging Face folder, a GGUF file or a hub id
    #[arg(long, value_name = "PATH", requires = "data")]
    model: Option<String>,
    /// Data to begin with: a file, a folder or a hub id
    #[arg(long, value_name = "PATH", requires = "model")]
    data: Option<String>,
}

/// Writes the recipe and says what can be done with it.
///
/// Errors (class usage): a name that is none, a file that is there already, a folder that is not
/// there; a model or data that cannot be read.
pub fn run(args: &NewArgs) -> Result<()> {
    let path = path(&args.name)?;
    let (text, given) = match (&args.model, &args.data) {
        (Some(model), Some(data)) => {
            let given = format!(
                " -p {} -p {}",
                word(&format!("model={model}")),
                word(&format!("data={data}"))
            );
            (suited(&Start::of(model, data)?, model, data)?, given)
        }
        _ => (TEMPLATE.to_owned(), String::new()),
    };
    let mut file = File::create_new(&path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => error!(
            Usage,
            "`{path}` exists already";
            hint: "give another name; nothing is overwritten"
        ),
        ErrorKind::NotFound => {
            error!(Usage, "cannot write `{path}`: there is no such folder")
        }
        _ => error!(Usage, "cannot write `{path}`: {e}"),
    })?;
    file.write_all(text.as_bytes())?;
    Ok(stdout().write_all(next(&path, &given).as_bytes())?)
}

/// The file to write.
fn path(name: &str) -> Result<String> {
    let path = if name.ends_with(".rhai") { name.to_owned() } else { format!("{name}.rhai") };
    // A stem of nothing would make a hidden file; a name that ends in `/` names a folder.
    if Path::new(&path).file_stem().is_none_or(|stem| stem == ".rhai")
        || name.is_empty()
        || name.ends_with('/')
    {
        bail!(
            Usage,
            "`{name}` is no name for a recipe; for instance `mine`, or `recipes/mine.rhai`"
        );
    }
    Ok(path)
}

/// The recipe with values that suit a model and data.
fn suited(start: &Start, model: &str, data: &str) -> Result<String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let template = start.template.as_ref().map(|given| format!("template: {given}, "));
    let load =
        format!("data::load(p.data, #{{ {}max_length: 256 }});", template.unwrap_or_default());
    let (rate, split) = (format!("{:e}", start.rate), start.split);
    let changes = [
        (
            MODEL_LINES.to_owned(),
            format!(
                "model: {}, // {}; a path needs `-p model=` too\n    data:  {}, // {}\n",
                quoted(model),
                start.model,
                quoted(data),
                start.data
            ),
        ),
        ("rounds: 64, ".into(), format!("rounds: {}, ", start.rounds)),
        ("steps:  8, ".into(), format!("steps:  {}, ", start.steps)),
        ("layers: 2, ".into(), format!("layers: {}, ", start.layers)),
        (
            "    lr:     1e-3, ".into(),
            format!(
                "    batch:  {},      // examples of a step\n    lr:     {rate}, ",
                start.batch
            ),
        ),
        (DATA_LINES.to_owned(), format!("let task    = {load}  // `xgbrun api data::load`\n")),
        ("steps: p.steps, optimizer".into(), "steps: p.steps, batch: p.batch, optimizer".into()),
        (
            "model.evaluate(task.test);          // the base".into(),
            format!("model.evaluate(task.{split}); // the base"),
        ),
        (
            "model.evaluate(task.test);          // the result".into(),
            format!("model.evaluate(task.{split}); // the result"),
        ),
    ];
    let mut text = TEMPLATE.to_owned();
    for (before, after) in changes {
        anyhow::ensure!(text.contains(&before), "the recipe to start from has no `{before}`");
        text = text.replacen(&before, &after, 1);
    }
    Ok(text)
}

/// A word of a command line.
fn word(text: &str) -> String {
    match text.contains([' ', '\'', '"', '$', '\\']) {
        true => format!("'{}'", text.replace('\'', r"'\''")),
        false => text.to_owned(),
    }
}

fn next(path: &str, given: &str) -> String {
    let word = word(path);
    format!(
        "wrote {path}; next:

  xgbrun check {word}{given}    find mistakes without training
  xgbrun plan {word}{given}     memory, work and time, round by round
  xgbrun {word}{given}          run it
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_of_recipes() {
        for (name, wanted) in
            [("mine", "mine.rhai"), ("mine.rhai", "mine.rhai"), ("a/b.c", "a/b.c.rhai")]
        {
            assert_eq!(path(name).unwrap(), wanted);
        }
        for name in ["", "a/", ".rhai", "a/.rhai", "/"] {
            assert!(path(name).is_err(), "{name}");
        }
    }

    #[test]
    fn commands_can_be_copied() {
        assert!(next("a.rhai", "").contains("\n  xgbrun a.rhai  "));
        assert!(
            next("a b's.rhai", "").contains(r"xgbrun check 'a b'\''s.rhai'"),
            "{}",
            next("a b's.rhai", "")
        );
    }
}
