//! Tokenizer files: those that disagree, newer kinds, `tokenizer.model`.

use serde_json::Value;
use xgbrun::error::{Class, class_of};
use xgbrun::source::Tokenizer;

use std::path::Path;

use crate::harness::{case, eval, made, recipe, xgbrun};

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// What differs from transformers' answer on a folder; `None` where all is the same.
fn difference(tokenizer: &Tokenizer, said: &Value, texts: &[Value]) -> Option<String> {
    for (i, text) in texts.iter().enumerate() {
        let plain = tokenizer.encode(text.as_str().unwrap()).unwrap();
        let want = ids(&said["ids"][i]);
        if plain != want {
            return Some(format!("{text}: {plain:?}, right is {want:?}"));
        }
        // A text's beginning counts; the end is the data's.
        let whole = ids(&said["whole"][i]);
        let begun = [tokenizer.begin(), &plain].concat();
        if !whole.starts_with(&begun) || whole.len() > begun.len() + 1 {
            return Some(format!("{text}: begun as {begun:?}, right is {whole:?}"));
        }
        for (skip, key) in [(false, "decoded"), (true, "skipped")] {
            let decoded = tokenizer.decode(&plain, skip).unwrap();
            if said[key][i] != decoded.as_str() {
                return Some(format!("{text}, {key}: {decoded:?}, right is {}", said[key][i]));
            }
        }
    }
    let role = |key: &str| said[key].as_u64().map(|id| id as u32);
    if (tokenizer.bos(), tokenizer.eos()) != (role("bos"), role("eos")) {
        return Some(format!(
            "{:?} {:?}, right is {} {}",
            tokenizer.bos(),
            tokenizer.eos(),
            said["bos"],
            said["eos"]
        ));
    }
    let roles: serde_json::Map<String, Value> =
        tokenizer.roles().into_iter().map(|(role, token)| (role, token.into())).collect();
    if Value::Object(roles.clone()) != said["roles"] {
        return Some(format!("{roles:?}, right is {}", said["roles"]));
    }
    if tokenizer.vocab_size() < said["size"].as_u64().unwrap() as usize {
        return Some(format!("{} tokens, right is {}", tokenizer.vocab_size(), said["size"]));
    }
    None
}

/// Models with such folders, measured.
fn models(home: &Path, right: &Value) {
    for (name, nll) in right.as_object().unwrap() {
        let ran = eval(home, &format!("models/{name}"), "texts.jsonl", &[]);
        match (name.as_str(), nll.as_f64()) {
            ("larger-end", None) => {
                ran.refused(3, &["a text ends with `[PAD]`, token", "the model's embedding has"])
            }
            ("larger-begin", None) => ran.refused(
                3,
                &[
                    "the token that begins a text: `[PAD]` is token 3",
                    "the model's embedding has 300 rows",
                ],
            ),
            (_, nll) => ran.has_nll(nll.unwrap()),
        }
    }
    let larger = eval(home, "models/larger", "texts.jsonl", &[]);
    larger.says(&[
        "1 without a row, the first `[PAD]`",
        "`[PAD]`",
        "are not in tokenizer.json and were added",
    ]);
    eval(home, "models/larger", "held.jsonl", &[])
        .refused(3, &["held.jsonl` line 1", "`[PAD]` is token", "rows"]);
    let train = "let p = params(#{ model: \"\", data: \"\" }); let m = model::load(p.model); \
                 let t = data::load(p.data); let b = m.booster(#{ layers: [0] }); \
                 b.fit(t.train, #{ steps: 1, optimizer: adamw(#{ lr: 0.001 }) });";
    std::fs::write(home.join("train.rhai"), train).unwrap();
    let path = |name: &str| home.join(name).display().to_string();
    let trained = recipe(
        &home.join("train.rhai"),
        &[("model", &path("models/larger")), ("data", &path("held.jsonl"))],
        &[],
    );
    trained.refused(3, &["`[PAD]` is token"]);
    xgbrun(home, &["eval", "models/flag", "--data", "texts.jsonl"]).says(&[
        "`add_bos_token`: true, and tokenizer.json puts none before a text",
        "texts are split by the rules of the class GPT2Tokenizer, as in transformers 5, and not by \
         pre_tokenizer of tokenizer.json",
    ]);
}

