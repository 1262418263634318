//! `xgbrun plan RECIPE`: layers, parameters, operations, memory and time of each round, before
//! anything is trained.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::Result;
use candle_core::{DType, Device};

use super::args::PlanArgs;
use super::check::{depends, examined};
use crate::device::{compute_dtype_on, free_bytes};
use crate::error::{Class, Error};
use crate::model::cost::{NetworkCost, Rates, Work};
use crate::model::{HeadConfig, MergeMode};
use crate::run::grouped;
use crate::session::{DryRun, Event, Opened, PlannedFit, Settings};
use crate::sys::resident_bytes;
use crate::train::GradientCheckpointing;
use crate::train::memory::{reference_bytes, step_bytes, trained_bytes};

/// How long the calibration may take.
const CALIBRATION: Duration = Duration::from_millis(300);

const MIB: f64 = (1 << 20) as f64;

pub fn run(args: PlanArgs) -> Result<()> {
    let before = resident_bytes();
    let gpu = args.asked.on_gpu();
    let settings = if gpu { args.asked.settings_for_gpu()? } else { args.asked.settings(None)? };
    // `auto` may have found one.
    let (gpu, device) = (gpu || !settings.device.is_cpu(), settings.device.clone());
    let settings = Settings { device: Device::Cpu, ..settings };
    let (good, bad) = examined(&args.asked, &settings)?;
    let free = || if gpu && device.is_cpu() { None } else { free_bytes(&device) };
    let available =
        args.memory.map_or_else(|| free().map(|b| b as f64 / MIB), |mib| Some(mib as f64));
    // What the process holds now beyond what it began with are the recipe's data and tokenizer.
    let held = Held {
        program: before as f64 / MIB,
        data: resident_bytes().saturating_sub(before) as f64 / MIB,
        gpu,
        available,
    };
    let rates = if gpu && device.is_cpu() { None } else { calibrate(&good, &device)? };
    let plan = Plan::of(&good, &held, rates.as_ref());
    let mut lines = plan.lines(args.rounds);
    if let Some(line) = good.differs(&bad) {
        let other = Plan::of(&bad, &held, rates.as_ref());
        lines.push(depends(line));
        lines.push(plan.range(&other, good.endless || bad.endless));
    }
    writeln!(stdout(), "{}", lines.join("\n"))?;
    match available {
        Some(available) if plan.peak() > available => Err(plan.too_large(available).into()),
        _ => Ok(()),
    }
}

/// A round's fits together.
struct Round {
    layers: Vec<usize>,
    steps: usize,
    now: u64,
    total: u64,
    tokens: usize,
    flops: f64,
    /// Of a step of its largest batch, in MiB.
    step: f64,
    seconds: f64,
}

/// Memory that a recipe takes before it computes, in MiB.
struct Held {
    program: f64,
    data: f64,
    /// Whether the run is on a GPU, whose memory is then planned, not the machine's.
    gpu: bool,
    /// What there is, where it is known.
    available: Option<f64>,
}

/// What the driver, the kernels and cuBLAS hold of a GPU's memory, in MiB: an estimate.
const ON_GPU: f64 = 600.0;

/// The part of the memory that merges leave: the rests of 16-bit weights, or boosters beside
/// weights that stay as they are.
const LEFT: &str = "what merges left";

