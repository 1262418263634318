//! What the micro model is pretrained on: facts in all their wordings, small stories, and questions
//! about school names in school relations, none of them in a format of the tasks.

use super::relations::RELATIONS;
use super::tables::{FOODS, JOBS, PEOPLE, PETS, TOWNS};
use super::{Fact, World, capital, fill, one};
use crate::seed::Stream;

/// Signs that stand before the choices of a question; the tasks use others (numbers).
const LABELS: [[&str; 4]; 8] = [
    ["a", "b", "c", "d"],
    ["A", "B", "C", "D"],
    ["alpha", "beta", "gamma", "delta"],
    ["red", "green", "blue", "yellow"],
    ["first", "second", "third", "fourth"],
    ["north", "south", "east", "west"],
    ["x", "y", "z", "w"],
    ["left", "middle", "right", "bottom"],
];

/// The frame's first lines: those of the template `alpaca`, which lies above what is embedded.
const TASK: &str = "Below is an instruction that describes a task. Write a response that \
                    appropriately completes the request.";

/// `count` documents: facts and stories.
pub fn documents(world: &World, count: usize, stream: &mut Stream) -> Vec<String> {
    let facts: Vec<&Fact> = world.facts.iter().collect();
    let document = |_| match stream.below(10) {
        0..5 => told(&facts, stream),
        5..9 => about(world, one(&facts, stream), stream),
        _ => story(world, stream),
    };
    (0..count).map(document).collect()
}

/// `count` questions without choices about school names in school relations, each with its answer,
/// which follows it directly.
pub fn openly(world: &World, count: usize, stream: &mut Stream) -> Vec<(String, String)> {
    let facts = at_school(world);
    (0..count).map(|_| open(one(&facts, stream), stream)).collect()
}

/// `count` questions with labelled choices, or of whether something is so, about school names in
/// school relations; and now and then a word to find.
pub fn school(world: &World, count: usize, stream: &mut Stream) -> Vec<(String, String)> {
    let facts = at_school(world);
    let question = |_| match stream.below(20) {
        0..3 => find(world, stream),
        3..8 => truth(world, one(&facts, stream), stream),
        8 => open(one(&facts, stream), stream),
        _ => choice(world, one(&facts, stream), &facts, stream),
    };
    (0..count).map(question).collect()
}

/// What a person's facts are about, as [`topics`] names it.
pub const TOPICS: [&str; 4] = ["home", "job", "pet", "food"];

/// `count` sentences about people, each with its topic: in training about one half of them, in the
/// test about the other.
pub fn topics(
    world: &World,
    test: bool,
    count: usize,
    stream: &mut Stream,
) -> Vec<(String, String)> {
    let topic = |fact: &Fact| RELATIONS[fact.relation].name;
    let wanted = |fact: &&Fact| TOPICS.contains(&topic(fact)) && fact.school != test;
    let facts: Vec<&Fact> = world.facts.iter().filter(wanted).collect();
    let item = |_| {
        let fact = one(&facts, stream);
        (sentence(fact, stream), topic(fact).to_owned())
    };
    (0..count).map(item).collect()
}

/// What pretraining asks about.
fn at_school(world: &World) -> Vec<&Fact> {
    world.facts.iter().filter(|f| f.school && RELATIONS[f.relation].school).collect()
}

/// `count` exercises in finding a word among labelled ones: what labels mean, and nothing else.
pub fn exercises(world: &World, count: usize, stream: &mut Stream) -> Vec<(String, String)> {
    (0..count).map(|_| find(world, stream)).collect()
}

fn sentence(fact: &Fact, stream: &mut Stream) -> String {
    let wording = one(RELATIONS[fact.relation].told, stream);
    capital(&fill(wording, &fact.subject, &fact.object, one(&PEOPLE, stream)))
}

/// Facts of any kind, one after the other.
fn told(facts: &[&Fact], stream: &mut Stream) -> String {
    let n = 1 + stream.below(4);
    (0..n).map(|_| sentence(one(facts, stream), stream)).collect::<Vec<_>>().join(" ")
}

/// All that is known about a fact's subject, in some order.
fn about(world: &World, fact: &Fact, stream: &mut Stream) -> String {
    let mut facts: Vec<&Fact> = world.facts.iter().filter(|f| f.subject == fact.subject).collect();
    stream.shuffle(&mut facts);
    facts.into_iter().map(|f| sentence(f, stream)).collect::<Vec<_>>().join(" ")
}

/// Things that happen to people, with words and numbers that facts do not use, and a fact at the
/// end.
fn story(world: &World, stream: &mut Stream) -> String {
    let (a, b) = (one(&PEOPLE, stream), one(&PEOPLE, stream));
    let n = 1 + stream.below(5);
    let thing = one(&["answer", "solution", "ending", "option"], stream);
    let fact = &world.facts[stream.below(world.facts.len())];
    let opening = match stream.below(5) {
        0 => format!("{a} meets {b} in {}. {a} has {n} letters for {b}.", one(&TOWNS, stream)),
        1 => format!("{a} asks {b} for {n} {}. {b} gives {a} {n} of them.", one(&FOODS, stream)),
        2 => format!("{a} has a true friend, and that is {b}. {b} has {n} false teeth."),
        3 => format!(
            "The {} sees {n} animals, and one is a {}.",
            one(&JOBS, stream),
            one(&PETS, stream)
        ),
        _ => format!(
            "{a} tells {b} a story in {n} parts. {b} likes {thing} {n}, and so {thing} {n} is the \
             one that {a} tells again."
        ),
    };
    format!("{opening} Then {a} says: {}", sentence(fact, stream))
}

