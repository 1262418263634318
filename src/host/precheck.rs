//! Names that a recipe uses and nothing has, found before it runs: functions and methods with the
//! number of their arguments, properties of models, boosters, data and so on, options in maps that
//! are written out.
//!
//! The script is read, not run, which takes milliseconds. What is known of a value is its type,
//! where that follows from the text; where it does not, only a name that no value has is told. What
//! depends on a value is the run's to say, or `check`'s, which runs a recipe on shapes.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{ASTNode, Dynamic, Engine, EvalAltResult, Expr, FnCallExpr, Map, Position, Stmt};

use super::bind;
use super::diagnostics::{self, Known};
use super::modules::{public_functions, std_modules};
use super::options::Options;
use super::script_error::to_script;
use super::signature::Signature;

/// What the engine itself answers, without a function of that name.
const BUILT_IN: [&str; 10] = [
    "Fn",
    "call",
    "curry",
    "debug",
    "is_def_fn",
    "is_def_var",
    "is_shared",
    "print",
    "throw",
    "type_of",
];

/// The first name in a recipe that nothing has.
pub(super) fn first_mistake(
    engine: &Engine,
    ast: &rhai::AST,
    known: &Known,
    text: &str,
) -> Option<Box<EvalAltResult>> {
    let mut names = Names {
        known,
        keys: diagnostics::keys(text),
        kinds: BTreeMap::new(),
        modules: imports(engine, ast),
    };
    names.learn_kinds(ast);
    let mut first: Option<(Position, Box<EvalAltResult>)> = None;
    ast.walk(&mut |path: &[ASTNode]| {
        for (at, error) in names.mistakes(path) {
            if first.as_ref().is_none_or(|(before, _)| at < *before) {
                first = Some((at, error));
            }
        }
        true
    });
    first.map(|(_, error)| error)
}

/// What is known of names.
struct Names<'a> {
    known: &'a Known,
    /// Keys of maps in the text: a map's function is called as a method is.
    keys: BTreeSet<&'a str>,
    /// Variables of one type wherever the text says their name.
    kinds: BTreeMap<String, String>,
    /// By alias, the functions of modules of the standard library; `None` of others.
    modules: BTreeMap<String, Option<Vec<Signature>>>,
}

/// A mistake and its place.
type Found = (Position, Box<EvalAltResult>);

