use std::collections::{BTreeMap, BTreeSet};

use super::*;

const PARTS: [WorldSplit; 3] = [WorldSplit::Train, WorldSplit::Validation, WorldSplit::Test];

fn asked(world: &World, task: &str, part: WorldSplit, count: usize) -> Vec<Question> {
    questions(world, task, part, count, &mut Stream::new(7, &format!("{task}/{part:?}")))
}

#[test]
fn every_fact_has_five_wordings_that_name_both_ends() {
    for r in &RELATIONS {
        let different: BTreeSet<&str> = r.told.iter().copied().collect();
        assert!(different.len() >= 5, "{}", r.name);
        assert!(r.told.iter().all(|t| t.contains("{s}") && t.contains("{o}")), "{}", r.name);
        assert!(
            !r.asked.is_empty() && r.asked.iter().all(|a| a.contains("{s}") && !a.contains("{o}")),
            "{}",
            r.name
        );
        assert!(r.reversed.iter().all(|a| a.contains("{o}") && !a.contains("{s}")), "{}", r.name);
        assert!(r.claimed.iter().all(|a| a.contains("{s}") && a.contains("{o}")), "{}", r.name);
    }
}

#[test]
fn a_subject_has_one_object_in_a_relation() {
    let world = World::new(3);
    let pairs: BTreeSet<_> = world.facts().iter().map(Fact::pair).collect();
    assert_eq!(pairs.len(), world.facts().len());
}

/// No question and no (subject, relation) pair of one part is in another, and pretraining asks
/// about none of them.
#[test]
fn parts_share_no_question_and_no_pair() {
    let (world, other) = (World::new(SEED), World::divided(SEED, 7));
    let told = |world: &World| -> BTreeSet<(String, &str, String)> {
        world.facts().iter().map(|f| (f.subject.clone(), f.pair().1, f.object.clone())).collect()
    };
    // The same is true, and asked in other parts.
    assert_eq!(told(&world), told(&other));
    assert_ne!(world.facts(), other.facts());
    [world, other].iter().for_each(apart);
}

fn apart(world: &World) {
    let (mut texts, mut pairs) = (BTreeMap::new(), BTreeMap::new());
    for part in PARTS {
        for task in TASKS {
            for q in asked(world, task, part, 200) {
                assert_eq!(
                    *texts.entry(q.instruction.clone()).or_insert(part),
                    part,
                    "{}",
                    q.instruction
                );
                for pair in q.pairs {
                    assert_eq!(*pairs.entry(pair.clone()).or_insert(part), part, "{pair:?}");
                }
            }
        }
    }
    let school: Vec<&Fact> =
        world.facts().iter().filter(|f| RELATIONS[f.relation].school && f.school).collect();
    let school_names: BTreeSet<&str> = school.iter().map(|f| f.subject.as_str()).collect();
    let school_relations: BTreeSet<&str> = school.iter().map(|f| f.pair().1).collect();
    for (name, relation) in pairs.keys() {
        assert!(
            !school_names.contains(name.as_str()) && !school_relations.contains(relation),
            "{name} {relation}"
        );
    }
}

#[test]
fn every_task_fills_its_parts_and_every_answer_is_as_likely() {
    let world = World::new(SEED);
    for task in TASKS {
        for (part, count) in PARTS.into_iter().zip([400, 20, 80]) {
            let found = asked(&world, task, part, count);
            // Labels come equally often, so a set with few of one ends a little early.
            assert!(found.len() * 100 >= count * 98, "{task} {part:?}: {}", found.len());
        }
        let found = asked(&world, task, WorldSplit::Train, 360);
        let mut counts = BTreeMap::new();
        found.iter().for_each(|q| *counts.entry((q.names.len(), q.label)).or_insert(0) += 1);
        let choices = found[0].names.len();
        let fair = 360 / choices;
        assert!(
            counts.len() == choices
                && counts.values().all(|&n| n > fair * 8 / 10 && n < fair * 12 / 10),
            "{task} {counts:?}"
        );
    }
}

