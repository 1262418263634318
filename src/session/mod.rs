//! Boosting from Rust: models, boosters and data, and what is done with them. Recipes and the
//! command line do all they do through it.
//!
//! A [`Session`] is one run. It loads [`Model`]s and data; a model gives [`Booster`]s, which are
//! fitted on a [`Set`] and merged. All of them are handles: copies are the same.
//!
//! A session on shapes ([`Session::on_shapes`]) goes the same ways over models without numbers: it
//! writes nothing, its clock measures nothing, and what it would do is noted as [`Event`]s.

mod ask;
mod booster;
mod call;
mod console;
mod create;
mod data;
mod dry_run;
mod ensemble;
mod evaluate;
mod expected;
mod export;
mod fit;
mod generate;
mod guard;
mod head;
mod held;
mod kept;
mod limits;
mod load;
mod merge;
mod model;
mod names;
mod open_run;
mod part;
mod probe;
mod progress;
mod reads;
mod sampler;
mod save;
mod set;
mod settings;
mod similarity;
mod start;
mod stats;
mod sweep;
mod watched;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;

pub use ask::{EncodedQuestion, Reply, winner};
pub use booster::{Booster, BoosterOptions, Learner};
pub use call::{CallContext, Effects};
pub use console::{Console, Progress, Silent, TrainingStep, plain};
pub use create::MOST_LAYERS;
pub use data::{DataOptions, Task, mix};
pub use dry_run::{DryRun, Event, Note, Opened, PlannedFit};
pub use ensemble::Snapshot;
pub use evaluate::{EvaluateOptions, Measurement};
pub use fit::MOST_SEQUENCES;
pub use guard::Guard;
pub use head::HeadOptions;
pub(crate) use held::lock;
pub use limits::Limits;
pub use load::LoadOptions;
pub use model::Model;
pub use open_run::Begin;
pub use part::{ItemSource, Part, PromptFormat};
pub use sampler::Sampler;
pub use set::Set;
pub use settings::Settings;
pub use watched::Watched;

use crate::error::{Class, Error, error};
use crate::model::meta::Assume;
use crate::run::journal::{Record, Timing};
use crate::run::{Begun, Manifest, Run, Summary, Threshold, Watch};
use crate::seed::Stream;
use call::CurrentCall;
use expected::Expected;
use names::Names;
use open_run::OpenRun;

/// One run of boosting; copies are the same.
#[derive(Clone)]
pub struct Session(Arc<SessionParts>);

/// What a session is made of.
pub struct SessionParts {
    pub settings: Settings,
    pub guard: Guard,
    pub console: Arc<dyn Console>,
    /// What names may be read, and where they lie.
    pub names: Names,
    /// The run folder.
    pub run: OpenRun,
    /// The call that is being done, as the journal will tell it.
    pub call: CurrentCall,
    /// What the memory formula says.
    expected: Expected,
    /// Streams of chance, by name.
    samplers: Mutex<BTreeMap<String, Arc<Mutex<Stream>>>>,
    /// What the run must reach.
    thresholds: Mutex<Vec<Threshold>>,
    /// Gives the digest of the run's weights, and the share of the boosters' sum that they show.
    digest: Mutex<Option<Digest>>,
    counts: Counts,
    /// Takes notes where nothing is computed and nothing written.
    dry_run: Option<Mutex<DryRun>>,
}

/// How much there is of what is bounded.
#[derive(Default)]
struct Counts {
    /// Models loaded or made so far.
    models: AtomicUsize,
    /// Tasks measured so far.
    measured: AtomicUsize,
    /// Boosters made so far, over all models.
    boosters: AtomicUsize,
    /// Numbers of boosters that are not merged.
    unmerged: Arc<AtomicUsize>,
}

type Digest = Box<dyn Fn() -> Result<(String, Option<f64>)> + Send>;

impl Deref for Session {
    type Target = SessionParts;

    fn deref(&self) -> &SessionParts {
        &self.0
    }
}

impl Session {
    /// A session that says nothing on the way, reads what it is told to, and writes its run folder
    /// where `settings` say.
    pub fn new(settings: Settings) -> Self {
        let begin = own_run(settings.clone());
        let guard = Guard::new(&settings.limits, guard::never());
        let session = Self::with(settings, guard, Arc::new(Silent), begin);
        session.names.grant_everything();
        session
    }

