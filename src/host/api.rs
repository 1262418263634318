//! What a recipe can call, as the doc comments of the natives and of the standard library say it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rhai::{Engine, FuncInfo};

use super::bind;
use super::modules;
use super::signature::{Signature, friendly};

/// One call or property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The heading it stands under: `model`, `data`, `std/policy`.
    pub noun: String,
    /// What stands before the name: `model`, `data`, `policy`, or nothing.
    pub owner: String,
    pub name: String,
    /// As a recipe writes it: `model.booster(options)`.
    pub call: String,
    /// The same with types: `model.booster(options: map) → booster`.
    pub signature: String,
    /// The comment in Markdown.
    pub doc: String,
    /// What its module of the standard library says of all that is in it.
    pub about: String,
}

impl Entry {
    /// Its name with what stands before it: `model.booster`, `data::load`, `sampler`.
    pub fn path(&self) -> &str {
        self.call.split('(').next().unwrap_or_default()
    }

    /// The comment's first sentence.
    pub fn first_sentence(&self) -> String {
        let paragraph = self.doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let end = paragraph.match_indices(". ").find(|(at, _)| {
            paragraph[at + 2..].starts_with(|c: char| c.is_uppercase() || c == '`')
        });
        end.map_or(paragraph.as_str(), |(at, _)| &paragraph[..=at]).trim().to_owned()
    }
}

/// Headings in the order in which they are read; others follow, the standard library last.
const NOUNS: [&str; 8] =
    ["model", "booster", "data", "sampler", "optimizer", "params", "threshold", "sweep"];

/// Everything that natives and the standard library offer, by noun.
///
/// Errors: none that a released program can show; a module of the standard library that does not
/// compile.
pub fn entries() -> Result<Vec<Entry>> {
    let mut engine = Engine::new_raw();
    bind::register(&mut engine);
    let mut entries: Vec<Entry> = engine.collect_fn_metadata(None, |f| native(&f), false);
    for (module, text) in modules::std_modules() {
        let ast = engine.compile(text).with_context(|| format!("`{module}` does not compile"))?;
        let about = ast.doc().replace("//!", "///");
        let public = ast.iter_functions().filter(|f| f.access.is_public() && !f.name.contains('$'));
        entries.extend(
            public.map(|f| scripted(module, Signature::of_script(&f), &f.comments, &about)),
        );
    }
    let rank = |e: &Entry| {
        (e.noun.starts_with("std/"), NOUNS.iter().position(|n| *n == e.noun).unwrap_or(NOUNS.len()))
    };
    let kind = |e: &Entry| {
        (!e.path().contains("::"), e.path().contains('.'), !e.call.contains('('), e.owner.clone())
    };
    entries.sort_by(|a, b| {
        (rank(a), &a.noun, kind(a), &a.name, a.call.len(), &a.call).cmp(&(
            rank(b),
            &b.noun,
            kind(b),
            &b.name,
            b.call.len(),
            &b.call,
        ))
    });
    entries.dedup();
    Ok(entries)
}

/// What an editor's language server for Rhai reads: names of files and their texts. Natives are one
/// file of definitions with their comments, each written as a function; modules of the standard
/// library are as they are.
pub fn definitions() -> Vec<(String, String)> {
    let mut engine = Engine::new_raw();
    bind::register(&mut engine);
    let all: Vec<(String, String, String)> =
        engine.collect_fn_metadata(None, |f| defined(&f), false);
    let mut texts: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (namespace, signature, doc) in all {
        texts.entry(namespace).or_default().insert(signature, doc);
    }
    let mut out = String::from("module static;\n");
    for (namespace, functions) in texts {
        let indent = if namespace.is_empty() { "" } else { "    " };
        if !namespace.is_empty() {
            out += &format!("\nmodule {namespace} {{\n");
        }
        for (signature, doc) in functions {
            let comment: String = doc
                .lines()
                .map(|line| format!("{indent}/// {line}").trim_end().to_owned() + "\n")
                .collect();
            out += &format!("\n{comment}{indent}fn {signature};\n");
        }
        if !namespace.is_empty() {
            out += "}\n";
        }
    }
    let modules =
        modules::std_modules().map(|(name, text)| (format!("{name}.rhai"), text.to_owned()));
    std::iter::once(("xgbrun.d.rhai".to_owned(), out)).chain(modules).collect()
}

/// Namespace, signature as definitions write it (`merge(model: model, booster: booster) -> ()`),
/// and comment.
fn defined(f: &FuncInfo) -> Option<(String, String, String)> {
    let signature = Signature::of_native(f);
    let name = match signature.name.strip_prefix("get$") {
        Some(name) => format!("get {name}"),
        None => signature.name.clone(),
    };
    if !name.starts_with(|c: char| c.is_alphabetic()) || name.contains('$') {
        return None;
    }
    let params: Vec<String> =
        signature.params.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
    let doc = plain(f.metadata.comments.iter().map(AsRef::as_ref));
    let text = format!("{name}({}) -> {}", params.join(", "), answer(&f.metadata.return_type));
    Some((signature.namespace, text, doc))
}

