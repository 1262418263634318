//! `import`: the embedded standard library as `std/NAME`, and modules beside the recipe. Nothing
//! else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use rhai::{
    Dynamic, Engine, EvalAltResult, GlobalRuntimeState, Module, ModuleResolver, Position, Scope,
    Shared,
};

use super::script_error::to_script;
use super::signature::Signature;
use crate::error::{Error, bail, did_you_mean, error, nearest};
use crate::run::digest;
use crate::session::lock;

/// How the engine begins the names that it gives to closures.
pub(super) const CLOSURE: &str = "anon$";

/// The standard library: name and text, part of the program.
const STD: [(&str, &str); 7] = [
    ("std/boost", include_str!("../../stdlib/boost.rhai")),
    ("std/glue", include_str!("../../stdlib/glue.rhai")),
    ("std/grid", include_str!("../../stdlib/grid.rhai")),
    ("std/growth", include_str!("../../stdlib/growth.rhai")),
    ("std/policy", include_str!("../../stdlib/policy.rhai")),
    ("std/schedule", include_str!("../../stdlib/schedule.rhai")),
    ("std/stop", include_str!("../../stdlib/stop.rhai")),
];

/// The standard library's modules: name and text.
pub(super) fn std_modules() -> impl Iterator<Item = (&'static str, &'static str)> {
    STD.into_iter()
}

/// Names of the standard library's modules.
pub(super) fn std_names() -> impl Iterator<Item = &'static str> {
    STD.iter().map(|(name, _)| *name)
}

/// The functions that a module offers.
pub(super) fn public_functions(ast: &rhai::AST) -> Vec<Signature> {
    let public = ast.iter_functions().filter(|f| f.access.is_public());
    public.map(|f| Signature::of_script(&f)).collect()
}

/// How many modules beside the recipe a hint lists.
const LISTED: usize = 8;

/// The most lines of a script, and the longest line.
const MOST_LINES: usize = 60_000;
const LONGEST_LINE: usize = 10_000;
/// The largest recipe or module, in bytes.
const LARGEST: u64 = 1 << 20;

/// A script's text and the functions it defines.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// As messages name it: a path as written, or `std/NAME`.
    pub name: String,
    pub text: String,
    pub functions: Vec<Signature>,
}

/// All scripts of one run: the recipe and what it imported.
#[derive(Debug)]
pub struct Sources {
    recipe: Source,
    folder: PathBuf,
    /// Where a run that is taken up keeps the modules that it had imported.
    kept: Option<PathBuf>,
    /// Modules from beside the recipe that no run keeps yet: path and text.
    fresh: Mutex<Vec<(String, String)>>,
    /// By the name under which they are imported.
    imported: Mutex<BTreeMap<String, Source>>,
}

