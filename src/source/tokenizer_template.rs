//! The chat templates of a folder: which there are, and which is taken, as transformers 5 chooses
//! (`_from_pretrained` and `get_chat_template`, `tokenization_utils_base.py`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::file_names::{CHAT_TEMPLATE, MORE_TEMPLATES, PROCESSOR_TEMPLATE};
use super::text_file;
use crate::error::{bail, error};

/// The template that words conversations, and the names of others.
#[derive(Clone, Debug, Default)]
pub(super) struct Templates {
    pub default: Option<String>,
    /// Those that are taken only when asked for by name: `tool_use`, `rag`.
    pub others: Vec<String>,
}

/// Finds the templates of a folder. `settings` is its tokenizer_config.json. A line for a person
/// goes into `notes`.
///
/// Errors (class data): a file that cannot be read, or is no template.
pub(super) fn find(folder: &Path, settings: &Value, notes: &mut Vec<String>) -> Result<Templates> {
    let mut named = in_files(folder)?;
    if named.is_empty() {
        named = in_settings(&settings["chat_template"])?;
    }
    look_at_processor(folder, &mut named, notes)?;
    let default = named.remove("default");
    if default.as_ref().is_some_and(|template| template.contains("strftime_now is defined")) {
        notes.push(
            "the chat template writes today's date in transformers; here it writes one of its own, \
             unless `date` gives a day"
                .into(),
        );
    }
    Ok(Templates { default, others: named.into_keys().collect() })
}

/// The templates that have files of their own, by name.
fn in_files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut named = BTreeMap::new();
    if folder.join(CHAT_TEMPLATE).is_file() {
        named.insert("default".into(), text_file::text(&folder.join(CHAT_TEMPLATE))?);
    }
    for path in more(folder)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        named.insert(name, text_file::text(&path)?);
    }
    Ok(named)
}

/// Takes the template of a processor where there is no other.
fn look_at_processor(
    folder: &Path,
    named: &mut BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Result<()> {
    let path = folder.join(PROCESSOR_TEMPLATE);
    if !path.is_file() {
        return Ok(());
    }
    let mut theirs = in_settings(&text_file::json(&path)?["chat_template"])?;
    match (named.get("default"), theirs.remove("default")) {
        (None, Some(template)) if named.is_empty() => {
            notes.push(format!(
                "the chat template is that of {PROCESSOR_TEMPLATE}, which transformers reads with \
                 a processor, not with a tokenizer"
            ));
            named.insert("default".into(), template);
        }
        (Some(mine), Some(template)) if *mine != template => notes.push(format!(
            "{PROCESSOR_TEMPLATE} holds another chat template, which is passed over, as \
             transformers' tokenizers do"
        )),
        _ => {}
    }
    Ok(())
}

/// The files of additional templates, sorted.
pub(super) fn more(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let folder = folder.join(MORE_TEMPLATES);
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let listed = std::fs::read_dir(&folder)
        .map_err(|e| error!(Data, "cannot read `{}`: {e}", folder.display()))?;
    let mut paths: Vec<_> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "jinja"))
        .collect();
    paths.sort();
    Ok(paths)
}

/// Whether a path in a repository is such a file.
pub(super) fn is_additional(path: &str) -> bool {
    path.split_once('/').is_some_and(|(folder, name)| {
        folder == MORE_TEMPLATES && !name.contains('/') && name.ends_with(".jinja")
    })
}

/// A template given as text, or templates by name, as a list or a map.
fn in_settings(value: &Value) -> Result<BTreeMap<String, String>> {
    let entries: Vec<(&Value, &Value)> = match value {
        Value::Null => vec![],
        Value::String(text) => return Ok([("default".to_owned(), text.clone())].into()),
        Value::Array(list) => {
            list.iter().map(|entry| (&entry["name"], &entry["template"])).collect()
        }
        Value::Object(map) => {
            return map
                .iter()
                .map(|(name, template)| entry(&Value::String(name.clone()), template))
                .collect();
        }
        other => {
            bail!(Data, "`chat_template` is {other}, neither a text nor a list of named templates");
        }
    };
    entries.into_iter().map(|(name, template)| entry(name, template)).collect()
}

fn entry(name: &Value, template: &Value) -> Result<(String, String)> {
    match (name.as_str(), template.as_str()) {
        (Some(name), Some(template)) => Ok((name.to_owned(), template.to_owned())),
        _ => Err(error!(Data, "`chat_template` has an entry without a name or a template as text")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(files: &[(&str, &str)], settings: Value) -> (Option<String>, Vec<String>, usize) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(MORE_TEMPLATES)).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(home.path().join(name), text).unwrap());
        let mut notes = vec![];
        let found = find(home.path(), &settings, &mut notes).unwrap();
        (found.default, found.others, notes.len())
    }

    #[test]
    fn files_come_before_settings_and_default_is_a_name() {
        let list = json!({
            "chat_template": [
                {"name": "default", "template": "D"}, {"name": "rag", "template": "R"},
            ],
        });
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found(&[], json!({"chat_template": "T"})), (some("T"), vec![], 0));
        assert_eq!(found(&[], list.clone()), (some("D"), vec!["rag".into()], 0));
        assert_eq!(found(&[(CHAT_TEMPLATE, "J")], list.clone()), (some("J"), vec![], 0));
        assert_eq!(
            found(&[("additional_chat_templates/tool_use.jinja", "U")], list),
            (None, vec!["tool_use".into()], 0)
        );
        let both = [(CHAT_TEMPLATE, "J"), ("additional_chat_templates/default.jinja", "A")];
        assert_eq!(found(&both, json!({})), (some("A"), vec![], 0));
        let processor = r#"{"chat_template": "P"}"#;
        assert_eq!(found(&[(PROCESSOR_TEMPLATE, processor)], json!({})), (some("P"), vec![], 1));
        assert_eq!(
            found(&[(PROCESSOR_TEMPLATE, processor)], json!({"chat_template": "T"})),
            (some("T"), vec![], 1)
        );
        assert_eq!(
            found(&[(PROCESSOR_TEMPLATE, processor)], json!({"chat_template": "P"})),
            (some("P"), vec![], 0)
        );
    }
}
