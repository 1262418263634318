//! What natives reach: the session, and what belongs to the script alone.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use rhai::{Dynamic, Map, NativeCallContext};

use super::modules::Sources;
use super::params::Params;
use super::replay::{Next, Replay};
use super::script_work::ScriptWork;
use crate::error::{Error, bail};
use crate::model::meta::Assume;
use crate::run::journal::{NativeCall, Record};
use crate::run::{Left, Manifest, Run, Summary, digest};
use crate::session::{self, Begin, Console, Guard, Session, Settings, lock};

/// One execution of a recipe.
pub struct Host {
    pub session: Session,
    pub(super) sources: Arc<Sources>,
    pub(super) params: Arc<Mutex<Params>>,
    /// Calls that the run did before it was taken up.
    replay: Mutex<Replay>,
    /// What the script computes by itself.
    pub(super) work: ScriptWork,
}

impl Host {
    /// A host that runs the recipe of `sources`, or goes on with the run that `left` tells of.
    pub(super) fn new(
        settings: Settings,
        guard: Guard,
        console: Arc<dyn Console>,
        sources: Arc<Sources>,
        mut left: Option<Left>,
    ) -> Self {
        let records = left.as_mut().map(|left| std::mem::take(&mut left.records));
        let records = records.unwrap_or_default();
        let earlier = records.last().map(Record::timing);
        let params = Arc::new(Mutex::new(given(&settings)));
        let begin = begin(settings.clone(), sources.clone(), params.clone(), left);
        let session = Session::with(settings, guard, console, begin);
        if let Some(earlier) = earlier {
            session.after(earlier);
        }
        Self {
            session,
            sources,
            params,
            replay: Mutex::new(Replay::new(records)),
            work: ScriptWork::default(),
        }
    }

    /// A host on which nothing is computed and nothing written.
    pub(super) fn on_shapes(
        settings: Settings,
        guard: Guard,
        sources: Arc<Sources>,
        assume: Assume,
    ) -> Self {
        let params = Arc::new(Mutex::new(given(&settings)));
        let (asked, recipe, own) = (settings.clone(), sources.clone(), params.clone());
        let begin = Box::new(move || Run::dry(manifest(&asked, &recipe, &own)?));
        let session = Session::on_shapes(settings, guard, begin, assume);
        Self { session, sources, params, replay: Mutex::default(), work: ScriptWork::default() }
    }

    /// Declares the recipe's parameters; their values, and from here on what was given may be read.
    pub(super) fn declare(&self, defaults: Map) -> Result<Map> {
        let mut params = lock(&self.params);
        let values = params.declare(defaults)?;
        let of_file = params.of_file().map(|(name, parameter)| (name.into(), parameter.into()));
        let given = params.given().map(str::to_owned).collect();
        self.session.names.grant(given, of_file.collect());
        Ok(values)
    }

    /// Whether calls are answered from the journal: what is said by the way was said before.
    pub(super) fn is_replaying(&self) -> bool {
        lock(&self.replay).is_running()
    }

    /// What the journal says of a call that comes now.
    pub(super) fn next(&self, asked: &NativeCall) -> Result<Next, Error> {
        lock(&self.replay).next(asked)
    }

    /// Keeps modules from beside the recipe that no run keeps yet.
    pub(super) fn keep_modules(&self) -> Result<()> {
        let kept = self.session.run.if_open(|run| {
            let fresh = self.sources.take_fresh();
            fresh.iter().try_for_each(|(path, text)| run.keep_module(path, text))
        });
        kept.unwrap_or(Ok(()))
    }

    /// Writes `summary.json`.
    ///
    /// Errors (class usage): the run did more before it was taken up.
    pub(super) fn finish(&self) -> Result<Summary> {
        if self.is_replaying() {
            bail!(
                Usage,
                "the recipe ends here, but the run went further before it stopped";
                hint: "a run goes on as it began; `--from-round N` keeps the first N boosters and \
                       goes on as the recipe now says"
            );
        }
        // Modules that were imported before there was a run folder.
        self.session.run.with(|_| Ok(()))?;
        self.keep_modules()?;
        self.session.finish()
    }

    /// Brings to the disk what a run did before it failed. How to go on from there, where it has
    /// trained something.
    pub(super) fn failed(&self) -> Option<String> {
        let kept = self.session.run.if_open(|run| {
            // Why it failed is what its user must read; what is not on the disk is only less to
            // look at.
            let kept = run.sync().is_ok() && run.training.steps > 0;
            kept.then(|| run.folder.path().display().to_string())
        });
        let folder = kept??;
        Some(format!(
            "what was done until here is kept: correct `{folder}/recipe.rhai`, and `xgbrun \
             --resume {folder}` goes on from it"
        ))
    }

    /// Closes the run folder of a run that was interrupted, if there is one, and says where it is.
    pub(super) fn interrupted(&self) -> Error {
        self.session.interrupted(!self.is_replaying())
    }
}

/// The parameters that the command line gives.
fn given(settings: &Settings) -> Params {
    Params::new(settings.params.clone(), settings.params_of_file.clone())
}

/// What begins the run of a recipe, or takes up the one that was left.
fn begin(
    settings: Settings,
    sources: Arc<Sources>,
    params: Arc<Mutex<Params>>,
    mut left: Option<Left>,
) -> Begin {
    Box::new(move || {
        let manifest = manifest(&settings, &sources, &params)?;
        match left.take() {
            Some(left) => left.take_up(manifest),
            None => Run::draft(settings.out.as_deref(), manifest, &sources.recipe().text),
        }
    })
}

fn manifest(settings: &Settings, sources: &Sources, params: &Mutex<Params>) -> Result<Manifest> {
    let recipe = sources.recipe();
    let mut params = lock(params);
    params.close()?;
    Ok(Manifest {
        recipe: recipe.name.clone(),
        recipe_sha256: digest(recipe.text.as_bytes()),
        parameters: params.json()?,
        digests: sources.digests(),
        ..session::manifest(settings)
    })
}

/// A [`Host`] as the engine's tag.
#[derive(Clone)]
struct Handle(Arc<Host>);

pub(super) fn tag(host: Arc<Host>) -> Dynamic {
    Dynamic::from(Handle(host))
}

/// The host behind a native call.
pub(super) fn host(context: &NativeCallContext) -> Result<Arc<Host>, Box<rhai::EvalAltResult>> {
    let handle = context.tag().and_then(|t| t.clone().try_cast::<Handle>());
    handle.map(|h| h.0).ok_or_else(|| "this engine runs without a host".into())
}