impl Sources {
    /// Reads the recipe at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = read_script(path, &name)?;
        let folder = path.parent().map_or(PathBuf::new(), Path::to_path_buf);
        Ok(Self::new(name, text, folder))
    }

    pub fn new(name: impl Into<String>, text: impl Into<String>, folder: PathBuf) -> Self {
        let recipe = Source { name: name.into(), text: text.into(), functions: vec![] };
        Self { recipe, folder, kept: None, fresh: Mutex::default(), imported: Mutex::default() }
    }

    /// The same, with modules that lie in `folder` instead.
    pub fn kept_in(self, folder: PathBuf) -> Self {
        Self { kept: Some(folder), ..self }
    }

    /// The script that a closure was written in, by the name that the engine gave it: an error says
    /// where it was called.
    pub fn with_closure(&self, closure: &str) -> Option<String> {
        if !closure.starts_with(CLOSURE) {
            return None;
        }
        let mut engine = Engine::new_raw();
        engine.set_max_expr_depths(0, 0);
        let is_in = |source: &Source| {
            let ast = engine.compile(&source.text);
            ast.is_ok_and(|ast| ast.iter_functions().any(|f| f.name == closure))
        };
        let imported = lock(&self.imported);
        let mut all = std::iter::once(&self.recipe).chain(imported.values());
        all.find(|source| is_in(source)).map(|source| source.name.clone())
    }

    /// Modules from beside the recipe since the last call: path and text.
    pub fn take_fresh(&self) -> Vec<(String, String)> {
        std::mem::take(&mut lock(&self.fresh))
    }

    pub fn recipe(&self) -> &Source {
        &self.recipe
    }

    /// The source that messages call `name`.
    pub fn named(&self, name: &str) -> Option<Source> {
        if name == self.recipe.name {
            return Some(self.recipe.clone());
        }
        lock(&self.imported).values().find(|s| s.name == name).cloned()
    }

    /// The module imported as `path`.
    pub fn module(&self, path: &str) -> Option<Source> {
        let imported = lock(&self.imported).get(path).cloned();
        imported.or_else(|| {
            // One that nothing has imported yet.
            let (name, text) = std_modules().find(|(name, _)| *name == path)?;
            let functions = public_functions(&Engine::new_raw().compile(text).ok()?);
            Some(Source { name: name.into(), text: text.into(), functions })
        })
    }

    /// SHA-256 of the modules read from beside the recipe.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let imported = lock(&self.imported);
        imported
            .iter()
            .filter(|(p, _)| !p.starts_with("std/"))
            .map(|(p, s)| (p.clone(), digest(s.text.as_bytes())))
            .collect()
    }

    /// The text of module `path`, from the program or from beside the recipe.
    fn find(&self, path: &str) -> Result<Source> {
        if let Some((name, text)) = STD.iter().find(|(name, _)| *name == path) {
            return Ok(Source { name: (*name).into(), text: (*text).into(), functions: vec![] });
        }
        let plain = |c: Component| match c {
            Component::Normal(part) => part.to_str().is_some_and(|p| !p.contains(['\\', '\0'])),
            _ => false,
        };
        if path.is_empty() || !Path::new(path).components().all(plain) {
            bail!(
                Usage,
                "module `{path}` is not a plain name";
                hint: "a module is `std/NAME` or lies beside the recipe"
            );
        }
        if path.starts_with("std/") {
            return Err(self.unknown(path).into());
        }
        let script = format!("{path}.rhai");
        let home = match &self.kept {
            Some(kept) if kept.join(&script).is_file() => kept,
            _ if self.folder.as_os_str().is_empty() => Path::new("."),
            _ => &self.folder,
        };
        let (Ok(real), Ok(home)) = (home.join(&script).canonicalize(), home.canonicalize()) else {
            return Err(self.unknown(path).into());
        };
        if !real.starts_with(&home) {
            bail!(Usage, "module `{path}` leads out of the recipe's folder");
        }
        let name = self.folder.join(script).display().to_string();
        let text = read_script(&real, &name)?;
        lock(&self.fresh).push((path.to_owned(), text.clone()));
        Ok(Source { text, name, functions: vec![] })
    }

    fn unknown(&self, path: &str) -> Error {
        let beside = self.beside();
        let mut known: Vec<&str> = std_names().collect();
        known.extend(beside.iter().map(String::as_str));
        let near = did_you_mean(path, known.iter().copied());
        let error = error!(Usage, "unknown module `{path}`{near}");
        if beside.len() <= LISTED {
            return error.hint(format!("one of {}", known.join(", ")));
        }
        error.hint(format!(
            "one of {}, or a script beside the recipe",
            std_names().collect::<Vec<_>>().join(", ")
        ))
    }

    /// Modules that lie in the recipe's folder, the recipe itself aside.
    fn beside(&self) -> Vec<String> {
        let home = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let own = Path::new(&self.recipe.name).file_stem().map(|s| s.to_os_string());
        let mut names: Vec<String> = fs::read_dir(home)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| PathBuf::from(e.file_name()))
            .filter(|p| {
                p.extension().is_some_and(|e| e == "rhai") && p.file_stem() != own.as_deref()
            })
            .filter_map(|p| p.file_stem().and_then(|s| s.to_str()).map(str::to_owned))
            .collect();
        names.sort();
        names
    }
}

/// Says that there is no script at `path`, and which of its folder has nearly the same name.
fn missing(path: &Path, name: &str) -> Error {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let beside = |file: PathBuf| folder.map_or(file.clone(), |folder| folder.join(file));
    let mut recipes: Vec<String> = entries
        .map(|entry| PathBuf::from(entry.file_name()))
        .filter(|file| file.extension().is_some_and(|ending| ending == "rhai"))
        .filter_map(|file| beside(file).to_str().map(str::to_owned))
        .collect();
    recipes.sort();
    let stem = |path: &str| Path::new(path).file_stem().map(|stem| stem.to_owned());
    // The name alone is compared: the folder is right, and an ending may be left out.
    let names: Vec<String> =
        recipes.iter().filter_map(|path| stem(path)?.into_string().ok()).collect();
    let wanted = stem(name).unwrap_or_default();
    let near = nearest(&wanted.to_string_lossy(), names.iter().map(String::as_str));
    let near = near.and_then(|near| recipes.iter().find(|path| stem(path) == Some(near.into())));
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    error!(Usage, "cannot read `{name}`: there is no such file{near}")
}

