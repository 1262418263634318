//! The recipes of published methods, in their quick form on what is embedded: what makes each
//! method what it is.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// Numbers of the micro model: layers, a booster of rank 1 on all targets of a layer, its factors A
/// and B of rank 8 on all layers, all weights.
const LAYERS: usize = 8;
const RANK_1: u64 = 2_816;
const RANK_8: u64 = 8 * 8 * RANK_1;
const ONLY_B: u64 = 98_304;
const ALL: u64 = 2_164_864;

struct Ran {
    folder: TempDir,
}

impl Ran {
    /// Runs `recipes/NAME.rhai -p quick=true`.
    fn new(name: &str) -> Self {
        Self::with(name, &["quick=true"])
    }

    /// Runs `recipes/NAME.rhai` with these parameters.
    fn with(name: &str, parameters: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
            .current_dir(home)
            .arg(format!("recipes/{name}.rhai"))
            .args(parameters.iter().flat_map(|p| ["-p", *p]))
            .args(["--quiet", "--device", "cpu", "--out"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        Self { folder }
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn metrics(&self) -> Vec<Value> {
        self.lines("metrics.jsonl")
    }

    fn merges(&self) -> Vec<Merge> {
        let of =
            |line: &Value| line.get("merge").map(|m| serde_json::from_value(m.clone()).unwrap());
        self.metrics().iter().filter_map(of).collect()
    }

    /// The learning rate of each step.
    fn rates(&self) -> Vec<f64> {
        self.metrics().iter().filter_map(|line| line.get("lr").and_then(Value::as_f64)).collect()
    }

    /// Arguments of each call of a native, in order.
    fn calls(&self, name: &str) -> Vec<Value> {
        let record = |line: Value| line["record"]["call"].clone();
        let calls =
            self.lines("journal.jsonl").into_iter().map(record).filter(|call| call["name"] == name);
        calls.map(|call| call["arguments"].clone()).collect()
    }

    /// What each call of a native answered, in order.
    fn answers(&self, name: &str) -> Vec<Value> {
        let record = |line: Value| line["record"]["call"].clone();
        let calls =
            self.lines("journal.jsonl").into_iter().map(record).filter(|call| call["name"] == name);
        calls.map(|call| call["outcome"]["answer"].clone()).collect()
    }

    fn summary(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.path().join("summary.json")).unwrap())
            .unwrap()
    }
}

#[derive(serde::Deserialize)]
struct Merge {
    kind: String,
    layers: Vec<usize>,
    parameters: u64,
    steps: u64,
    eta: f64,
}

fn all_layers() -> Vec<usize> {
    (0..LAYERS).collect()
}

fn close(found: &[f64], wanted: &[f64]) {
    assert!(
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9),
        "{found:?} is not {wanted:?}"
    );
}

/// ½ (1 + cos πx) at each of `n` places.
fn cosine(peak: f64, n: usize) -> Vec<f64> {
    (0..n)
        .map(|k| peak * 0.5 * (1.0 + (std::f64::consts::PI * k as f64 / n as f64).cos()))
        .collect()
}

/// What holds for each: kind, all layers or some, numbers trained a merge, steps a merge, each with
/// its total in the summary.
fn shape(run: &Ran, merges: usize, kind: &str, steps: u64) -> Vec<Merge> {
    let found = run.merges();
    assert_eq!(found.len(), merges);
    for merge in &found {
        assert_eq!((merge.kind.as_str(), merge.steps, merge.eta), (kind, steps, 1.0));
    }
    let summary = run.summary();
    assert_eq!(summary["trained_in_total"], found.iter().map(|m| m.parameters).sum::<u64>());
    assert_eq!(summary["trainable_now"], found[merges - 1].parameters);
    assert!(summary["base"]["accuracy"].is_number() && summary["tuned"]["accuracy"].is_number());
    found
}

#[test]
fn xgblora_draws_layers_and_adds_rank_one() {
    let run = Ran::new("xgblora");
    let merges = shape(&run, 3, "low_rank", 4);
    for merge in &merges {
        assert_eq!((merge.layers.len(), merge.parameters), (3, 3 * RANK_1));
    }
    assert!(merges.iter().any(|m| m.layers != merges[0].layers), "each round draws anew");
    close(&run.rates(), &cosine(1e-2, 12));
}

#[test]
fn lora_is_one_booster_on_all_layers() {
    let run = Ran::new("lora");
    let merges = shape(&run, 1, "low_rank", 12);
    assert_eq!((&merges[0].layers, merges[0].parameters), (&all_layers(), RANK_8));
    assert!(run.folder.path().join("adapter/adapter_config.json").exists());
    let plus = Ran::new("lora_plus");
    shape(&plus, 1, "low_rank", 12);
    assert_eq!(plus.calls("booster.fit")[0]["lr_ratio"], 16.0);
    assert!(run.calls("booster.fit")[0].get("lr_ratio").is_none());
}

