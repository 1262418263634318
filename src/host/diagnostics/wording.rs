//! What each of the engine's errors means, in our words.

use std::collections::BTreeSet;

use rhai::{Dynamic, EvalAltResult, LexError, ParseErrorType};

use super::known::{self, Known};
use crate::error::{Class, Error, did_you_mean, error};
use crate::host::modules::{CLOSURE, Source, Sources};
use crate::host::signature::{Signature, friendly};
use crate::session::Limits;

/// How many names a hint lists.
const LISTED: usize = 12;

/// What is needed to put an error in words.
pub(super) struct Context<'a> {
    /// The script in which it happened.
    pub source: Source,
    pub sources: &'a Sources,
    pub known: &'a Known,
    pub limits: &'a Limits,
}

/// A function's name in a message.
pub(super) fn function(name: &str) -> String {
    if name.starts_with(CLOSURE) { "a closure".into() } else { format!("`{name}`") }
}

impl Context<'_> {
    pub(super) fn explain(&self, error: &EvalAltResult) -> Error {
        use EvalAltResult as E;
        match error {
            E::ErrorRuntime(value, _) | E::ErrorTerminated(value, _) => thrown(value),
            E::ErrorParsing(kind, _) => self.syntax(kind),
            E::ErrorFunctionNotFound(call, _) => self.function_not_found(call),
            E::ErrorVariableNotFound(name, _) => self.variable(name),
            E::ErrorPropertyNotFound(name, _) => {
                // A map that a module gets mostly comes from the recipe.
                let mut keys = known::keys(&self.source.text);
                keys.extend(known::keys(&self.sources.recipe().text));
                unknown("key", name, " in the map", &keys)
            }
            E::ErrorDotExpr(text, _) => self.property(text),
            E::ErrorArrayBounds(len, index, _) => bounds("array", "elements", *len, *index),
            E::ErrorStringBounds(len, index, _) => bounds("string", "characters", *len, *index),
            E::ErrorMismatchDataType(expected, found, _)
            | E::ErrorMismatchOutputType(expected, found, _) => mismatch(expected, found),
            E::ErrorIndexingType(kinds, _) => {
                let kind = kinds.split_once(" [").map_or(kinds.as_str(), |(k, _)| k);
                error!(
                    Usage,
                    "a value of type {} cannot be indexed",
                    friendly(kind);
                    hint: "arrays, maps and strings can"
                )
            }
            E::ErrorFor(_) => error!(
                Usage,
                "`for` cannot go over this value";
                hint: "a range such as `0..10`, an array, or `map.keys()`"
            ),
            E::ErrorAssignmentToConstant(name, _) => {
                error!(Usage, "`{name}` is constant and cannot be changed")
            }
            E::ErrorNonPureMethodCallOnConstant(name, _) => error!(
                Usage,
                "{} would change a constant",
                function(name.trim_start_matches("set$"))
            ),
            E::ErrorDataRace(name, _) => {
                let name = if name.contains(' ') { "a value".into() } else { format!("`{name}`") };
                error!(
                    Usage,
                    "{name} is changed while it is in use, such as by a function that it holds";
                    hint: "a closure that uses a variable shares it: copy what it needs to a \
                           variable of its own first"
                )
            }
            E::ErrorStackOverflow(_) => reached(
                "called functions within functions more than",
                self.limits.calls as u64,
                "deep",
                "calls",
            ),
            E::ErrorTooManyVariables(_) => reached(
                "has more than",
                self.limits.variables as u64,
                "variables at once",
                "variables",
            ),
            E::ErrorTooManyModules(_) => {
                reached("imports more than", self.limits.modules as u64, "modules", "modules")
            }
            E::ErrorDataTooLarge(what, _) => self.too_large(what),
            other => {
                let mut bare = other.to_string();
                if let Some(at) = bare.rfind(" (line ") {
                    bare.truncate(at);
                }
                Error::usage(lower(&bare))
            }
        }
    }

    fn syntax(&self, kind: &ParseErrorType) -> Error {
        use ParseErrorType as P;
        match kind {
            P::VariableUndefined(name) => self.variable(name),
            P::ModuleUndefined(name) => {
                let text = &self.source.text;
                let names: BTreeSet<&str> =
                    known::aliases(text).into_iter().chain(self.known.namespaces()).collect();
                let error = unknown("module", name, "", &names);
                let path = format!("std/{name}");
                let std = crate::host::modules::std_names().any(|n| n == path);
                if std {
                    error.hint(format!("import it first: `import \"{path}\" as {name};`"))
                } else {
                    error
                }
            }
            P::BadInput(LexError::UnterminatedString) => {
                error!(Usage, "a string is not closed"; hint: "it begins here")
            }
            P::BadInput(LexError::UnexpectedInput(what)) if !what.is_ascii() => {
                error!(
                    Usage,
                    "unexpected `{what}`";
                    hint: "outside strings and comments a script is written in ASCII"
                )
            }
            P::BadInput(LexError::ImproperSymbol(word, _)) if word == "eval" => {
                error!(Usage, "`eval` does not exist here: a recipe does what its text says")
            }
            P::BadInput(e) => Error::usage(lower(&e.to_string())),
            P::UnexpectedEOF => error!(Usage, "the script ends too early")
                .hint("something is still open: `{`, `(`, `[` or `#{`"),
            P::MissingToken(token, what) => {
                let error = Error::usage(lower(&format!("expected `{token}` {what}")));
                if token == ";" { error.hint("it is missing before this") } else { error }
            }
            P::Reserved(word) => {
                error!(Usage, "`{word}` is a reserved word and cannot be a name")
            }
            P::ExprTooDeep => reached(
                "nests expressions or blocks more than",
                self.limits.nesting as u64,
                "deep",
                "nesting",
            ),
            P::TooManyFunctions => {
                reached("defines more than", self.limits.functions as u64, "functions", "functions")
            }
            P::LiteralTooLarge(what, _) => self.too_large(what),
            P::AssignmentToConstant(name) => {
                error!(Usage, "`{name}` is constant and cannot be changed")
            }
            P::DuplicatedProperty(name) => {
                error!(Usage, "key `{name}` is twice in the map")
            }
            P::FnDuplicatedDefinition(name, n) => {
                error!(Usage, "function `{name}` with {n} parameters is defined twice")
            }
            P::MismatchedType(expected, found) => mismatch(expected, found),
            other => Error::usage(lower(&other.to_string())),
        }
    }

    fn variable(&self, name: &str) -> Error {
        let mut names = known::variables(&self.source.text);
        names.remove(name);
        unknown("variable", name, "", &names)
    }

    fn property(&self, text: &str) -> Error {
        let mut quoted = text.split('\'').skip(1).step_by(2);
        let (Some(name), Some(kind)) = (quoted.next(), quoted.next()) else {
            return Error::usage(lower(text));
        };
        let kind = friendly(kind);
        if text.starts_with("No writable") {
            return error!(Usage, "property `{name}` of {} cannot be set", article(&kind));
        }
        unknown("property", name, &format!(" of {}", article(&kind)), &self.known.properties(&kind))
    }

    /// `call` is `name (type, type)`, perhaps with `alias::` in front.
    fn function_not_found(&self, call: &str) -> Error {
        let call = call.replace("&str | ImmutableString | String", "string");
        let (path, kinds) = call.split_once(" (").unwrap_or((&call, ")"));
        let kinds: Vec<String> = kinds
            .trim_end_matches(')')
            .split(", ")
            .filter(|k| !k.is_empty())
            .map(friendly)
            .collect();
        let (alias, name) = path.rsplit_once("::").unwrap_or(("", path));
        let imported =
            known::import(&self.source.text, alias).and_then(|path| self.sources.module(path));
        let candidates: Vec<&Signature> = match &imported {
            Some(module) => module.functions.iter().collect(),
            None => self.known.functions(alias).collect(),
        };
        let same: Vec<&Signature> = candidates.iter().copied().filter(|s| s.name == name).collect();
        if !same.is_empty() {
            return wrong_arguments(alias, name, &kinds, &same);
        }
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return error!(Usage, "`{name}` is not defined for {}", kinds.join(" and "));
        }
        // What a value of ours can do is more to the point than all that exists.
        let first = kinds.first().filter(|k| crate::host::bind::TYPES.contains(&k.as_str()));
        let of_first = |s: &&&Signature| s.method && s.params.first().map(|(_, k)| k) == first;
        let (of, names): (String, BTreeSet<&str>) = match (first, alias) {
            (Some(kind), "") => (
                format!(" of {}", article(kind)),
                candidates.iter().filter(of_first).map(|s| s.name.as_str()).collect(),
            ),
            (_, "") => (String::new(), candidates.iter().map(|s| s.name.as_str()).collect()),
            (_, alias) => {
                (format!(" in `{alias}`"), candidates.iter().map(|s| s.name.as_str()).collect())
            }
        };
        unknown("function", name, &of, &names)
    }

    fn too_large(&self, what: &str) -> Error {
        let what = what.to_lowercase();
        if what.contains("string") {
            reached("makes a string of more than", self.limits.string as u64, "bytes", "string")
        } else if what.contains("map") {
            reached("makes a map of more than", self.limits.map as u64, "entries", "map")
        } else {
            reached("makes an array of more than", self.limits.array as u64, "elements", "array")
        }
    }
}

