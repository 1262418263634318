//! `xgbrun api [TERM]`: what a recipe can call.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

use super::terminal;
use crate::error::{Error, error, nearest};
use crate::host::{Entry, Foreign, api_definitions, api_entries, foreign};

const HELP: &str = "\
Examples:
  xgbrun api                  everything, a line each
  xgbrun api fit              all about `booster.fit`: options, example
  xgbrun api model            what a model has
  xgbrun api policy::uniform  a function of the standard library
  xgbrun api warmup           what takes an option of that name
  xgbrun api lora_alpha       what is ours for a word of PEFT, transformers or Axolotl
  xgbrun api --definitions .  for an editor with a Rhai language server";

/// Say what a recipe can call, with options and examples
#[derive(Debug, Parser)]
#[command(name = "xgbrun api", bin_name = "xgbrun api", max_term_width = 110, after_help = HELP)]
pub struct ApiArgs {
    /// A name: `fit`, `model.booster`, `data::load`, `cosine`, a noun such as `model`, an option
    /// such as `lr`, or what other programs call it: `learning_rate`
    term: Option<String>,
    /// Write what an editor's Rhai language server reads: `xgbrun.d.rhai` and the standard
    /// library's modules
    #[arg(long, value_name = "DIR", conflicts_with = "term")]
    definitions: Option<PathBuf>,
    /// Write the same as pages in Markdown, one a noun
    #[arg(long, value_name = "DIR", conflicts_with_all = ["term", "definitions"])]
    reference: Option<PathBuf>,
}

/// Shows the index, or what the term means.
///
/// Errors (class usage): a term that names nothing.
pub fn run(args: &ApiArgs) -> Result<()> {
    if let Some(folder) = &args.definitions {
        return written(folder, api_definitions());
    }
    let entries = api_entries()?;
    if let Some(folder) = &args.reference {
        return written(folder, pages(&entries));
    }
    let width = terminal::stdout_width();
    let text = match &args.term {
        Some(term) => about(&entries, term, width)?,
        None => format!(
            "{}\nBeside these a recipe has the language, \
             with strings, arrays, maps, functions (https://rhai.rs/book), and `print(value)`.\n\
             `xgbrun api NAME` says all about one of them.\n",
            index(&entries.iter().collect::<Vec<_>>(), width)
        ),
    };
    Ok(stdout().write_all(text.as_bytes())?)
}

/// One page a noun, and their list.
fn pages(entries: &[Entry]) -> Vec<(String, String)> {
    let mut list = "# Reference\n\nWhat a recipe can call, from the comments of the program's own \
                    source;\n`xgbrun api --reference docs/reference` writes these pages.\n\n"
        .to_owned();
    let mut out = vec![];
    for group in entries.chunk_by(|a, b| a.noun == b.noun) {
        let noun = &group[0].noun;
        let file = format!("{}.md", noun.replace('/', "-"));
        list += &format!("- [`{noun}`]({file})\n");
        let mut page = format!("# `{noun}`\n");
        if !group[0].about.is_empty() {
            let (import, about) = (heading(noun), &group[0].about);
            page += &format!("\n{about}\n\n```rhai,no_run\n{import}\n```\n");
        }
        for Entry { signature, doc, .. } in group {
            let doc = doc
                .replace("\n# Example\n", "\n### Example\n\n")
                .replace("\n# Examples\n", "\n### Examples\n\n");
            page += &format!("\n## `{signature}`\n\n{}\n", doc.trim());
        }
        out.push((file, page));
    }
    out.push(("README.md".into(), list));
    out
}

