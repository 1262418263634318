//! Runs a recipe from its first line to its last.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use rhai::{Engine, Scope};

use super::context::Host;
use super::diagnostics::{Known, Report};
use super::engine;
use super::modules::Sources;
use super::precheck;
use crate::error::{Class, class_of};
use crate::memory;
use crate::model::meta::Assume;
use crate::run::{Evaluations, Left, Summary, Training};
use crate::session::{Console, DryRun, Guard, Settings, lock};

/// Stack of the thread that runs a script: room for the deepest values and calls that the limits
/// allow. It is reserved, not used.
const STACK: usize = 512 << 20;

/// What a finished run leaves.
#[derive(Debug)]
pub struct Finished {
    pub folder: PathBuf,
    /// The recipe, as it was named.
    pub recipe: String,
    /// The first model loaded, as the recipe named it.
    pub model: Option<String>,
    pub summary: Summary,
    pub training: Training,
    pub evaluations: Evaluations,
}

/// Runs the recipe at `path` and writes its run folder.
///
/// A mistake in the recipe comes back as a [`Report`]. After an interrupt the folder holds what was
/// done until then, with a summary that says so.
pub fn run(
    path: &Path,
    settings: Settings,
    console: Arc<dyn Console>,
    interrupt: &'static AtomicBool,
) -> Result<Finished> {
    let guard = Guard::new(&settings.limits, interrupt);
    conclude(Host::new(settings, guard, console, Arc::new(Sources::read(path)?), None))
}

/// Goes on with the run that `left` tells of, as [`run`] would have. Recipe and modules are those
/// that the run keeps; a module that it had not imported yet is read from beside the recipe that it
/// was made of.
pub fn resume(
    left: Left,
    settings: Settings,
    console: Arc<dyn Console>,
    interrupt: &'static AtomicBool,
) -> Result<Finished> {
    let guard = Guard::new(&settings.limits, interrupt);
    let beside =
        Path::new(&left.manifest.recipe).parent().map_or(PathBuf::new(), Path::to_path_buf);
    // The recipe was named from the folder that the run was begun in.
    let then = left.manifest.begun.as_ref().map(|begun| Path::new(&begun.folder).join(&beside));
    let folder = then.filter(|then| beside.is_relative() && then.is_dir()).unwrap_or(beside);
    let sources = Sources::new(left.manifest.recipe.clone(), left.recipe.clone(), folder);
    let sources = Arc::new(sources.kept_in(left.modules()));
    conclude(Host::new(settings, guard, console, sources, Some(left)))
}

fn conclude(host: Host) -> Result<Finished> {
    let host = Arc::new(host);
    execute(&host).map_err(|error| {
        if class_of(&error) == Class::Interrupted {
            return host.interrupted().into();
        }
        let kept = host.failed();
        match error.downcast::<Report>() {
            Ok(report) => report.with_kept(kept).into(),
            Err(error) => error,
        }
    })?;
    let summary = host.finish()?;
    let recipe = host.sources.recipe().name.clone();
    host.session.run.with(|run| {
        let model = run.model().map(str::to_owned);
        let (folder, training, evaluations) =
            (run.folder.path().to_path_buf(), run.training.clone(), run.evaluations.clone());
        Ok(Finished { folder, recipe, model, summary, training, evaluations })
    })
}

/// Runs the recipe at `path` on shapes: all names, types, options, layers and data files are looked
/// at as in a run, but no weights are read, nothing is computed and nothing is written. Measured
/// values are as `assume` says.
///
/// A mistake in the recipe comes back as a [`Report`].
pub fn examine(
    path: &Path,
    settings: Settings,
    assume: Assume,
    interrupt: &'static AtomicBool,
) -> Result<DryRun> {
    let guard = Guard::new(&settings.limits, interrupt);
    let sources = Arc::new(Sources::read(path)?);
    let host = Arc::new(Host::on_shapes(settings, guard, sources, assume));
    let done = execute(&host);
    let notes = host.session.take_notes().context("the recipe was not run on shapes")?;
    match done {
        Err(_) if notes.endless => Ok(notes),
        done => done.map(|()| notes),
    }
}

/// Runs the script of `host`, on a thread with a large stack.
pub(super) fn execute(host: &Arc<Host>) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("recipe".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || script(host));
        let thread = thread.context("cannot start a thread for the recipe")?;
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the recipe's thread ended without an answer")))
    })
}

fn script(host: &Arc<Host>) -> Result<()> {
    memory::begin_script();
    let engine = engine::build(host);
    let recipe = host.sources.recipe();
    let report = |known: &Known, e: &rhai::EvalAltResult| {
        Report::of(e, &host.sources, known, &host.session.settings.limits)
    };
    let mut ast =
        engine.compile(&recipe.text).map_err(|e| report(&known(&engine, None), &e.into()))?;
    ast.set_source(recipe.name.as_str());
    if !host.is_replaying() {
        let known = known(&engine, Some(&ast));
        if let Some(mistake) = precheck::first_mistake(&engine, &ast, &known, &recipe.text) {
            return Err(report(&known, &mistake).into());
        }
    }
    let ran = engine.run_ast_with_scope(&mut Scope::new(), &ast);
    ran.map_err(|e| report(&known(&engine, Some(&ast)), &e))?;
    lock(&host.params).close()
}

fn known(engine: &Engine, ast: Option<&rhai::AST>) -> Known {
    Known::collect(engine, ast)
}
