//! PEFT adapters: of every kind, and with every key of their config.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use serde_json::{Value, json};
use xgbrun::boost::adapter::{self, Weights};
use xgbrun::error::{Class, class_of};
use xgbrun::model::{Model, Tokens, load};
use xgbrun::source::Grants;

use crate::harness::{Ran, case, eval, made, program, ran};

/// Adapters of the folder of cases beside their base, with what peft gives on them.
#[test]
fn adapters_give_the_numbers_of_peft() {
    let (Some(starts), Some(kinds)) =
        (case("silent-pissa-olora-adapter"), case("refused-peft-kinds"))
    else {
        return;
    };
    let base = starts.join("base").display().to_string();
    for (folder, name, want) in [
        (&starts, "untrained-pissa", 6.13672),
        (&starts, "untrained-olora", 6.13672),
        (&starts, "trained-pissa", 6.13042),
        (&starts, "trained-olora", 6.18161),
        (&kinds, "dora", 6.23252),
        (&kinds, "bias-lora-only", 6.17858),
        (&kinds, "modules-to-save", 6.10597),
        (&kinds, "lm-head", 6.48354),
        (&kinds, "embedding", 6.19200),
        (&kinds, "saved-embedding", 6.10597),
        (&kinds, "default-in-keys", 6.10597),
        (&kinds, "alpha-pattern-caret", 6.11646),
        (&kinds, "fan-in-fan-out", 6.10597),
    ] {
        eval(folder, &base, &starts.join("rows.jsonl").display().to_string(), &["--adapter", name])
            .has_nll(want);
    }
    let said = |folder: &Path, name: &str| {
        eval(folder, &base, &starts.join("rows.jsonl").display().to_string(), &["--adapter", name])
    };
    said(&starts, "trained-olora").says(&[
        "`trained-olora`: its start (OLoRA) is taken out of the weights",
        "twice the rank",
    ]);
    said(&kinds, "fan-in-fan-out")
        .says(&["`fan_in_fan_out` is true, which says nothing of linear layers"]);
    said(&kinds, "lm-head").says(&["whole tensors stand in for the model's: `lm_head.weight`"]);
}

/// What the model gives with an adapter on the ids of `expected`, or the error.
fn measured(model: &Model, folder: &Path, ids: &[u32]) -> Result<f64, anyhow::Error> {
    let adapter = adapter::load(folder, model, Weights::Base)?.booster.adapter;
    let rows: Vec<usize> = (0..ids.len() - 1).collect();
    let nll = model.nll(&Tokens::one(ids.to_vec()), &rows, &ids[1..], &adapter)?;
    Ok(nll.iter().sum::<f64>() / nll.len() as f64)
}

fn open(folder: &Path) -> Model {
    load::open(folder.to_str().unwrap(), &Grants::everything(), &Device::Cpu, DType::F32)
        .unwrap()
        .model
}