/// Writes files below `folder`, and its name to standard output.
fn written(folder: &Path, files: Vec<(String, String)>) -> Result<()> {
    for (name, text) in files {
        let path = folder.join(name);
        let home = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(home)
            .with_context(|| format!("cannot make the folder `{}`", home.display()))?;
        std::fs::write(&path, text)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(writeln!(stdout(), "{}", folder.display())?)
}

/// A line for each entry, under the headings of their nouns.
fn index(entries: &[&Entry], width: usize) -> String {
    let mut out = String::new();
    for group in entries.chunk_by(|a, b| a.noun == b.noun) {
        out += &format!("{}{}\n", if out.is_empty() { "" } else { "\n" }, heading(&group[0].noun));
        let column = group.iter().map(|e| e.call.chars().count()).max().unwrap_or(0) + 2;
        for entry in group {
            let lines = wrap(&entry.first_sentence(), width.saturating_sub(column + 2).max(30));
            let calls = std::iter::once(entry.call.as_str()).chain(std::iter::repeat(""));
            for (call, line) in calls.zip(&lines) {
                out += &format!("  {call:<column$}{line}\n");
            }
        }
    }
    out
}

fn heading(noun: &str) -> String {
    match noun.strip_prefix("std/") {
        Some(alias) => format!("import \"{noun}\" as {alias};"),
        None => noun.to_owned(),
    }
}

/// What `term` means: what is called so, what belongs to the noun of that name, what is ours for a
/// word of other programs, or what mentions an option of that name.
fn about(entries: &[Entry], term: &str, width: usize) -> Result<String> {
    let word = term.split('(').next().unwrap_or(term).trim().trim_end_matches(['.', ':']);
    let word = word.strip_prefix("std/").unwrap_or(word);
    let named: Vec<&Entry> =
        entries.iter().filter(|e| e.name == word || e.path() == word).collect();
    let noun: Vec<&Entry> = entries
        .iter()
        .filter(|e| e.owner == word || e.noun.trim_start_matches("std/") == word)
        .collect();
    let mut parts: Vec<String> = named.iter().map(|e| detail(e, width)).collect();
    // A noun with a single call is that call.
    if noun.len() > 1 || named.is_empty() && !noun.is_empty() {
        parts.insert(0, index(&noun, width));
    }
    let mentions = mentions(entries, word);
    let others: Vec<&Entry> = mentions.iter().filter(|e| !named.contains(e)).copied().collect();
    match foreign(word) {
        _ if !named.is_empty() && noun.is_empty() && !others.is_empty() => {
            parts.push(format!("An option or a value elsewhere:\n\n{}", index(&others, width)));
        }
        _ if !parts.is_empty() => {}
        Some(foreign) => parts = translated(entries, word, foreign, width),
        None => parts.extend(mentions.iter().map(|e| detail(e, width))),
    }
    if parts.is_empty() {
        return Err(unknown(entries, word, term).into());
    }
    Ok(parts.join("\n"))
}

/// Entries whose comment has `word` as code: alone, or where there is none, within an expression.
fn mentions<'a>(entries: &'a [Entry], word: &str) -> Vec<&'a Entry> {
    let alone = |code: &str| {
        code == word || code.rsplit_once(['.', ':']).is_some_and(|(_, last)| last == word)
    };
    let within = |code: &str| {
        code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
    };
    let with = |fits: &dyn Fn(&str) -> bool| -> Vec<&'a Entry> {
        let mentions = |text: &str| codes(text).any(fits);
        entries.iter().filter(|e| mentions(&e.doc) || mentions(&e.about)).collect()
    };
    if word.is_empty() {
        return vec![];
    }
    let found = with(&alone);
    if found.is_empty() { with(&within) } else { found }
}

/// What stands between backticks in a text, line by line.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2))
}

/// What is ours for a word of other programs: a sentence, and all about it.
fn translated(entries: &[Entry], word: &str, foreign: &Foreign, width: usize) -> Vec<String> {
    let sentence = wrap(&format!("`{word}` {}.", foreign.said), width).join("\n");
    let calls: Vec<&Entry> = entries.iter().filter(|e| foreign.calls.contains(&e.path())).collect();
    let all = calls.iter().map(|e| detail(e, width));
    std::iter::once(format!("{sentence}\n")).chain(all).collect()
}

/// One entry whole: signature, import where it needs one, comment.
fn detail(entry: &Entry, width: usize) -> String {
    let mut out = format!("{}\n", entry.signature);
    if entry.noun.starts_with("std/") {
        out += &format!("    {}\n", heading(&entry.noun));
    }
    let (mut paragraph, mut code) = (String::new(), false);
    let flush = |paragraph: &mut String, out: &mut String| {
        for line in wrap(paragraph, width.saturating_sub(4).max(30)) {
            *out += &format!("    {line}\n");
        }
        paragraph.clear();
    };
    out.push('\n');
    let behind = if entry.about.is_empty() { None } else { Some("") };
    for line in entry.doc.lines().chain(behind).chain(entry.about.lines()) {
        match line {
            _ if line.starts_with("```") => {
                flush(&mut paragraph, &mut out);
                code = !code;
            }
            _ if code => out += &format!("        {line}\n"),
            "" => {
                flush(&mut paragraph, &mut out);
                out.push('\n');
            }
            _ => {
                let line = line.trim_start_matches('#').trim_start();
                paragraph += if paragraph.is_empty() { "" } else { " " };
                paragraph += line;
            }
        }
    }
    flush(&mut paragraph, &mut out);
    out
}