/// A value that was thrown: a native's error keeps its class and hint.
fn thrown(value: &Dynamic) -> Error {
    if let Some(error) = value.clone().try_cast::<Error>() {
        return error;
    }
    if let Some(map) = value.clone().try_cast::<rhai::Map>()
        && let Some(message) = map.get("message").filter(|m| m.is_string())
    {
        return Error::usage(message.to_string());
    }
    let mut text = String::new();
    write_value(value, &mut text);
    Error::usage(if text.is_empty() { "the recipe gave up".into() } else { text })
}

/// A value as text, as far as a message has room; functions and what they hold are not looked into.
fn write_value(value: &Dynamic, out: &mut String) {
    const ROOM: usize = 2000;
    if out.len() > ROOM {
        return;
    }
    if value.is_shared() {
        out.push_str("(shared)");
    } else if let Ok(list) = value.as_array_ref() {
        out.push('[');
        for (at, item) in list.iter().enumerate().take(ROOM) {
            out.push_str(if at == 0 { "" } else { ", " });
            write_value(item, out);
        }
        out.push(']');
    } else if let Ok(map) = value.as_map_ref() {
        out.push_str("#{");
        for (at, (key, item)) in map.iter().enumerate().take(ROOM) {
            out.push_str(if at == 0 { "" } else { ", " });
            out.push_str(&format!("{key}: "));
            write_value(item, out);
        }
        out.push('}');
    } else if let Some(function) = value.read_lock::<rhai::FnPtr>() {
        out.push_str(&super::wording::function(function.fn_name()));
    } else {
        out.push_str(&value.to_string());
    }
}