/// Reads a script: a plain file of UTF-8, not larger than a script can be.
fn read_script(path: &Path, name: &str) -> Result<String> {
    let fail = |why: String| error!(Usage, "cannot read `{name}`: {why}");
    let about = fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => missing(path, name),
        _ => fail(e.to_string()),
    })?;
    if !about.is_file() {
        return Err(fail("it is not a file".into()).into());
    }
    if about.len() > LARGEST {
        return Err(
            fail(format!("it has {} bytes, a script has at most {LARGEST}", about.len())).into()
        );
    }
    let mut bytes = fs::read(path).map_err(|e| fail(e.to_string()))?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        bail!(
            Usage,
            "cannot read `{name}`: it is UTF-16, and a script is UTF-8";
            hint: "save it with the encoding UTF-8"
        );
    }
    // Some editors begin a file of UTF-8 with a byte order mark.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| fail(format!("it is not UTF-8 (at byte {})", e.utf8_error().valid_up_to())))?;
    // Beyond, the engine's positions are no longer right.
    if let Some((at, line)) =
        text.lines().enumerate().find(|(at, line)| *at >= MOST_LINES || line.len() > LONGEST_LINE)
    {
        let found = if line.len() > LONGEST_LINE {
            format!("line {} has {} bytes", at + 1, line.len())
        } else {
            "it has more".into()
        };
        return Err(fail(format!(
            "a script has at most {MOST_LINES} lines of {LONGEST_LINE} bytes; {found}"
        ))
        .into());
    }
    Ok(text)
}

/// Serves `import` from [`Sources`]; each module is compiled and run once.
pub(super) struct Resolver {
    sources: Arc<Sources>,
    loaded: Mutex<BTreeMap<String, Shared<Module>>>,
    /// Modules being loaded, outermost first, to tell a circle.
    loading: Mutex<Vec<String>>,
}

impl Resolver {
    pub(super) fn new(sources: Arc<Sources>) -> Self {
        Self { sources, loaded: Mutex::default(), loading: Mutex::default() }
    }

    fn load(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        path: &str,
    ) -> Result<Module, Box<EvalAltResult>> {
        let mut source = self.sources.find(path).map_err(|e| to_script(&e))?;
        let name = source.name.clone();
        lock(&self.sources.imported).insert(path.into(), source.clone());
        let mut ast = engine.compile(&source.text).map_err(|e| in_module(&name, e.into()))?;
        ast.set_source(name.as_str());
        source.functions = ast.iter_functions().map(|f| Signature::of_script(&f)).collect();
        lock(&self.sources.imported).insert(path.into(), source);
        let module = Module::eval_ast_as_new_raw(engine, &mut Scope::new(), global, &ast);
        module.map_err(|e| in_module(&name, e))
    }

    fn enter(&self, path: &str) -> Result<(), Error> {
        let mut loading = lock(&self.loading);
        if loading.iter().any(|p| p == path) {
            return Err(error!(
                Usage,
                "module `{path}` imports itself: {} → {path}",
                loading.join(" → ")
            ));
        }
        loading.push(path.into());
        Ok(())
    }
}

fn in_module(name: &str, error: Box<EvalAltResult>) -> Box<EvalAltResult> {
    EvalAltResult::ErrorInModule(name.into(), error, Position::NONE).into()
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        _source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        self.resolve_raw(
            engine,
            &mut engine.new_global_runtime_state(),
            &mut Scope::new(),
            path,
            position,
        )
    }

    fn resolve_raw(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        _scope: &mut Scope,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        if let Some(module) = lock(&self.loaded).get(path) {
            return Ok(module.clone());
        }
        let at = |mut e: Box<EvalAltResult>| {
            e.set_position(position);
            e
        };
        self.enter(path)
            .map_err(|e| at(EvalAltResult::ErrorRuntime(Dynamic::from(e), position).into()))?;
        let module = self.load(engine, global, path);
        lock(&self.loading).pop();
        let mut module = module.map_err(at)?;
        module.build_index();
        let module = Shared::new(module);
        lock(&self.loaded).insert(path.into(), module.clone());
        Ok(module)
    }
}