impl Names<'_> {
    /// Variables whose type follows from the text. A name that is declared twice, assigned to, or a
    /// parameter has none, unless all say the same.
    fn learn_kinds(&mut self, ast: &rhai::AST) {
        let captured = captured(ast);
        let mut untyped: BTreeSet<String> = BTreeSet::new();
        for function in ast.iter_functions() {
            let own = captured.get(function.name).copied().unwrap_or(0);
            untyped.extend(function.params.iter().skip(own).map(|name| (*name).to_owned()));
        }
        // What one variable is follows from others.
        for _ in 0..4 {
            let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
            ast.walk(&mut |path: &[ASTNode]| {
                let (name, kind) = match path.last() {
                    Some(ASTNode::Stmt(Stmt::Var(var, ..))) => {
                        (var.0.name.to_string(), self.kind_of(&var.1))
                    }
                    Some(ASTNode::Stmt(Stmt::For(each, _))) => {
                        untyped.insert(each.0.name.to_string());
                        untyped.extend(each.1.iter().map(|i| i.name.to_string()));
                        return true;
                    }
                    Some(ASTNode::Stmt(Stmt::TryCatch(both, _))) => match &both.expr {
                        Expr::Variable(caught, ..) => (caught.1.to_string(), None),
                        _ => return true,
                    },
                    Some(ASTNode::Stmt(Stmt::Assignment(both))) => match &both.1.lhs {
                        Expr::Variable(name, ..) => (name.1.to_string(), None),
                        _ => return true,
                    },
                    _ => return true,
                };
                let before = found.entry(name).or_insert_with(|| kind.clone());
                if *before != kind {
                    *before = None;
                }
                true
            });
            found.retain(|name, _| !untyped.contains(name));
            let kinds = found.into_iter().filter_map(|(name, kind)| Some((name, kind?))).collect();
            if self.kinds == kinds {
                break;
            }
            self.kinds = kinds;
        }
    }

    /// The type of a value, where the text says it.
    fn kind_of(&self, expr: &Expr) -> Option<String> {
        let kind = match expr {
            Expr::BoolConstant(..) => "bool",
            Expr::IntegerConstant(..) => "int",
            Expr::FloatConstant(..) => "float",
            Expr::StringConstant(..) | Expr::InterpolatedString(..) => "string",
            Expr::Array(..) => "array",
            Expr::Map(..) => "map",
            Expr::Variable(name, ..) if name.2.is_empty() => {
                return self.kinds.get(name.1.as_str()).cloned();
            }
            Expr::FnCall(call, _) if !call.is_operator_call() => {
                return one_kind(
                    self.candidates(call)?.filter(|f| f.params.len() == call.args.len()),
                );
            }
            Expr::Dot(both, ..) => {
                return self.chain(self.kind_of(&both.lhs), &both.rhs, &mut vec![]);
            }
            _ => return None,
        };
        Some(kind.to_owned())
    }

    /// Functions that a call by name could mean; `None` where that is not known.
    fn candidates<'b>(
        &'b self,
        call: &'b FnCallExpr,
    ) -> Option<Box<dyn Iterator<Item = &'b Signature> + 'b>> {
        let name = call.name.as_str();
        let named = move |f: &&Signature| f.name == name;
        let alias = alias_of(call);
        if let Some(module) = self.modules.get(alias).filter(|_| !alias.is_empty()) {
            return Some(Box::new(module.as_ref()?.iter().filter(named)));
        }
        Some(Box::new(self.known.functions(alias).filter(named)))
    }

    /// The type of what a chain of methods and properties ends with, from a value of type `kind`;
    /// what nothing has goes to `found`.
    fn chain(&self, kind: Option<String>, rest: &Expr, found: &mut Vec<Found>) -> Option<String> {
        match rest {
            Expr::Property(name, at) => self.property(kind.as_deref()?, &name.2, *at, found),
            Expr::MethodCall(call, at) => self.method(kind.as_deref(), call, *at, found),
            Expr::Dot(both, ..) => {
                let next = self.chain(kind, &both.lhs, found);
                self.chain(next, &both.rhs, found)
            }
            // An element of something; what follows is looked at by itself.
            Expr::Index(both, ..) => {
                self.chain(kind, &both.lhs, found);
                None
            }
            _ => None,
        }
    }

    fn property(
        &self,
        kind: &str,
        name: &str,
        at: Position,
        found: &mut Vec<Found>,
    ) -> Option<String> {
        if !bind::TYPES.contains(&kind) {
            return None;
        }
        let getter = self.known.getter(kind, name);
        if getter.is_none() {
            let text = format!("Unknown property '{name}' - a getter is not there for '{kind}'");
            found.push((at, EvalAltResult::ErrorDotExpr(text, at).into()));
        }
        getter.filter(|getter| !getter.returns.is_empty()).map(|getter| getter.returns.clone())
    }

    fn method(
        &self,
        kind: Option<&str>,
        call: &FnCallExpr,
        at: Position,
        found: &mut Vec<Found>,
    ) -> Option<String> {
        let (name, count) = (call.name.as_str(), call.args.len());
        if BUILT_IN.contains(&name) || self.keys.contains(name) {
            return None;
        }
        let own = kind.filter(|kind| bind::TYPES.contains(kind));
        let takes = |f: &&Signature| match own {
            None => true,
            Some(own) => f.params.first().is_some_and(|(_, k)| k == own || k == "any"),
        };
        // A function of the script sees the value as `this`.
        let fits = |f: &&Signature| f.params.len() == count + 1 || is_script(f, count);
        let all: Vec<&Signature> = self.known.functions("").filter(|f| f.name == name).collect();
        let fitting: Vec<&Signature> =
            all.iter().copied().filter(|f| fits(f) && (takes(f) || is_script(f, count))).collect();
        if fitting.is_empty() {
            let first = kind.unwrap_or("any").to_owned();
            let kinds = std::iter::once(first).chain(call.args.iter().map(|arg| self.shown(arg)));
            found.push((at, not_found("", name, kinds.collect(), at)));
            return None;
        }
        let method = own.map_or(name.to_owned(), |own| format!("{own}.{name}"));
        found.extend(options(&method, call.args.iter()));
        own?;
        one_kind(fitting.into_iter())
    }

    /// What is wrong with the last node of a path.
    fn mistakes(&self, path: &[ASTNode]) -> Vec<Found> {
        let mut found = vec![];
        match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) => {
                found.extend(self.call(call, *at));
            }
            Some(ASTNode::Expr(dot @ Expr::Dot(both, ..))) => {
                let parent = path.len().checked_sub(2).map(|at| &path[at]);
                let continues = |other: &rhai::BinaryExpr| std::ptr::eq(&other.rhs, *dot);
                match parent {
                    // A part of a chain that was looked at from its beginning.
                    Some(ASTNode::Expr(Expr::Dot(other, ..))) if continues(other) => {}
                    Some(ASTNode::Expr(Expr::Index(other, ..))) if continues(other) => {
                        self.chain(None, &both.rhs, &mut found);
                    }
                    _ => {
                        self.chain(self.kind_of(&both.lhs), &both.rhs, &mut found);
                    }
                }
            }
            _ => {}
        }
        found
    }

    /// What is wrong with a call by name.
    fn call(&self, call: &FnCallExpr, at: Position) -> Vec<Found> {
        let (name, count) = (call.name.as_str(), call.args.len());
        let unknown = call.is_operator_call()
            || BUILT_IN.contains(&name)
            || !name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            || call.capture_parent_scope;
        let alias = alias_of(call);
        let Some(candidates) = self.candidates(call).filter(|_| !unknown) else { return vec![] };
        let full = if alias.is_empty() { name.to_owned() } else { format!("{alias}::{name}") };
        if candidates.into_iter().any(|f| f.params.len() == count) {
            let native = !self.modules.contains_key(alias);
            let wrong = native.then(|| options(&full, call.args.iter()));
            return wrong.flatten().into_iter().collect();
        }
        let kinds = call.args.iter().map(|arg| self.shown(arg)).collect();
        vec![(at, not_found(alias, name, kinds, at))]
    }

    /// A value's type in messages.
    fn shown(&self, arg: &Expr) -> String {
        self.kind_of(arg).unwrap_or_else(|| "any".into())
    }
}

