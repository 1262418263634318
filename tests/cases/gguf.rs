//! GGUF files: metadata, pre-tokenizers, quantised types, parts.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Ran, case, eval, made, program, ran, recipe, xgbrun};

/// The rules whose published form `gguf.py` has.
const RULES: [&str; 13] = [
    "llama-bpe",
    "smaug-bpe",
    "qwen2",
    "stablelm2",
    "gpt-2",
    "smollm",
    "command-r",
    "tekken",
    "gpt-4o",
    "deepseek-coder",
    "deepseek-v3",
    "falcon",
    "bloom",
];

fn rows(folder: &Path, model: &str) -> Ran {
    eval(folder, model, "rows.jsonl", &[])
}

/// What `gguf.py` wrote for a text: NLL and number of tokens.
fn text_of(expected: &Value, file: &str, text: usize) -> (f64, u64) {
    let told = &expected[file][text];
    (told["nll"].as_f64().unwrap(), told["ids"].as_u64().unwrap())
}

#[track_caller]
fn gives(ran: &Ran, (nll, ids): (f64, u64)) {
    ran.has_nll(nll);
    assert_eq!(ran.json()["tokens"], ids, "{}", ran.stderr);
}

#[test]
fn a_missing_pre_tokenizer_is_told_by_the_vocabulary() {
    let Some(folder) = case("silent-gguf-without-pre") else { return };
    let text = |model: &str, more: &[&str]| eval(&folder, model, "text.jsonl", more);
    for ran in [
        text("with.gguf", &[]),
        text("without.gguf", &[]),
        text("without.gguf", &["--pre-tokenizer", "llama-bpe"]),
    ] {
        ran.has_nll(6.28910);
        assert_eq!(ran.json()["metrics"]["tokens"], 10);
    }
    text("without.gguf", &[]).says(&[
        "`without.gguf`: it has no `tokenizer.ggml.pre`",
        "`llama-bpe`",
        "--pre-tokenizer",
    ]);
    // GPT-2's rule is taken where a person says so.
    let gpt2 = text("without.gguf", &["--pre-tokenizer", "gpt-2"]);
    gpt2.has_nll(6.05368);
    assert_eq!(gpt2.json()["metrics"]["tokens"], 12);
    text("with.gguf", &["--pre-tokenizer", "gpt-2"])
        .says(&["is `llama-bpe`; texts are split by `gpt-2`, as was asked for"])
        .has_nll(6.05368);
    text("with.gguf", &["--pre-tokenizer", "lama-bpe"])
        .refused(2, &["the pre-tokenizer `lama-bpe` is not known", "did you mean `llama-bpe`?"]);
    text("builtin:micro", &["--pre-tokenizer", "qwen2"])
        .refused(2, &["a pre-tokenizer is named for a GGUF file"]);
}

#[test]
fn types_and_parts_of_other_programs() {
    let Some(folder) = case("refused-gguf-kinds") else { return };
    for (file, nll) in [("tekken.gguf", 6.15278), ("iq4_nl.gguf", 6.78592), ("mxfp4.gguf", 6.87581)]
    {
        rows(&folder, file).has_nll(nll);
    }
    rows(&folder, "split-00001-of-00002.gguf")
        .refused(3, &["is part 1 of 2 of a model", "`split-00002-of-00002.gguf` is missing"]);
    rows(&folder, ".").refused(3, &["holds 4 GGUF files: name one", "tekken.gguf"]);
}

#[test]
fn files_that_gguf_py_writes() {
    let Some((home, expected)) = made("gguf.py") else { return };
    let home = home.path();
    pre_tokenizers(home, &expected);
    unnamed_pre_tokenizers(home, &expected);
    numbers(home, &expected);
    metadata(home, &expected);
    recipes(home);
}

/// Every rule splits as its published tokenizer does.
fn pre_tokenizers(home: &Path, expected: &Value) {
    for rule in RULES {
        let file = format!("{rule}.gguf");
        for text in 0..3 {
            gives(
                &eval(home, &file, &format!("text{text}.jsonl"), &[]),
                text_of(expected, &file, text),
            );
        }
    }
}