/// Every field of `LoraConfig` at other values than its default, and every kind of adapter that
/// peft makes: the same NLL, or refused by name.
#[test]
fn no_key_and_no_kind_is_silently_different() {
    let Some((home, expected)) = made("adapters.py") else { return };
    let ids: Vec<u32> =
        expected["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let models: Vec<(&String, Model)> = expected["bases"]
        .as_object()
        .unwrap()
        .keys()
        .map(|name| (name, open(&home.path().join(name))))
        .collect();
    let model = |name: &str| &models.iter().find(|(known, _)| *known == name).unwrap().1;
    let mut wrong = vec![];
    let mut check = |what: String, base: &str, row: &Value, key: &str| -> bool {
        let found = measured(model(base), &home.path().join(row["folder"].as_str().unwrap()), &ids);
        match (&found, row["nll"].as_f64()) {
            (Ok(nll), Some(want)) if (nll - want).abs() < 1e-4 => return true,
            (Err(error), _)
                if class_of(error) == Class::Data && format!("{error:#}").contains(key) =>
            {
                return false;
            }
            _ => wrong
                .push(format!("{what}: found {found:?}, right is {} {}", row["nll"], row["error"])),
        }
        false
    };
    for row in expected["keys"].as_array().unwrap() {
        let key = row["key"].as_str().unwrap();
        check(format!("{key} {}", row["value"]), "plain", row, &format!("`{key}`"));
    }
    // Those that peft loads and this program refuses, and what it says.
    let refused = [
        (
            "lora-bias-without",
            "`lora_bias` is true: it gives `model.layers.0.self_attn.q_proj` a bias, which the \
             model does not have",
        ),
        (
            "saved-embedding-tied",
            "it changes `model.embed_tokens` alone, but the model ties embedding and head",
        ),
        ("saved-head-tied", "it changes `lm_head` alone"),
        ("saved-both-tied", "it changes `lm_head` alone"),
        ("head-tied", "it changes `lm_head` alone"),
        ("embedding-tied", "it changes `model.embed_tokens` alone"),
        ("embedding-tying", "it changes `lm_head` alone"),
        ("tokens-apart-tied", "it changes `lm_head` alone"),
        ("several-names", "its file holds tensors of several adapters: one without a name, `mine`"),
        ("default-names-magnitude", "lora_magnitude_vector.default`, which PEFT 0.21 passes over"),
        ("kasa", "`kasa_config` is"),
        ("parameters", "`target_parameters` is"),
        ("replicated", "`layer_replication` is"),
        ("bdlora", "`use_bdlora` is"),
        ("grown-vocabulary", "the vocabulary was resized before it was trained"),
    ];
    let mut passed = vec![];
    for row in expected["kinds"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let words = refused
            .iter()
            .find(|(known, _)| *known == name)
            .map_or("none of these words", |(_, words)| words);
        if check(name.to_owned(), row["base"].as_str().unwrap(), row, words) {
            passed.push(name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        refused.iter().all(|(name, _)| !passed.contains(name)),
        "not refused any more: {passed:?}"
    );
}

/// A base and an adapter that `change` makes another of, in a fresh folder: what `eval` says.
fn changed(change: impl Fn(&Path)) -> Option<Ran> {
    let (starts, kinds) = (case("silent-pissa-olora-adapter")?, case("refused-peft-kinds")?);
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("adapter");
    fs::create_dir(&folder).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(kinds.join("default-in-keys").join(file), folder.join(file)).unwrap();
    }
    change(&folder);
    let path = |name: &str| starts.join(name).display().to_string();
    Some(eval(home.path(), &path("base"), &path("rows.jsonl"), &["--adapter", "adapter"]))
}

fn with_config(folder: &Path, more: Value) {
    let path = folder.join("adapter_config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fs::write(path, config.to_string()).unwrap();
}

/// What spoils a folder, and the words of its refusal.
type Spoilt<'a> = (&'a dyn Fn(&Path), &'a [&'a str]);

#[test]
fn what_is_no_adapter_of_peft_is_named() {
    let remove = |folder: &Path, name: &str| fs::remove_file(folder.join(name)).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n";
    let cases: [Spoilt; 10] = [
        (
            &|folder| {
                let config = json!({
                    "fine_tune_type": "lora", "num_layers": 2,
                    "lora_parameters": { "rank": 8, "scale": 20.0 },
                });
                fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
                fs::rename(
                    folder.join("adapter_model.safetensors"),
                    folder.join("adapters.safetensors"),
                )
                .unwrap();
            },
            &["it is an adapter of mlx-lm", "mlx_lm.fuse"],
        ),
        (
            &|folder| {
                fs::rename(
                    folder.join("adapter_model.safetensors"),
                    folder.join("adapter_model.bin"),
                )
                .unwrap()
            },
            &["pickled", "save_pretrained"],
        ),
        (
            &|folder| fs::write(folder.join("adapter_model.safetensors"), pointer).unwrap(),
            &["is a Git LFS pointer", "git lfs pull"],
        ),
        (
            &|folder| fs::write(folder.join("adapter_config.json"), pointer).unwrap(),
            &["is a Git LFS pointer"],
        ),
        (
            &|folder| {
                fs::create_dir(folder.join("mine")).unwrap();
                fs::rename(
                    folder.join("adapter_config.json"),
                    folder.join("mine/adapter_config.json"),
                )
                .unwrap();
            },
            &["there is no `adapter_config.json` in it", "in folders below it: `mine`"],
        ),
        (
            &|folder| remove(folder, "adapter_model.safetensors"),
            &["cannot read `adapter/adapter_model.safetensors`"],
        ),
        (
            &|folder| with_config(folder, json!({ "peft_type": "ADALORA" })),
            &["`peft_type` is \"ADALORA\", only \"LORA\"", "merge_and_unload"],
        ),
        (
            &|folder| with_config(folder, json!({ "task_type": "SEQ_CLS" })),
            &["`task_type` is \"SEQ_CLS\"", "a head of its own"],
        ),
        (
            &|folder| with_config(folder, json!({ "peft_type": "PROMPT_TUNING" })),
            &["`peft_type` is \"PROMPT_TUNING\""],
        ),
        (
            &|folder| with_config(folder, json!({ "next_years_lora": true })),
            &["a key `next_years_lora` with the value true"],
        ),
    ];
    for (change, words) in cases {
        let Some(ran) = changed(change) else { return };
        ran.refused(3, words);
    }
}

#[test]
fn what_a_person_should_know_of_an_adapter_is_said() {
    let more = json!({
        "base_model_name_or_path": "meta/other-7b",
        "target_modules": ["q_proj", "v_proj", "down_proj", "o_proj"], "next": null,
    });
    let Some(ran) = changed(|folder| with_config(folder, more.clone())) else { return };
    ran.has_nll(6.10597);
    ran.says(&[
        "it says that it was trained on `meta/other-7b`",
        "the file has no factors of `model.layers.0.self_attn.o_proj`",
    ]);
}

/// A folder for runs over the base of the cases.
struct Runs {
    home: tempfile::TempDir,
    base: String,
    rows: String,
}

impl Runs {
    fn new() -> Option<(Self, std::path::PathBuf)> {
        let starts = case("silent-pissa-olora-adapter")?;
        let path = |name: &str| starts.join(name).display().to_string();
        Some((
            Self {
                home: tempfile::tempdir().unwrap(),
                base: path("base"),
                rows: path("rows.jsonl"),
            },
            case("refused-peft-kinds")?,
        ))
    }

    fn run(&self, command: &[&str], body: &str, name: &str, adapter: &Path) -> Ran {
        let script = self.home.path().join(format!("{name}.rhai"));
        let head = "let p = params(#{ model: \"\", data: \"\", adapter: \"\" }); \
                    let model = model::load(p.model); let task = data::load(p.data, #{});";
        fs::write(&script, format!("{head}\n{body}")).unwrap();
        let given = [
            format!("model={}", self.base),
            format!("data={}", self.rows),
            format!("adapter={}", adapter.display()),
        ];
        let given: Vec<&str> = given.iter().flat_map(|given| ["-p", given]).collect();
        ran(program(self.home.path())
            .args(command)
            .arg(&script)
            .args(["--device", "cpu"])
            .args(given))
    }
}

/// Merged and saved, an adapter of whole tensors stays what it is; what is no adapter of low rank
/// is not saved as one.
#[test]
fn adapters_of_whole_tensors_are_merged() {
    let Some((runs, kinds)) = Runs::new() else { return };
    for (name, want) in [
        ("dora", 6.23252),
        ("modules-to-save", 6.10597),
        ("lm-head", 6.48354),
        ("embedding", 6.19200),
    ] {
        let body = "let b = model.load_adapter(p.adapter); model.merge(b); model.save(\"merged\");";
        let done = runs.run(&["--out", name], body, name, &kinds.join(name));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        eval(runs.home.path(), &format!("{name}/merged"), &runs.rows, &[]).has_nll(want);
    }
    let dora = kinds.join("dora");
    let late =
        "model.merge(model.booster(#{ layers: [0] })); let b = model.load_adapter(p.adapter);";
    let saved = "let b = model.load_adapter(p.adapter); b.save(\"adapter\");";
    for command in [vec!["check"], vec!["--out", "late"]] {
        runs.run(&command, late, "late", &dora)
            .refused(2, &["boosters were merged into the model", "load it before the first merge"]);
    }
    for command in [vec!["check"], vec!["--out", "saved"]] {
        runs.run(&command, saved, "saved", &dora)
            .refused(2, &["a dense booster is no adapter; save the model after merging"]);
    }
    // Plain LoRA may be loaded at any time.
    let done = runs.run(&["--out", "plain"], late, "plain", &kinds.join("default-in-keys"));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// A PiSSA adapter is saved as the plain LoRA that it is by then, and gives the same numbers.
#[test]
fn an_adapter_with_a_start_is_saved_as_plain_lora() {
    let Some((runs, _)) = Runs::new() else { return };
    let starts = case("silent-pissa-olora-adapter").unwrap();
    for (name, want) in [("trained-pissa", 6.13042), ("trained-olora", 6.18161)] {
        let done = runs.run(
            &["--out", name],
            "model.load_adapter(p.adapter).save(\"plain\");",
            name,
            &starts.join(name),
        );
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let config =
            fs::read_to_string(runs.home.path().join(name).join("plain/adapter_config.json"))
                .unwrap();
        assert!(config.contains("\"r\": 8") && !config.contains("init_lora_weights"), "{config}");
        eval(runs.home.path(), &runs.base, &runs.rows, &["--adapter", &format!("{name}/plain")])
            .has_nll(want);
    }
}

/// Trained on and merged, behind any record but that of a fit whose booster was merged since, a run
/// goes on to the same bits.
#[test]
fn a_run_with_a_loaded_adapter_goes_on_to_the_same_bits() {
    let Some((runs, kinds)) = Runs::new() else { return };
    let body = "let b = model.load_adapter(p.adapter); \
                b.fit(task.train, #{ steps: 2, batch: 1, optimizer: adamw(#{ lr: 0.01 }) }); \
                model.merge(b, 0.5); \
                model.evaluate(task.train); let c = model.booster(#{ layers: [0] }); \
                c.fit(task.train, #{ steps: 1, batch: 1, optimizer: adamw(#{ lr: 0.01 }) }); \
                model.merge(c); model.evaluate(task.train); \
                print(model.digest()); model.truncate(1); print(model.digest());";
    for adapter in [
        kinds.join("lm-head"),
        kinds.join("dora"),
        case("silent-pissa-olora-adapter").unwrap().join("trained-olora"),
    ] {
        let name = adapter.file_name().unwrap().to_str().unwrap();
        let whole = runs.run(&["--quiet", "--out", name], body, name, &adapter);
        assert_eq!(whole.code, Some(0), "{}", whole.stderr);
        let folder = runs.home.path().join(name);
        let journal = fs::read_to_string(folder.join("journal.jsonl")).unwrap();
        let lines: Vec<&str> = journal.lines().collect();
        for count in 1..lines.len() {
            if lines[count - 1].contains("booster.fit") {
                continue;
            }
            let again = folder.with_extension("again");
            let _ = fs::remove_dir_all(&again);
            copy(&folder, &again);
            fs::write(
                again.join("journal.jsonl"),
                lines[..count].iter().map(|line| format!("{line}\n")).collect::<String>(),
            )
            .unwrap();
            for gone in ["summary.json", "report.html", "boosters/ensemble.json"] {
                let _ = fs::remove_file(again.join(gone));
            }
            let resumed = ran(program(runs.home.path()).args([
                "--resume",
                again.to_str().unwrap(),
                "--quiet",
            ]));
            // What was printed before is not printed again.
            let last = whole.stderr.lines().last().map(|line| format!("{line}\n")).unwrap();
            let as_before =
                whole.stderr.ends_with(&resumed.stderr) && resumed.stderr.ends_with(&last);
            assert!(
                resumed.code == Some(0) && as_before,
                "{name} behind {count} records: {} {}",
                resumed.stderr,
                whole.stderr
            );
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
