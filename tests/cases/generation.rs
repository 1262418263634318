//! What ends a generated text, and how it follows its prompt.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Ran, case, made, program, ran, recipe};

/// Runs a case's recipe on a model.
fn generated(recipe_of: &Path, model: &Path, parameters: &[(&str, &str)]) -> Ran {
    recipe(
        &recipe_of.join("gen.rhai"),
        &[&[("model", model.to_str().unwrap())], parameters].concat(),
        &[],
    )
}

#[test]
fn the_space_before_a_generated_word_is_kept() {
    let Some(folder) = case("silent-sentencepiece-generated-space") else { return };
    let prompt = ("prompt", "The king's cat eats");
    generated(&folder, &folder.join("model"), &[prompt]).says(&["GEN[ fish is hot]"]);
    generated(&folder, &folder.join("model"), &[prompt, ("stop", " fish")]).says(&["GEN[]"]);
    generated(&folder, &folder.join("model"), &[prompt, ("stop", " hot")]).says(&["GEN[ fish is]"]);
}

#[test]
fn every_end_token_of_the_generation_config_ends_a_text() {
    let Some(folder) = case("silent-generation-config-eos") else { return };
    let ran = generated(&folder, &folder.join("model"), &[("prompt", "Snow is")]);
    ran.says(&["GEN[ white]"]);
    assert!(!ran.stderr.contains("as in transformers"), "nothing is at odds: {}", ran.stderr);
}

#[test]
fn a_stop_text_that_is_a_special_token_ends_a_text() {
    let (Some(folder), Some(other)) =
        (case("silent-stop-special-token"), case("silent-generation-config-eos"))
    else {
        return;
    };
    // Without the generation config, which ends there too.
    let home = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(other.join("model").join(name), home.path().join(name)).unwrap();
    }
    for model in [home.path(), &other.join("model")] {
        generated(&folder, model, &[("prompt", "Snow is"), ("stop", "<|eot|>")])
            .says(&["GEN[ white]"]);
    }
    let hot = generated(&folder, home.path(), &[("prompt", "Snow is")]);
    hot.says(&["GEN[ white hot]"]);
    let mixed = generated(&folder, home.path(), &[("prompt", "Snow is"), ("stop", "a<|eot|>")]);
    mixed.refused(
        2,
        &["holds the special token `<|eot|>` beside other text", "as a stop of its own"],
    );
}

/// What a recipe generates for jobs on one model, each by itself and all prompts of equal options
/// together.
fn told(home: &Path, model: &str, jobs: &[&Value]) -> Ran {
    let mut script = "let model = model::load(params(#{ model: \"\" }).model);\n".to_owned();
    let options = |job: &Value| {
        format!(
            "#{{ max_tokens: {}, beams: {}, stop: {} }}",
            job["max_tokens"], job["beams"], job["stop"]
        )
    };
    let mut alike: BTreeMap<String, Vec<(usize, &Value)>> = BTreeMap::new();
    for (i, job) in jobs.iter().enumerate() {
        script += &format!(
            "print(\"{i}[\" + model.generate({}, {}) + \"]\");\n",
            job["prompt"],
            options(job)
        );
        alike.entry(options(job)).or_default().push((i, job));
    }
    for (options, jobs) in alike {
        let prompts: Vec<String> = jobs.iter().map(|(_, job)| job["prompt"].to_string()).collect();
        script += &format!("let texts = model.generate([{}], {options});\n", prompts.join(", "));
        for (at, (i, _)) in jobs.iter().enumerate() {
            script += &format!("print(\"all {i}[\" + texts[{at}] + \"]\");\n");
        }
    }
    let path = home.join(format!("{model}.rhai"));
    std::fs::write(&path, script).unwrap();
    recipe(&path, &[("model", home.join(model).to_str().unwrap())], &[])
}

#[test]
fn texts_end_and_follow_their_prompts_as_in_transformers() {
    let Some((home, expected)) = made("generation.py") else { return };
    let mut models: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for job in
        expected["texts"].as_array().unwrap().iter().chain(expected["ends"].as_array().unwrap())
    {
        models.entry(job["model"].as_str().unwrap()).or_default().push(job);
    }
    assert_eq!(models.len(), 13);
    for (model, jobs) in models {
        let ran = told(home.path(), model, &jobs);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        for (i, job) in jobs.iter().enumerate() {
            let text = format!("{i}[{}]\n", job["text"].as_str().unwrap());
            for line in [format!("\n{text}"), format!("all {text}")] {
                assert!(format!("\n{}", ran.stderr).contains(&line), "{job}\n{}", ran.stderr);
            }
        }
    }
    notes(home.path());
    saved(home.path());
}

/// What is told where files are at odds, and what is refused.
fn notes(home: &Path) {
    let one = json!({ "prompt": "The fox", "stop": [], "max_tokens": 2, "beams": 1 });
    for (model, words) in [
        (
            "ends3",
            "by its generation_config.json, as in transformers, a generated text ends at `</s>`, \
             not at `<|eot|>`",
        ),
        (
            "ends4",
            "by its generation_config.json, as in transformers, a generated text ends at no token, \
             not at `</s>`, `<|eot|>`",
        ),
        ("ends5", "generation_config.json sets `temperature` 0.6 for sampling"),
        (
            "ends7",
            "by its config.json, as in transformers, a generated text ends at no token, not at \
             `</s>`",
        ),
        ("ends8", "`eos_token_id` -1 is no token of the vocabulary"),
    ] {
        told(home, model, &[&one]).says(&[words]);
    }
    let write =
        |text: &str| std::fs::write(home.join("ends0/generation_config.json"), text).unwrap();
    let before = std::fs::read_to_string(home.join("ends0/generation_config.json")).unwrap();
    for (text, words) in [
        ("{bad", "generation_config.json` is no JSON object"),
        ("[]", "generation_config.json` is no JSON object"),
        (r#"{"eos_token_id": "</s>"}"#, "`eos_token_id` holds \"</s>\", which is no token id"),
        (r#"{"eos_token_id": []}"#, "`eos_token_id` is an empty list"),
    ] {
        write(text);
        told(home, "ends0", &[&one]).refused(3, &[words]);
    }
    write(
        r#"{
            "eos_token_id": [2, 3], "repetition_penalty": 1.3, "encoder_repetition_penalty": 1.5,
            "do_sample": true, "top_p": 0.9, "strange": 1
        }"#,
    );
    told(home, "ends0", &[&one]).says(&[
        "generation_config.json sets `repetition_penalty` 1.3, `encoder_repetition_penalty` 1.5, \
         which only transformers follows",
        "generation_config.json sets `do_sample` true, `top_p` 0.9 for sampling",
        "generation_config.json has `strange`, which is not known here",
    ]);
    write(&before);
}

/// A saved model ends texts as the one that it is of.
fn saved(home: &Path) {
    let script = r#"
        let model = model::load(params(#{ model: "" }).model);
        print("FIRST[" + model.generate("The fox", #{}) + "]");
        model.save("kept");
    "#;
    std::fs::write(home.join("save.rhai"), script).unwrap();
    let mut command = program(home);
    command.args(["save.rhai", "--device", "cpu", "--out", "saved", "-p", "model=ends1"]);
    ran(&mut command).says(&["FIRST[ white is]"]);
    std::fs::rename(home.join("saved/kept"), home.join("again")).unwrap();
    let one = json!({ "prompt": "The fox", "stop": [], "max_tokens": 12, "beams": 1 });
    told(home, "again", &[&one]).says(&["0[ white is]"]);
}
