//! Questions about the world in the formats of the eight commonsense sets
//! (AGI-Edgerunners/LLM-Adapters).

use std::collections::BTreeSet;

use super::relations::{RELATIONS, relation};
use super::tables::PEOPLE;
use super::{Fact, World, WorldSplit, capital, fill, one};
use crate::seed::Stream;

/// The names of the sets whose formats are used.
pub const TASKS: [&str; 8] = [
    "boolq",
    "piqa",
    "social_i_qa",
    "hellaswag",
    "winogrande",
    "ARC-Easy",
    "ARC-Challenge",
    "openbookqa",
];

/// A question with its choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked, in the words of its set, choices included.
    pub instruction: String,
    /// The names of the choices (`answer1`, `true`).
    pub names: Vec<String>,
    /// The right one.
    pub label: usize,
    /// The (subject, relation) pairs that it asks about.
    pub pairs: Vec<(String, &'static str)>,
}

/// How a question is built.
enum QuestionKind {
    /// The object is asked, among so many.
    Object(usize),
    /// The subject is asked, among so many.
    Subject(usize),
    /// The sentence is to be ended, by so many.
    Ending(usize),
    /// Which of two subjects fills the blank.
    Blank,
    /// Whether a claim holds.
    Claim,
}

/// The question's kind and the relations of a set.
///
/// Where a set asks for the subject, its relations are told with the subject behind the object too
/// (or have two objects only): a model that completes sentences knows a fact in the direction in
/// which it was told. ARC-Challenge and openbookqa ask what completing sentences mostly gets wrong.
fn plan(task: &str) -> (QuestionKind, &'static [&'static str]) {
    match task {
        "boolq" => (
            QuestionKind::Claim,
            &[
                "pet", "food", "diet", "motion", "use", "place", "water", "touch", "contents",
                "time", "effect", "feeling",
            ],
        ),
        "piqa" => (QuestionKind::Subject(2), &["use", "contents"]),
        "social_i_qa" => (QuestionKind::Object(3), &["feeling", "food", "pet"]),
        "hellaswag" => (QuestionKind::Ending(4), &["effect", "use", "food", "diet", "place"]),
        "winogrande" => (QuestionKind::Blank, &["use", "time", "water"]),
        "ARC-Easy" => (QuestionKind::Object(4), &["diet", "motion", "place", "contents"]),
        "ARC-Challenge" => (QuestionKind::Object(4), &["contents", "time"]),
        _ => (QuestionKind::Object(4), &["time", "effect"]),
    }
}

/// `count` different questions of a set for a part, or as many as there are; `stream` decides
/// which.
pub fn questions(
    world: &World,
    task: &str,
    part: WorldSplit,
    count: usize,
    stream: &mut Stream,
) -> Vec<Question> {
    let (kind, relations) = plan(task);
    let relations: Vec<usize> = relations.iter().map(|name| relation(name)).collect();
    let by_relation: Vec<Vec<&Fact>> = relations
        .iter()
        .map(|&r| world.facts.iter().filter(|f| f.relation == r && f.part == Some(part)).collect())
        .collect();
    let (mut out, mut seen, mut failed): (Vec<Question>, _, _) = (vec![], BTreeSet::new(), 0);
    // Every answer comes as often as every other, give or take one.
    let full = |out: &[Question], q: &Question| {
        out.iter().filter(|o| o.label == q.label).count() > count / q.names.len()
    };
    while out.len() < count && failed < 1000 {
        let facts = &by_relation[stream.below(by_relation.len())];
        match ask(world, task, &kind, facts, stream)
            .filter(|q| !full(&out, q) && seen.insert(q.instruction.clone()))
        {
            Some(question) => {
                out.push(question);
                failed = 0;
            }
            None => failed += 1,
        }
    }
    out
}