    /// A session that keeps nothing: for measuring and asking. It reads what it is told to.
    pub fn unrecorded(settings: Settings, guard: Guard, console: Arc<dyn Console>) -> Self {
        let own = settings.clone();
        let begin = Box::new(move || Run::dry(manifest(&own)));
        let session = Self::with(settings, guard, console, begin);
        session.names.grant_everything();
        session
    }

    /// A session whose run `begin` begins at first use. It may read what `Names::grant`
    /// grants.
    pub fn with(settings: Settings, guard: Guard, console: Arc<dyn Console>, begin: Begin) -> Self {
        Self(Arc::new(Self::parts(settings, guard, console, begin, None)))
    }

    /// A session that takes notes of what it would do. Measured values are as `assume` says.
    pub fn on_shapes(settings: Settings, guard: Guard, begin: Begin, assume: Assume) -> Self {
        let dry_run = Some(Mutex::new(DryRun::new(assume)));
        Self(Arc::new(Self::parts(settings, guard, Arc::new(Silent), begin, dry_run)))
    }

    fn parts(
        settings: Settings,
        guard: Guard,
        console: Arc<dyn Console>,
        begin: Begin,
        dry_run: Option<Mutex<DryRun>>,
    ) -> SessionParts {
        SessionParts {
            names: Names::new(&settings),
            run: OpenRun::new(begin),
            call: CurrentCall::default(),
            expected: Expected::default(),
            samplers: Mutex::default(),
            thresholds: Mutex::default(),
            digest: Mutex::default(),
            counts: Counts::default(),
            settings,
            guard,
            console,
            dry_run,
        }
    }

    /// Counts what earlier processes did of the same run: `seconds` of time, and what the memory
    /// formula said.
    pub fn after(&self, earlier: Timing) {
        self.guard.after(earlier.seconds);
        self.expected.after(earlier.predicted_peak_mib);
    }

    /// Writes `summary.json` and the report, and answers with the summary.
    pub fn finish(&self) -> Result<Summary> {
        let digest = lock(&self.digest).as_ref().map(|digest| digest()).transpose()?;
        let seconds = self.guard.elapsed().as_secs_f64();
        let predicted = self.expected.peak_mib();
        let keeping = self.run.keeping_seconds();
        self.run.with(|run| {
            if let Some((digest, captured)) = digest {
                (run.training.weights_digest, run.training.captured) = (Some(digest), captured);
            }
            run.training.predicted_peak_mib = predicted;
            run.ending.outcomes = lock(&self.thresholds)
                .iter()
                .map(|threshold| threshold.outcome(&run.evaluations))
                .collect();
            run.training.keeping_seconds = keeping;
            run.finish(seconds, true)
        })
    }

    /// Closes the run folder of a run that was interrupted, if there is one, and says where it is.
    /// The weights were not final, so there is no digest of them. Until it is `through` what it did
    /// before it was taken up, its files may be needed yet.
    pub fn interrupted(&self, through: bool) -> Error {
        let said = |text: String| Error::new(Class::Interrupted, text);
        let seconds = self.guard.elapsed().as_secs_f64();
        let closed = self.run.if_open(|run| {
            run.ending.interrupted = true;
            let (folder, steps) = (run.folder.path().display().to_string(), run.training.steps);
            let steps = format!("{steps} training step{}", if steps == 1 { "" } else { "s" });
            let error = match run.finish(seconds, through) {
                Ok(_) => said(format!(
                    "interrupted after {steps}; what was done until then is in the run folder \
                     `{folder}`"
                )),
                Err(e) => said(format!(
                    "interrupted after {steps}; the run folder `{folder}` has no summary: {e:#}"
                )),
            };
            error.hint(format!("`xgbrun --resume {folder}` goes on"))
        });
        closed.unwrap_or_else(|| said("interrupted before anything was written".into()))
    }

    /// Asks that the run reaches something.
    pub fn threshold(&self, threshold: Threshold) {
        lock(&self.thresholds).push(threshold);
    }

    /// Has the run look out for what does harm; what it sees is noted. On shapes there is nothing
    /// to see.
    fn watch(&self, look: impl FnOnce(&mut Watch) -> Option<String>) -> Result<()> {
        if self.dry_run.is_some() {
            return Ok(());
        }
        self.run.with(|run| {
            let Some(warning) = run.watched(look) else { return Ok(()) };
            self.console.note(&warning);
            run.log_kept("warning", &warning)
        })
    }