struct Plan {
    model: Option<Opened>,
    rounds: Vec<Round>,
    /// Parts of the memory in MiB, in the order of their appearance.
    parts: Vec<(&'static str, f64)>,
    /// Seconds of measurements and generated texts.
    evaluation: f64,
    evaluations: usize,
    /// Whether gradients are formed again in some fit.
    gradient_checkpointing: bool,
    gpu: bool,
    available: Option<f64>,
    /// Whether seconds are known.
    timed: bool,
}

/// The models that a recipe opens, the run's own first, each with the head that it gets.
fn models(dry_run: &DryRun) -> Vec<&Opened> {
    let mut all: Vec<&Opened> = vec![];
    for note in &dry_run.notes {
        match &note.event {
            Event::Model(model) => all.push(model),
            Event::Head(model) => {
                if let Some(own) = all.iter_mut().rfind(|own| own.name == model.name) {
                    *own = model;
                }
            }
            _ => {}
        }
    }
    all
}

/// Times the run's model; `None` where there is none.
fn calibrate(dry_run: &DryRun, device: &Device) -> Result<Option<Rates>> {
    let headless = |m: &&&Opened| m.architecture.common().head == HeadConfig::Base;
    let Some(m) = models(dry_run).first().copied().filter(|m| !headless(&m)) else {
        return Ok(None);
    };
    // Batches of the size that most of the work has.
    let sizes = dry_run.notes.iter().filter_map(|n| match &n.event {
        Event::Fit(fit) => Some((fit.work, fit.batches)),
        Event::Evaluate { work, passes, .. } => Some((*work, *passes)),
        _ => None,
    });
    let (work, batches) =
        sizes.fold((Work::default(), 0), |(all, n), (work, batches)| (all.and(work), n + batches));
    let tokens = (work.tokens / batches.max(1)).clamp(64, 512);
    // Σ length² / 2 over Σ length gives the length that matters to the attention.
    let length = (2 * work.pairs / work.tokens.max(1)).clamp(8, tokens);
    let cpu = device.is_cpu();
    let dtype = if cpu { compute_dtype_on(m.storage, false) } else { m.storage };
    Rates::measure(&*m.architecture, dtype, device, (tokens, length), CALIBRATION).map(Some)
}

impl Plan {
    fn of(dry_run: &DryRun, held: &Held, rates: Option<&Rates>) -> Self {
        let mut plan = Self {
            model: models(dry_run).first().copied().cloned(),
            rounds: vec![],
            parts: match held.gpu {
                true => vec![("CUDA", ON_GPU)],
                false => vec![("program", held.program), ("data and tokenizer", held.data)],
            },
            evaluation: 0.0,
            evaluations: 0,
            gradient_checkpointing: false,
            gpu: held.gpu,
            available: held.available,
            timed: rates.is_some() || models(dry_run).is_empty(),
        };
        if let Some(m) = plan.model.clone() {
            let weights: usize =
                models(dry_run).iter().map(|m| m.parameters * m.storage.size_in_bytes()).sum();
            plan.parts.push(("weights", weights as f64 / MIB));
            plan.fill(&m, dry_run, rates);
        }
        plan
    }

    fn fill(&mut self, m: &Opened, dry_run: &DryRun, rates: Option<&Rates>) {
        let mut rounds: BTreeMap<usize, Round> = BTreeMap::new();
        let (mut total, mut factors, mut left) = (0, 0f64, 0f64);
        // What merges left, boosters, and a step, where the sum is largest.
        let mut most = [0f64; 3];
        let mut at = |left: f64, factors: f64, step: f64| {
            if left + factors + step > most.iter().sum() {
                most = [left, factors, step];
            }
        };
        for note in &dry_run.notes {
            match &note.event {
                Event::Fit(fit) => {
                    total += fit.parameters;
                    let again = self.forms_again(m, fit);
                    let bytes = self.pass_mib(m, fit.largest, fit.lowest, again);
                    // Dense copies are merged through a difference.
                    let trained = trained_bytes(fit.parameters as usize, DType::F32, fit.state);
                    factors = factors.max((trained as f64 + fit.dense as f64 * 4.0) / MIB);
                    at(left, factors, bytes);
                    self.gradient_checkpointing |= again;
                    let round =
                        rounds.entry(fit.round).or_insert_with(|| Round::new(&fit.layers, total));
                    round.add(fit, total, bytes, &m.cost, rates);
                }
                Event::Merge { left: bytes } | Event::Took { left: bytes } => {
                    left = *bytes as f64 / MIB;
                    at(left, factors, 0.0);
                }
                Event::Evaluate { passes, work, largest, .. } => {
                    let layers = m.cost.blocks.len();
                    at(left, factors, self.pass_mib(m, *largest, layers, false));
                    self.evaluation +=
                        rates.map_or(0.0, |r| r.forward_seconds(layers, *work, *passes));
                    self.evaluations += 1;
                }
                Event::Generate { prompts, tokens } => {
                    let work = Work {
                        tokens: prompts * tokens,
                        rows: prompts * tokens,
                        pairs: prompts * tokens * tokens / 2,
                        longest: tokens * tokens,
                    };
                    let layers = m.cost.blocks.len();
                    self.evaluation +=
                        rates.map_or(0.0, |r| r.forward_seconds(layers, work, *tokens));
                }
                _ => {}
            }
        }
        self.parts.extend(
            [LEFT, "booster and optimizer", "largest step"]
                .into_iter()
                .zip(most)
                .filter(|(name, mib)| *name != LEFT || *mib > 0.0),
        );
        self.rounds = rounds.into_values().collect();
    }

