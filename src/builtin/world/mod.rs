//! `builtin:microworld`: a small commonsense world, and questions about it in the formats of the
//! eight commonsense sets.
//!
//! A [`World`] is a list of facts (subject, relation, object). Facts about school names in school
//! relations are what pretraining asks about; the tasks ask about other names and other relations.
//! All facts are told in pretraining, so that the tasks can be answered from what a pretrained
//! model knows.

mod corpus;
mod questions;
mod relations;
mod tables;

pub use corpus::{TOPICS, documents, exercises, openly, school, topics};
pub use questions::{Question, TASKS, questions};

use relations::{RELATIONS, relation};

use crate::seed::Stream;

/// The seed of the world that is embedded: the micro model was pretrained on it.
pub const SEED: u64 = 2410;

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorldSplit {
    Train,
    Validation,
    Test,
}

/// A piece of knowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Index into the relations.
    relation: usize,
    subject: String,
    object: String,
    /// Whether its subject is of the half that pretraining asks about.
    school: bool,
    /// Which part of the tasks asks about it; `None` where its subject is a school name or its
    /// relation a school relation.
    part: Option<WorldSplit>,
}

impl Fact {
    /// (subject, relation), which has one object.
    pub fn pair(&self) -> (&str, &'static str) {
        (&self.subject, RELATIONS[self.relation].name)
    }

    pub fn object(&self) -> &str {
        &self.object
    }
}

/// A world and all that is true in it.
#[derive(Clone, Debug)]
pub struct World {
    facts: Vec<Fact>,
    /// All objects of each relation, each once, in order of appearance.
    objects: Vec<Vec<String>>,
}

impl World {
    /// The world of that seed: tables are the same in all worlds, what people have and do is drawn.
    pub fn new(seed: u64) -> Self {
        Self::divided(seed, seed)
    }

    /// The world of seed `seed` with its facts divided among train, validation and test by another
    /// seed.
    pub fn divided(seed: u64, division: u64) -> Self {
        let mut stream = Stream::new(seed, "microworld/people");
        let mut facts = vec![];
        let mut tell = |name: &str, subject: &str, object: &str, school: bool| {
            let (subject, object) = (subject.to_owned(), object.to_owned());
            facts.push(Fact { relation: relation(name), subject, object, school, part: None });
        };
        for (i, person) in tables::PEOPLE.iter().enumerate() {
            for (name, objects) in [
                ("home", tables::TOWNS),
                ("job", tables::JOBS),
                ("pet", tables::PETS),
                ("food", tables::FOODS),
            ] {
                tell(
                    name,
                    person,
                    objects[stream.below(objects.len())],
                    half(i, tables::PEOPLE.len()),
                );
            }
        }
        table(&tables::ANIMALS, &["habitat", "cover", "diet", "motion"], &mut tell);
        table(&tables::TOOLS, &["material", "use", "place"], &mut tell);
        table(&tables::MATERIALS, &["fire", "water", "touch"], &mut tell);
        table(&tables::CONTAINERS, &["contents"], &mut tell);
        table(&tables::EVENTS, &["time"], &mut tell);
        table(&tables::CAUSES, &["effect"], &mut tell);
        table(&tables::FEELINGS, &["feeling"], &mut tell);
        divide(&mut facts, &mut Stream::new(division, "microworld/parts"));
        let objects = (0..RELATIONS.len()).map(|r| {
            let mut objects: Vec<String> = vec![];
            for fact in facts.iter().filter(|f| f.relation == r) {
                if !objects.contains(&fact.object) {
                    objects.push(fact.object.clone());
                }
            }
            objects
        });
        Self { objects: objects.collect(), facts }
    }

    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }
}

/// Whether entry `i` of a table is of its first half.
fn half(i: usize, len: usize) -> bool {
    i < len / 2
}

/// Tells the facts of a table: subject first, then an object for each relation.
fn table<const N: usize>(
    rows: &[[&str; N]],
    relations: &[&str],
    tell: &mut impl FnMut(&str, &str, &str, bool),
) {
    for (i, row) in rows.iter().enumerate() {
        for (name, object) in relations.iter().zip(&row[1..]) {
            tell(name, row[0], object, half(i, rows.len()));
        }
    }
}

/// Gives the facts that the tasks may ask about to their parts: of eight facts five to train, one
/// to validation, two to test, relation by relation, and within a relation object by object, so
/// that each part has all answers.
fn divide(facts: &mut [Fact], stream: &mut Stream) {
    use WorldSplit::{Test, Train, Validation};
    const CYCLE: [WorldSplit; 8] = [Train, Test, Train, Validation, Train, Test, Train, Train];
    for r in (0..RELATIONS.len()).filter(|&r| !RELATIONS[r].school) {
        let mut mine: Vec<usize> =
            (0..facts.len()).filter(|&i| facts[i].relation == r && !facts[i].school).collect();
        stream.shuffle(&mut mine);
        mine.sort_by(|&a, &b| facts[a].object.cmp(&facts[b].object));
        for (at, i) in mine.into_iter().enumerate() {
            facts[i].part = Some(CYCLE[at % CYCLE.len()]);
        }
    }
}

/// `wording` with its places filled.
fn fill(wording: &str, subject: &str, object: &str, person: &str) -> String {
    wording.replace("{s}", subject).replace("{o}", object).replace("{n}", person)
}

/// With its first letter large.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// An element, drawn uniformly; `list` is not empty.
fn one<T: Copy>(list: &[T], stream: &mut Stream) -> T {
    list[stream.below(list.len())]
}

#[cfg(test)]
mod tests;
