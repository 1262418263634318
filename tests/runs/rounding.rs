//! Many boosters in 16-bit weights: the sum is that of f64 rounded once; rounding each merge loses
//! most of it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use half::bf16;
use xgbrun::model::load::open;
use xgbrun::model::{Adapter, MergeMode, Model, ParamId, Tokens};
use xgbrun::ops::linear::LoraPair;
use xgbrun::seed::Stream;
use xgbrun::source::Grants;

use crate::common;
use crate::harness::Home;

const BOOSTERS: usize = 200;

/// Rank-1 factors on two random layers, all targets; the product's entries are about 1e-4, as of
/// boosters of some steps.
fn booster(model: &Model, stream: &mut Stream) -> Adapter {
    let layers = stream.choose(model.layers(), 2);
    let mut pairs = BTreeMap::new();
    for target in model.targets() {
        for &layer in &layers {
            let linear = model.linear(layer, target).unwrap();
            let mut numbers = |n: usize, size: f64| -> Vec<f32> {
                (0..n).map(|_| (stream.normal() * size) as f32).collect()
            };
            let a = Tensor::from_vec(numbers(linear.inner, 1.0), (1, linear.inner), &Device::Cpu)
                .unwrap();
            let b =
                Tensor::from_vec(numbers(linear.out, 1e-4), (linear.out, 1), &Device::Cpu).unwrap();
            pairs.insert(linear.clone(), LoraPair { a, b, scale: 1.0 });
        }
    }
    Adapter::of_pairs(pairs)
}

/// The nearest of bf16, the even one of two that are as near; `bf16::from_f64` does not look at the
/// last 32 bits.
fn nearest(x: f64) -> bf16 {
    let near = bf16::from_f64(x);
    let around =
        [-1i32, 0, 1].map(|step| bf16::from_bits((i32::from(near.to_bits()) + step) as u16));
    let closer = |a: &&bf16, b: &&bf16| {
        let apart = |y: &bf16| (y.to_f64() - x).abs();
        apart(a).total_cmp(&apart(b)).then((a.to_bits() & 1).cmp(&(b.to_bits() & 1)))
    };
    if near.to_bits() & 0x7fff == 0 { near } else { *around.iter().min_by(closer).unwrap() }
}

fn numbers(model: &Model) -> BTreeMap<String, Vec<bf16>> {
    let own = |(id, t): (&ParamId, &Tensor)| {
        (t.dtype() == DType::BF16)
            .then(|| (id.name.clone(), t.flatten_all().unwrap().to_vec1::<bf16>().unwrap()))
    };
    model.params().filter_map(own).collect()
}

fn nll(model: &Model, ids: &[u32]) -> f64 {
    let rows: Vec<usize> = (0..ids.len() - 1).collect();
    let all = model.nll(&Tokens::one(ids.to_vec()), &rows, &ids[1..], &Adapter::default()).unwrap();
    all.iter().sum::<f64>() / all.len() as f64
}

