//! `xgbrun gpu-check`: what a GPU computes, held against the CPU, a line a check. In programs with
//! CUDA only; tests/gpu/check.sh calls it on a machine that has one.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};

use crate::data::Split;
use crate::device;
use crate::error::{bail, error, hint_of};
use crate::ops::contract;
use crate::seed::Stream;
use crate::session::{BoosterOptions, DataOptions, LoadOptions, Model, Session, Set, Settings};
use crate::train::optim::{AdamW, Sgd};
use crate::train::{FitOptions, GradientCheckpointing};

/// Compare what a GPU computes with the CPU
#[derive(Debug, clap::Parser)]
#[command(name = "xgbrun gpu-check", about)]
pub struct GpuCheckArgs {
    /// Which checks; all without a name
    checks: Vec<String>,
    /// The device that is held against the CPU
    #[arg(long, default_value = "cuda")]
    device: String,
    /// A folder for what is written on the way
    #[arg(long, default_value = "gpu-check")]
    out: PathBuf,
    /// Print the checks' names
    #[arg(long)]
    list: bool,
}

/// Where and with what a check is done.
struct Place {
    device: Device,
    name: String,
    out: PathBuf,
}

type Check = fn(&Place) -> Result<String>;

/// In their order: what the others stand on comes first.
const CHECKS: [(&str, Check); 9] = [
    ("device", opened),
    ("product", product),
    ("ops", ops),
    ("booster-f32", |place| booster(place, DType::F32, 1e-4)),
    ("booster-bf16", |place| booster(place, DType::BF16, 0.05)),
    ("generate", generate),
    ("resume", resume),
    ("leak", leak),
    ("memory", memory),
];

/// Prints a line a check. Errors (class run) where one failed.
pub fn run(args: &GpuCheckArgs) -> Result<()> {
    if args.list {
        return say(&CHECKS.map(|(name, _)| name).join("\n"));
    }
    let known = |name: &String| CHECKS.iter().any(|(own, _)| own == name);
    if let Some(name) = args.checks.iter().find(|name| !known(name)) {
        bail!(Usage, "there is no check `{name}`; there are {}", CHECKS.map(|c| c.0).join(", "));
    }
    let device = device::select(&args.device)?.device;
    let place = Place { device, name: args.device.clone(), out: args.out.clone() };
    std::fs::create_dir_all(&place.out)?;
    let mut failed = 0;
    for (name, check) in CHECKS {
        if !args.checks.is_empty() && !args.checks.iter().any(|chosen| chosen == name) {
            continue;
        }
        let started = Instant::now();
        let found = check(&place);
        let seconds = started.elapsed().as_secs_f64();
        failed += usize::from(found.is_err());
        match found {
            Ok(what) => say(&format!("ok     {name:<13} {seconds:>6.2} s  {what}"))?,
            Err(error) => say(&format!("FAILED {name:<13} {seconds:>6.2} s  {error:#}"))?,
        }
    }
    if failed > 0 { Err(error!(Run, "{failed} of the checks failed").into()) } else { Ok(()) }
}

fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The driver's library that was loaded, and that the device is there.
fn opened(place: &Place) -> Result<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let library = maps.lines().filter_map(|line| line.split_whitespace().last());
    let mut library = library.filter(|path| path.contains("/libcuda.so"));
    let one = Tensor::ones(3, DType::F32, &place.device)?.sum_all()?.to_scalar::<f32>()?;
    ensure!(one == 3.0, "1 + 1 + 1 is {one}");
    Ok(format!("{}, {}", device::name(&place.device), library.next().unwrap_or("no libcuda")))
}

