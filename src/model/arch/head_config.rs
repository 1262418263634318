//! Which head a model has, as `architectures` and the keys of classifiers in `config.json` say it.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::fields::ConfigFields;
use super::{Architecture, ArchitectureEntry};
use crate::error::bail;

/// A kind of head, each with a class of its own in transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    CausalLm,
    MaskedLm,
    Sequence,
    MultipleChoice,
    /// None: hidden states alone.
    Base,
}

impl HeadKind {
    /// What the names of its classes end with.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::CausalLm => &["ForCausalLM", "LMHeadModel"],
            Self::MaskedLm => &["ForMaskedLM", "ForPreTraining"],
            Self::Sequence => &["ForSequenceClassification"],
            Self::MultipleChoice => &["ForMultipleChoice"],
            Self::Base => &["Model"],
        }
    }

    const ALL: [Self; 5] =
        [Self::CausalLm, Self::MaskedLm, Self::Sequence, Self::MultipleChoice, Self::Base];

    /// That of a class of any model.
    pub(super) fn of_class(name: &str) -> Option<Self> {
        let is = |kind: &Self| kind.suffixes().iter().any(|suffix| name.ends_with(suffix));
        Self::ALL.into_iter().find(is)
    }
}

/// The head of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadConfig {
    CausalLm,
    MaskedLm,
    Sequence(SequenceConfig),
    MultipleChoice,
    Base,
}

/// What a head says of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceConfig {
    /// One of several classes, by their names.
    Classes(Vec<String>),
    /// A number.
    Regression,
}

impl SequenceConfig {
    /// Logits.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes(labels) => labels.len(),
            Self::Regression => 1,
        }
    }
}

impl HeadConfig {
    pub fn kind(&self) -> HeadKind {
        match self {
            Self::CausalLm => HeadKind::CausalLm,
            Self::MaskedLm => HeadKind::MaskedLm,
            Self::Sequence(_) => HeadKind::Sequence,
            Self::MultipleChoice => HeadKind::MultipleChoice,
            Self::Base => HeadKind::Base,
        }
    }

    /// What a head of that kind is by a config. Errors (class data): labels that are no list of
    /// names by number, a problem that is not known here.
    pub(super) fn read(kind: HeadKind, f: &ConfigFields) -> Result<Self> {
        Ok(match kind {
            HeadKind::CausalLm => Self::CausalLm,
            HeadKind::MaskedLm => Self::MaskedLm,
            HeadKind::MultipleChoice => Self::MultipleChoice,
            HeadKind::Base => Self::Base,
            HeadKind::Sequence => Self::Sequence(sequence(f)?),
        })
    }

    /// Writes what a config says of it.
    pub(super) fn write(&self, json: &mut Value) {
        let Self::Sequence(sequence) = self else { return };
        let labels = match sequence {
            SequenceConfig::Classes(labels) => labels.clone(),
            SequenceConfig::Regression => vec!["LABEL_0".to_owned()],
        };
        let numbered = labels.iter().enumerate();
        let ids: Map<String, Value> =
            numbered.clone().map(|(i, label)| (i.to_string(), json!(label))).collect();
        let labels: Map<String, Value> =
            numbered.map(|(i, label)| (label.clone(), json!(i))).collect();
        if let Some(json) = json.as_object_mut() {
            json.remove("num_labels");
        }
        json["id2label"] = ids.into();
        json["label2id"] = labels.into();
        json["problem_type"] = json!(match sequence {
            SequenceConfig::Classes(_) => "single_label_classification",
            SequenceConfig::Regression => "regression",
        });
    }
}

/// transformers' class of a model with its head.
pub fn class_of(architecture: &dyn Architecture) -> &'static str {
    let (entry, kind) = (architecture.entry(), architecture.common().head.kind());
    let own = entry.classes.iter().find(|(own, _)| *own == kind);
    own.or(entry.classes.first()).map_or("", |(_, class)| class)
}

/// Which head `architectures` names; `AutoModel` decides by `model_type` which model it is of.
/// Errors (class data): one that is not known here.
pub(super) fn kind(
    f: &ConfigFields,
    entry: &ArchitectureEntry,
    notes: &mut Vec<String>,
) -> Result<HeadKind> {
    let read = |v: &Value| match v {
        Value::Null => Some(vec![]),
        v => v.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
    };
    let names = f.or("architectures", vec![], "a list of names", read)?;
    let own = names.iter().find_map(|name| entry.classes.iter().find(|(_, own)| own == name));
    if let Some((kind, _)) = own {
        return Ok(*kind);
    }
    let usual = entry.classes[0];
    let Some(first) = names.first() else { return Ok(usual.0) };
    let of_kind = |kind: HeadKind| entry.classes.iter().find(|(own, _)| *own == kind).copied();
    let found = match HeadKind::of_class(first) {
        // A decoder without its head may be tied to its embedding.
        Some(HeadKind::Base) => Some(of_kind(HeadKind::Base).unwrap_or(usual)),
        Some(kind) => of_kind(kind),
        None => None,
    };
    let Some((kind, class)) = found else {
        let known: Vec<&str> = entry.classes.iter().map(|(_, class)| *class).collect();
        bail!(
            Data,
            "config.json: `architectures` says `{first}`, whose head is not known here";
            hint: "of `{}` known are {}; weights with the head of one of them say so there",
            entry.model_type,
            known.join(", ")
        );
    };
    notes.push(format!(
        "config.json: `architectures` says `{first}`; the model is read as `{class}`, as \
         `model_type` has it"
    ));
    Ok(kind)
}

