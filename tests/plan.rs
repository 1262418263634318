//! What `plan` says before a run is what the run then takes.

mod common;

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A recipe that fits one booster on given layers and measures.
const RECIPE: &str = r#"
let p = params(#{
    model: "builtin:micro", data: "builtin:microworld", layers: [0], batch: 8, steps: 3, items: 20,
});
let model = model::load(p.model);
let task = data::load(p.data, #{ template: "alpaca" });
model.evaluate(task.test, #{ items: p.items });
let booster = model.booster(#{ layers: p.layers, rank: 1 });
booster.fit(task.train, #{ steps: p.steps, batch: p.batch, optimizer: adamw(#{ lr: 1e-3 }) });
model.merge(booster);
"#;

fn xgbrun(folder: &std::path::Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xgbrun")).current_dir(folder).args(arguments).output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// Planned and measured peak, in MiB.
fn peaks(more: &[String]) -> Result<(f64, f64)> {
    peaks_of(RECIPE, more, &[]).map(|(planned, _, peak)| (planned, peak))
}

/// Planned peak, what the run itself said before it was held, and measured peak, in MiB.
fn peaks_of(recipe: &str, more: &[String], options: &[&str]) -> Result<(f64, f64, f64)> {
    let home = tempfile::tempdir()?;
    std::fs::write(home.path().join("r.rhai"), recipe)?;
    let with = |verb: &[&str], rest: &[&str]| -> Vec<String> {
        let parameters = more.iter().flat_map(|p| ["-p".to_owned(), p.clone()]);
        verb.iter()
            .map(ToString::to_string)
            .chain(["r.rhai".to_owned(), "--threads".into(), "2".into()])
            .chain(parameters)
            .chain(rest.iter().chain(options).map(ToString::to_string))
            .collect()
    };
    let plan = with(&["plan"], &[]);
    let (code, planned, said) =
        xgbrun(home.path(), &plan.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(code == Some(0), "{said}");
    let run = with(&[], &["--quiet", "--out", "out"]);
    let (code, _, said) = xgbrun(home.path(), &run.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(code == Some(0), "{said}");
    let line = planned
        .lines()
        .find_map(|l| l.strip_prefix("peak memory "))
        .context("the plan tells no peak")?;
    let planned: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(home.path().join("out/summary.json"))?)?;
    let told = |what: &str| summary["timing"][what].as_f64().with_context(|| format!("a {what}"));
    Ok((planned, told("predicted_peak_mib")?, told("peak_rss_mib")?))
}

/// Three batch sizes, each on low, middle and high layers.
fn compare(fixed: &[String], layers: [usize; 3], batches: [usize; 3]) -> Result<()> {
    for batch in batches {
        for layer in layers {
            let mut more = fixed.to_vec();
            more.extend([format!("layers=[{layer}]"), format!("batch={batch}")]);
            let (planned, peak) = peaks(&more)?;
            println!("batch {batch}, layer {layer}: {planned:.0} MiB planned, {peak:.0} MiB held");
            let allowed = (0.1 * peak).max(40.0);
            ensure!(
                (planned - peak).abs() <= allowed,
                "batch {batch}, layer {layer}: {planned:.0} MiB planned, {peak:.0} MiB held"
            );
        }
    }
    Ok(())
}

#[test]
fn memory_on_the_micro_model_is_as_planned() -> Result<()> {
    compare(&[], [0, 4, 7], [4, 16, 64])
}

#[test]
fn memory_on_smollm2_is_as_planned() -> Result<()> {
    let Some(model) = [common::GGUF, common::FOLDER].into_iter().find_map(common::model) else {
        return Ok(());
    };
    let Some(data) = common::shared("data/commonsense/ARC-Easy") else { return Ok(()) };
    let fixed = [
        format!("model={}", model.display()),
        format!("data={}", data.display()),
        "steps=1".into(),
        "items=4".into(),
    ];
    compare(&fixed, [1, 15, 28], [2, 4, 8])
}

/// An encoder with a head, on pairs of texts, and on masked tokens.
#[test]
fn memory_on_an_encoder_is_as_planned() -> Result<()> {
    let Some(weights) = common::model("minilm/model.safetensors") else { return Ok(()) };
    let model = weights.parent().context("a folder")?.display();
    let (Some(rte), Some(text)) =
        (common::shared("data/glue/RTE"), common::shared("data/text/tinystories_sample.txt"))
    else {
        return Ok(());
    };
    const FIT: &str = r#"
        let booster = model.booster(#{ layers: [p.layer], rank: 1, head: true });
        booster.fit(task.train, #{ steps: 2, batch: p.batch, optimizer: adamw(#{ lr: 1e-3 }) });
        model.merge(booster);
    "#;
    let classes = r#"
        let p = params(#{ model: "", data: "", layer: 0, batch: 8 });
        let model = model::load(p.model);
        model.head(#{ labels: ["entailment", "not_entailment"] });
        let task = data::load(p.data, #{ format: "tsv",
            splits: #{ train: "train.tsv", test: "dev.tsv" }, template: #{
                prompt: "{{ sentence1 }}", pair: "{{ sentence2 }}", label: "label",
                choices: ["entailment", "not_entailment"],
            } });
        model.evaluate(task.test, #{ items: 20 });
    "#;
    let masked = r#"
        let p = params(#{ model: "", data: "", layer: 0, batch: 8 });
        let model = model::load(p.model);
        model.head(#{ kind: "masked_lm" });
        let task = data::load(p.data, #{ max_length: 256 });
    "#;
    for (head, data) in [(classes, rte), (masked, text)] {
        for (layer, batch) in [(0, 8), (4, 32)] {
            let more = [
                format!("model={model}"),
                format!("data={}", data.display()),
                format!("layer={layer}"),
                format!("batch={batch}"),
            ];
            let (planned, _, peak) = peaks_of(&format!("{head}{FIT}"), &more, &[])?;
            println!("batch {batch}, layer {layer}: {planned:.0} MiB planned, {peak:.0} MiB held");
            ensure!(
                (planned - peak).abs() <= 0.1 * peak,
                "batch {batch}, layer {layer}: {planned:.0} MiB planned, {peak:.0} MiB held"
            );
        }
    }
    Ok(())
}

/// What merges leave behind 16-bit weights, or beside weights that stay as they are, counts too, of
/// each model.
#[test]
fn memory_of_merges_is_as_planned() -> Result<()> {
    let Some(model) = [common::GGUF, common::FOLDER].into_iter().find_map(common::model) else {
        return Ok(());
    };
    let Some(data) = common::shared("data/commonsense/ARC-Easy") else { return Ok(()) };
    let files = [format!("model={}", model.display()), format!("data={}", data.display())];
    let head = r#"
let p = params(#{ model: "", data: "", mode: "exact" });
let model = model::load(p.model, #{ merge_mode: p.mode });
let task = data::load(p.data);
fn fitted(model, task, options) {
    let booster = model.booster(options);
    booster.fit(task.train, #{ steps: 2, batch: 2, optimizer: adamw(#{ lr: 1e-3 }) });
    booster
}
"#;
    // Most is held in the middle, and at the end.
    let rounds = "for round in 0..4 {
            let layers = [4 * round, 4 * round + 1, 4 * round + 2];
            model.merge(fitted(model, task, #{ layers: layers }));
        }";
    let beside = "for layer in [3, 9, 15] {
            let booster = model.booster(#{ layers: [layer], rank: 192 });
            for again in 0..2 {
                booster.fit(task.train,
                    #{ freeze: \"A\", steps: 2, batch: 2, optimizer: adamw(#{ lr: 1e-3 }) });
            }
            model.merge(booster);
        }";
    let chosen = "for layer in 0..6 { fitted(model, task, #{ layers: [layer] }); }
        let targets = [\"q_proj\", \"v_proj\"];
        model.merge(fitted(model, task, #{ layers: model.layers, targets: targets }));";
    let two = "let other = model::load(p.model, #{ merge_mode: p.mode });
        let layers = [27, 28, 29, 26, 25, 24];
        for m in [model, other] { m.merge(fitted(m, task, #{ layers: layers })); }";
    let cases = [
        ("rounds", rounds, "exact", "bf16"),
        ("beside", beside, "none", "f32"),
        ("chosen", chosen, "exact", "bf16"),
        ("two", two, "exact", "f16"),
    ];
    for (name, body, mode, dtype) in cases {
        let more = [&files[..], &[format!("mode={mode}")]].concat();
        let (planned, predicted, peak) =
            peaks_of(&format!("{head}{body}"), &more, &["--dtype", dtype])?;
        let found =
            format!("{name}: {planned:.0} MiB planned, {predicted:.0} predicted, {peak:.0} held");
        println!("{found}");
        let near = |mib: f64| (mib - peak).abs() <= (0.1 * peak).max(40.0);
        ensure!(near(planned) && near(predicted), "{found}");
    }
    Ok(())
}

/// The boosters of an earlier run are merged before anything else is.
#[test]
fn a_run_that_goes_on_counts_what_came_before() -> Result<()> {
    let home = tempfile::tempdir()?;
    std::fs::write(home.path().join("r.rhai"), RECIPE)?;
    let more = "let p = params(#{ run: \"\" });
        let model = model::from_run(p.run);
        let task = data::load(\"builtin:microworld/piqa\");
        model.evaluate(task.test, #{ items: 2 });";
    std::fs::write(home.path().join("more.rhai"), more)?;
    let good = |arguments: &[&str]| -> Result<String> {
        let (code, told, said) = xgbrun(home.path(), arguments)?;
        ensure!(code == Some(0), "{arguments:?}: {said}");
        Ok(told)
    };
    let layers = "layers=[0, 1, 2, 3, 4, 5, 6, 7]";
    good(&[
        "r.rhai", "--dtype", "bf16", "-p", layers, "-p", "steps=1", "-p", "items=1", "--quiet",
        "--out", "out",
    ])?;
    let planned = good(&["plan", "more.rhai", "--dtype", "bf16", "-p", "run=out"])?;
    let part = planned.split_once("what merges left ").context("no such part")?.1;
    let mib: f64 = part.split_whitespace().next().context("a number")?.parse()?;
    ensure!(mib > 1.0, "{planned}");
    Ok(())
}

/// Numbers, gradients, and what each optimizer keeps; dense copies are merged through a difference.
#[test]
fn an_optimizer_that_keeps_less_is_planned_smaller() -> Result<()> {
    let home = tempfile::tempdir()?;
    let recipe = r#"
let p = params(#{ optimizer: "" });
let model = model::load("builtin:micro");
let task = data::load("builtin:microworld/piqa");
let booster = model.booster(#{ kind: "dense", layers: model.layers });
let optimizers = #{
    adamw: adamw(#{ lr: 0 }), lion: lion(#{ lr: 0 }), muon: muon(#{ lr: 0 }), sgd: sgd(#{ lr: 0 })
};
booster.fit(task.train, #{ steps: 1, batch: 1, optimizer: optimizers[p.optimizer] });
"#;
    std::fs::write(home.path().join("r.rhai"), recipe)?;
    let planned = |optimizer: &str| -> Result<f64> {
        let parameter = format!("optimizer={optimizer}");
        let (code, told, said) = xgbrun(home.path(), &["plan", "r.rhai", "-p", &parameter])?;
        ensure!(code == Some(0), "{said}");
        let part = told.split_once("booster and optimizer ").context("no such part")?.1;
        Ok(part.split_whitespace().next().context("a number")?.parse()?)
    };
    let adamw = planned("adamw")?;
    for optimizer in ["lion", "muon", "sgd"] {
        let found = planned(optimizer)?;
        // Four tensors of five; both are shown in whole MiB.
        ensure!((found - adamw * 4.0 / 5.0).abs() <= 1.0, "{optimizer}: {found} of {adamw}");
    }
    Ok(())
}

#[test]
fn a_plan_that_does_not_fit_says_what_to_lower() -> Result<()> {
    let home = tempfile::tempdir()?;
    std::fs::write(home.path().join("r.rhai"), RECIPE)?;
    let (code, planned, said) =
        xgbrun(home.path(), &["plan", "r.rhai", "-p", "batch=512", "--memory", "60"])?;
    ensure!(code == Some(4), "{code:?}");
    ensure!(planned.contains("largest step"), "{planned}");
    ensure!(
        said.starts_with("error: the plan needs ")
            && said.contains("60 MiB are free; the most goes to largest step\n  = lower `batch`"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_run_on_a_gpu_is_planned_without_one() -> Result<()> {
    let home = tempfile::tempdir()?;
    std::fs::write(home.path().join("r.rhai"), RECIPE)?;
    let plan = |more: &[&str]| xgbrun(home.path(), &[&["plan", "r.rhai"][..], more].concat());
    let part = |text: &str, name: &str| -> Result<f64> {
        let behind = text.split_once(name).with_context(|| format!("no `{name}` in {text}"))?.1;
        Ok(behind.split_whitespace().next().context("a number")?.parse()?)
    };
    let large = ["-p", "batch=512"];
    let on = |device, more: &[&str]| plan(&[&["--device", device][..], &large, more].concat());
    let (code, gpu, said) = on("cuda", &["--memory", "24GiB"])?;
    ensure!(code == Some(0), "{said}");
    ensure!(gpu.contains("2 bytes each") && gpu.contains("peak memory of the GPU "), "{gpu}");
    ensure!(gpu.contains("time is not planned: it is measured on the GPU"), "{gpu}");
    // The same work in bf16, beside what reference ops hold in f32.
    let (_, cpu, _) = on("cpu", &["--dtype", "bf16", "--memory", "24GiB"])?;
    let (gpu_step, cpu_step) = (part(&gpu, "largest step ")?, part(&cpu, "largest step ")?);
    ensure!(gpu_step > 0.5 * cpu_step && gpu_step < 2.0 * cpu_step, "{gpu_step} of {cpu_step}");
    let (code, _, said) = on("cuda:1", &["--memory", "620MiB"])?;
    ensure!(code == Some(4) && said.contains("and 620 MiB are free"), "{code:?} {said}");
    let (code, _, said) = on("cuda", &["--memory", "24 apples"])?;
    ensure!(code == Some(2) && said.contains("MiB, GiB, MB or GB"), "{code:?} {said}");
    Ok(())
}

#[test]
fn a_way_that_depends_on_measurements_is_told_as_a_range() -> Result<()> {
    let home = tempfile::tempdir()?;
    let recipe = r#"
let model = model::load("builtin:micro");
let task = data::load("builtin:microworld/piqa");
let rounds = 0;
while rounds < 12 {
    let booster = model.booster(#{ layers: [rounds % 8] });
    booster.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 1e-3 }) });
    model.merge(booster);
    rounds += 1;
    if model.evaluate(task.validation).accuracy > 0.9 { break; }
}
"#;
    std::fs::write(home.path().join("r.rhai"), recipe)?;
    let (code, told, said) = xgbrun(home.path(), &["check", "r.rhai"])?;
    ensure!(code == Some(0), "{said}");
    ensure!(told.contains("1 to 12 fits, 1 to 12 merges, 1 to 12 evaluations"), "{told}");
    ensure!(
        told.ends_with("what it does depends on what it measures, the first time before line 7\n"),
        "{told}"
    );
    let (code, told, said) = xgbrun(home.path(), &["plan", "r.rhai"])?;
    ensure!(code == Some(0), "{said}");
    ensure!(told.contains("over all cases: 1 to 12 rounds"), "{told}");
    Ok(())
}

#[test]
fn a_loop_that_waits_for_no_more_gain_is_told_as_a_range_and_nothing_is_written() -> Result<()> {
    let home = tempfile::tempdir()?;
    let recipe = r#"
import "std/stop" as stop;
let model = model::load("builtin:micro");
let task = data::load("builtin:microworld/piqa");
let state = stop::patience(2, 0.0);
for round in 0..24 {
    let booster = model.booster(#{ layers: [round % 8] });
    booster.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 1e-3 }) });
    model.merge(booster);
    let held = #{ protocol: "perplexity", items: 4 };
    state = stop::update(state, model.evaluate(task.validation, held).nll);
    if state.over { break; }
}
"#;
    std::fs::write(home.path().join("r.rhai"), recipe)?;
    let (code, told, said) = xgbrun(home.path(), &["plan", "r.rhai"])?;
    ensure!(code == Some(0), "{said}");
    ensure!(told.contains("over all cases: 3 to 24 rounds"), "{told}");
    let left: Vec<_> =
        std::fs::read_dir(home.path())?.map(|e| Ok(e?.file_name())).collect::<Result<_>>()?;
    ensure!(left == ["r.rhai"], "{left:?}");
    Ok(())
}
