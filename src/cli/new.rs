//! `xgbrun new NAME`: a recipe to start from.

use std::fs::File;
use std::io::{ErrorKind, Write, stdout};
use std::path::Path;

use anyhow::Result;
use clap::Parser;

use crate::error::{bail, error};

/// The recipe: it runs as it stands.
const TEMPLATE: &str = include_str!("new.rhai");

const HELP: &str = "\
The recipe runs as it stands. Comments in it say what to change; `xgbrun api` lists what it can \
call.

Examples:
  xgbrun new mine                writes mine.rhai
  xgbrun new recipes/mine.rhai";

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
}

/// Writes the recipe and says what can be done with it.
///
/// Errors (class usage): a name that is none, a file that is there already, a folder that is not
/// there.
pub fn run(args: &NewArgs) -> Result<()> {
    let path = path(&args.name)?;
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
    file.write_all(TEMPLATE.as_bytes())?;
    Ok(stdout().write_all(next(&path).as_bytes())?)
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

fn next(path: &str) -> String {
    let word = if path.contains([' ', '\'', '"', '$', '\\']) {
        format!("'{}'", path.replace('\'', r"'\''"))
    } else {
        path.to_owned()
    };
    format!(
        "wrote {path}; next:

  xgbrun check {word}    find mistakes without training
  xgbrun plan {word}     memory, work and time, round by round
  xgbrun {word}          run it
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
        assert!(next("a.rhai").contains("\n  xgbrun a.rhai  "));
        assert!(
            next("a b's.rhai").contains(r"xgbrun check 'a b'\''s.rhai'"),
            "{}",
            next("a b's.rhai")
        );
    }
}
