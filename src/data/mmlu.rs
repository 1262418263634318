//! MMLU (Hendrycks et al. 2021): its subjects, their groups, and how a question is worded.

use anyhow::Result;
use serde_json::Value;

use super::item::Row;
use super::rows::{no_column, texts};
use crate::error::bail;
use crate::source::{SPLIT_NAMES, split_of, stem_of};

/// What each prompt begins with; behind it stand solved examples of the subject.
pub(super) const DESCRIPTION: &str = "The following are multiple choice questions (with answers) \
                                      about {{ subject | replace('_', ' ') }}.\n\n";

pub(super) const PROMPT: &str = "{{ question | trim }}\nA. {{ choices[0] }}\nB. {{ choices[1] \
                                 }}\nC. {{ choices[2] }}\nD. {{ choices[3] }}\nAnswer:";

pub(super) const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Groups of subjects, in the order of the paper's tables.
pub const GROUPS: [&str; 4] = ["stem", "humanities", "social_sciences", "other"];

/// The subjects of each group.
const SUBJECTS: [&[&str]; 4] = [
    &[
        "abstract_algebra",
        "anatomy",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    ],
    &[
        "formal_logic",
        "high_school_european_history",
        "high_school_us_history",
        "high_school_world_history",
        "international_law",
        "jurisprudence",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "prehistory",
        "professional_law",
        "world_religions",
    ],
    &[
        "econometrics",
        "high_school_geography",
        "high_school_government_and_politics",
        "high_school_macroeconomics",
        "high_school_microeconomics",
        "high_school_psychology",
        "human_sexuality",
        "professional_psychology",
        "public_relations",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ],
    &[
        "business_ethics",
        "clinical_knowledge",
        "college_medicine",
        "global_facts",
        "human_aging",
        "management",
        "marketing",
        "medical_genetics",
        "miscellaneous",
        "nutrition",
        "professional_accounting",
        "professional_medicine",
        "virology",
    ],
];

/// The group of a subject; `None` of another.
pub fn group(subject: &str) -> Option<&'static str> {
    GROUPS.into_iter().zip(SUBJECTS).find(|(_, own)| own.contains(&subject)).map(|(group, _)| group)
}

/// Gives a record the columns `choices` and `subject` that a question is worded by: of the
/// authors' files, the choices are in columns of their own, and the file's name says the subject.
///
/// Errors (class data): not four choices.
pub(super) fn prepare(row: &mut Row) -> Result<()> {
    if !row.fields.contains_key("choices") && row.fields.contains_key("A") {
        let choices = LETTERS
            .iter()
            .map(|letter| row.fields.get(*letter).cloned().ok_or_else(|| no_column(row, letter)));
        let choices: Value = choices.collect::<Result<Vec<_>>>()?.into();
        row.fields.insert("choices".into(), choices);
    }
    let count = texts(row, "choices")?.len();
    if count != LETTERS.len() {
        bail!(Data, "{}: column `choices` has {count} texts, expected 4", row.place);
    }
    let told = row.fields.get("subject").and_then(Value::as_str).is_some_and(|s| !s.is_empty());
    if !told {
        let subject = subject_of(row);
        row.fields.insert("subject".into(), subject.into());
    }
    Ok(())
}

/// The subject of a record in the authors' files: `abstract_algebra` of `abstract_algebra_dev.csv`,
/// or of `abstract_algebra/dev.csv`.
fn subject_of(row: &Row) -> String {
    let stem = stem_of(&row.place.file);
    if split_of(&stem).is_some() || SPLIT_NAMES.iter().any(|name| stem.starts_with(name)) {
        let folder = row.place.file.parent().and_then(|folder| folder.file_name());
        return folder.map_or(stem, |name| name.to_string_lossy().into_owned());
    }
    match stem.rsplit_once('_') {
        Some((subject, word)) if split_of(word).is_some() => subject.to_owned(),
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_have_the_published_subjects() {
        assert_eq!(SUBJECTS.map(<[_]>::len), [19, 13, 12, 13]);
        assert_eq!(SUBJECTS.concat().len(), 57);
        for (subject, of) in [
            ("abstract_algebra", Some("stem")),
            ("philosophy", Some("humanities")),
            ("high_school_geography", Some("social_sciences")),
            ("global_facts", Some("other")),
            ("boolq", None),
        ] {
            assert_eq!(group(subject), of, "{subject}");
        }
    }
}
