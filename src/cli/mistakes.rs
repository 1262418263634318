//! Command lines that name what is not there, and what is meant by them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::words::{HELP, NAMES};
use crate::error::{Error, error, nearest};
use crate::host::{Foreign, foreign};

/// First words of other programs, and how the same is asked for here.
const PEERS: [(&[&str], &str); 9] = [
    (
        &["train", "sft", "finetune", "fine-tune", "fit", "start", "boost"],
        "recipes are run by `xgbrun FILE.rhai`; `xgbrun new NAME` writes one to start from",
    ),
    (&["init", "create", "scaffold"], "`xgbrun new NAME` writes a recipe to start from"),
    (&["lm_eval", "lm-eval", "test", "benchmark", "score"], "`xgbrun eval MODEL --data FILE`"),
    (
        &["generate", "chat", "infer", "inference", "predict", "prompt"],
        "`xgbrun ask RUN \"QUESTION\"` asks a run's model",
    ),
    (&["merge", "convert", "save"], "`xgbrun export RUN` writes a run's model for other programs"),
    (&["continue", "resume"], "`xgbrun --resume RUN` goes on with a run that was stopped"),
    (&["validate", "lint", "dry-run"], "`xgbrun check FILE.rhai` finds mistakes without training"),
    (&["docs", "doc", "reference"], "`xgbrun api` lists what a recipe can call"),
    (&["show", "plot", "compare"], "`xgbrun report RUN…` writes pictures of runs"),
];

/// Says that `word` is no command: the nearest one, a recipe of that name, or how the same is asked
/// for here.
pub fn unknown(word: &str) -> Error {
    let names = || NAMES.into_iter().chain([HELP]);
    if let Some((_, said)) = PEERS.iter().find(|(words, _)| words.contains(&word)) {
        return error!(Usage, "unknown command `{word}`"; hint: "{said}");
    }
    let recipes = recipes_in(Path::new("."));
    let file = format!("{word}.rhai");
    if !word.is_empty() && recipes.contains(&file) {
        return error!(
            Usage,
            "unknown command `{word}`; did you mean `{file}`?";
            hint: "a recipe is run by its whole name: `xgbrun {file}`"
        );
    }
    let begins = |command: &&str| {
        !word.is_empty() && (word.starts_with(*command) || command.starts_with(word))
    };
    let near = nearest(word, names()).or_else(|| names().find(begins));
    let near = near.or_else(|| nearest(&file, recipes.iter().map(String::as_str)));
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    error!(
        Usage,
        "unknown command `{word}`{near}";
        hint: "commands are {}; a recipe is a path that ends in `.rhai` or holds a `/`",
        names().collect::<Vec<_>>().join(", ")
    )
}

/// Names of the recipes in a folder, in order.
fn recipes_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".rhai")).collect();
    names.sort();
    names
}

/// What clap complains of in `words`, with our hint where an option is none of `command`: a
/// parameter of the recipe, or a word of other programs.
pub fn explained(mut error: clap::Error, command: &mut Command, words: &[OsString]) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg).cloned() else {
        return error;
    };
    if let Some(hint) = hint(&given, command, words) {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::TrailingArg);
        error.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
        let hint = ContextValue::StyledStrs(vec![StyledStr::from(hint)]);
        error.insert(ContextKind::Suggested, hint);
    }
    error
}

fn hint(given: &str, command: &Command, words: &[OsString]) -> Option<String> {
    let name = given.strip_prefix("--")?.split('=').next()?;
    let has = |id: &str| command.get_arguments().any(|arg| arg.get_id() == id);
    if name == "params" && has("param") {
        return Some(
            "a run's parameters stand in its `run.json`; `-p model=PATH` says where its model is \
             now"
            .into(),
        );
    }
    let sets = has("param") && (has("recipe") || has("from_round"));
    let longs = || command.get_arguments().filter_map(clap::Arg::get_long);
    let known = foreign(name);
    if !sets || known.is_none() && nearest(name, longs()).is_some() {
        return None;
    }
    let value = value_of(given, words).unwrap_or_else(|| "VALUE".into());
    let set = |name: &str| format!("`-p {name}={value}` sets a parameter of the recipe");
    Some(match known {
        Some(Foreign { option: Some(option), said, .. }) => {
            format!("{}; `{name}` {said}", set(option))
        }
        Some(foreign) => format!("`{name}` {}", foreign.said),
        None => set(&name.replace('-', "_")),
    })
}

/// The value that `words` give an option.
fn value_of(given: &str, words: &[OsString]) -> Option<String> {
    let texts = || words.iter().map(|word| OsStr::to_string_lossy(word));
    let with_value = format!("{given}=");
    if let Some(word) = texts().find(|word| word.starts_with(&with_value)) {
        return Some(word[with_value.len()..].to_owned());
    }
    let at = texts().position(|word| word == given)?;
    let next = texts().nth(at + 1)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-/:@".contains(c);
    let fits = !next.starts_with('-') && !next.is_empty() && next.chars().all(plain);
    (fits && !next.ends_with(".rhai")).then(|| next.into_owned())
}