/// Without a name, the tokens are the right ones or the text is refused; with one that a person
/// gives, they are right.
fn unnamed_pre_tokenizers(home: &Path, expected: &Value) {
    let mut right = 0;
    for rule in RULES {
        let file = format!("no-{rule}.gguf");
        let want = text_of(expected, &format!("{rule}.gguf"), 0);
        let ran = eval(home, &file, "text0.jsonl", &[]);
        if ran.code == Some(0) {
            gives(&ran, want);
            ran.says(&["it has no `tokenizer.ggml.pre`"]);
            right += 1;
        } else {
            ran.refused(
                3,
                &["give other tokens for", "--pre-tokenizer NAME", "convert_hf_to_gguf.py"],
            );
        }
        gives(&eval(home, &file, "text0.jsonl", &["--pre-tokenizer", rule]), want);
    }
    assert!(right > 8, "{right}");
    for file in ["begin.gguf", "begin-unknown.gguf", "begin-default.gguf"] {
        let ran = eval(home, file, "text0.jsonl", &[]);
        gives(&ran, text_of(expected, "begin.gguf", 0));
        ran.says(&["the vocabulary is that of Llama 3, so `llama-bpe` is taken"]);
    }
    let unknown = eval(home, "unknown-pre.gguf", "text0.jsonl", &[]);
    unknown.refused(
        3,
        &[
            "its pre-tokenizer `smolm` is not known",
            "did you mean `smollm`?",
            "--pre-tokenizer NAME",
        ],
    );
    gives(
        &eval(home, "unknown-pre.gguf", "text0.jsonl", &["--pre-tokenizer", "smollm"]),
        text_of(expected, "smollm.gguf", 0),
    );
}