#[test]
fn folders_whose_files_disagree_are_read_as_transformers_reads_them() {
    let Some((home, expected)) = made("tokenizer_folders.py") else { return };
    let texts = expected["texts"].as_array().unwrap();
    let (mut wrong, mut read) = (vec![], 0);
    for (name, said) in expected["folders"].as_object().unwrap() {
        let folder = home.path().join(name);
        let found = Tokenizer::from_file(&folder.join(said["file"].as_str().unwrap()));
        match found {
            Err(error) => {
                assert_eq!(class_of(&error), Class::Data);
                if said["error"].is_null() && said["may_refuse"] == false {
                    wrong.push(format!("{name}: {error:#}"));
                }
            }
            Ok(_) if !said["error"].is_null() => {}
            Ok(tokenizer) => {
                read += 1;
                wrong.extend(
                    difference(&tokenizer, said, texts)
                        .map(|what| format!("{name} ({}): {what}", said["class"])),
                );
                // Saved, it is the same.
                let saved = tempfile::tempdir().unwrap();
                tokenizer.save(saved.path()).unwrap();
                std::fs::copy(folder.join("config.json"), saved.path().join("config.json"))
                    .unwrap();
                let again = Tokenizer::from_file(&saved.path().join("tokenizer.json")).unwrap();
                wrong.extend(
                    difference(&again, said, texts).map(|what| format!("{name}, saved: {what}")),
                );
            }
        }
    }
    models(home.path(), &expected["models"]);
    assert!(wrong.is_empty(), "{} of {read}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(read > 400, "{read}");
}

#[test]
fn the_post_processor_decides_what_begins_a_text() {
    let Some(home) = case("silent-bos-flag-against-post-processor") else { return };
    for (model, begins, says) in [
        ("model-true", false, "`add_bos_token`: true, and tokenizer.json puts none before a text"),
        (
            "model-false",
            true,
            "`add_bos_token`: false, and tokenizer.json puts `<|begin|>` before a text",
        ),
    ] {
        let path = |name: &str| home.join(name).display().to_string();
        let ran = recipe(
            &home.join("show.rhai"),
            &[("model", &path(model)), ("data", &path("data")), ("template", "none")],
            &[],
        );
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.says(&[says]);
        assert_eq!(
            format!("{}{}", ran.stdout, ran.stderr).contains("<|begin|>⟦Snow is white."),
            begins,
            "{}{}",
            ran.stdout,
            ran.stderr
        );
    }
}

#[test]
fn a_tokenizer_larger_than_the_vocabulary_is_loaded() {
    let Some(home) = case("refused-tokenizer-larger-than-vocabulary") else { return };
    let ran = eval(&home, "model", "model/rows.jsonl", &[]);
    ran.has_nll(6.13672);
    ran.says(&["the tokenizer has 401 tokens, the model's vocabulary 400", "`[PAD]` (400)"]);
}

#[test]
fn an_end_token_without_a_row_is_refused() {
    let Some(from) = case("refused-tokenizer-larger-than-vocabulary") else { return };
    let home = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::write(
            home.path().join(file),
            std::fs::read(from.join("model").join(file)).unwrap(),
        )
        .unwrap();
    }
    std::fs::write(home.path().join("tokenizer_config.json"), "{\"eos_token\": \"[PAD]\"}")
        .unwrap();
    let data = home.path().join("train.jsonl");
    std::fs::write(&data, "{\"q\": \"Snow?\"}\n{\"q\": \"Fire?\"}\n").unwrap();
    for template in [
        r#"prompt: "{{ q }} ", answer: "yes""#,
        r#"text: "{{ q }} {% generation %}yes{% endgeneration %}""#,
    ] {
        let script = home.path().join("r.rhai");
        let body = format!(
            "let p = params(#{{ model: \"\", data: \"\" }}); let m = model::load(p.model); \
             let d = data::load(p.data, #{{ template: #{{ {template} }} }}); \
             let b = m.booster(#{{ layers: [0], rank: 1 }}); \
             b.fit(d.train, #{{ steps: 1, optimizer: adamw(#{{ lr: 0.001 }}) }});"
        );
        std::fs::write(&script, body).unwrap();
        let (model, data) = (home.path().display().to_string(), data.display().to_string());
        let ran = recipe(&script, &[("model", &model), ("data", &data)], &[]);
        ran.refused(
            3,
            &["a text ends with `[PAD]`, token 400, and the model's embedding has 400 rows"],
        );
    }
}

#[test]
fn tokenizer_files_that_cannot_be_read_are_called_what_they_are() {
    let Some(home) = case("refused-tokenizer-files") else { return };
    let newer = "is of the kind `FancyNew`, which is newer than this program knows";
    let command = "AutoTokenizer.from_pretrained('tokenizer-model-only')\
                   .save_pretrained('tokenizer-model-only')";
    for (model, words) in [
        ("unknown-normalizer", ["its `normalizer`", newer].as_slice()),
        ("unknown-model", &["its `model`", newer]),
        ("lfs-tokenizer", &["tokenizer.json` is a Git LFS pointer", "git lfs pull"]),
        ("tokenizer-model-only", &["has no tokenizer.json, only tokenizer.model", command]),
    ] {
        eval(&home, model, &format!("{model}/rows.jsonl"), &[]).refused(3, words);
    }
}