fn random(stream: &mut Stream, shape: (usize, usize)) -> Result<Tensor> {
    let values: Vec<f64> = (0..shape.0 * shape.1).map(|_| stream.normal()).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// A product in f32 and bf16 against f64 on the CPU, and whether it gives the same bits twice.
fn product(place: &Place) -> Result<String> {
    let mut stream = Stream::new(1, "gpu-check");
    let (a, b) = (random(&mut stream, (384, 512))?, random(&mut stream, (640, 512))?);
    let (size, mut found) = (512f64.sqrt(), vec![]);
    for (dtype, bound) in [(DType::F32, 5e-5), (DType::BF16, 0.02)] {
        let on = |t: &Tensor| t.to_dtype(dtype)?.to_device(&place.device);
        let (x, w) = (on(&a)?, on(&b)?);
        let (first, second) = (x.matmul(&w.t()?)?, x.matmul(&w.t()?)?);
        let back = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let want = back(&x)?.matmul(&back(&w)?.t()?)?;
        let apart = largest(&(back(&first)? - want)?)? / size;
        ensure!(apart < bound, "off by {apart:.1e} in {}", dtype.as_str());
        ensure!(largest(&(back(&first)? - back(&second)?)?)? == 0.0, "two products differ");
        found.push(format!("{} off by {apart:.1e}", dtype.as_str()));
    }
    Ok(found.join(", "))
}

fn largest(t: &Tensor) -> Result<f64> {
    Ok(t.to_dtype(DType::F64)?.abs()?.flatten_all()?.max(0)?.to_scalar()?)
}

/// Every op in every type, by twin and reference.
fn ops(place: &Place) -> Result<String> {
    let (mut wrong, mut count) = (vec![], 0);
    for (name, found) in contract::rows_on(&place.device) {
        count += 1;
        match found {
            Ok(apart) => say(&format!("         {name}: {apart}"))?,
            Err(error) => {
                say(&format!("         {name}: FAILED, {error:#}"))?;
                wrong.push(name);
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {count}: {}", wrong.len(), wrong.join(", "));
    Ok(format!("{count} rows"))
}

/// The embedded model on a device, what it trains on, and the session's folder.
fn micro(device: &Device, dtype: DType, out: &Path) -> Result<(Session, Model, Set)> {
    let _ = std::fs::remove_dir_all(out);
    let settings = Settings {
        out: Some(out.to_path_buf()),
        device: device.clone(),
        dtype,
        ..Settings::default()
    };
    let session = Session::new(settings);
    let model = session.load("builtin:micro", &LoadOptions::default())?;
    let train = session.data("builtin:microworld/piqa", &DataOptions::default())?;
    let train = train.split(Split::Train)?;
    Ok((session, model, train))
}

/// Losses of a booster's steps: the first by plain descent, which shows the gradient in the second.
fn losses(device: &Device, dtype: DType, out: &Path) -> Result<Vec<f64>> {
    let (session, model, train) = micro(device, dtype, out)?;
    let booster = model.booster(&BoosterOptions::low_rank(vec![1, 3], 1))?;
    let descent = Sgd { momentum: 0.0, weight_decay: 0.0 };
    booster.fit(&train, &FitOptions { batch: 4, ..FitOptions::new(2, descent, 1.0) })?;
    let options = FitOptions {
        batch: 4,
        gradient_checkpointing: GradientCheckpointing::On,
        ..FitOptions::new(8, AdamW::default(), 1e-2)
    };
    booster.fit(&train, &options)?;
    model.merge(&booster, 1.0)?;
    let last = model.booster(&BoosterOptions::low_rank(vec![0, 2], 2))?;
    last.fit(&train, &FitOptions { batch: 4, ..FitOptions::new(2, AdamW::default(), 1e-3) })?;
    session.finish()?;
    let lines = std::fs::read_to_string(out.join("metrics.jsonl"))?;
    let loss = |line: &str| -> Option<f64> {
        serde_json::from_str::<serde_json::Value>(line).ok()?.get("loss")?.as_f64()
    };
    Ok(lines.lines().filter_map(loss).collect())
}

/// Losses before and after a merge against those of the CPU in f32.
fn booster(place: &Place, dtype: DType, bound: f64) -> Result<String> {
    let want = losses(&Device::Cpu, DType::F32, &place.out.join("cpu"))?;
    let got = losses(&place.device, dtype, &place.out.join(dtype.as_str()))?;
    ensure!(got.len() == want.len() && got.len() == 12, "{} losses, not 12", got.len());
    let apart = got.iter().zip(&want).map(|(a, b)| (a - b).abs() / b);
    let worst = apart.fold(0.0, |m, x| if x.is_nan() { x } else { f64::max(m, x) });
    ensure!(worst < bound, "losses {got:?} against {want:?}");
    Ok(format!("12 losses off by {worst:.1e} at most"))
}

/// Greedy texts with the cache on the device, against those of the CPU.
fn generate(place: &Place) -> Result<String> {
    let texts = |device: &Device, out: &str| -> Result<Vec<String>> {
        let (_session, model, _) = micro(device, DType::F32, &place.out.join(out))?;
        let prompts = ["Where does", "What is the"].map(str::to_owned);
        model.generate(&prompts, &crate::eval::generate::Generation::default())
    };
    let (want, got) = (texts(&Device::Cpu, "texts-cpu")?, texts(&place.device, "texts")?);
    ensure!(got == want, "{got:?} against {want:?}");
    Ok(format!("{got:?}"))
}

/// Three rounds of ten steps as a recipe.
const RECIPE: &str = r#"
let model = model::load("builtin:micro");
let task = data::load("builtin:microworld", #{ template: "cloze" });
let layers = sampler("layers");
for round in 0..3 {
    let b = model.booster(#{ layers: layers.choose(model.layers, 2), rank: 1 });
    b.fit(task.train, #{ steps: 10, batch: 4, optimizer: adamw(#{ lr: 1e-2 }) });
    model.merge(b);
}
model.evaluate(task.test, #{ items: 20 });
"#;

/// Runs a recipe twice, and once more from its second round on: digests of the weights are equal.
fn resume(place: &Place) -> Result<String> {
    let recipe = place.out.join("three.rhai");
    std::fs::write(&recipe, RECIPE)?;
    let program = std::env::current_exe()?;
    let xgbrun = |arguments: &[&std::ffi::OsStr]| -> Result<()> {
        let output = Command::new(&program).args(arguments).arg("--quiet").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    };
    let digest = |out: &Path| -> Result<String> {
        let text = std::fs::read(out.join("summary.json"))?;
        let summary: serde_json::Value = serde_json::from_slice(&text)?;
        Ok(summary["weights_digest"].as_str().context("no digest")?.to_owned())
    };
    let runs = ["first", "second"].map(|name| place.out.join(name));
    for run in &runs {
        let _ = std::fs::remove_dir_all(run);
        xgbrun(&[
            recipe.as_os_str(),
            "--device".as_ref(),
            place.name.as_ref(),
            "--out".as_ref(),
            run.as_os_str(),
        ])?;
    }
    let [first, second] = [digest(&runs[0])?, digest(&runs[1])?];
    ensure!(first == second, "two runs give {first} and {second}");
    for round in ["2", "1"] {
        let from = ["--from-round".as_ref(), round.as_ref()];
        xgbrun(&[&["--resume".as_ref(), runs[1].as_os_str()], &from[..]].concat())?;
        let again = digest(&runs[1])?;
        ensure!(first == again, "from round {round} on it gives {again}, not {first}");
    }
    Ok(format!("four times {}", first.get(..12).unwrap_or(&first)))
}

/// Bytes that are in use on the device, or by the process.
fn used(device: &Device) -> Result<usize> {
    match device {
        Device::Cuda(cuda) => {
            device.synchronize()?;
            let context = cuda.cuda_stream().context().clone();
            let (free, total) = context.mem_get_info().map_err(|e| anyhow::anyhow!("{e}"))?;
            Ok(total - free)
        }
        _ => Ok(crate::sys::resident_bytes()),
    }
}

/// 200 small rounds hold no more than the first 40 did.
fn leak(place: &Place) -> Result<String> {
    const MOST: usize = 96 << 20;
    let (_session, model, train) = micro(&place.device, DType::F32, &place.out.join("rounds"))?;
    let mut after = vec![];
    for round in 1..=200 {
        let booster = model.booster(&BoosterOptions::low_rank(vec![round % 4], 1))?;
        booster.fit(&train, &FitOptions::new(1, AdamW::default(), 1e-4))?;
        model.merge(&booster, 1.0)?;
        if round % 40 == 0 {
            after.push(used(&place.device)?);
        }
    }
    let mib = |bytes: &usize| (bytes >> 20).to_string();
    let shown = after.iter().map(mib).collect::<Vec<_>>().join(", ");
    ensure!(after[4] < after[0] + MOST, "MiB after each 40 rounds: {shown}");
    Ok(format!("MiB after each 40 rounds: {shown}"))
}

/// More than there is is refused with a hint, and what comes after is right.
fn memory(place: &Place) -> Result<String> {
    if place.device.is_cpu() {
        return Ok("not on the CPU, which lends what it does not have".into());
    }
    let mut held = vec![];
    let error = loop {
        ensure!(held.len() < 4096, "4 TiB were given");
        match Tensor::zeros(1 << 28, DType::F32, &place.device) {
            Ok(tensor) => held.push(tensor),
            Err(error) => break anyhow::Error::from(error),
        }
    };
    let gib = held.len();
    drop(held);
    place.device.synchronize()?;
    let said = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
    ensure!(hint_of(&error).is_some(), "after {gib} GiB, without a hint: {said}");
    product(place).context("after the memory was used up")?;
    Ok(format!("refused after {gib} GiB: {said}"))
}