/// Quantised types, parts and folders give the numbers of the whole, plain file.
fn numbers(home: &Path, expected: &Value) {
    for kind in ["IQ4_NL", "IQ4_XS", "MXFP4", "mixed"] {
        rows(home, &format!("{kind}.gguf")).has_nll(expected[kind].as_f64().unwrap());
    }
    rows(home, "IQ2_S.gguf")
        .refused(3, &["is stored as IQ2_S (as are 13 more), which is not read", "llama-quantize"]);
    let plain = expected["plain"].as_f64().unwrap();
    for model in [
        "three/m-00001-of-00003.gguf",
        "three/m-00003-of-00003.gguf",
        "bare/m-00001-of-00003.gguf",
        "three",
        "one",
    ] {
        rows(home, model).has_nll(plain);
    }
    rows(home, "two").refused(3, &["holds 2 GGUF files: name one", "two/a.gguf"]);
    let part = |n: u8| home.join(format!("three/m-0000{n}-of-00003.gguf"));
    std::fs::rename(part(2), home.join("three/other.gguf")).unwrap();
    rows(home, "three/m-00003-of-00003.gguf")
        .refused(3, &["is part 3 of 3 of a model", "m-00002-of-00003.gguf` is missing"]);
    rows(home, "three/other.gguf").refused(
        3,
        &["is part 2 of 3 of a model, and its name is not that of a part", "gguf-split"],
    );
    std::fs::copy(part(3), part(2)).unwrap();
    rows(home, "three/m-00001-of-00003.gguf").refused(3, &["is not part 2 of 3, as its name says"]);
    std::fs::write(
        home.join("lfs.gguf"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    )
    .unwrap();
    rows(home, "lfs.gguf").refused(3, &["`lfs.gguf` is a Git LFS pointer"]);
}

/// Keys are read, passed over where they say nothing, or refused by name.
fn metadata(home: &Path, expected: &Value) {
    let plain = expected["plain"].as_f64().unwrap();
    for file in ["arrays", "neutral", "window", "unknown", "tokenizer-unknown"] {
        rows(home, &format!("meta/{file}.gguf")).has_nll(plain);
    }
    assert!(!rows(home, "meta/neutral.gguf").stderr.contains("passed over"));
    rows(home, "meta/scale_linear.gguf").has_nll(expected["scale_linear"].as_f64().unwrap());
    let said = [
        ("window", "its `llama.attention.sliding_window` is 16 and was passed over"),
        ("unknown", "its metadata `llama.attention.colour` is not known and was passed over"),
        ("tokenizer-unknown", "is `tokenizer.ggml.add_bos_token` meant?"),
    ];
    for (file, words) in said {
        rows(home, &format!("meta/{file}.gguf")).says(&[words]);
    }
    let refused = [
        ("heads", "`llama.attention.head_count_kv` is 2 in layer 0 and 1 in layer 1"),
        ("ff", "`llama.feed_forward_length` is 96 in layer 0 and 64 in layer 1"),
        ("experts", "the model is a mixture of 8 experts, as Mixtral"),
        ("clamp", "`llama.attention.clamp_kqv` is 8"),
        ("logits", "`llama.logit_scale` is 0.0625"),
        ("scale", "`llama.attention.scale` is 0.5, not the usual 0.25"),
        ("embedding", "`llama.embedding_scale` is 12"),
        ("residual", "`llama.residual_scale` is 0.2"),
        ("cap", "`llama.final_logit_softcapping` is 30"),
        ("encoder", "`llama.attention.causal` is false"),
        ("values", "`llama.attention.value_length` is 8"),
        ("rotated", "`llama.rope.dimension_count` is 8"),
        ("adapter", "is a LoRA adapter in GGUF, not a model"),
        ("mmproj", "is the projector of a model that sees or hears"),
        ("imatrix", "is an importance matrix"),
    ];
    for (file, words) in refused {
        rows(home, &format!("meta/{file}.gguf")).refused(3, &[words]);
    }
}

/// A recipe names the rule; `ask` and `export` open the model as the run did, and what is exported
/// is read without a name.
fn recipes(home: &Path) {
    let script = r#"
        let p = params(#{ model: "", data: "" });
        let model = model::load(p.model, #{ pre_tokenizer: "tekken" });
        let task = data::load(p.data);
        let booster = model.booster(#{ layers: [1], rank: 1 });
        booster.fit(task.train, #{ steps: 1, optimizer: adamw(#{ lr: 0.001 }) });
        model.merge(booster);
    "#;
    std::fs::write(home.join("mine.rhai"), script).unwrap();
    std::fs::write(home.join("train.jsonl"), "{\"text\": \"the owl sees HTMLParser\"}\n".repeat(8))
        .unwrap();
    let (model, data) = (home.join("falcon.gguf"), home.join("train.jsonl"));
    let given = [format!("model={}", model.display()), format!("data={}", data.display())];
    let check = xgbrun(home, &["check", "mine.rhai", "-p", &given[0], "-p", &given[1]]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let run = ran(program(home).args([
        "mine.rhai",
        "--device",
        "cpu",
        "--out",
        "run",
        "-p",
        &given[0],
        "-p",
        &given[1],
    ]));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(home.join("run/run.json")).unwrap()).unwrap();
    assert_eq!(manifest["pre_tokenizer"], "tekken");
    let asked = xgbrun(
        home,
        &["ask", "run", "Why?", "--template", "none", "--max-tokens", "2", "--device", "cpu"],
    );
    assert_eq!(asked.code, Some(0), "{}", asked.stderr);
    asked.says(&["texts are split by `tekken`, as was asked for"]);
    let exported = xgbrun(home, &["export", "run", "--gguf", "out.gguf", "--device", "cpu"]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let tokens = |model: &str, more: &[&str]| {
        eval(home, model, "text1.jsonl", more).json()["tokens"].clone()
    };
    assert_eq!(tokens("out.gguf", &[]), tokens("falcon.gguf", &["--pre-tokenizer", "tekken"]));
    assert!(
        std::fs::read(home.join("out.gguf")).unwrap().windows(6).any(|bytes| bytes == b"tekken")
    );

    let save =
        "let p = params(#{ model: \"\" }); let model = model::load(p.model); model.save(\"m\");";
    std::fs::write(home.join("save.rhai"), save).unwrap();
    let undecided = home.join("no-qwen2.gguf").display().to_string();
    recipe(&home.join("save.rhai"), &[("model", &undecided)], &[])
        .refused(3, &["its tokenizer cannot be written", "pre_tokenizer"]);
    let check = xgbrun(home, &["check", "save.rhai", "-p", &format!("model={undecided}")]);
    check.refused(3, &["its tokenizer cannot be written", "pre_tokenizer"]);
}