#[test]
fn other_formats_are_called_what_they_are() {
    let Some(source) = case("refused-tokenizer-files") else { return };
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("m");
    std::fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors", "rows.jsonl"] {
        std::fs::write(
            model.join(name),
            std::fs::read(source.join("unknown-model").join(name)).unwrap(),
        )
        .unwrap();
    }
    let command = "AutoTokenizer.from_pretrained('m').save_pretrained('m')";
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    let file = r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
    for (files, words) in [
        (
            [("tekken.json", "{}")].as_slice(),
            ["only tekken.json, a tokenizer of Mistral's own format", command].as_slice(),
        ),
        (
            &[("tokenizer.model", "IQ== 0\nIg== 1\n")],
            &["only tokenizer.model, a vocabulary of tiktoken", command],
        ),
        (
            &[("vocab.json", r#"{"a": 0}"#)],
            &["only vocab.json, a vocabulary without its merges.txt", command],
        ),
        (
            &[("vocab.json", r#"{"a": 0}"#), ("merges.txt", "")],
            &["which do not say how texts are split", command],
        ),
        (&[("tokenizer.model", pointer)], &["tokenizer.model` is a Git LFS pointer"]),
        (
            &[("tokenizer.json", file), ("tokenizer_config.json", pointer)],
            &["tokenizer_config.json` is a Git LFS pointer"],
        ),
        (
            &[("tokenizer.json", file), ("special_tokens_map.json", pointer)],
            &["special_tokens_map.json` is a Git LFS pointer"],
        ),
        (
            &[
                ("tokenizer.json", file),
                ("tokenizer_config.json", r#"{"tokenizer_class": "GemmaTokenizerFast"}"#),
            ],
            &[
                "the class `GemmaTokenizer`, whose rules are not known here",
                "PreTrainedTokenizerFast",
            ],
        ),
        (
            &[
                ("tokenizer.json", file),
                (
                    "tokenizer_config.json",
                    r#"{
                        "tokenizer_class": "XTokenizer",
                        "auto_map": {"AutoTokenizer": ["x.X", null]}
                    }"#,
                ),
            ],
            &["its tokenizer is code of the repository's own"],
        ),
        (&[], &["model folder `m` has no tokenizer.json"]),
    ] {
        files.iter().for_each(|(name, text)| std::fs::write(model.join(name), text).unwrap());
        eval(home.path(), "m", "m/rows.jsonl", &[]).refused(3, words);
        files.iter().for_each(|(name, _)| std::fs::remove_file(model.join(name)).unwrap());
    }
}

#[test]
fn chat_templates_are_found_and_dated() {
    let Some(source) = case("silent-bos-flag-against-post-processor") else { return };
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("m");
    std::fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::write(
            model.join(name),
            std::fs::read(source.join("model-true").join(name)).unwrap(),
        )
        .unwrap();
    }
    let talk = concat!(
        r#"{"messages": [{"role": "user", "content": "Hi"}, "#,
        r#"{"role": "assistant", "content": "Snow."}]}"#,
    );
    std::fs::write(home.path().join("talk.jsonl"), talk).unwrap();
    let worded = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                  {% if add_generation_prompt %}assistant: {% endif %}";
    let settings = |template: Value| {
        let settings = serde_json::json!({
            "bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>",
            "chat_template": template,
        });
        std::fs::write(model.join("tokenizer_config.json"), settings.to_string()).unwrap();
    };
    let run = |more: &[&str]| {
        eval(home.path(), "m", "talk.jsonl", &[&["--template", "chat"], more].concat())
    };

    settings(serde_json::json!([
        {"name": "tool_use", "template": "T"}, {"name": "rag", "template": "R"},
    ]));
    run(&[]).refused(3, &["chat templates named `rag`, `tool_use`, and none named `default`"]);
    settings(worded.into());
    let plain = run(&[]).nll();
    settings(Value::Null);
    std::fs::write(
        model.join("chat_template.json"),
        serde_json::json!({"chat_template": worded}).to_string(),
    )
    .unwrap();
    assert_eq!(run(&[]).nll(), plain);
    run(&[]).says(&["the chat template is that of chat_template.json"]);
    std::fs::remove_file(model.join("chat_template.json")).unwrap();

    settings(format!("{{{{ strftime_now('%d %b %Y') }}}}{{{{ pad_token }}}}{worded}").into());
    run(&[]).refused(
        3,
        &["asks for today's date (`strftime_now`)", "--date 2026-01-31", "date: \"2026-01-31\""],
    );
    run(&["--date", "2026-02-30"]).refused(2, &["`2026-02-30` is no date"]);
    let dated = run(&["--date", "2026-01-31"]).nll();
    settings(format!("31 Jan 2026<|pad|>{worded}").into());
    assert_eq!(run(&[]).nll(), dated);
    let folder = model.join("additional_chat_templates");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("default.jinja"), worded).unwrap();
    assert_eq!(run(&[]).nll(), plain);
}