/// The right choice is the fact's object or subject; no other choice would be right too.
#[test]
fn answers_are_true_and_alone() {
    let world = World::new(SEED);
    let holds = |subject: &str, relation: &str, object: &str| {
        world.facts().iter().any(|f| f.pair() == (subject, relation) && f.object() == object)
    };
    let options = |q: &Question, word: &str| -> Vec<String> {
        let (_, listed) = q.instruction.split_once("\n\n").unwrap();
        let (listed, _) = listed.split_once("\n\nAnswer format").unwrap();
        listed
            .split(word)
            .skip(1)
            .map(|o| o.split_once(": ").unwrap().1.trim().to_owned())
            .collect()
    };
    for task in ["ARC-Easy", "ARC-Challenge", "openbookqa"] {
        for q in asked(&world, task, WorldSplit::Test, 60) {
            let (subject, relation) = &q.pairs[0];
            let options = options(&q, "Answer");
            assert_eq!(options.len(), 4, "{}", q.instruction);
            let right: Vec<usize> =
                (0..4).filter(|&i| holds(subject, relation, &options[i])).collect();
            assert_eq!(right, [q.label], "{}", q.instruction);
        }
    }
    for q in asked(&world, "piqa", WorldSplit::Test, 60) {
        let (first, relation) = &q.pairs[0];
        let object = world.facts().iter().find(|f| f.pair() == (first, relation)).unwrap().object();
        let options = options(&q, "Solution");
        assert_eq!(options.len(), 2, "{}", q.instruction);
        let tool =
            |option: &str| option.trim_start_matches("Use the ").trim_end_matches('.').to_owned();
        let right: Vec<usize> =
            (0..2).filter(|&i| holds(&tool(&options[i]), relation, object)).collect();
        assert_eq!(right, [q.label], "{}", q.instruction);
    }
}

/// A set that asks for the subject asks about what is told with the subject behind the object, or
/// has two objects only.
#[test]
fn what_is_asked_was_told_in_that_direction() {
    let world = World::new(SEED);
    for task in ["piqa", "winogrande"] {
        for q in asked(&world, task, WorldSplit::Train, 100) {
            let r = relation(q.pairs[0].1);
            let behind = RELATIONS[r].told.iter().any(|t| t.find("{o}") < t.find("{s}"));
            assert!(behind || world.objects[r].len() == 2, "{task}: {}", RELATIONS[r].name);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let (world, other) = (World::new(5), World::new(6));
    assert_eq!(world.facts(), World::new(5).facts());
    assert_ne!(world.facts(), other.facts());
    assert_eq!(
        asked(&world, "piqa", WorldSplit::Train, 50),
        asked(&world, "piqa", WorldSplit::Train, 50)
    );
    let documents = |seed| documents(&world, 40, &mut Stream::new(seed, "text"));
    assert_eq!(documents(1), documents(1));
    assert_ne!(documents(1), documents(2));
}

/// No question of pretraining is in a format of the tasks or about what they ask, and no document
/// asks anything.
#[test]
fn pretraining_knows_no_format_of_the_tasks() {
    let world = World::new(SEED);
    for text in documents(&world, 4000, &mut Stream::new(1, "text")) {
        assert!(!text.contains('?') && !text.contains("Answer"), "{text}");
    }
    let asks: Vec<&Fact> = world.facts().iter().filter(|f| f.part.is_some()).collect();
    for (prompt, completion) in school(&world, 4000, &mut Stream::new(1, "school")) {
        for mark in ["Answer format", "Please choose", "Answer1", "Solution1", "Ending1", "Option1"]
        {
            assert!(!prompt.contains(mark), "{prompt}");
        }
        assert!(
            !completion.contains(|c: char| c.is_ascii_digit())
                && !["true", "false"].iter().any(|w| completion.contains(w)),
            "{completion}"
        );
        for fact in &asks {
            assert!(
                !RELATIONS[fact.relation].asked.iter().any(|a| prompt.contains(&fill(
                    a,
                    &fact.subject,
                    "",
                    ""
                ))),
                "{prompt}"
            );
        }
    }
}

#[test]
fn topics_are_asked_about_others_than_were_trained() {
    let world = World::new(SEED);
    let of = |test: bool| topics(&world, test, 200, &mut Stream::new(1, "topics"));
    let (train, test) = (of(false), of(true));
    for topic in TOPICS {
        assert!([&train, &test].iter().all(|part| part.iter().any(|(_, own)| own == topic)));
    }
    // Each sentence has one subject at least; the tellers are anyone.
    let own = |test: bool| {
        world.facts().iter().filter(move |f| f.school != test).map(|f| f.subject.as_str())
    };
    for (part, is_test) in [(&train, false), (&test, true)] {
        assert!(part.iter().all(|(said, _)| own(is_test).any(|subject| said.contains(subject))));
    }
}