    /// Whether a fit forms activations again.
    fn forms_again(&self, m: &Opened, fit: &PlannedFit) -> bool {
        if !self.gpu || fit.gradient_checkpointing != GradientCheckpointing::Auto {
            return fit.forms_again;
        }
        // As the fit decides by what is free then.
        let free = self.available.map(|available| available - self.peak());
        free.is_some_and(|free| self.pass_mib(m, fit.largest, fit.lowest, false) > free / 2.0)
    }

    /// Of a pass down to layer `lowest`, in MiB.
    fn pass_mib(&self, m: &Opened, work: Work, lowest: usize, again: bool) -> f64 {
        let compute = compute_dtype_on(m.storage, self.gpu);
        let bytes = step_bytes(&m.cost, compute, work.tokens, work.rows, lowest, again);
        let more = if self.gpu { reference_bytes(&m.cost, work) } else { 0 };
        (bytes + more) as f64 / MIB
    }

    /// What the best and the worst case come to.
    fn range(&self, other: &Self, endless: bool) -> String {
        let more = if endless { " or more" } else { "" };
        let range = |a: f64, b: f64| format!("{:.0} to {:.0}", a.min(b), a.max(b));
        let rounds = range(self.rounds.len() as f64, other.rounds.len() as f64);
        let seconds = match self.timed {
            true => format!("{} s{more}, ", range(self.seconds(), other.seconds())),
            false => String::new(),
        };
        format!(
            "so the plan holds for the best case; over all cases: {rounds} rounds{more}, \
             {seconds}peak {} MiB",
            range(self.peak(), other.peak())
        )
    }

    fn peak(&self) -> f64 {
        self.parts.iter().map(|(_, mib)| mib).sum()
    }

    fn seconds(&self) -> f64 {
        self.evaluation + self.rounds.iter().map(|r| r.seconds).sum::<f64>()
    }

    /// The plan in lines; of many rounds the first and the last few, unless all are asked for.
    fn lines(&self, all: bool) -> Vec<String> {
        let mut lines = vec![];
        if let Some(m) = &self.model {
            let weights = grouped(m.parameters as u64);
            lines.push(format!(
                "{}: {} layers, {weights} weights, {} bytes each",
                m.name,
                m.cost.blocks.len(),
                m.storage.size_in_bytes()
            ));
        }
        if !self.rounds.is_empty() {
            let header = [
                "round",
                "layers",
                "steps",
                "trained now",
                "in total",
                "tokens",
                "GFLOP",
                "step MiB",
                "seconds",
            ];
            let few = self.rounds.len() > 8 && !all;
            let row = |(i, r): (usize, &Round)| r.row(i, self.timed);
            let mut rows: Vec<[String; 9]> = vec![header.map(str::to_owned)];
            if few {
                rows.extend(self.rounds.iter().enumerate().take(3).map(row));
                rows.push(["…"; 9].map(str::to_owned));
                rows.extend(self.rounds.iter().enumerate().skip(self.rounds.len() - 2).map(row));
            } else {
                rows.extend(self.rounds.iter().enumerate().map(row));
            }
            lines.extend(table(&rows));
            if few {
                lines.push(format!("{} rounds; `--rounds` shows all of them", self.rounds.len()));
            }
        }
        let peak = self.peak();
        let share =
            |(name, mib): &(&str, f64)| format!("{name} {mib:.0} ({:.0} %)", 100.0 * mib / peak);
        lines.push(format!(
            "peak memory{} {peak:.0} MiB: {}",
            if self.gpu { " of the GPU" } else { "" },
            self.parts.iter().map(share).collect::<Vec<_>>().join(", ")
        ));
        if !self.timed {
            lines.push("time is not planned: it is measured on the GPU, and none is used".into());
            return lines;
        }
        let training = self.seconds() - self.evaluation;
        lines.push(format!(
            "time {:.0} s: training {training:.0}, {} evaluations {:.0}",
            self.seconds(),
            self.evaluations,
            self.evaluation
        ));
        lines
    }