fn unknown(what: &str, name: &str, of: &str, names: &BTreeSet<&str>) -> Error {
    // Closures have names too, which nobody can call them by.
    let names: BTreeSet<&str> = names.iter().copied().filter(|n| !n.starts_with(CLOSURE)).collect();
    let near = did_you_mean(name, names.iter().copied());
    let error = error!(Usage, "unknown {what} `{name}`{of}{near}");
    if names.is_empty() || names.len() > LISTED {
        return error;
    }
    error.hint(format!("one of {}", names.iter().copied().collect::<Vec<_>>().join(", ")))
}

fn wrong_arguments(alias: &str, name: &str, kinds: &[String], same: &[&Signature]) -> Error {
    let shown: BTreeSet<String> = same.iter().map(|s| s.show(alias)).collect();
    let given =
        if kinds.is_empty() { "no arguments".into() } else { format!("({})", kinds.join(", ")) };
    let error = error!(Usage, "`{name}` cannot be called with {given}");
    if shown.len() > LISTED {
        error
    } else {
        error.hint(shown.into_iter().collect::<Vec<_>>().join(" or "))
    }
}

fn mismatch(expected: &str, found: &str) -> Error {
    let expected = friendly(expected);
    if found.is_empty() {
        return error!(Usage, "expected {expected}");
    }
    error!(Usage, "expected {expected}, found {}", friendly(found))
}

fn bounds(what: &str, parts: &str, len: usize, index: i64) -> Error {
    let error = error!(Usage, "index {index} is outside the {what}, which has {len} {parts}");
    if len == 0 {
        error
    } else {
        error.hint(format!("0 to {}, or -1 to -{len} from the end", len - 1))
    }
}

fn reached(does: &str, limit: u64, what: &str, flag: &str) -> Error {
    Error::new(Class::Usage, format!("the script {does} {limit} {what}"))
        .hint(format!("raise it with `--limit-{flag} N`"))
}

fn article(kind: &str) -> String {
    let an = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if an { "an" } else { "a" })
}

/// The engine's words in our voice: lower case, names in backticks.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    format!("{first}{}", chars.as_str()).replace('\'', "`")
}
