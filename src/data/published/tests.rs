//! Wordings on rows in the columns of their data sets. The expected texts are those that
//! lm-evaluation-harness 0.4.13 makes of such rows.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::data::item::{Instruction, Item, ItemPlace};
use crate::data::{Mapping, Template};
use crate::error::{Class, class_of, hint_of};

fn row_of(file: &str, fields: &Value) -> Row {
    let place = ItemPlace { file: Arc::from(Path::new(file)), unit: "row", number: 2 };
    Row { place, fields: fields.as_object().unwrap().clone() }
}

fn worded_of(name: &str, file: &str, fields: &Value) -> Result<Instruction> {
    let mapping = Mapping::published(Published::find(name).unwrap())?;
    match mapping.item(&row_of(file, fields))? {
        Item::Instruction(item) => Ok(item),
        other => panic!("{other:?}"),
    }
}

fn worded(name: &str, fields: &Value) -> Result<Instruction> {
    worded_of(name, "test.parquet", fields)
}

/// A wording, a row, the prompt, the choices and the right one.
type Case = (&'static str, Value, &'static str, Vec<&'static str>, Option<usize>);

fn cases() -> Vec<Case> {
    let boolq = json!({ "passage": "Owls eat mice.", "question": "do owls eat mice" });
    let with = |row: &Value, key: &str, value: Value| {
        let mut row = row.clone();
        row[key] = value;
        row
    };
    let asked = "Owls eat mice.\nQuestion: do owls eat mice?\nAnswer:";
    let yes_no = vec![" no", " yes"];
    let list = json!({
        "question": "What melts?", "answerKey": "3",
        "choices": { "text": ["fog", "wind", "ice"], "label": ["1", "2", "3"] },
    });
    let pairs = json!({
        "id": "x", "answerKey": "B",
        "question": {
            "stem": "What melts?",
            "choices": [{ "label": "A", "text": "fog" }, { "label": "B", "text": "ice" }],
        },
    });
    vec![
        ("lm-eval/boolq", with(&boolq, "answer", json!(true)), asked, yes_no.clone(), Some(1)),
        ("lm-eval/boolq", with(&boolq, "answer", json!("False")), asked, yes_no.clone(), Some(0)),
        ("lm-eval/boolq", with(&boolq, "label", json!(1)), asked, yes_no.clone(), Some(1)),
        ("lm-eval/boolq", with(&boolq, "label", json!(-1)), asked, yes_no, None),
        (
            "lm-eval/piqa",
            json!({ "goal": "To cool tea", "sol1": "wait.", "sol2": "boil it.", "label": 0 }),
            "Question: To cool tea\nAnswer:",
            vec![" wait.", " boil it."],
            Some(0),
        ),
        (
            "lm-eval/social_iqa",
            json!({
                "context": "Ann fell.", "question": "How does Ann feel?", "answerA": "glad",
                "answerB": "hurt", "answerC": "tall", "label": "2",
            }),
            "Q: Ann fell. How does Ann feel?\nA:",
            vec![" glad", " hurt", " tall"],
            Some(1),
        ),
        (
            "lm-eval/hellaswag",
            json!({
                "activity_label": "Baking", "ctx_a": "[header] How to bake [title] Mix.",
                "ctx_b": "the BAKER", "ctx": "unused",
                "endings": [" eats  [substeps] it.", "runs [a\nb] off", "x", "y"], "label": "1",
            }),
            "Baking: How to bake. Mix. The baker",
            vec![" eats  it.", " runs [a\nb] off", " x", " y"],
            Some(1),
        ),
        (
            "lm-eval/hellaswag",
            json!({
                "activity_label": "Baking", "ctx": "A man mixes. he", "endings": ["a", "b"],
                "label": "",
            }),
            "Baking: A man mixes. he",
            vec![" a", " b"],
            None,
        ),
        (
            "lm-eval/winogrande",
            json!({
                "sentence": "The cup fell off the shelf as _ was wet.", "option1": "the cup",
                "option2": "the shelf", "answer": "2",
            }),
            "The cup fell off the shelf as ",
            vec![" was wet.", " was wet."],
            Some(1),
        ),
        (
            "lm-eval/arc_easy",
            list.clone(),
            "Question: What melts?\nAnswer:",
            vec![" fog", " wind", " ice"],
            Some(2),
        ),
        (
            "lm-eval/arc",
            pairs.clone(),
            "Question: What melts?\nAnswer:",
            vec![" fog", " ice"],
            Some(1),
        ),
        ("lm-eval/openbookqa", pairs, "What melts?", vec![" fog", " ice"], Some(1)),
        (
            "lm-eval/openbookqa",
            with(&with(&list, "question_stem", json!("It melts:")), "answerKey", json!(" 1")),
            "It melts:",
            vec![" fog", " wind", " ice"],
            Some(0),
        ),
        (
            "mmlu",
            json!({
                "question": " 1 + 1 = ", "choices": ["1", "2", "3", "4"], "answer": 1,
                "subject": "abstract_algebra",
            }),
            "The following are multiple choice questions (with answers) about abstract \
             algebra.\n\n1 + 1 =\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
            vec![" A", " B", " C", " D"],
            Some(1),
        ),
    ]
}

#[test]
fn rows_are_worded_as_published() {
    for (name, row, prompt, choices, label) in cases() {
        let item = worded(name, &row).unwrap();
        assert_eq!(Template::None.test_prompt(&item).unwrap(), prompt, "{name}");
        assert_eq!(item.choices, choices, "{name}: {row}");
        assert_eq!(item.label, label, "{name}: {row}");
        let (given, right) = (label.and_then(|i| item.given.get(i)), label.map(|i| choices[i]));
        let answer = format!("{}{}", given.map_or("", |g| g), right.unwrap_or_default());
        assert_eq!(item.answer_text, answer, "{name}: what is trained");
        assert_eq!(item.names.len(), choices.len(), "{name}");
    }
}

#[test]
fn a_blank_is_filled_by_what_is_not_scored() {
    let row = json!({
        "sentence": "Ann thanked Eve since _ helped.", "option1": "Ann", "option2": "Eve",
        "answer": "2",
    });
    let item = worded("lm-eval/winogrande", &row).unwrap();
    assert_eq!(item.given, ["Ann", "Eve"]);
    assert_eq!(item.answer_text, "Eve helped.");
    let error = worded(
        "lm-eval/winogrande",
        &json!({ "sentence": "No gap.", "option1": "a", "option2": "b", "answer": "1" }),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`test.parquet` row 2: column `sentence` has no `_`, the blank that one of the options \
         fills"
    );
}

#[test]
fn a_column_that_is_missing_is_named() {
    for (name, row, _, _, label) in cases() {
        let known = Published::find(name).unwrap();
        let read = |key: &String| match known.name {
            "lm-eval/hellaswag" => !["ctx", "ctx_b"].contains(&key.as_str()),
            "lm-eval/mmlu" => key != "subject",
            _ => key != "id",
        };
        for key in row.as_object().unwrap().keys().filter(|key| read(key)) {
            let mut less = row.clone();
            less.as_object_mut().unwrap().remove(key);
            let gone = match (known.name, key.as_str()) {
                ("lm-eval/boolq", "answer") => "label",
                ("lm-eval/openbookqa", "question") if row.get("question_stem").is_some() => {
                    continue;
                }
                ("lm-eval/openbookqa", "question") => "question_stem",
                ("lm-eval/hellaswag", "ctx_a") => continue,
                (_, key) => key,
            };
            let error = worded(name, &less).unwrap_err();
            let said = format!("`test.parquet` row 2 has no column `{gone}`");
            assert!(error.to_string().starts_with(&said), "{name}, {label:?}: {error}");
            assert_eq!(class_of(&error), Class::Data);
        }
    }
}

#[test]
fn what_a_column_should_hold_is_said() {
    let arc = |choices: Value, key: &str| {
        let question = "q";
        json!({ "question": question, "choices": choices, "answerKey": key })
    };
    let two = json!({ "text": ["a", "b"], "label": ["A", "B"] });
    let mmlu = |choices: Value| json!({ "question": "q", "choices": choices, "answer": 0 });
    for (name, row, said) in [
        (
            "lm-eval/arc",
            arc(two, "C"),
            "the label `C` in column `answerKey` is none of the choices",
        ),
        (
            "lm-eval/arc",
            arc(json!("a"), "A"),
            "column `choices` holds `a`, expected `text` and `label`, a list of each, or a list of \
             pairs",
        ),
        ("mmlu", mmlu(json!(["a", "b"])), "column `choices` has 2 texts, expected 4"),
        ("mmlu", mmlu(json!([1, 2, 3, 4])), "column `choices` holds `1`, expected a list of texts"),
        (
            "lm-eval/piqa",
            json!({ "goal": "g", "sol1": 7, "sol2": "b", "label": 0 }),
            "column `sol1` holds `7`, expected a text",
        ),
    ] {
        let error = worded(name, &row).unwrap_err();
        assert_eq!(error.to_string(), format!("`test.parquet` row 2: {said}"), "{name}");
    }
    let arc = worded("lm-eval/arc", &arc(json!({ "text": ["a"], "label": ["A"] }), "B"));
    assert_eq!(hint_of(&arc.unwrap_err()), Some("the choices are `A`"));
}

#[test]
fn a_subject_is_told_by_the_row_or_by_its_file() {
    let row = json!({
        "question": "q", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "D", "subject": "",
    });
    for (file, subject) in [
        ("mmlu/dev/us_foreign_policy_dev.csv", "us_foreign_policy"),
        ("mmlu/anatomy/test.csv", "anatomy"),
        ("mmlu/virology.csv", "virology"),
    ] {
        let item = worded_of("lm-eval/mmlu", file, &row).unwrap();
        assert_eq!((item.subject.as_deref(), item.label), (Some(subject), Some(3)), "{file}");
    }
}

#[test]
fn marks_of_wikihow_are_taken_away() {
    for (text, want) in [
        (" a [title] b ", "a. b"),
        ("[step] Mix  it [x]", " Mix it "),
        ("open [ end", "open [ end"),
        ("a[b]c]d", "ac]d"),
    ] {
        assert_eq!(cleaned(text), want, "{text}");
    }
}
