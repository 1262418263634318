//! In what runs differ, and which differ in a seed alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::bundle::Bundle;
use super::read::Recorded;
use crate::run::sweep::{self, REPEATS};

/// What of a manifest decides a run's bytes, beside parameters.
const DECISIVE: [&str; 8] =
    ["recipe", "recipe_sha256", "engine", "seed", "device", "dtype", "threads", "kernels"];

/// Runs by the names they are called.
pub type NamedRun = (String, Recorded);

/// What is not the same in all runs: by name, a value a run.
pub type Differing = BTreeMap<String, Vec<Option<Value>>>;

/// Parameters, and what else decides a run's bytes, whose values are not the same in all runs: by
/// name, a value a run.
pub fn differing(runs: &[NamedRun]) -> Differing {
    let all: Vec<Map<String, Value>> =
        runs.iter().map(|(_, run)| settings(run, &DECISIVE)).collect();
    let names = all.iter().flat_map(|settings| settings.keys().cloned());
    let columns: Differing = names
        .map(|name| {
            (name.clone(), all.iter().map(|settings| settings.get(&name).cloned()).collect())
        })
        .collect();
    columns
        .into_iter()
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect()
}

/// A run's parameters, and what of its manifest is in `decisive` under a name that no parameter
/// has.
fn settings(run: &Recorded, decisive: &[&str]) -> Map<String, Value> {
    let mut out = run.parameters();
    for key in decisive {
        if let Some(value) = run.manifest.get(*key) {
            let name = if out.contains_key(*key) {
                format!("{key} of the run")
            } else {
                (*key).to_owned()
            };
            out.insert(name, value.clone());
        }
    }
    out
}

/// Runs that differ in a seed alone are one; others stand for themselves.
pub fn bundles(runs: &[NamedRun]) -> Vec<Group<'_>> {
    let mut groups: Vec<(Map<String, Value>, Vec<usize>)> = vec![];
    for (i, (_, run)) in runs.iter().enumerate() {
        let mut kind = settings(run, &DECISIVE);
        kind.retain(|key, _| !REPEATS.contains(&key.as_str()) && key != "seed of the run");
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, members)) => members.push(i),
            None => groups.push((kind, vec![i])),
        }
    }
    let all = |i: &usize| settings(&runs[*i].1, &DECISIVE);
    // The same run twice is no other seed.
    let repeats = |members: &[usize]| {
        (1..members.len()).all(|i| members[..i].iter().all(|j| all(&members[i]) != all(j)))
    };
    let apart = groups.iter().flat_map(|(kind, members)| match repeats(members) {
        true => vec![(kind, members.clone())],
        false => members.iter().map(|member| (kind, vec![*member])).collect(),
    });
    let apart: Vec<(&Map<String, Value>, Vec<usize>)> = apart.collect();
    let kinds: Vec<&Map<String, Value>> = apart.iter().map(|(kind, _)| *kind).collect();
    let group = |(kind, members): &(&Map<String, Value>, Vec<usize>)| {
        let traces = members.iter().map(|i| &runs[*i].1.trace).collect();
        let name = match members[..] {
            [one] => runs[one].0.clone(),
            _ => format!("mean of {} seeds{}", members.len(), what_sets_apart(kind, &kinds)),
        };
        Group { bundle: Bundle { name, traces }, members: members.clone() }
    };
    apart.iter().map(group).collect()
}

/// The settings of a kind that others do not share, in a line.
fn what_sets_apart(kind: &Map<String, Value>, kinds: &[&Map<String, Value>]) -> String {
    let mut own = kind.clone();
    own.retain(|key, value| kinds.iter().any(|other| other.get(key) != Some(&*value)));
    if own.is_empty() { String::new() } else { format!(", {}", sweep::label(&own)) }
}

/// A bundle of runs, and which they are.
pub struct Group<'a> {
    pub bundle: Bundle<'a>,
    pub members: Vec<usize>,
}

impl Group<'_> {
    /// Mean and deviation of what `of` says of each run.
    pub fn spread(
        &self,
        runs: &[NamedRun],
        of: impl Fn(&Recorded) -> Option<f64>,
    ) -> (Option<f64>, Option<f64>) {
        let values: Vec<f64> = self.members.iter().filter_map(|i| of(&runs[*i].1)).collect();
        (sweep::mean(&values), sweep::deviation(&values))
    }
}