/// The module that a call names, or "".
fn alias_of(call: &FnCallExpr) -> &str {
    if call.namespace.is_empty() { "" } else { call.namespace.root() }
}

/// How many variables each closure takes from outside: they are its first parameters.
fn captured(ast: &rhai::AST) -> BTreeMap<String, usize> {
    let mut captured = BTreeMap::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Expr(Expr::FnCall(call, _))) = path.last()
            && call.name == "curry"
            && let Some(Expr::DynamicConstant(value, _)) = call.args.first()
            && let Some(function) = value.read_lock::<rhai::FnPtr>()
        {
            captured.insert(function.fn_name().to_owned(), call.args.len() - 1);
        }
        true
    });
    captured
}

fn is_script(f: &Signature, count: usize) -> bool {
    f.params.len() == count && f.params.iter().all(|(_, kind)| kind.is_empty())
}

fn not_found(alias: &str, name: &str, kinds: Vec<String>, at: Position) -> Box<EvalAltResult> {
    let path = if alias.is_empty() { name.to_owned() } else { format!("{alias}::{name}") };
    EvalAltResult::ErrorFunctionNotFound(format!("{path} ({})", kinds.join(", ")), at).into()
}

/// What all functions answer with, if that is one type.
fn one_kind<'a>(functions: impl Iterator<Item = &'a Signature>) -> Option<String> {
    let mut kinds: Vec<&str> = functions.map(|f| f.returns.as_str()).collect();
    kinds.dedup();
    match kinds.as_slice() {
        [kind] if !kind.is_empty() && *kind != "any" => Some((*kind).to_owned()),
        _ => None,
    }
}

/// An option of `call` that it does not have, in a map that is written out.
fn options<'a>(call: &str, args: impl Iterator<Item = &'a Expr>) -> Option<Found> {
    let (named, keys) = bind::options_of(call)?;
    let Some(Expr::Map(map, at)) = args.last() else { return None };
    let given = map.0.iter().map(|(key, _)| (key.name.clone().into(), Dynamic::UNIT));
    let error = Options::new(named, given.collect::<Map>(), &keys).err()?;
    let mut error = to_script(&error.into());
    let unknown = map.0.iter().find(|(key, _)| !keys.contains(&key.name.as_str()));
    let at = unknown.map_or(*at, |(key, _)| key.pos);
    error.set_position(at);
    Some((at, error))
}