#[test]
fn two_hundred_boosters_are_their_sum_rounded_once() {
    let Some(folder) = common::model(common::FOLDER) else { return };
    let load = || {
        open(folder.to_str().unwrap(), &Grants::everything(), &Device::Cpu, DType::BF16).unwrap()
    };
    let loaded = load();
    let ids = loaded
        .tokenizer
        .encode(
            "Bread is baked from flour, water and salt. The first loaves were flat, and baked on \
             hot stones.",
        )
        .unwrap();
    let (mut exact, mut naive) = (loaded.model, load().model);
    naive.set_merge_mode(MergeMode::Naive);
    let before = numbers(&exact);
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut stream = Stream::new(1, "boosters");
    for _ in 0..BOOSTERS {
        let adapter = booster(&exact, &mut stream);
        for (linear, pair) in adapter.pairs() {
            let name = format!("{}.weight", linear.name);
            let sum = sums
                .entry(name.clone())
                .or_insert_with(|| before[&name].iter().map(|x| x.to_f64()).collect());
            let (a, b) = (
                pair.a.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                pair.b.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            );
            for (row, b) in sum.chunks_mut(a.len()).zip(&b) {
                row.iter_mut().zip(&a).for_each(|(x, a)| *x += f64::from(*a) * f64::from(*b));
            }
        }
        exact.merge(&adapter, 1.0).unwrap();
        naive.merge(&adapter, 1.0).unwrap();
    }
    let (summed, rounded) = (numbers(&exact), numbers(&naive));
    let (mut same, mut all, mut naive_same, mut far) = (0u64, 0u64, 0u64, 0u64);
    let (mut moved, mut naive_moved, mut wanted) = (0.0, 0.0, 0.0);
    for (name, sum) in &sums {
        for (i, sum) in sum.iter().enumerate() {
            let (was, want, got, other) =
                (before[name][i].to_f64(), nearest(*sum), summed[name][i], rounded[name][i]);
            all += 1;
            same += u64::from(got.to_bits() == want.to_bits());
            naive_same += u64::from(other.to_bits() == want.to_bits());
            // Units in the last place, over zero as well.
            let place = |x: bf16| {
                if x.is_sign_negative() {
                    -i32::from(x.to_bits() & 0x7fff)
                } else {
                    i32::from(x.to_bits())
                }
            };
            far += u64::from((place(got) - place(want)).abs() > 1);
            moved += (got.to_f64() - was) * (sum - was);
            naive_moved += (other.to_f64() - was) * (sum - was);
            wanted += (sum - was).powi(2);
        }
    }
    let share = |n: u64| n as f64 / all as f64;
    println!(
        "{BOOSTERS} boosters, {all} weights: not the rounded sum {}, share of naive merges that \
         are {:.3}",
        all - same,
        share(naive_same)
    );
    println!("off by more than one unit in the last place: {far}");
    println!("captured {:.3}, by naive merges {:.3}", moved / wanted, naive_moved / wanted);
    println!(
        "nll: base {:.4}, exact {:.4}, naive {:.4}",
        nll(&load().model, &ids),
        nll(&exact, &ids),
        nll(&naive, &ids)
    );
    assert!(share(same) >= 0.999_999 && far == 0 && share(naive_same) < 0.98);
    assert!(naive_moved < 0.9 * moved);
}

#[test]
fn a_run_says_what_rounding_lost_and_naive_runs_are_told_apart() {
    let home = Home::new();
    let body = |mode: &str| {
        format!(
            "let p = params(#{{ model: \"\", data: \"\" }}); let task = data::load(p.data, #{{ }});
            let m = model::load(p.model, #{{ merge_mode: \"{mode}\" }});
            for round in 0..12 {{
                let b = m.booster(#{{ layers: [0, 1] }});
                b.fit(task.train, #{{ steps: 2, optimizer: adamw(#{{ lr: 1e-4 }}) }});
                m.merge(b);
            }}
            print(m.digest()); m.replay(); print(m.digest());"
        )
    };
    let run = |mode: &str, dtype: &str| {
        std::fs::write(home.path().join("rounds.rhai"), body(mode)).unwrap();
        home.file(Path::new("rounds.rhai"), &format!("{mode}-{dtype}"), &["--dtype", dtype])
    };
    let mut digests = vec![];
    for (mode, dtype) in [
        ("exact", "bf16"),
        ("naive", "bf16"),
        ("exact", "f32"),
        ("none", "bf16"),
        ("none", "f32"),
        ("exact", "f16"),
        ("naive", "f16"),
    ] {
        let run = run(mode, dtype).good();
        let lines: Vec<&str> = run.said.lines().collect();
        assert_eq!(lines[0], lines[1], "{mode}");
        digests.push(lines[0].to_owned());
        let captured: Vec<Option<f64>> = run
            .metrics()
            .iter()
            .filter_map(|line| {
                line.get("merge").map(|merge| merge.get("captured").and_then(|c| c.as_f64()))
            })
            .collect();
        assert!(
            captured.len() == 12
                && captured.iter().all(|c| c.is_some() == (dtype != "f32" && mode != "none")),
            "{captured:?}"
        );
        assert_eq!(run.json("run.json")["merge_mode"], mode);
        let report = String::from_utf8(run.bytes("report.html")).unwrap();
        assert_eq!(
            report.contains(">captured<"),
            dtype != "f32" && mode != "none",
            "{mode} {dtype}"
        );
        assert!(
            run.json("summary.json")["timing"]["keeping_seconds"]
                .as_f64()
                .is_some_and(|seconds| seconds > 0.0)
        );
    }
    assert_ne!(digests[0], digests[1]);
    let refused = run("nearest", "f32");
    assert_eq!(
        (refused.code, refused.said.contains("\"exact\", \"naive\" or \"none\"")),
        (Some(2), true),
        "{}",
        refused.said
    );
}