    /// What to lower, largest part first.
    fn too_large(&self, available: f64) -> Error {
        let largest =
            self.parts.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or("", |(name, _)| *name);
        let advice = match largest {
            "weights" if self.model.as_ref().is_some_and(|m| m.storage.size_in_bytes() > 2) => {
                "take a smaller model, or `--dtype bf16`"
            }
            "weights" => "take a smaller model",
            LEFT if self.model.as_ref().is_some_and(|m| m.merge_mode == MergeMode::None) => {
                "merge into fewer layers or targets, or boosters of lower rank"
            }
            LEFT => {
                "merge into fewer layers or targets; 16-bit weights keep what rounding leaves of \
                 them in f32, unless `merge_mode` is \"naive\""
            }
            "data and tokenizer" => "take fewer items, or `stream: true` for large files",
            "booster and optimizer" => "train fewer layers or a lower rank",
            _ if !self.gradient_checkpointing => {
                "lower `batch` (and raise `accumulate`) or `max_length`, or set \
                 `gradient_checkpointing: \"on\"`"
            }
            _ => "lower `batch` or `max_length`, or choose higher layers",
        };
        let message = format!(
            "the plan needs {:.0} MiB, and {available:.0} MiB are free; the most goes to {largest}",
            self.peak()
        );
        Error::new(Class::Threshold, message).hint(advice)
    }
}

impl Round {
    fn new(layers: &[usize], total: u64) -> Self {
        Self {
            layers: layers.to_vec(),
            steps: 0,
            now: 0,
            total,
            tokens: 0,
            flops: 0.0,
            step: 0.0,
            seconds: 0.0,
        }
    }

    fn add(
        &mut self,
        fit: &PlannedFit,
        total: u64,
        step: f64,
        cost: &NetworkCost,
        rates: Option<&Rates>,
    ) {
        self.steps += fit.steps;
        self.now = fit.parameters;
        self.total = total;
        self.tokens += fit.work.tokens;
        self.flops +=
            cost.forward_flops(fit.work) + cost.backward_flops(fit.work, fit.lowest, fit.dense);
        self.step = self.step.max(step);
        let layers = cost.blocks.len();
        let dense = fit.dense > 0;
        self.seconds +=
            rates.map_or(0.0, |r| r.step_seconds(layers, fit.work, fit.batches, fit.lowest, dense));
    }

    fn row(&self, i: usize, timed: bool) -> [String; 9] {
        let n = |n: usize| grouped(n as u64);
        [
            i.to_string(),
            shown(&self.layers),
            n(self.steps),
            grouped(self.now),
            grouped(self.total),
            n(self.tokens),
            format!("{:.1}", self.flops / 1e9),
            format!("{:.0}", self.step),
            if timed { format!("{:.1}", self.seconds) } else { "–".into() },
        ]
    }
}

/// `2, 5`, and `0–29` for a run of neighbours.
fn shown(layers: &[usize]) -> String {
    match layers {
        [first, .., last] if layers.len() > 3 && last - first + 1 == layers.len() => {
            format!("{first}–{last}")
        }
        layers => layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Columns to the right.
fn table(rows: &[[String; 9]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..9).map(width).collect();
    rows.iter()
        .map(|row| {
            row.iter()
                .zip(&widths)
                .map(|(cell, w)| format!("{cell:>w$}"))
                .collect::<Vec<_>>()
                .join("  ")
        })
        .collect()
}