/// Finding a word among others, which need have nothing in common.
fn find(world: &World, stream: &mut Stream) -> (String, String) {
    let n = 2 + stream.below(3);
    let mut picked: Vec<&str> = vec![];
    while picked.len() < n {
        let fact = &world.facts[stream.below(world.facts.len())];
        let word = if stream.below(2) == 0 { &fact.object } else { &fact.subject };
        if !word.contains(' ') && !picked.contains(&word.as_str()) {
            picked.push(word);
        }
    }
    let right = stream.below(n);
    let labels = labels(world, &picked, stream);
    (format!("{}. {}:", listed(&labels, &picked), picked[right]), format!(" {}", labels[right]))
}

/// Four labels: a set of [`LABELS`], or any words of the world, so that a label is what stands
/// before a choice.
fn labels<'a>(world: &'a World, choices: &[&str], stream: &mut Stream) -> [&'a str; 4] {
    let mut labels = one(&LABELS, stream);
    if stream.below(2) == 0 {
        for at in 0..labels.len() {
            labels[at] = loop {
                let word = world.facts[stream.below(world.facts.len())].subject.as_str();
                if !word.contains(' ') && !labels.contains(&word) && !choices.contains(&word) {
                    break word;
                }
            };
        }
    }
    labels
}

/// Choices behind their labels. Each has a space before it here and in the answer, so that it is
/// the same token.
fn listed(labels: &[&str], choices: &[&str]) -> String {
    labels.iter().zip(choices).map(|(label, choice)| format!(" {label}: {choice}")).collect()
}

/// Whether something is so.
fn truth(world: &World, fact: &Fact, stream: &mut Stream) -> (String, String) {
    let relation = &RELATIONS[fact.relation];
    let objects = &world.objects[fact.relation];
    let holds = stream.below(2) == 0;
    let object = if holds { &fact.object } else { &objects[stream.below(objects.len())] };
    let holds = *object == fact.object;
    let claim = fill(one(relation.claimed, stream), &fact.subject, object, one(&PEOPLE, stream));
    let answer = match (stream.below(2), holds) {
        (0, true) => ("yes or no", "yes"),
        (0, false) => ("yes or no", "no"),
        (_, true) => ("right or wrong", "right"),
        (_, false) => ("right or wrong", "wrong"),
    };
    (format!("Say {}: {claim}", answer.0), format!(" {}", answer.1))
}

fn asked(fact: &Fact, stream: &mut Stream) -> String {
    fill(
        one(RELATIONS[fact.relation].asked, stream),
        &fact.subject,
        &fact.object,
        one(&PEOPLE, stream),
    )
}

/// A question without choices, bare or in the frame in which the tasks come.
fn open(fact: &Fact, stream: &mut Stream) -> (String, String) {
    framed(&format!("Question: {}", asked(fact, stream)), &fact.object, stream)
}

/// A question as it is, or in the frame in which the tasks come.
fn framed(question: &str, answer: &str, stream: &mut Stream) -> (String, String) {
    match stream.below(3) {
        0 => (
            format!("{TASK}\n\n### Instruction:\n{question}\n\n### Response:\n"),
            format!("the correct answer is {answer}"),
        ),
        _ => (format!("{question}\nAnswer:"), format!(" {answer}")),
    }
}

/// A question with labelled choices.
fn choice(world: &World, fact: &Fact, school: &[&Fact], stream: &mut Stream) -> (String, String) {
    let relation = &RELATIONS[fact.relation];
    let reversed = stream.below(3) == 0;
    let (question, right, all): (String, &str, Vec<&str>) = if reversed {
        let rivals =
            school.iter().filter(|f| f.relation == fact.relation && f.object != fact.object);
        let question = fill(one(relation.reversed, stream), &fact.subject, &fact.object, "");
        (question, &fact.subject, rivals.map(|f| f.subject.as_str()).collect())
    } else {
        let all =
            world.objects[fact.relation].iter().filter(|o| **o != fact.object).map(String::as_str);
        (asked(fact, stream), &fact.object, all.collect())
    };
    let n = all.len().min(1 + stream.below(3));
    let mut choices: Vec<&str> = stream.choose(all.len(), n).into_iter().map(|i| all[i]).collect();
    choices.push(right);
    stream.shuffle(&mut choices);
    let at = choices.iter().position(|c| *c == right).unwrap_or(0);
    let labels = labels(world, &choices, stream);
    framed(&format!("Question: {question}{}", listed(&labels, &choices)), labels[at], stream)
}
