//! A training step of xgbrun beside one of PyTorch + PEFT, run in turns on the same machine.
//!
//!     cargo bench --bench peer -- --model DIR --python PATH --peer DIR/peft_step_bench.py
//!         [--pairs 3] [--threads N]
//!
//! Both train a booster of rank 1 on the seven linear modules of layers 9 and 20, f32, 4 × 128
//! random tokens, AdamW: two steps to warm up, a merge, eight steps that count. `DIR` is a Hugging
//! Face folder. Each engine is a process of its own, so that memory and start belong to it alone.
//! Speeds are medians over steps; the ratio is the median over pairs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use xgbrun::seed::Stream;

const BATCH: usize = 4;
const SEQUENCE: usize = 128;
const STEPS: usize = 8;
const WARM_UP: usize = 2;
/// Rows of random tokens; a tenth is held out for validation.
const ROWS: usize = 100;

#[derive(Debug, Parser)]
struct Args {
    /// Model as a Hugging Face folder
    #[arg(long)]
    model: PathBuf,
    /// Python of the environment that has torch, transformers and peft
    #[arg(long)]
    python: PathBuf,
    /// The peer's script, peft_step_bench.py
    #[arg(long)]
    peer: PathBuf,
    /// Pairs of runs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Threads of either engine [default: the machine's cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one engine did in one run.
struct Measured {
    tokens_per_second: f64,
    peak_mib: f64,
    /// From the start of the process to the end of its first step.
    first_step: f64,
    /// Cores used by all else on the machine meanwhile.
    others: f64,
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("no number `{key}` in {value}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

/// CPU seconds that the machine was busy, and that finished children of this process used.
fn cpu_seconds() -> Result<(f64, f64)> {
    // Linux counts both in hundredths of a second (USER_HZ).
    let fields = |text: &str, skip: usize| -> Vec<f64> {
        text.split_whitespace().skip(skip).filter_map(|f| f.parse().ok()).collect()
    };
    let stat = std::fs::read_to_string("/proc/stat")
        .context("how busy the machine is can be read on Linux only")?;
    let all = fields(stat.lines().next().unwrap_or_default(), 1);
    let own = std::fs::read_to_string("/proc/self/stat")?;
    let own = fields(own.rsplit_once(')').map_or("", |(_, rest)| rest), 2);
    ensure!(all.len() >= 8 && own.len() > 12, "/proc/stat is not as expected");
    let busy = all[..8].iter().sum::<f64>() - all[3] - all[4];
    Ok((busy / 100.0, (own[11] + own[12]) / 100.0))
}

/// Runs `command`, which must succeed; answers with its output and the cores that all else used
/// meanwhile.
fn timed(command: &mut Command) -> Result<(Vec<u8>, f64)> {
    let (start, (busy, own)) = (Instant::now(), cpu_seconds()?);
    let output = command
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (busy_after, own_after) = cpu_seconds()?;
    let others = ((busy_after - busy) - (own_after - own)).max(0.0) / start.elapsed().as_secs_f64();
    Ok((output.stdout, others))
}

/// A file of random token ids, the same each time.
fn data(folder: &std::path::Path, vocabulary: usize) -> Result<PathBuf> {
    let mut stream = Stream::new(0, "peer");
    let row = |_| {
        json!({ "ids": (0..SEQUENCE).map(|_| stream.below(vocabulary)).collect::<Vec<_>>() })
            .to_string()
            + "\n"
    };
    let path = folder.join("train.jsonl");
    std::fs::write(&path, (0..ROWS).map(row).collect::<String>())?;
    Ok(path)
}

fn ours(args: &Args, data: &std::path::Path) -> Result<Measured> {
    let out = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/step.rhai"))
        .args(["--quiet", "--device", "cpu", "--dtype", "f32", "--out"]);
    command.arg(out.path()).args([
        "-p",
        &format!("model={}", args.model.display()),
        "-p",
        &format!("data={}", data.display()),
    ]);
    command.args([
        "-p",
        &format!("steps={STEPS}"),
        "-p",
        &format!("batch={BATCH}"),
        "-p",
        "layers=[9, 20]",
    ]);
    if let Some(threads) = args.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    let (_, others) = timed(&mut command)?;
    let lines = std::fs::read_to_string(out.path().join("metrics.jsonl"))?;
    let points: Vec<Value> =
        lines.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?;
    let steps: Vec<&Value> = points.iter().filter(|p| !p["step"].is_null()).collect();
    ensure!(
        steps.len() == WARM_UP + STEPS,
        "{} steps were logged, not {}",
        steps.len(),
        WARM_UP + STEPS
    );
    let seconds = steps[WARM_UP..]
        .iter()
        .map(|p| number(&p["timing"], "step_seconds"))
        .collect::<Result<_>>()?;
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.path().join("summary.json"))?)?;
    Ok(Measured {
        tokens_per_second: (BATCH * SEQUENCE) as f64 / median(seconds),
        peak_mib: number(&summary["timing"], "peak_rss_mib")?,
        first_step: number(&steps[0]["timing"], "seconds")?,
        others,
    })
}

fn theirs(args: &Args) -> Result<Measured> {
    let mut command = Command::new(&args.python);
    command
        .arg(&args.peer)
        .arg("--model")
        .arg(&args.model)
        .args(["--method", "xgblora", "--pick", "9,20"]);
    for (name, value) in [
        ("--batch", BATCH),
        ("--seq", SEQUENCE),
        ("--steps", STEPS),
        ("--kappa", STEPS),
        ("--warmup", WARM_UP),
    ] {
        command.args([name, &value.to_string()]);
    }
    if let Some(threads) = args.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    let (stdout, others) = timed(&mut command)?;
    let line: Value =
        serde_json::from_slice(&stdout).context("the peer did not print one JSON object")?;
    Ok(Measured {
        tokens_per_second: number(&line, "tokens_per_s_median")?,
        peak_mib: number(&line, "peak_rss_mib")?,
        first_step: number(&line, "start_to_first_step_s")?,
        others,
    })
}

fn row(name: &str, m: &Measured) {
    println!(
        "| {name} | {:.0} | {:.0} | {:.2} | {:.2} |",
        m.tokens_per_second, m.peak_mib, m.first_step, m.others
    );
}

fn main() -> Result<()> {
    let args = Args::parse();
    let config: Value = serde_json::from_str(
        &std::fs::read_to_string(args.model.join("config.json"))
            .context("the model's config.json")?,
    )?;
    let folder = tempfile::tempdir()?;
    let data = data(folder.path(), number(&config, "vocab_size")? as usize)?;

    println!(
        "| run | tokens/s | peak MiB | s to first step | others' cores |\n| --- | ---: | ---: | \
         ---: | ---: |"
    );
    let mut pairs = vec![];
    for pair in 1..=args.pairs {
        // Who goes first changes, so that a machine that slows down favours neither.
        let (we, they) = if pair % 2 == 1 {
            let we = ours(&args, &data)?;
            (we, theirs(&args)?)
        } else {
            let they = theirs(&args)?;
            (ours(&args, &data)?, they)
        };
        row(&format!("{pair}: xgbrun"), &we);
        row(&format!("{pair}: PyTorch + PEFT"), &they);
        pairs.push((we, they));
    }
    let ratio = |part: fn(&Measured) -> f64| {
        median(pairs.iter().map(|(we, they)| part(we) / part(they)).collect())
    };
    let (speed, memory, start) =
        (ratio(|m| m.tokens_per_second), ratio(|m| m.peak_mib), ratio(|m| m.first_step));
    println!("| median ratio | {speed:.2} | {memory:.2} | {start:.2} | |\n");

    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("machine: {cpu}, {cores} cores, {} threads", args.threads.unwrap_or(cores));
    let busiest = pairs.iter().flat_map(|(we, they)| [we.others, they.others]).fold(0.0, f64::max);
    if busiest > 0.1 {
        println!(
            "up to {busiest:.2} cores were busy with other work: distrust these figures above 0.1"
        );
    }
    Ok(())
}
