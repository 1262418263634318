//! What a run did before it was taken up: its calls are answered from here, one after another,
//! until the end.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use crate::error::{Error, error};
use crate::run::journal::{Call, Checkpoint, NativeCall, Record};

/// The records that are left.
#[derive(Debug, Default)]
pub struct Replay(VecDeque<Record>);

/// What is said of the next call.
#[derive(Debug)]
pub enum Next {
    /// Nothing: it is to be done; if it was begun, this is how far it was.
    Live(Option<Map<String, Value>>),
    /// It was done.
    Done(Call),
}

impl Replay {
    pub fn new(records: Vec<Record>) -> Self {
        Self(records.into())
    }

    /// Whether calls that were done are still to come. One that was begun only is none.
    pub fn is_running(&self) -> bool {
        self.0.iter().any(|record| matches!(record, Record::Call(_)))
    }

    /// What it says of a call that comes now. Errors (class usage): it has another one at this
    /// place.
    pub fn next(&mut self, now: &NativeCall) -> Result<Next, Error> {
        let mut begun = None;
        loop {
            match self.0.pop_front() {
                None | Some(Record::Begin { .. }) => return Ok(Next::Live(begun)),
                Some(Record::Checkpoint(Checkpoint { asked, state, .. })) => {
                    compare(&asked, now)?;
                    begun = Some(state);
                }
                Some(Record::Call(call)) => {
                    compare(&call.asked, now)?;
                    return Ok(Next::Done(call));
                }
            }
        }
    }
}

/// Errors (class usage) where a call is another one than that of the journal.
fn compare(then: &NativeCall, now: &NativeCall) -> Result<(), Error> {
    let said = if then.name != now.name {
        format!(
            "`{}` is called here, but when the run went through this place it called `{}`",
            now.name, then.name
        )
    } else if let Some(key) = differs(&then.arguments, &now.arguments) {
        let shown = |value: &Value| value.pointer(&key).map_or("not there".to_owned(), short);
        let name = key.trim_start_matches('/').replace('/', ".");
        let (then, now_is) = (shown(&then.arguments), shown(&now.arguments));
        format!(
            "`{}` is called with another `{name}` than when the run went through this place: it \
             was {then} and is {now_is}",
            now.name
        )
    } else {
        return Ok(());
    };
    Err(error!(
        Usage,
        "{said}";
        hint: "a run goes on as it began; `--from-round N` keeps the first N boosters and goes on \
               as the recipe now says"
    ))
}

/// A JSON pointer to the first place where two values differ.
pub(super) fn differs(a: &Value, b: &Value) -> Option<String> {
    let below = |key: &str, a: Option<&Value>, b: Option<&Value>| match (a, b) {
        (Some(a), Some(b)) => differs(a, b)
            .map(|rest| format!("/{}{rest}", key.replace('~', "~0").replace('/', "~1"))),
        _ => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
    };
    match (a, b) {
        _ if a == b => None,
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key)));
            keys.into_iter().find_map(|key| below(key, x.get(key), y.get(key)))
        }
        (Value::Array(x), Value::Array(y)) => {
            (0..x.len().max(y.len())).find_map(|i| below(&i.to_string(), x.get(i), y.get(i)))
        }
        _ => Some(String::new()),
    }
}

/// A value as a message shows it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        text
    } else {
        format!("{}…", text.chars().take(79).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::journal::{Outcome, Timing};
    use serde_json::json;

    fn asked(name: &str, arguments: Value) -> NativeCall {
        NativeCall { name: name.into(), arguments }
    }

    fn call(name: &str, arguments: Value) -> Record {
        let (outcome, effects) = (Outcome::Answer(json!(1)), Map::new());
        Record::Call(Call {
            asked: asked(name, arguments),
            outcome,
            effects,
            timing: Timing::default(),
        })
    }

    fn checkpoint(step: u64) -> Record {
        let state = Map::from_iter([("step".to_owned(), step.into())]);
        Record::Checkpoint(Checkpoint {
            asked: asked("fit", json!({})),
            state,
            timing: Timing::default(),
        })
    }

    #[test]
    fn calls_are_answered_until_the_end_and_the_last_is_gone_on_with() {
        let mut replay = Replay::new(vec![
            call("load", json!({ "name": "m" })),
            checkpoint(1),
            call("fit", json!({})),
            checkpoint(2),
            checkpoint(4),
        ]);
        assert!(matches!(
            replay.next(&asked("load", json!({ "name": "m" }))).unwrap(),
            Next::Done(_)
        ));
        assert!(replay.is_running());
        assert!(matches!(replay.next(&asked("fit", json!({}))).unwrap(), Next::Done(_)));
        assert!(!replay.is_running());
        let Next::Live(Some(state)) = replay.next(&asked("fit", json!({}))).unwrap() else {
            panic!()
        };
        assert_eq!(state["step"], 4);
        assert!(matches!(replay.next(&asked("merge", json!({}))).unwrap(), Next::Live(None)));
    }

    #[test]
    fn what_differs_is_named() {
        let said = |then: Record, now: NativeCall| {
            Replay::new(vec![then]).next(&now).unwrap_err().to_string()
        };
        assert_eq!(
            said(call("model.merge", json!({})), asked("booster.fit", json!({}))),
            "`booster.fit` is called here, but when the run went through this place it called \
             `model.merge`"
        );
        let fit = |lr: Value, batch: u64| json!({ "optimizer": { "lr": lr }, "batch": batch });
        assert!(
            said(call("fit", fit(json!([0.1, 0.2]), 8)), asked("fit", fit(json!([0.1, 0.25]), 8)))
                .contains(
                    "another `optimizer.lr.1` than when the run went through this place: it was \
                     0.2 and is 0.25"
                )
        );
        assert!(
            said(call("fit", fit(json!(1), 8)), asked("fit", json!({ "optimizer": { "lr": 1 } })))
                .contains("it was 8 and is not there")
        );
        assert!(said(checkpoint(1), asked("merge", json!({}))).contains("it called `fit`"));
    }
}