/// Most classes of a head.
const MOST: usize = 100_000;

fn sequence(f: &ConfigFields) -> Result<SequenceConfig> {
    let named = match f.get("id2label") {
        Some(map) => Some(names(map)?),
        None => None,
    };
    let count = f.size("num_labels")?;
    let outputs = named.as_ref().map(Vec::len).or(count).unwrap_or(2);
    if count.is_some_and(|count| count != outputs) || outputs > MOST {
        bail!(
            Data,
            "config.json: `num_labels` is {}, `id2label` names {outputs}",
            count.unwrap_or(0)
        );
    }
    match f.text_or_null("problem_type")? {
        Some("regression") if outputs == 1 => return Ok(SequenceConfig::Regression),
        None if outputs == 1 => return Ok(SequenceConfig::Regression),
        Some("single_label_classification") | None => {}
        Some(other) => bail!(
            Data,
            "config.json: `problem_type` is `{other}` with {outputs} labels: known here are \
             `single_label_classification`, and `regression` of one number"
        ),
    }
    let unnamed = || (0..outputs).map(|i| format!("LABEL_{i}")).collect();
    Ok(SequenceConfig::Classes(named.unwrap_or_else(unnamed)))
}

/// The names of `id2label`, in the order of their numbers.
fn names(map: &Value) -> Result<Vec<String>> {
    let wrong = || bail!(Data, "config.json: `id2label` is {map}, not names by number from 0");
    let Some(map) = map.as_object() else { return wrong() };
    let name = |i: usize| Some(map.get(&i.to_string())?.as_str()?.to_owned());
    match (0..map.len()).map(name).collect::<Option<Vec<String>>>() {
        Some(names) if !names.is_empty() => Ok(names),
        _ => wrong(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arch::REGISTRY;

    #[test]
    fn the_head_is_that_of_the_class() {
        let of = |model_type: &str, class: Value| {
            let entry = REGISTRY.into_iter().find(|entry| entry.model_type == model_type).unwrap();
            let mut notes = vec![];
            kind(&ConfigFields(&json!({ "architectures": class })), entry, &mut notes)
                .map(|kind| (kind, notes.join("")))
                .map_err(|e| e.to_string())
        };
        for (model_type, class, want) in [
            ("llama", json!(["LlamaForCausalLM"]), HeadKind::CausalLm),
            ("llama", json!(["LlamaForSequenceClassification"]), HeadKind::Sequence),
            ("llama", Value::Null, HeadKind::CausalLm),
            ("bert", json!(["BertForMultipleChoice"]), HeadKind::MultipleChoice),
            ("bert", json!([]), HeadKind::Base),
        ] {
            assert_eq!(of(model_type, class), Ok((want, String::new())));
        }
        for (model_type, class, want, note) in [
            ("llama", "MistralForCausalLM", HeadKind::CausalLm, "read as `LlamaForCausalLM`"),
            ("llama", "LlamaModel", HeadKind::CausalLm, "says `LlamaModel`"),
            ("bert", "BertForPreTraining", HeadKind::MaskedLm, "read as `BertForMaskedLM`"),
            ("roberta", "CamembertModel", HeadKind::Base, "read as `RobertaModel`"),
        ] {
            let (kind, told) = of(model_type, json!([class])).unwrap();
            assert!(kind == want && told.contains(note), "{told}");
        }
        for (model_type, class, want) in [
            ("llama", json!(["LlamaForTokenClassification"]), "whose head is not known here"),
            ("llama", json!(["LlamaForMaskedLM"]), "whose head is not known here"),
            ("bert", json!(["BertForQuestionAnswering"]), "whose head is not known here"),
            ("bert", json!("BertModel"), "a list of names"),
        ] {
            let said = of(model_type, class).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
    }

    #[test]
    fn labels_are_those_of_the_config() {
        let of = |json: Value| {
            HeadConfig::read(HeadKind::Sequence, &ConfigFields(&json)).map_err(|e| e.to_string())
        };
        let classes = |names: &[&str]| {
            let names = names.iter().map(|name| name.to_string()).collect();
            Ok(HeadConfig::Sequence(SequenceConfig::Classes(names)))
        };
        let regression = Ok(HeadConfig::Sequence(SequenceConfig::Regression));
        assert_eq!(of(json!({})), classes(&["LABEL_0", "LABEL_1"]));
        assert_eq!(of(json!({ "num_labels": 1 })), regression);
        let named = json!({ "id2label": { "1": "yes", "0": "no" }, "problem_type": null });
        assert_eq!(of(named), classes(&["no", "yes"]));
        for (json, want) in [
            (json!({ "id2label": { "1": "yes" } }), "not names by number from 0"),
            (json!({ "id2label": ["no", "yes"] }), "not names by number from 0"),
            (json!({ "num_labels": 3, "id2label": { "0": "x" } }), "`num_labels` is 3"),
            (json!({ "problem_type": "multi_label_classification" }), "`problem_type` is `multi"),
            (json!({ "problem_type": "regression" }), "with 2 labels"),
        ] {
            let said = of(json).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
        for head in [classes(&["a", "b"]), regression] {
            let (head, mut json) = (head.unwrap(), json!({}));
            head.write(&mut json);
            assert_eq!(of(json), Ok(head));
        }
    }
}
