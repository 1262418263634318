//! Names that a script could have meant.

use std::collections::BTreeSet;

use rhai::{AST, Engine};

use crate::host::signature::Signature;

/// All functions and properties that natives and the recipe offer.
#[derive(Debug)]
pub struct Known {
    functions: Vec<Signature>,
}

impl Known {
    pub fn collect(engine: &Engine, ast: Option<&AST>) -> Self {
        let mut functions =
            engine.collect_fn_metadata(None, |f| Some(Signature::of_native(&f)), true);
        functions.extend(
            ast.into_iter().flat_map(AST::iter_functions).map(|f| Signature::of_script(&f)),
        );
        for name in ["print", "debug", "type_of"] {
            let params = vec![("value".to_owned(), String::new())];
            functions.push(Signature {
                namespace: String::new(),
                name: name.into(),
                params,
                method: false,
                returns: String::new(),
            });
        }
        functions.sort();
        functions.dedup();
        Self { functions }
    }

    /// Functions of `namespace` that a script can call by name.
    pub fn functions<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Signature> {
        let callable = |name: &str| {
            name.starts_with(|c: char| c.is_alphabetic() || c == '_') && !name.contains('$')
        };
        self.functions.iter().filter(move |f| f.namespace == namespace && callable(&f.name))
    }

    /// Properties that values of type `kind` have.
    pub fn properties(&self, kind: &str) -> BTreeSet<&str> {
        let of_kind = |f: &&Signature| f.params.first().is_some_and(|(_, k)| k == kind);
        self.functions.iter().filter(of_kind).filter_map(|f| f.name.strip_prefix("get$")).collect()
    }

    /// What reads the property `name` of values of type `kind`.
    pub fn getter(&self, kind: &str, name: &str) -> Option<&Signature> {
        let is = |f: &&Signature| {
            f.name.strip_prefix("get$") == Some(name)
                && f.params.first().is_some_and(|(_, k)| k == kind)
        };
        self.functions.iter().find(is)
    }

    /// Natives' namespaces.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.functions.iter().map(|f| f.namespace.as_str()).filter(|n| !n.is_empty()).collect()
    }
}

/// Words of a script's text that name something: variables, parameters of functions, keys of maps.
pub fn words(text: &str) -> BTreeSet<&str> {
    let mut words = BTreeSet::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in text.match_indices(is_word).filter(|(at, _)| !text[..*at].ends_with(is_word)) {
        let word = &text[at..at + text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at)];
        if word.starts_with(|c: char| !c.is_ascii_digit()) {
            words.insert(word);
        }
    }
    words
}

/// Names that `text` declares: after `let`, `const`, `for`, and between the bars or parentheses of
/// functions.
pub fn variables(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(|l| l.split("//").next().unwrap_or_default()) {
        for key in ["let ", "const ", "for ", "catch (", "catch("] {
            for (at, _) in line.match_indices(key) {
                let rest = line[at + key.len()..].split(['=', ';', ')']).next().unwrap_or_default();
                names.extend(words(rest.split(" in ").next().unwrap_or_default()));
            }
        }
        if let Some((_, rest)) = line.split_once("fn ").and_then(|(_, r)| r.split_once('(')) {
            names.extend(words(rest.split(')').next().unwrap_or_default()));
        }
        for part in line.split('|').skip(1).step_by(2) {
            names.extend(words(part));
        }
    }
    names
}

/// Names that `text` gives to values in maps: `name:` but not `name::`.
pub fn keys(text: &str) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    for line in text.lines().map(|l| l.split("//").next().unwrap_or_default()) {
        for (at, _) in line.match_indices(':') {
            let before = line[..at].trim_end();
            let key = words(
                &before[before
                    .rfind(|c: char| !c.is_alphanumeric() && c != '_')
                    .map_or(0, |i| i + 1)..],
            );
            if !line[at..].starts_with("::") && !line[..at].ends_with(':') {
                keys.extend(key);
            }
        }
    }
    keys
}

/// The path that `text` imports as `alias`.
pub fn import<'a>(text: &'a str, alias: &str) -> Option<&'a str> {
    text.match_indices("import ").find_map(|(at, key)| {
        let rest = text[at + key.len()..].trim_start().strip_prefix('"')?;
        let (path, rest) = rest.split_once('"')?;
        let name = rest.trim_start().strip_prefix("as ")?.trim_start();
        (name.split(|c: char| !c.is_alphanumeric() && c != '_').next() == Some(alias))
            .then_some(path)
    })
}

/// Aliases that `text` gives to what it imports.
pub fn aliases(text: &str) -> BTreeSet<&str> {
    words(text).into_iter().filter(|word| import(text, word).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        import "std/policy" as policy;
        let p = params(#{ model: "", lr: 1e-3 }); // let hidden = 1
        fn pick(sampler, k) { for i in 0..k { policy::uniform(sampler) } }
        let f = |x, y| x + y;
    "#;

    #[test]
    fn names_are_found_in_the_text() {
        assert_eq!(Vec::from_iter(variables(TEXT)), ["f", "i", "k", "p", "sampler", "x", "y"]);
        assert_eq!(Vec::from_iter(keys(TEXT)), ["lr", "model"]);
        assert_eq!(import(TEXT, "policy"), Some("std/policy"));
        assert_eq!(Vec::from_iter(aliases(TEXT)), ["policy"]);
    }
}
