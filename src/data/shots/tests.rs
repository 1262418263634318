use std::path::Path;

use super::*;
use crate::data::Template;
use crate::data::item::ItemPlace;
use crate::error::{Class, class_of, hint_of};

/// A question called by its number, with two choices.
fn item(n: usize, label: Option<usize>) -> Item {
    let place = ItemPlace { file: Arc::from(Path::new("t")), unit: "item", number: n };
    let choices: Vec<String> = [" a", " b"].map(str::to_owned).into();
    let answer = label.map_or(String::new(), |label| choices[label].clone());
    let item = Instruction::new(place, format!("q{n}:"), answer);
    Item::Instruction(Instruction { names: choices.clone(), choices, label, ..item })
}

fn items(numbers: std::ops::Range<usize>) -> Option<Vec<Item>> {
    Some(numbers.map(|n| item(n, Some(n % 2))).collect())
}

fn task() -> Dataset {
    let (train, validation, test) = (items(0..20), items(20..24), items(30..33));
    Dataset { train, validation, test, ..Dataset::bare("t") }
}

fn numbers(items: &Option<Vec<Item>>) -> Vec<usize> {
    items.iter().flatten().map(|item| item.place().number).collect()
}

fn prompt(item: &Item) -> String {
    let Item::Instruction(item) = item else { panic!() };
    Template::None.test_prompt(item).unwrap()
}

fn given(mut task: Dataset, options: &ShotOptions) -> Dataset {
    give(&mut task, options).unwrap();
    task
}

#[test]
fn solved_examples_stand_before_a_question() {
    let validation = ShotOptions { from: Some(ShotSource::Validation), ..ShotOptions::new(2) };
    let task = given(task(), &validation);
    let test = task.test.as_ref().unwrap();
    assert_eq!(prompt(&test[0]), "q20: a\n\nq21: b\n\nq30:");
    assert_eq!(numbers(&task.validation), [22, 23]);
    assert_eq!(prompt(&task.validation.as_ref().unwrap()[0]), "q20: a\n\nq21: b\n\nq22:");
    let Item::Instruction(first) = &test[0] else { panic!() };
    assert_eq!(Template::None.train_text(first).unwrap().0, "q30:");
    let Item::Instruction(trained) = &task.train.unwrap()[3] else { panic!() };
    assert_eq!(Template::None.train_text(trained).unwrap(), ("q3:".into(), " b".into()));
}

#[test]
fn they_are_from_where_is_said() {
    let options = |from, seed| ShotOptions { from, seed, ..ShotOptions::new(3) };
    let first = given(task(), &options(None, None));
    assert_eq!(numbers(&first.train), (3..20).collect::<Vec<_>>());
    assert_eq!(numbers(&first.validation).len(), 4);
    let drawn = given(task(), &options(Some(ShotSource::Train), Some(7)));
    assert_eq!(numbers(&drawn.train).len(), 17);
    assert_ne!(numbers(&drawn.train), numbers(&first.train));
    assert_eq!(drawn.test, given(task(), &options(Some(ShotSource::Train), Some(7))).test);
    assert_ne!(drawn.test, given(task(), &options(Some(ShotSource::Train), Some(8))).test);
    // What is there to be shown goes first, and is not measured.
    let own = || Dataset { shots: items(40..43), ..task() };
    for from in [None, Some(ShotSource::Dev)] {
        let task = given(own(), &options(from, None));
        assert_eq!(prompt(&task.test.unwrap()[0]), "q40: a\n\nq41: b\n\nq42: a\n\nq30:");
        assert_eq!((numbers(&task.train).len(), numbers(&task.validation).len()), (20, 4));
    }
    let dev = given(task(), &options(Some(ShotSource::Dev), None));
    assert_eq!(numbers(&dev.validation), [23]);
}

#[test]
fn what_is_shown_is_not_asked() {
    let mut task = task();
    task.test.as_mut().unwrap().extend(items(0..2).unwrap());
    let task = given(task, &ShotOptions::new(3));
    assert_eq!(numbers(&task.test), [30, 31, 32]);
    assert_eq!(
        task.notes,
        ["`t`: 2 items are left out, which are among the solved examples before the others"]
    );
    // All of a split: it is gone.
    let validation = ShotOptions { from: Some(ShotSource::Validation), ..ShotOptions::new(4) };
    assert_eq!(given(self::task(), &validation).validation, None);
}

#[test]
fn an_item_without_an_answer_is_not_shown() {
    let train = Some(vec![item(0, None), item(1, Some(1)), item(2, Some(0))]);
    let task = given(Dataset { train, ..task() }, &ShotOptions::new(1));
    assert_eq!(
        (prompt(&task.test.unwrap()[0]), numbers(&task.train)),
        ("q1: b\n\nq30:".into(), vec![0, 2])
    );
}

#[test]
fn what_is_not_there_is_said() {
    let refused = |mut task: Dataset, options: ShotOptions, class, said: &str| {
        let error = give(&mut task, &options).unwrap_err();
        assert_eq!((error.to_string().as_str(), class_of(&error)), (said, class));
    };
    let from = |source| ShotOptions { from: Some(source), ..ShotOptions::new(5) };
    refused(
        task(),
        from(ShotSource::Validation),
        Class::Data,
        "the task `t` has 4 items with an answer in `validation`, and 5 solved examples are asked \
         for",
    );
    let test = || Dataset { test: items(0..2), ..Dataset::bare("t") };
    refused(
        test(),
        from(ShotSource::Train),
        Class::Data,
        "the task `t` has no `train` to take solved examples from; it has `test`",
    );
    refused(
        test(),
        ShotOptions::new(1),
        Class::Data,
        "the task `t` has no `dev` or `train` or `validation` to take solved examples from; it has \
         `test`",
    );
    let error = ShotSource::parse("test").unwrap_err();
    assert_eq!(error.to_string(), "solved examples cannot be from `test`");
    assert!(hint_of(&error).unwrap().contains("never from what is tested"));
    assert!(check(Some(&ShotOptions::new(1)), true).is_err());
}

#[test]
fn each_subject_is_a_task_with_its_own_examples() {
    let of = |n: usize, subject: &str| match item(n, Some(0)) {
        Item::Instruction(item) => {
            Item::Instruction(Instruction { subject: Some(subject.to_owned()), ..item })
        }
        other => other,
    };
    let all = Dataset {
        shots: Some(vec![of(0, "x"), of(1, "y"), of(2, "x"), of(3, "y")]),
        test: Some(vec![of(10, "y"), of(11, "x"), of(12, "y")]),
        notes: vec!["note".into()],
        ..Dataset::bare("all")
    };
    let tasks: Vec<Dataset> =
        by_subject(vec![all]).into_iter().map(|task| given(task, &ShotOptions::new(1))).collect();
    let told: Vec<_> = tasks.iter().map(|t| (t.name.as_str(), numbers(&t.test))).collect();
    assert_eq!(told, [("y", vec![10, 12]), ("x", vec![11])]);
    assert_eq!(prompt(&tasks[0].test.as_ref().unwrap()[1]), "q1: a\n\nq12:");
    assert_eq!(prompt(&tasks[1].test.as_ref().unwrap()[0]), "q0: a\n\nq11:");
    assert_eq!(tasks[0].notes, ["note"]);
    let plain = by_subject(vec![task()]);
    assert_eq!((plain.len(), plain[0].name.as_str()), (1, "t"));
}
