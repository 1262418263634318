//! What the test split gave, by task, before and after.

use serde_json::{Map, Value};

use super::curves::{capital, short};
use super::markup::{Element, el};
use super::page::{ABSENT, Size, TableCell, card, missing, table};
use super::read::{Recorded, metric};
use crate::run::{Tested, grouped};

/// The metric at first, if it was measured before any booster was merged and again later, and at
/// last.
pub fn before_and_after(test: &Tested, name: &str) -> (Option<f64>, Option<f64>) {
    (test.before().and_then(|e| metric(e, name)), metric(test.tuned, name))
}

/// The same of what was last measured.
pub fn base_and_tuned(run: &Recorded, name: &str) -> (Option<f64>, Option<f64>) {
    let evaluations = &run.trace.evaluations;
    let (base, Some(tuned)) = (evaluations.base(), evaluations.tuned()) else {
        return (None, None);
    };
    before_and_after(&Tested { base, tuned }, name)
}

/// A task, and its metrics at first and at last.
type TaskRow<'a> = (String, Option<&'a Map<String, Value>>, &'a Map<String, Value>);

/// The rows of a set: each of its tasks, and what they are together; of several sets each is called
/// by its task.
fn rows_of<'a>(test: &Tested<'a>, several: bool) -> Vec<TaskRow<'a>> {
    let base = test.before().map(|base| &base.metrics);
    let of = |metrics: &'a Map<String, Value>| metrics.get("tasks").and_then(Value::as_object);
    let tuned = &test.tuned.metrics;
    let tasks = of(tuned).into_iter().flatten();
    let mut rows: Vec<TaskRow> = tasks
        .filter_map(|(task, metrics)| {
            let before = base.and_then(of).and_then(|tasks| tasks.get(task)?.as_object());
            Some((task.clone(), before, metrics.as_object()?))
        })
        .collect();
    let whole = match (rows.is_empty(), several) {
        (true, false) => "all items".into(),
        (true, true) => test.tuned.label(),
        (false, false) => "unweighted average".into(),
        (false, true) => format!("unweighted average of {}", test.tuned.label()),
    };
    rows.push((whole, base, tuned));
    rows
}

/// The test metric of each task, before and after.
pub fn tasks(run: &Recorded) -> Element {
    let heading = "Test by task";
    let tests = run.trace.evaluations.tests();
    let (Some(name), false) = (run.metric(), tests.is_empty()) else {
        return missing(Size::Half, heading, "The test split was not evaluated.");
    };
    let rows: Vec<TaskRow> = tests.iter().flat_map(|test| rows_of(test, tests.len() > 1)).collect();
    let with_norm = rows.iter().any(|(.., tuned)| tuned.contains_key("accuracy_norm"));
    let value = |metrics: Option<&Map<String, Value>>, key: &str| {
        let value = metrics.and_then(|m| m.get(key)).and_then(Value::as_f64);
        TableCell::Number(value.map_or(ABSENT.into(), |v| format!("{v:.4}")))
    };
    let cells = rows.iter().map(|(task, base, tuned)| {
        let tuned_at = |key: &str| value(Some(tuned), key);
        let items = tuned.get("items").and_then(Value::as_u64).map_or(ABSENT.into(), grouped);
        let mut cells = vec![TableCell::Text(task.clone()), value(*base, name), tuned_at(name)];
        cells.push(tuned_at("standard_error"));
        cells.extend(with_norm.then(|| tuned_at("accuracy_norm")));
        cells.extend([tuned_at("majority"), TableCell::Number(items)]);
        cells
    });
    let norm = with_norm.then_some("norm");
    let heads = ["task", "base", "tuned", "std. error"].into_iter().chain(norm);
    let heads: Vec<String> = heads.chain(["majority", "items"]).map(str::to_owned).collect();
    let mut said = format!(
        "{} of the test split before the first booster (base) and when last measured (tuned).",
        capital(short(name))
    );
    if with_norm {
        said += " The column norm has accuracy_norm when last measured.";
    }
    card(
        Size::Half,
        heading,
        [el("p").class("said").text(said), table("test by task", &heads, cells)],
    )
}
