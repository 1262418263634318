//! The one handle through which natives reach everything outside the script.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device};
use rhai::{Dynamic, NativeCallContext};

use super::console::Console;
use super::guard::Guard;
use super::ledger::{Event, Ledger, Outlook};
use super::limits::Limits;
use super::modules::Sources;
use super::params::Params;
use super::tape::{Next, Tape};
use crate::error::{Class, Error};
use crate::model::Model;
use crate::run::journal::{Asked, Call, Outcome, Record, Timing};
use crate::run::{Begun, Left, Manifest, Run, Summary, Threshold, digest};
use crate::seed::Stream;
use crate::source::{self, Grants, Name, Places};
use crate::sys;

/// What the command line decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The run folder; `None` makes `runs/NAME-TIME`.
    pub out: Option<PathBuf>,
    /// `-p NAME=VALUE`, in the order given.
    pub params: Vec<(String, String)>,
    pub seed: u64,
    pub threads: usize,
    pub device: Device,
    /// Storage type of weights.
    pub dtype: DType,
    /// The recipe may fetch any model and data set from the hub.
    pub allow_hub: bool,
    /// How long a fit goes on before it is kept as it is then.
    pub checkpoint: Duration,
    pub limits: Limits,
    /// Where the names of a run lie that is gone on with.
    pub places: Places,
}

/// Bytes that the memory formula knows of.
#[derive(Default)]
struct Expected {
    /// What the process held before the first pass through a network, less what merges had left
    /// then.
    held: Option<usize>,
    /// What merges have left, by the model's index.
    left: BTreeMap<usize, usize>,
    /// The most of what they had left and a pass took.
    most: usize,
}

/// State of one execution of a recipe, shared by all natives.
pub struct Host {
    pub settings: Settings,
    pub guard: Guard,
    pub console: Arc<dyn Console>,
    pub(super) sources: Arc<Sources>,
    pub(super) params: Mutex<Params>,
    /// Names of the hub that the person agreed to.
    agreed: Mutex<BTreeSet<String>>,
    samplers: Mutex<BTreeMap<String, Arc<Mutex<Stream>>>>,
    run: Mutex<Option<Run>>,
    /// Gives the digest of the run's weights, and the share of the boosters' sum that they show.
    digest: Mutex<Option<Digest>>,
    /// Takes notes where the recipe runs on shapes: nothing is computed, and nothing is written.
    ledger: Option<Mutex<Ledger>>,
    /// The most that the process will hold, by the formula.
    expected: Mutex<Expected>,
    /// The same, in MiB, of the processes before.
    expected_before: OnceLock<f64>,
    /// Calls that the run did before it was taken up.
    tape: Mutex<Tape>,
    /// The run that is taken up, until it is open.
    left: Mutex<Option<Left>>,
    /// Records of calls before there was a run folder.
    waiting: Mutex<Vec<Record>>,
    /// Boosters made so far, over all models.
    boosters: AtomicUsize,
    /// Time spent on keeping what is done: the journal, boosters' files, checkpoints.
    keeping: Mutex<Duration>,
    /// Models loaded or made so far.
    models: AtomicUsize,
    /// What the run must reach.
    pub(super) thresholds: Mutex<Vec<Threshold>>,
    /// Numbers of boosters that are not merged.
    pub(super) unmerged: Arc<AtomicUsize>,
}

/// Calls that may fail before a run folder is made.
const MOST_FAILED: usize = 1000;

type Digest = Box<dyn Fn() -> Result<(String, Option<f64>)> + Send>;

impl Host {
    pub(super) fn new(
        settings: Settings,
        guard: Guard,
        console: Arc<dyn Console>,
        sources: Arc<Sources>,
    ) -> Self {
        let params = Mutex::new(Params::new(settings.params.clone()));
        let (
            samplers,
            run,
            digest,
            expected,
            expected_before,
            tape,
            left,
            waiting,
            boosters,
            keeping,
        ) = Default::default();
        let (agreed, models, unmerged, thresholds) = Default::default();
        Self {
            settings,
            guard,
            console,
            sources,
            params,
            agreed,
            samplers,
            run,
            digest,
            ledger: None,
            expected,
            expected_before,
            tape,
            left,
            waiting,
            boosters,
            keeping,
            models,
            unmerged,
            thresholds,
        }
    }

