//! What is embedded in the program: a small model, and a small world of facts and questions that it
//! was pretrained on.

pub mod world;

use std::collections::BTreeMap;

use serde_json::json;

use crate::seed::Stream;
use world::{
    Question, SEED, TASKS, World, WorldSplit, documents, exercises, openly, questions, school,
    topics,
};

/// A model whose files are embedded.
#[derive(Debug, PartialEq, Eq)]
pub struct Micro {
    /// Behind `builtin:`.
    pub name: &'static str,
    /// `config.json`
    pub config: &'static str,
    /// `tokenizer.json`
    pub tokenizer: &'static [u8],
    /// `model.safetensors`, in bf16.
    pub weights: &'static [u8],
}

/// The micro model, made in the stages that `recipes/pretrain_micro.rhai` has.
pub static MICRO: Micro = Micro {
    name: "micro",
    config: include_str!("micro/config.json"),
    tokenizer: include_bytes!("micro/tokenizer.json"),
    weights: include_bytes!("micro/model.safetensors"),
};

/// Names of the data sets, as they stand behind `builtin:`.
pub const DATA: [&str; 6] = [
    "microworld",
    "microworld-topics",
    "microworld-text",
    "microworld-questions",
    "microworld-exercises",
    "microworld-school",
];

/// How many questions a task has in each part.
const SIZES: [(WorldSplit, &str, usize); 3] = [
    (WorldSplit::Train, "train", 480),
    (WorldSplit::Validation, "validation", 15),
    (WorldSplit::Test, "test", 60),
];

/// How many sentences with a topic there are in each part.
const SENTENCES: [(&str, usize); 2] = [("train", 480), ("test", 200)];

/// How many documents the text has in each part.
const DOCUMENTS: [(&str, usize); 2] = [("train", 60_000), ("validation", 400)];

/// A task's files: by split, the name and the text of each.
pub struct BuiltinTask {
    pub name: String,
    pub splits: BTreeMap<String, (String, String)>,
}

/// The data set called `name`, as files would hold it: `microworld` (eight tasks in the JSON of
/// LLM-Adapters), `microworld/boolq` (one of them), `microworld@7` (the eight with the facts
/// divided among train, validation and test by seed 7 instead of the world's own),
/// `microworld-topics` (JSONL: sentences about people, and which of four topics each is of),
/// `microworld-text`, `microworld-questions`, `microworld-exercises` and `microworld-school` (JSONL
/// for pretraining: facts and stories; questions without choices; finding words; questions with
/// choices). `None` for another name.
pub fn data(name: &str) -> Option<Vec<BuiltinTask>> {
    let world = World::new(SEED);
    if name == DATA[1] {
        return Some(vec![topics_of(&world, name)]);
    }
    if DATA[2..].contains(&name) {
        let part = |(split, count): (&str, usize)| {
            let mut stream = Stream::new(SEED, &format!("{name}/{split}"));
            let lines: Vec<serde_json::Value> = if name == DATA[2] {
                documents(&world, count, &mut stream)
                    .into_iter()
                    .map(|text| json!({ "text": text }))
                    .collect()
            } else {
                let pair =
                    |(prompt, completion)| json!({ "prompt": prompt, "completion": completion });
                let make = match name {
                    "microworld-questions" => openly,
                    "microworld-exercises" => exercises,
                    _ => school,
                };
                make(&world, count, &mut stream).into_iter().map(pair).collect()
            };
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            (split.to_owned(), (format!("builtin:{name}/{split}.jsonl"), text))
        };
        return Some(vec![BuiltinTask {
            name: name.to_owned(),
            splits: DOCUMENTS.map(part).into(),
        }]);
    }
    let (name, world) = match name.split_once('@') {
        None => (name, world),
        Some((name, division)) => (name, World::divided(SEED, division.parse().ok()?)),
    };
    let wanted = match name.strip_prefix(DATA[0])? {
        "" => None,
        task => Some(task.strip_prefix('/').filter(|task| TASKS.contains(task))?),
    };
    let task = |task: &str| {
        let part = |(part, split, count): (WorldSplit, &str, usize)| {
            let found = questions(
                &world,
                task,
                part,
                count,
                &mut Stream::new(SEED, &format!("microworld/{task}/{split}")),
            );
            let text = serde_json::Value::Array(found.iter().map(record).collect()).to_string();
            (split.to_owned(), (format!("builtin:{}/{task}/{split}.json", DATA[0]), text))
        };
        BuiltinTask { name: task.to_owned(), splits: SIZES.map(part).into() }
    };
    Some(TASKS.into_iter().filter(|t| wanted.is_none_or(|wanted| wanted == *t)).map(task).collect())
}

fn topics_of(world: &World, name: &str) -> BuiltinTask {
    let part = |(split, count): (&str, usize)| {
        let mut stream = Stream::new(SEED, &format!("{name}/{split}"));
        let items = topics(world, split == "test", count, &mut stream);
        let line = |(sentence, label)| json!({ "sentence": sentence, "label": label }).to_string();
        let lines: Vec<String> = items.into_iter().map(line).collect();
        let text = lines.join("\n") + "\n";
        (split.to_owned(), (format!("builtin:{name}/{split}.jsonl"), text))
    };
    BuiltinTask { name: name.to_owned(), splits: SENTENCES.map(part).into() }
}

/// A question as LLM-Adapters' files hold it.
fn record(question: &Question) -> serde_json::Value {
    let answer = &question.names[question.label];
    json!({ "instruction": question.instruction, "input": "", "output": format!("the correct \
        answer is {answer}"), "answer": answer })
}