    /// What measured values are taken to be; `None` where they are measured.
    pub fn assume(&self) -> Option<Assume> {
        self.dry_run.as_ref().map(|notes| lock(notes).assume)
    }

    /// Notes what would be done, where nothing is. Errors once there are too many notes.
    fn observe(&self, event: impl FnOnce() -> Event) -> Result<()> {
        let Some(notes) = &self.dry_run else { return Ok(()) };
        // A script cannot catch an interrupt.
        if lock(notes).note(self.call.line(), event()) {
            Ok(())
        } else {
            Err(Error::new(Class::Interrupted, "endless").into())
        }
    }

    /// The notes so far, which are then gone; `None` where things are done.
    pub fn take_notes(&self) -> Option<DryRun> {
        let notes = self.dry_run.as_ref()?;
        let assume = lock(notes).assume;
        Some(std::mem::replace(&mut *lock(notes), DryRun::new(assume)))
    }

    /// Writes a file; on shapes nothing is written.
    fn write<T: Default>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.dry_run.is_some() { Ok(T::default()) } else { write() }
    }

    /// Writes a file that keeps what is done, and counts the time; gives its SHA-256.
    fn keep(&self, write: impl FnOnce() -> Result<String>) -> Result<String> {
        self.run.keeping(|| self.write(write))
    }

    /// Writes a record that is made when its time is known; on shapes there is none.
    pub fn record(&self, record: impl FnOnce(Timing) -> Record) -> Result<()> {
        if self.dry_run.is_some() {
            return Ok(());
        }
        let (seconds, predicted_peak_mib) =
            (self.guard.elapsed().as_secs_f64(), self.expected.peak_mib());
        let timing = |metrics| Timing { seconds, metrics, predicted_peak_mib };
        self.run.record(self.settings.limits.journal, |metrics| record(timing(metrics)))
    }

    /// Keeps how far the call is that is being done.
    fn checkpoint(&self, state: Effects) -> Result<()> {
        match self.call.checkpoint(state) {
            Some(checkpoint) => self.record(checkpoint),
            None => Ok(()),
        }
    }

    /// Says that a pass through a model's network is about to take so many bytes, beside what
    /// merges have left. The formula is that of the CPU; of other devices it says nothing.
    fn expect(&self, index: usize, network: &crate::model::Model, bytes: usize) {
        if self.settings.device.is_cpu() {
            self.expected.pass(index, network, bytes);
        }
    }

    /// Says what merges have left in a model's network; the bytes of all models.
    fn merges_left(&self, index: usize, network: &crate::model::Model) -> usize {
        self.expected.merges_left(index, network)
    }

    /// Takes the digest of the run's weights when it has ended; the first model loaded is the
    /// run's.
    fn at_end(&self, digest: impl Fn() -> Result<(String, Option<f64>)> + Send + 'static) {
        lock(&self.digest).get_or_insert_with(|| Box::new(digest));
    }

    /// The number of a booster that is made now.
    fn next_booster(&self) -> usize {
        self.counts.boosters.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a model. Errors (class usage): there are too many.
    fn count_model(&self) -> Result<(), Error> {
        let most = self.settings.limits.models;
        if self.counts.models.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(());
        }
        Err(error!(
            Usage,
            "a run loads or makes at most {most} models";
            hint: "raise it with `--limit-models N`"
        ))
    }
}

/// What `run.json` says of a session, before anything is read.
pub fn manifest(settings: &Settings) -> Manifest {
    Manifest {
        engine: env!("CARGO_PKG_VERSION").into(),
        given: settings.params.clone(),
        given_in_file: settings.params_of_file.clone(),
        seed: settings.seed,
        threads: settings.threads,
        device: crate::device::name(&settings.device),
        card: crate::device::card(&settings.device),
        dtype: settings.dtype.as_str().into(),
        kernels: crate::device::kernels().into(),
        merge_mode: "exact".into(),
        begun: Begun::here(),
        ..Manifest::default()
    }
}

/// The run of a session that no recipe drives.
fn own_run(settings: Settings) -> Begin {
    Box::new(move || {
        let manifest = Manifest { recipe: "session".into(), ..manifest(&settings) };
        Run::draft(settings.out.as_deref(), manifest, "")
    })
}