fn unknown(entries: &[Entry], word: &str, term: &str) -> Error {
    let lower = word.to_lowercase();
    let holds = |e: &&Entry| !lower.is_empty() && e.path().to_lowercase().contains(&lower);
    let mut near: Vec<&str> = entries.iter().filter(holds).map(Entry::path).collect();
    if near.is_empty() {
        let names = entries.iter().flat_map(|e| [e.name.as_str(), e.path(), e.owner.as_str()]);
        let name = nearest(&lower, names);
        near = entries
            .iter()
            .filter(|e| name.is_some_and(|n| n == e.name || n == e.path() || n == e.owner))
            .map(Entry::path)
            .collect();
    }
    near.dedup();
    near.truncate(5);
    let near = near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ");
    let near = if near.is_empty() { near } else { format!("; did you mean {near}?") };
    error!(
        Usage,
        "nothing that a recipe can call is named `{term}`{near}";
        hint: "`xgbrun api` lists everything"
    )
}

/// Lines of at most `width` characters, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(noun: &str, owner: &str, call: &str, doc: &str) -> Entry {
        let name = call
            .split('(')
            .next()
            .unwrap_or_default()
            .rsplit(['.', ':'])
            .next()
            .unwrap_or_default();
        Entry {
            noun: noun.into(),
            owner: owner.into(),
            name: name.into(),
            call: call.into(),
            signature: format!("{call} → map"),
            doc: doc.into(),
            about: if noun.starts_with("std/") { "Who trains.".into() } else { String::new() },
        }
    }

    fn entries() -> Vec<Entry> {
        vec![
            entry(
                "booster",
                "booster",
                "booster.fit(set, options)",
                "Trains. Much\nmore.\n\nOptions: `steps`.\n\n# Example\n```rhai\nfit();\n```",
            ),
            entry("booster", "booster", "booster.save(name)", "Writes."),
            entry("sampler", "sampler", "sampler.uniform()", "A number."),
            entry("std/policy", "policy", "policy::uniform(k)", "Layers by chance."),
            entry("std/schedule", "schedule", "schedule::sgdr(p)", "Over `p.cycle` steps."),
        ]
    }

    #[test]
    fn the_index_has_a_line_each() {
        let entries = entries();
        let wanted = "booster
  booster.fit(set, options)  Trains.
  booster.save(name)         Writes.

sampler
  sampler.uniform()  A number.

import \"std/policy\" as policy;
  policy::uniform(k)  Layers by chance.

import \"std/schedule\" as schedule;
  schedule::sgdr(p)  Over `p.cycle` steps.
";
        assert_eq!(index(&entries.iter().collect::<Vec<_>>(), 80), wanted);
    }

    #[test]
    fn a_term_shows_the_whole_comment() {
        let wanted = "booster.fit(set, options) → map

    Trains. Much more.

    Options: `steps`.

    Example
        fit();
";
        for term in ["fit", "booster.fit", "booster.fit(set)", "steps"] {
            assert_eq!(about(&entries(), term, 80).unwrap(), wanted, "{term}");
        }
        let both = about(&entries(), "uniform", 80).unwrap();
        assert!(
            both.contains("sampler.uniform() → map")
                && both.contains("policy::uniform(k) → map\n    import \"std/policy\" as policy;")
                && both.ends_with("    Layers by chance.\n\n    Who trains.\n")
        );
        for term in ["policy", "std/policy", "policy::uniform", "std/policy::uniform"] {
            assert!(about(&entries(), term, 80).unwrap().contains("policy::uniform(k)"), "{term}");
        }
        assert!(about(&entries(), "booster", 80).unwrap().starts_with("booster\n  booster.fit("));
    }

    #[test]
    fn a_word_of_other_programs_leads_to_ours() {
        let about = |term: &str| about(&entries(), term, 80).unwrap();
        let text = about("gradient_accumulation_steps");
        let said =
            "`gradient_accumulation_steps` is `accumulate` of `booster.fit`, batches a step.";
        assert!(
            text.starts_with(&format!("{said}\n\nbooster.fit(set, options) → map\n")),
            "{text}"
        );
        assert_eq!(
            about("Warmup-Ratio").lines().next(),
            about("warmup_ratio")
                .lines()
                .next()
                .map(|line| line.replace("warmup_ratio", "Warmup-Ratio"))
                .as_deref()
        );
        assert!(about("seed").starts_with("`seed` is decided on the command line: `--seed N`"));
        assert!(about("cycle").starts_with("schedule::sgdr(p)"));
    }

    #[test]
    fn an_unknown_term_names_the_nearest() {
        let message = |term: &str| about(&entries(), term, 80).unwrap_err().to_string();
        assert_eq!(
            message("unifrom"),
            "nothing that a recipe can call is named `unifrom`; did you mean `sampler.uniform` or \
             `policy::uniform`?"
        );
        assert_eq!(
            message("sav"),
            "nothing that a recipe can call is named `sav`; did you mean `booster.save`?"
        );
        assert_eq!(message("frobnicate"), "nothing that a recipe can call is named `frobnicate`");
        assert_eq!(message(""), "nothing that a recipe can call is named ``");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("aa bb ccc dddddddd e", 6), ["aa bb", "ccc", "dddddddd", "e"]);
    }
}