/// What a script imports, by alias.
fn imports(engine: &Engine, ast: &rhai::AST) -> BTreeMap<String, Option<Vec<Signature>>> {
    let mut modules = BTreeMap::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = path.last() {
            let std = match &import.0 {
                Expr::StringConstant(path, _) => {
                    std_modules().find(|(name, _)| name == path).map(|(_, text)| text)
                }
                _ => None,
            };
            let functions = std.and_then(|text| engine.compile(text).ok());
            let functions = functions.map(|module| public_functions(&module));
            // The same alias twice may mean either.
            let alias = import.1.name.to_string();
            let twice = modules.contains_key(&alias);
            modules.insert(alias, functions.filter(|_| !twice));
        }
        true
    });
    modules
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::host::{engine, testing};
    use crate::session::Limits;

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// What is found in a script: the error without its place.
    fn found(text: &str) -> Option<String> {
        let (host, _) = testing::host(text, Limits::default(), &NEVER);
        let engine = engine::build(&host);
        let ast = engine.compile(text).unwrap();
        let known = Known::collect(&engine, Some(&ast));
        let error = first_mistake(&engine, &ast, &known, text)?;
        Some(match *error {
            EvalAltResult::ErrorRuntime(value, _) => value.cast::<crate::error::Error>().message,
            other => other.to_string(),
        })
    }

    const OPEN: &str = "let model = model::load(\"m\"); let task = data::load(\"d\");\n";

    #[test]
    fn names_that_nothing_has_are_found() {
        for (text, want) in [
            ("model.sav(\"x\");", "sav (model, string)"),
            ("if false { model.merge(); }", "merge (model)"),
            ("for x in [1] { let f = || modl(x); }", "modl (any)"),
            ("fn f(x) { x.nothing() } f(1);", "nothing (any)"),
            ("print(task.tset);", "'tset'"),
            ("let b = model.booster(#{ layers: [0] }); b.ft(task.train, 1);", "ft (booster, "),
            ("let s = task.train; let t = s; t.length;", "'length'"),
            ("let f = |set| model.evalute(set); f.call(task.test);", "evalute (model, any)"),
            ("model.booster(#{ layer: [0] });", "unknown option `layer` of `booster`"),
            ("model.evaluate(task.test, #{ itms: 1 });", "unknown option `itms` of `evaluate`"),
            ("import \"std/policy\" as p; p::unifrom(1);", "p::unifrom (int)"),
            ("import \"std/policy\" as p; p::uniform(1);", "p::uniform (int)"),
            ("[1, 2].sume();", "sume (array)"),
            ("model.sample([\"a\"], #{ beans: 2 });", "unknown option `beans` of `sample`"),
        ] {
            let said = found(&format!("{OPEN}{text}")).unwrap_or_default();
            assert!(said.contains(want), "{text}: {said}");
        }
    }

    #[test]
    fn what_may_be_right_is_let_through() {
        for text in [
            "model.save(\"x\"); let n = task.train.len;",
            "let way = #{ choose: |x| x }; way.choose.call(1); way.choose(2);",
            "let x = 1; x = model; x.save(\"x\");",
            "let model = [1]; model.push(2); model.len();",
            "fn area() { this * 2 } let x = 2; x.area();",
            "let all = [model]; all[0].save(\"x\"); all[0].layers.len();",
            "let keep = #{}; keep.model = model; keep.model.save(\"x\");",
            "let o = #{ itms: 1 }; o.itms += 1; model.evaluate(task.test, o);",
            "let d = \"x\"; d.len; d.to_upper(); let s = `${d}`.len();",
            "let f = Fn(\"abs\"); f.call(-1); f.curry(1);",
            "let s = sampler(\"a\"); s.choose([1], 1)[0] + 1;",
            "let l = switch 1 { 1 => model.layers, _ => [] }; l.len();",
            "try { throw 1; } catch (e) { print(e.anything); }",
            "let e = model; try { e.layers; } catch (e) { print(e.anything); }",
            "1.max(2).min(3).to_float().sqrt();",
        ] {
            assert_eq!(found(&format!("{OPEN}{text}")), None, "{text}");
        }
    }

    /// All recipes, and the modules that they use.
    #[test]
    fn recipes_have_no_mistake() {
        let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["recipes", "stdlib"] {
            for file in std::fs::read_dir(home.join(folder)).unwrap() {
                let path = file.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                assert_eq!(found(&text), None, "{}", path.display());
            }
        }
    }
}
