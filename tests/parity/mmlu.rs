//! MMLU without and with solved examples against a script with transformers, item by item.

use std::path::Path;

use crate::common;
use crate::generation::{ask, open};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xgbrun::data::{ShotOptions, Split, encode_choices};
use xgbrun::eval::choices;
use xgbrun::model::Adapter;
use xgbrun::model::load::Loaded;
use xgbrun::session::{DataOptions, Session, Settings};

/// A subject of each group.
const SUBJECTS: [&str; 4] =
    ["abstract_algebra", "global_facts", "high_school_geography", "philosophy"];

/// Where two choices lie nearer than this, either may win.
const NEAR: f64 = 1e-4;

/// Subjects, how many of their first questions (None: all), and how many solved examples.
type Run<'a> = (&'a [&'a str], Option<usize>, usize);

fn compare(runs: &[Run]) -> Result<()> {
    let (Some(python), Some(folder)) =
        (common::model("peer/bin/python"), common::model(common::FOLDER))
    else {
        return Ok(());
    };
    let Some(data) = common::shared("data/mmlu") else { return Ok(()) };
    let told = |(subjects, items, shots): &Run| {
        let names = subjects.to_vec();
        json!({ "subjects": names, "items": items, "shots": shots })
    };
    let runs_told: Vec<Value> = runs.iter().map(told).collect();
    let job = json!({ "model": folder, "data": data, "runs": runs_told });
    let want = ask(&python, "mmlu.py", &job)?;
    let loaded = open(&folder)?;
    for (i, run) in runs.iter().enumerate() {
        compare_run(*run, &data, &loaded, &want[i])?;
    }
    Ok(())
}

fn compare_run(
    (subjects, items, shots): Run,
    data: &Path,
    Loaded { model, tokenizer, .. }: &Loaded,
    want: &Value,
) -> Result<()> {
    let session = Session::new(Settings::default());
    session.names.grant_everything();
    let options =
        DataOptions { shots: Some(ShotOptions::new(shots)), ..DataOptions::worded("mmlu")? };
    let task = session.data(data.to_str().context("a path")?, &options)?;
    ensure!(task.tasks() == SUBJECTS, "the subjects are {:?}", task.tasks());
    let (mut all, mut near, mut worst, mut right) = (0, 0, 0f64, [0, 0]);
    for part in task.split(Split::Test)?.parts().iter().filter(|p| subjects.contains(&&*p.task)) {
        let asked = part.items(items)?;
        let (encoded, report) = encode_choices(&asked, part.wording.template, tokenizer, 2048)?;
        ensure!(report.scored == asked.len() && report.fewer_shots == 0, "{report}");
        let scores = choices::score(model, &Adapter::default(), &encoded, |_| Ok(()))?;
        let theirs: Vec<Value> = serde_json::from_value(want[&part.task].clone())?;
        ensure!(theirs.len() == encoded.len(), "{}: {} items", part.task, theirs.len());
        for (i, (item, ours)) in encoded.iter().zip(&scores.sums).enumerate() {
            let sums: Vec<f64> = serde_json::from_value(theirs[i]["sums"].clone())?;
            ensure!(json!(item.label) == theirs[i]["right"], "{} {i}: the right one", part.task);
            worst = ours.iter().zip(&sums).map(|(a, b)| (a - b).abs()).fold(worst, f64::max);
            let (our, their) = (best(ours), best(&sums));
            let close = sums.iter().filter(|s| sums[their] - **s < NEAR).count() > 1;
            ensure!(our == their || close, "{} {i}: {ours:?}, not {sums:?}", part.task);
            all += 1;
            near += usize::from(close);
            right[0] += usize::from(our == item.label);
            right[1] += usize::from(their == item.label);
        }
    }
    println!(
        "{shots} shots: {all} items, {near} near ties, sums within {worst:.1e}, right {right:?}"
    );
    ensure!(worst < 1e-3, "sums differ by {worst}");
    Ok(())
}

fn best(sums: &[f64]) -> usize {
    (1..sums.len()).fold(0, |best, i| if sums[i] > sums[best] { i } else { best })
}

#[test]
fn answers_to_mmlu_are_those_of_transformers() -> Result<()> {
    compare(&[(&SUBJECTS, Some(2), 0), (&SUBJECTS[..1], Some(1), 5)])
}

#[test]
#[ignore = "all questions of four subjects take many minutes"]
fn all_answers_to_mmlu_are_those_of_transformers() -> Result<()> {
    compare(&[(&SUBJECTS, None, 0), (&SUBJECTS, None, 5)])
}