#[test]
fn full_fine_tuning_trains_every_weight() {
    let run = Ran::new("full");
    let merges = shape(&run, 1, "dense", 12);
    assert_eq!((&merges[0].layers, merges[0].parameters), (&all_layers(), ALL));
}

#[test]
fn relora_prunes_moments_and_warms_up_again() {
    let run = Ran::new("relora");
    let merges = shape(&run, 3, "low_rank", 4);
    assert!(merges.iter().all(|m| m.layers == all_layers() && m.parameters == RANK_8));
    let inherited = run.calls("booster.inherit");
    assert_eq!(inherited.len(), 2);
    for (round, call) in inherited.iter().enumerate() {
        assert_eq!(
            (&call["booster"], &call["other"], &call["keep"]),
            (&(round + 1).into(), &round.into(), &0.001.into())
        );
    }
    let (jagged, mut smooth) = (run.rates(), Ran::new("lora").rates());
    for (at, share) in [(4, 1.0 / 3.0), (5, 2.0 / 3.0), (8, 1.0 / 3.0), (9, 2.0 / 3.0)] {
        smooth[at] *= share;
    }
    close(&jagged, &smooth);
}

#[test]
fn cola_begins_each_link_anew() {
    let run = Ran::new("cola");
    let merges = shape(&run, 3, "low_rank", 4);
    assert!(merges.iter().all(|m| m.layers == all_layers() && m.parameters == RANK_8));
    assert!(run.calls("booster.inherit").is_empty());
    let rates = run.rates();
    assert!(rates[..4] == rates[4..8] && rates[..4] == rates[8..]);
}

#[test]
fn rac_lora_freezes_the_factor_that_was_drawn() {
    let run = Ran::new("rac_lora");
    let merges = shape(&run, 4, "low_rank", 3);
    let (boosters, fits) = (run.calls("model.booster"), run.calls("booster.fit"));
    let mut sides = BTreeSet::new();
    for ((merge, booster), fit) in merges.iter().zip(&boosters).zip(&fits) {
        let (zero, frozen) = (booster["zero"].as_str().unwrap(), fit["freeze"].as_str().unwrap());
        assert_ne!(zero, frozen, "what is frozen must not be zero");
        assert_eq!(merge.parameters, if frozen == "A" { ONLY_B } else { RANK_8 - ONLY_B });
        sides.insert(frozen.to_owned());
    }
    assert_eq!(sides.len(), 2, "a coin falls on both sides");
}

#[test]
fn lisa_trains_embedding_norms_and_the_drawn_layers_whole() {
    let run = Ran::new("lisa");
    let merges = shape(&run, 3, "dense", 4);
    // Embedding, final norm, and two layers with their norms.
    assert!(
        merges
            .iter()
            .all(|m| m.layers.len() == 2 && m.parameters == 1536 * 128 + 128 + 2 * 246_016)
    );
    assert!(merges.iter().any(|m| m.layers != merges[0].layers));
    assert!(
        run.calls("model.booster")
            .iter()
            .all(|call| call["embedding"] == true && call["norms"] == true)
    );
}

#[test]
fn badam_takes_one_layer_at_a_time_with_a_fresh_optimizer() {
    let run = Ran::new("badam");
    let merges = shape(&run, 8, "dense", 2);
    let order: Vec<usize> = merges.iter().map(|m| m.layers[0]).collect();
    assert!(merges.iter().all(|m| m.layers.len() == 1 && m.parameters == 246_016 + 128));
    assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..LAYERS).collect());
    assert_ne!(order, all_layers(), "the order is shuffled");
    // A new booster begins with an optimiser of its own; nothing is inherited.
    assert_eq!((run.calls("model.booster").len(), run.calls("booster.inherit").len()), (8, 0));
}

#[test]
fn coto_lets_more_and_more_layers_take_part() {
    let run = Ran::new("coto");
    let merges = shape(&run, 1, "low_rank", 12);
    assert_eq!((&merges[0].layers, merges[0].parameters), (&all_layers(), RANK_8));
    let active = run.calls("booster.fit")[0]["active"].clone();
    let active: Vec<Vec<usize>> = serde_json::from_value(active).unwrap();
    assert!(active.len() == 12 && active.iter().all(|layers| !layers.is_empty()));
    assert!(active[9..].iter().all(|layers| *layers == all_layers()) && active[0].len() < LAYERS);
}