/// One question about one of `facts`, all of one relation and part; `None` where they do not give
/// enough choices.
fn ask(
    world: &World,
    task: &str,
    kind: &QuestionKind,
    facts: &[&Fact],
    stream: &mut Stream,
) -> Option<Question> {
    if facts.is_empty() {
        return None;
    }
    let fact = one(facts, stream);
    let relation = &RELATIONS[fact.relation];
    let person = one(&PEOPLE[PEOPLE.len() / 2..], stream);
    let worded = |wording: &str| capital(&fill(wording, &fact.subject, &fact.object, person));
    match kind {
        QuestionKind::Object(n) => {
            let question = worded(one(relation.asked, stream));
            choose(
                task,
                &question,
                &[fact],
                &fact.object,
                others(&world.objects[fact.relation], &fact.object, n - 1, stream)?,
                stream,
            )
        }
        QuestionKind::Ending(n) => {
            let open = |wording: &&&str| wording.ends_with(" {o}.") && !wording.starts_with("{o}");
            let open: Vec<&'static str> = relation.told.iter().filter(open).copied().collect();
            if open.is_empty() {
                return None;
            }
            let sentence = worded(one(&open, stream).trim_end_matches("{o}.").trim_end());
            let wrong = others(&world.objects[fact.relation], &fact.object, n - 1, stream)?;
            choose(task, &sentence, &[fact], &fact.object, wrong, stream)
        }
        QuestionKind::Subject(n) => {
            let question = worded(one(relation.reversed, stream));
            let candidates: Vec<String> = facts
                .iter()
                .filter(|f| f.object != fact.object)
                .map(|f| f.subject.clone())
                .collect();
            let wrong = others(&candidates, &fact.subject, n - 1, stream)?;
            let mut asked = vec![fact];
            asked.extend(facts.iter().copied().filter(|f| wrong.contains(&f.subject)));
            let shown = |subject: String| format!("Use the {subject}.");
            choose(
                task,
                &question,
                &asked,
                &shown(fact.subject.clone()),
                wrong.into_iter().map(shown).collect(),
                stream,
            )
        }
        QuestionKind::Blank => {
            let rivals: Vec<&Fact> =
                facts.iter().copied().filter(|f| f.object != fact.object).collect();
            if rivals.is_empty() {
                return None;
            }
            let rival = one(&rivals, stream);
            let sentence = fill(one(relation.told, stream), "_", &fact.object, person);
            let mut two = [&fact.subject, &rival.subject];
            stream.shuffle(&mut two);
            let article = if relation.name == "use" { "the " } else { "" };
            let sentence = format!(
                "{person} thinks of {article}{} and {article}{}. {}",
                two[0],
                two[1],
                capital(&sentence)
            );
            choose(
                task,
                &sentence,
                &[fact, rival],
                &fact.subject,
                vec![rival.subject.clone()],
                stream,
            )
        }
        QuestionKind::Claim => {
            let holds = stream.below(2) == 0;
            let object = if holds {
                fact.object.clone()
            } else {
                others(&world.objects[fact.relation], &fact.object, 1, stream)?.remove(0)
            };
            let claim = fill(one(relation.claimed, stream), &fact.subject, &object, person);
            let instruction = format!(
                "Please answer the following question with true or false, question: \
                 {claim}\n\nAnswer format: true/false"
            );
            let names = vec!["true".to_owned(), "false".to_owned()];
            Some(Question { instruction, names, label: usize::from(!holds), pairs: pairs(&[fact]) })
        }
    }
}

/// `n` different elements of `all` that are not `but`, if there are so many.
fn others(all: &[String], but: &str, n: usize, stream: &mut Stream) -> Option<Vec<String>> {
    let left: Vec<&String> = all.iter().filter(|o| *o != but).collect();
    if left.len() < n {
        return None;
    }
    Some(stream.choose(left.len(), n).into_iter().map(|i| left[i].clone()).collect())
}

fn pairs(facts: &[&Fact]) -> Vec<(String, &'static str)> {
    facts.iter().map(|f| (f.subject.clone(), RELATIONS[f.relation].name)).collect()
}

/// The question in its set's words, with the choices in an order that `stream` decides.
fn choose(
    task: &str,
    question: &str,
    facts: &[&Fact],
    right: &str,
    wrong: Vec<String>,
    stream: &mut Stream,
) -> Option<Question> {
    let mut choices: Vec<String> = wrong;
    choices.push(right.to_owned());
    stream.shuffle(&mut choices);
    let label = choices.iter().position(|c| c == right)?;
    let (opening, word) = match task {
        "piqa" => ("Please choose the correct solution to the question: ", "solution"),
        "hellaswag" => {
            ("Please choose the correct ending to complete the given sentence: ", "ending")
        }
        "winogrande" => (
            "Please choose the correct answer to fill in the blank to complete the given \
             sentence: ",
            "option",
        ),
        _ => ("Please choose the correct answer to the question: ", "answer"),
    };
    let listed: Vec<String> = choices
        .iter()
        .enumerate()
        .map(|(i, c)| format!("{}{}: {c}", capital(word), i + 1))
        .collect();
    let names: Vec<String> = (1..=choices.len()).map(|i| format!("{word}{i}")).collect();
    let format = format!("Answer format: {}", names.join("/"));
    let tail = match task {
        "piqa" => format!("{}\n\n{format}", listed.join("\n\n")),
        "winogrande" => format!("{} {format}", listed.join(" ")),
        _ => format!("{}\n\n{format}", listed.join(" ")),
    };
    Some(Question {
        instruction: format!("{opening}{question}\n\n{tail}"),
        names,
        label,
        pairs: pairs(facts),
    })
}