    /// A host that goes on with the run that `left` tells of.
    pub(super) fn after(self, mut left: Left) -> Self {
        let records = std::mem::take(&mut left.records);
        let Timing { seconds, predicted_peak_mib, .. } =
            records.last().map(Record::timing).unwrap_or_default();
        self.guard.after(seconds);
        if let Some(mib) = predicted_peak_mib {
            let _ = self.expected_before.set(mib);
        }
        *lock(&self.tape) = Tape::new(records);
        *lock(&self.left) = Some(left);
        self
    }

    /// Whether calls are answered from the journal: what is said by the way was said before.
    pub(super) fn is_replaying(&self) -> bool {
        lock(&self.tape).is_running()
    }

    /// What the journal says of a call that comes now.
    pub(super) fn next(&self, asked: &Asked) -> Result<Next, Error> {
        if self.ledger.is_some() { Ok(Next::Live(None)) } else { lock(&self.tape).next(asked) }
    }

    /// Does what keeps a run, and counts its time.
    pub(super) fn keeping<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = body();
        *lock(&self.keeping) += start.elapsed();
        done
    }

    /// Writes a record that is made when its time is known; on shapes there is none.
    pub(super) fn record(&self, record: impl FnOnce(Timing) -> Record) -> Result<()> {
        if self.ledger.is_some() {
            return Ok(());
        }
        let predicted_peak_mib = self.predicted_peak_mib();
        let timing = |metrics| Timing {
            seconds: self.guard.elapsed().as_secs_f64(),
            metrics,
            predicted_peak_mib,
        };
        if let Some(run) = &mut *lock(&self.run) {
            self.sources
                .take_fresh()
                .iter()
                .try_for_each(|(path, text)| run.keep_module(path, text))?;
            let metrics = run.metrics.bytes();
            let most = self.settings.limits.journal;
            if run.journal_bytes() >> 20 >= most as u64 {
                let error = Error::usage(format!(
                    "the run's journal has more than {most} MiB: natives were called too often"
                ));
                return Err(error.hint("raise it with `--limit-journal MIB`").into());
            }
            return self.keeping(|| run.record(&record(timing(metrics))));
        }
        // A recipe that fails before it has done anything leaves no folder behind.
        let record = record(timing(0));
        let good = matches!(&record, Record::Call(Call { outcome: Outcome::Answer(_), .. }));
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= MOST_FAILED {
            return Err(Error::usage(format!(
                "{MOST_FAILED} calls have failed, and none has done anything"
            ))
            .into());
        }
        waiting.push(record);
        drop(waiting);
        if good { self.with_run(|_| Ok(())) } else { Ok(()) }
    }

    /// The number of a booster that is made now.
    pub(super) fn next_booster(&self) -> usize {
        self.boosters.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a model. Errors (class usage): there are too many.
    pub(super) fn count_model(&self) -> Result<(), Error> {
        let most = self.settings.limits.models;
        if self.models.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(());
        }
        Err(Error::usage(format!("a run loads or makes at most {most} models"))
            .hint("raise it with `--limit-models N`"))
    }

    /// A host on which nothing is computed and nothing written.
    pub(super) fn on_shapes(mut self, outlook: Outlook) -> Self {
        self.ledger = Some(Mutex::new(Ledger::new(outlook)));
        self
    }

    /// What measured values are taken to be; `None` where they are measured.
    pub(super) fn outlook(&self) -> Option<Outlook> {
        self.ledger.as_ref().map(|ledger| lock(ledger).outlook)
    }

    /// Notes what a call at `context` would do. Errors once there are too many notes.
    pub(super) fn note(&self, context: &NativeCallContext, event: Event) -> Result<()> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let in_recipe =
            context.call_source().is_none_or(|source| source == self.sources.recipe().name);
        let line = if in_recipe { context.call_position().line() } else { None };
        // A script cannot catch an interrupt.
        if lock(ledger).note(line, event) {
            Ok(())
        } else {
            Err(Error::new(Class::Interrupted, "endless").into())
        }
    }

    /// Says that a pass through a model's network is about to take so many bytes, beside what
    /// merges have left.
    pub(super) fn expect(&self, index: usize, network: &Model, bytes: usize) {
        let left = self.merges_left(index, network);
        let mut expected = lock(&self.expected);
        expected.held.get_or_insert_with(|| sys::resident_bytes().saturating_sub(left));
        expected.most = expected.most.max(left + bytes);
    }

    /// Says what merges have left in a model's network; the bytes of all models.
    pub(super) fn merges_left(&self, index: usize, network: &Model) -> usize {
        let mut expected = lock(&self.expected);
        expected.left.insert(index, network.left_bytes());
        let left = expected.left.values().sum();
        expected.most = expected.most.max(left);
        left
    }

    /// What the memory formula said so far, over all processes.
    fn predicted_peak_mib(&self) -> Option<f64> {
        let expected = lock(&self.expected);
        let now = expected.held.map(|held| (held + expected.most) as f64 / (1 << 20) as f64);
        now.into_iter().chain(self.expected_before.get().copied()).reduce(f64::max)
    }

    pub(super) fn take_ledger(&self) -> Option<Ledger> {
        let ledger = self.ledger.as_ref()?;
        let outlook = lock(ledger).outlook;
        Some(std::mem::replace(&mut *lock(ledger), Ledger::new(outlook)))
    }

    /// Does something with the run folder, which is made at first use: a recipe that fails before
    /// it has done anything leaves none behind.
    pub fn with_run<T>(&self, body: impl FnOnce(&mut Run) -> Result<T>) -> Result<T> {
        let mut run = lock(&self.run);
        let run = match &mut *run {
            Some(run) => run,
            none if self.ledger.is_some() => none.insert(Run::dry(self.manifest()?)?),
            none => {
                let made = match lock(&self.left).take() {
                    Some(left) => left.take_up(self.manifest()?)?,
                    None => Run::create(
                        self.settings.out.as_deref(),
                        self.manifest()?,
                        &self.sources.recipe().text,
                    )?,
                };
                let run = none.insert(made);
                lock(&self.waiting).drain(..).try_for_each(|record| run.record(&record))?;
                run
            }
        };
        body(run)
    }

    /// Notes something in the run.
    pub(super) fn note_in_run(&self, note: impl FnOnce(&mut Run)) -> Result<()> {
        self.with_run(|run| {
            note(run);
            Ok(())
        })
    }

    fn manifest(&self) -> Result<Manifest> {
        let recipe = self.sources.recipe();
        let mut params = lock(&self.params);
        params.close()?;
        Ok(Manifest {
            engine: env!("CARGO_PKG_VERSION").into(),
            recipe: recipe.name.clone(),
            recipe_sha256: digest(recipe.text.as_bytes()),
            parameters: params.json()?,
            given: self.settings.params.clone(),
            seed: self.settings.seed,
            threads: self.settings.threads,
            device: crate::device::name(&self.settings.device),
            dtype: self.settings.dtype.as_str().into(),
            kernels: crate::device::kernels().into(),
            digests: self.sources.digests(),
            models: vec![],
            merge_mode: "exact".into(),
            pre_tokenizer: None,
            begun: Begun::here(),
            template: None,
        })
    }

    /// What the recipe may read when it asks for `name`: the strings that `-p` gave, exactly. A hub
    /// id is fetched only if it is one of them.
    pub(super) fn grants(&self, name: &str) -> Grants {
        let given: Vec<String> = lock(&self.params).given().map(str::to_owned).collect();
        let hub = self.settings.allow_hub || given.iter().any(|g| g == name);
        Grants::new(given, hub)
    }

    /// The path of a name that is a file or folder. Errors: those of [`Grants::check`]; it is not
    /// where it was (class data).
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        self.settings.places.path(name, &self.grants(name))
    }

    /// A path that `-p` gave, whatever its text, and that is the file or folder `place`.
    pub(super) fn given_at(&self, place: &Path) -> Option<PathBuf> {
        let place = place.canonicalize().ok()?;
        let given: Vec<PathBuf> = lock(&self.params).given().map(source::expanded).collect();
        given.into_iter().find(|path| path.canonicalize().is_ok_and(|path| path == place))
    }

    /// Notes in the run where a name lies, if that is a path.
    pub(super) fn note_place(&self, name: &str, found: &Name) -> Result<()> {
        match found {
            Name::Path(path) => self.with_run(|run| {
                run.note_place(name, path, self.settings.places.moved.contains_key(name))
            }),
            _ => Ok(()),
        }
    }

    /// What a name in the recipe stands for: one thing, or in a run that is gone on with several,
    /// of which a digest says which is right. One of the hub that was not given is asked for at the
    /// terminal, once. Errors: those of [`source::resolve`].
    pub(super) fn resolve(&self, name: &str) -> Result<Vec<Name>> {
        let mut grants = self.grants(name);
        let of_hub = || {
            let mut wide = grants.clone();
            wide.hub = true;
            matches!(source::resolve(name, &wide), Ok(Name::Hub { .. }))
        };
        if !grants.hub && self.ledger.is_none() && of_hub() {
            let question =
                format!("The recipe asks for `{name}` from the Hugging Face hub. Fetch it?");
            grants.hub = lock(&self.agreed).contains(name) || self.console.allows(&question);
            self.guard.check()?;
            if grants.hub {
                lock(&self.agreed).insert(name.to_owned());
            }
        }
        self.settings.places.resolve(name, &grants)
    }

    /// Takes the digest of the run's weights when it has ended; the first model loaded is the
    /// run's.
    pub(super) fn at_end(
        &self,
        digest: impl Fn() -> Result<(String, Option<f64>)> + Send + 'static,
    ) {
        lock(&self.digest).get_or_insert_with(|| Box::new(digest));
    }

    /// Writes `summary.json`.
    ///
    /// Errors (class usage): the run did more before it was taken up.
    pub(super) fn finish(&self) -> Result<Summary> {
        if self.is_replaying() {
            return Err(Error::usage(
                "the recipe ends here, but the run went further before it stopped",
            )
            .hint(
                "a run goes on as it began; `--from-round N` keeps the first N boosters and goes \
                 on as the recipe now says",
            )
            .into());
        }
        let digest = lock(&self.digest).as_ref().map(|digest| digest()).transpose()?;
        let seconds = self.guard.elapsed().as_secs_f64();
        let predicted = self.predicted_peak_mib();
        self.with_run(|run| {
            if let Some((digest, captured)) = digest {
                (run.training.weights_digest, run.training.captured) = (Some(digest), captured);
            }
            run.training.predicted_peak_mib = predicted;
            run.outcomes = lock(&self.thresholds)
                .iter()
                .map(|threshold| threshold.outcome(&run.evaluations))
                .collect();
            run.training.keeping_seconds = lock(&self.keeping).as_secs_f64();
            run.finish(seconds, true)
        })
    }

    /// Brings to the disk what a run did before it failed.
    pub(super) fn failed(&self) {
        if let Some(run) = &mut *lock(&self.run) {
            // Why it failed is what its user must read; what is not on the disk is only less to
            // look at.
            let _ = run.sync();
        }
    }

    /// Closes the run folder of a run that was interrupted, if there is one, and says where it is.
    /// The weights were not final, so there is no digest of them.
    pub(super) fn interrupted(&self) -> Error {
        let said = |text: String| Error::new(Class::Interrupted, text);
        let replaying = self.is_replaying();
        let Some(run) = &mut *lock(&self.run) else {
            return said("interrupted before anything was written".into());
        };
        run.interrupted = true;
        let (folder, steps) = (run.folder.path().display().to_string(), run.training.steps);
        let steps = format!("{steps} training step{}", if steps == 1 { "" } else { "s" });
        let error = match run.finish(self.guard.elapsed().as_secs_f64(), !replaying) {
            Ok(_) => said(format!(
                "interrupted after {steps}; what was done until then is in the run folder \
                 `{folder}`"
            )),
            Err(e) => said(format!(
                "interrupted after {steps}; the run folder `{folder}` has no summary: {e:#}"
            )),
        };
        error.hint(format!("`xgbrun --resume {folder}` goes on"))
    }

    /// The stream of the sampler called `name`; asking again goes on where it is.
    /// Errors (class usage): there are too many.
    pub(super) fn sampler(&self, name: &str) -> Result<Arc<Mutex<Stream>>, Error> {
        /// Each has a stream of its own, which is kept.
        const MOST: usize = 1000;
        let mut samplers = lock(&self.samplers);
        if samplers.len() >= MOST && !samplers.contains_key(name) {
            return Err(Error::usage(format!("a recipe has at most {MOST} samplers")));
        }
        let stream =
            || Arc::new(Mutex::new(Stream::new(self.settings.seed, &format!("sampler/{name}"))));
        Ok(samplers.entry(name.to_owned()).or_insert_with(stream).clone())
    }
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

/// A lock that a panic elsewhere does not close: what it guards is consistent between calls.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