#[test]
fn boostlora_trains_on_what_is_wrong() {
    let run = Ran::new("boostlora");
    let merges = shape(&run, 3, "low_rank", 4);
    assert!(merges.iter().all(|m| m.layers == all_layers() && m.parameters == 8 * RANK_1));
    assert_eq!(run.calls("model.wrong").len(), 3);
    for fit in run.calls("booster.fit") {
        assert!(fit["set"]["picked"][0].as_str().unwrap().starts_with("wrong "), "{fit}");
    }
}

#[test]
fn a_task_of_which_nothing_is_wrong_is_left_out() {
    // Of four items of each task some task has none that is wrong.
    let run = Ran::with("boostlora", &["looked=4", "rounds=3", "steps=4", "items=4"]);
    let answers = run.answers("model.wrong");
    assert!(
        answers.iter().any(|parts| parts
            .as_array()
            .unwrap()
            .iter()
            .any(|part| part.as_array().unwrap().is_empty())),
        "{answers:?}"
    );
    assert_eq!(run.merges().len(), 3);
}

#[test]
fn line_search_merges_by_what_it_measured() {
    let run = Ran::new("line_search");
    let merges = run.merges();
    let fits = run.calls("booster.fit").len();
    assert!(
        merges.len() <= fits
            && merges
                .iter()
                .all(|m| [0.25, 0.5, 1.0, 2.0].contains(&m.eta) && m.parameters == 4 * RANK_1)
    );
    // The base, the end, and for each booster the model by itself and each step weight.
    assert_eq!(run.calls("model.evaluate").len(), 2 + fits * 4);
}

#[test]
fn mmlu_is_asked_before_and_after_tuning() {
    let run = Ran::new("mmlu");
    assert_eq!((run.merges().len(), run.calls("model.evaluate").len()), (2, 2));
    let asked = run.calls("data::load");
    assert_eq!((&asked[0]["template"], &asked[1]["shots"]), (&"alpaca".into(), &2.into()));
    let mmlu = tempfile::tempdir().unwrap();
    for split in ["dev", "val", "test"] {
        std::fs::create_dir(mmlu.path().join(split)).unwrap();
        for subject in ["anatomy", "philosophy"] {
            let file = mmlu.path().join(format!("{split}/{subject}_{split}.csv"));
            std::fs::write(file, format!("\"Is it, {split}?\",a,b,c,d,C\n")).unwrap();
        }
    }
    let data = format!("data={}", mmlu.path().display());
    let run = Ran::with("mmlu", &["quick=true", "template=mmlu", "shots=1", &data]);
    for metrics in run.answers("model.evaluate") {
        assert_eq!((&metrics["weights"], &metrics["items"]), (&"items".into(), &2.into()));
        for name in ["stem", "humanities"] {
            assert_eq!(metrics["groups"][name]["items"], 1, "{metrics}");
        }
    }
}

#[test]
fn ranks_grow() {
    let run = Ran::new("rank_growth");
    let ranks: Vec<u64> =
        shape(&run, 4, "low_rank", 4).iter().map(|m| m.parameters / (4 * RANK_1)).collect();
    assert_eq!(ranks, [1, 2, 4, 8]);
}

#[test]
fn an_ablation_measures_each_point_from_the_base() {
    let run = Ran::new("ablation");
    let merges = run.merges();
    assert_eq!((merges.len(), run.calls("model.truncate").len()), (13, 9));
    assert_eq!(run.rates().len(), 9 * 4, "each point has as many steps");
    let sizes: BTreeSet<u64> = merges.iter().map(|m| m.parameters).collect();
    assert_eq!(sizes, [2 * RANK_1, 8 * RANK_1, 16 * RANK_1, 64 * RANK_1].into());
}

#[test]
fn the_first_experiments_train_each_point_from_the_base_for_equal_steps() {
    let run = Ran::new("first_experiments");
    let merges = run.merges();
    // Two points: two rates, of which one gets a second draw.
    assert_eq!((run.calls("model.truncate").len(), run.rates().len()), (6, 6 * 4));
    let (lora, boosted) = merges.split_at(3);
    assert!(
        lora.iter().all(|m| (m.layers == all_layers()) && m.steps == 4 && m.parameters == RANK_8)
    );
    assert!(
        boosted.len() == 6
            && boosted
                .iter()
                .all(|m| m.layers.len() == 2 && m.steps == 2 && m.parameters == 2 * RANK_1)
    );
    let measured = run.calls("model.evaluate");
    assert_eq!(measured.len(), 1 + 6 * 2, "the base, then validation and test of each");
    let layers: BTreeSet<&[usize]> = boosted.iter().map(|m| m.layers.as_slice()).collect();
    assert!(layers.len() > 2, "each training draws its own layers");
}