fn native(f: &FuncInfo) -> Option<Entry> {
    let signature = Signature::of_native(f);
    let answer = answer(&f.metadata.return_type);
    let arrow = if answer == "()" { String::new() } else { format!(" → {answer}") };
    let receiver =
        signature.params.first().filter(|_| signature.method).map(|(_, kind)| kind.clone());
    let (property, name) = match signature.name.strip_prefix("get$") {
        Some(name) => (true, name.to_owned()),
        None => (false, signature.name.clone()),
    };
    // Operators and setters are no names.
    if !name.starts_with(|c: char| c.is_alphabetic()) || name.contains('$') {
        return None;
    }
    let names: Vec<&str> = signature
        .params
        .iter()
        .skip(usize::from(signature.method))
        .map(|(name, _)| name.as_str())
        .collect();
    let (owner, path) = match &receiver {
        Some(kind) => (kind.clone(), format!("{kind}.{name}")),
        None if signature.namespace.is_empty() => (String::new(), name.clone()),
        None => (signature.namespace.clone(), format!("{}::{name}", signature.namespace)),
    };
    let call = if property { path.clone() } else { format!("{path}({})", names.join(", ")) };
    let typed = if property { path } else { signature.show(&signature.namespace) };
    let noun = match owner.as_str() {
        "" if bind::TYPES.contains(&answer.as_str()) => &answer,
        "" => &name,
        owner => owner,
    };
    let noun = if ["task", "set"].contains(&noun) { "data" } else { noun }.to_owned();
    Some(Entry {
        noun,
        owner,
        name,
        call,
        signature: format!("{typed}{arrow}"),
        doc: plain(f.metadata.comments.iter().map(AsRef::as_ref)),
        about: String::new(),
    })
}

/// A function of the standard library.
fn scripted(module: &str, signature: Signature, comments: &[&str], about: &str) -> Entry {
    let alias = module.rsplit('/').next().unwrap_or(module);
    let call = signature.show(alias);
    Entry {
        noun: module.into(),
        owner: alias.into(),
        name: signature.name,
        signature: call.clone(),
        call,
        doc: plain(comments.iter().copied()),
        about: plain([about].into_iter()).trim().to_owned(),
    }
}

/// A native's answer by the name that recipes know.
fn answer(kind: &str) -> String {
    let inside = kind
        .split_once('<')
        .map_or(kind, |(_, inside)| inside.split([',', '>']).next().unwrap_or(inside));
    if inside.is_empty() { "()".into() } else { friendly(inside) }
}

/// Comments without their slashes.
fn plain<'a>(comments: impl Iterator<Item = &'a str>) -> String {
    let line = |line: &'a str| {
        let text = line.trim_start().trim_start_matches("///");
        text.strip_prefix(' ').unwrap_or(text).trim_end()
    };
    comments.flat_map(str::lines).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(entries: &'a [Entry], call: &str) -> &'a Entry {
        let calls = || entries.iter().map(|e| e.call.as_str()).collect::<Vec<_>>();
        entries
            .iter()
            .find(|e| e.call == call)
            .unwrap_or_else(|| panic!("`{call}` is none of {:?}", calls()))
    }

    #[test]
    fn everything_has_a_first_sentence() {
        let entries = entries().unwrap();
        assert!(entries.len() > 40, "{}", entries.len());
        for entry in &entries {
            let first = entry.first_sentence();
            assert!(
                first.len() > 10 && first.ends_with('.'),
                "`{}` has no first sentence: `{first}`",
                entry.call
            );
        }
    }

    #[test]
    fn signatures_are_those_of_recipes() {
        let entries = entries().unwrap();
        for (call, noun, signature) in [
            ("model.booster(options)", "model", "model.booster(options: map) → booster"),
            ("model.layers", "model", "model.layers → array"),
            ("model::load(name)", "model", "model::load(name: string) → model"),
            ("data::load(path, options)", "data", "data::load(path: string, options: map) → task"),
            ("task.train", "data", "task.train → set"),
            ("set.show(model, i)", "data", "set.show(model: model, i: int)"),
            ("sampler(name)", "sampler", "sampler(name: string) → sampler"),
            ("adamw(options)", "optimizer", "adamw(options: map) → optimizer"),
            ("params(defaults)", "params", "params(defaults: map) → map"),
            (
                "policy::uniform(sampler, model, k)",
                "std/policy",
                "policy::uniform(sampler, model, k)",
            ),
        ] {
            let entry = find(&entries, call);
            assert_eq!((entry.noun.as_str(), entry.signature.as_str()), (noun, signature));
        }
        for entry in &entries {
            let rust =
                ["&", "mut ", "INT", "FLOAT", "Map", "Array", "Answer", "Result", "<", "Box", "$"];
            assert!(!rust.iter().any(|word| entry.signature.contains(word)), "{}", entry.signature);
        }
        assert!(
            !entries.iter().any(|e| e.call.starts_with("schedule::over")),
            "a private function is shown"
        );
        assert!(
            find(&entries, "schedule::cosine(p, round)").about.contains("`warmup`"),
            "what the module says is left out"
        );
    }

    #[test]
    fn nouns_come_in_reading_order() {
        let mut nouns: Vec<String> = entries().unwrap().into_iter().map(|e| e.noun).collect();
        nouns.dedup();
        let wanted = [
            "model",
            "booster",
            "data",
            "sampler",
            "optimizer",
            "params",
            "std/boost",
            "std/policy",
            "std/schedule",
        ];
        let known: Vec<&String> = nouns.iter().filter(|n| wanted.contains(&n.as_str())).collect();
        assert_eq!(known, wanted.iter().collect::<Vec<_>>());
    }

    #[test]
    fn comments_lose_their_slashes_and_keep_their_lines() {
        let doc = plain(["/// One, e.g. two. Three.", "///", "///     code"].into_iter());
        assert_eq!(doc, "One, e.g. two. Three.\n\n    code");
        let entry = Entry { doc, ..entries().unwrap()[0].clone() };
        assert_eq!(entry.first_sentence(), "One, e.g. two.");
    }
}
