//! The files of a model: a folder in the Hugging Face layout, a GGUF file, or a hub repository.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::file_names::{CONFIG, INDEX, TOKENIZER, WEIGHTS};
use super::hub::Hub;
use super::model_folder::{LAYOUT, ModelFolder, folder, gguf_files, is_gguf};
use super::name::Name;
use super::pre_tokenizer;
use crate::builtin::{MICRO, Micro};
use crate::error::{bail, error, nearest};

/// Where a model's parts lie; all files exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    Folder(ModelFolder),
    /// One file with everything in it, or one of the parts that it was split into.
    Gguf {
        file: PathBuf,
        /// The rule by which texts are split, where a person named one.
        pre_tokenizer: Option<String>,
    },
    /// The model that is embedded in the program.
    Embedded(&'static Micro),
}

impl ModelFiles {
    fn gguf(file: PathBuf) -> Self {
        Self::Gguf { file, pre_tokenizer: None }
    }

    /// Names the rule by which a GGUF file's tokenizer splits texts, in place of the one that the
    /// file states.
    ///
    /// Errors (class usage): a name that is not known, files that are no GGUF file.
    pub fn split_by(self, pre_tokenizer: Option<&str>) -> Result<Self> {
        let Some(name) = pre_tokenizer else { return Ok(self) };
        pre_tokenizer::check(name)?;
        match self {
            Self::Gguf { file, .. } => {
                Ok(Self::Gguf { file, pre_tokenizer: Some(name.to_owned()) })
            }
            _ => bail!(
                Usage,
                "a pre-tokenizer is named for a GGUF file; the model has a {TOKENIZER} of its own"
            ),
        }
    }
}

/// Finds, or fetches, the files of a model.
///
/// Errors (class data): a file that must be there is not; the message says which, and what a model
/// folder holds.
pub fn model(name: &Name) -> Result<ModelFiles> {
    match name {
        Name::Builtin(name) if name == MICRO.name => Ok(ModelFiles::Embedded(&MICRO)),
        Name::Builtin(name) => {
            let near = nearest(name, [MICRO.name])
                .map_or(String::new(), |near| format!("; did you mean `builtin:{near}`?"));
            Err(error!(
                Data,
                "there is no embedded model `builtin:{name}`{near}";
                hint: "embedded is `builtin:micro`"
            )
            .into())
        }
        Name::Hub { id, revision } => {
            Ok(ModelFiles::Folder(Hub::from_env()?.model(id, revision.as_deref())?))
        }
        Name::Path(path) => at(path),
    }
}

/// The files of a model at a path.
fn at(path: &Path) -> Result<ModelFiles> {
    if path.is_dir() {
        return Ok(match only_gguf(path)? {
            Some(file) => ModelFiles::gguf(file),
            None => ModelFiles::Folder(folder(path)?),
        });
    }
    let shown = path.display();
    if !is_gguf(path) {
        bail!(
            Data,
            "`{shown}` is no model: expected a folder, a GGUF file or a hub id";
            hint: "{LAYOUT}"
        );
    }
    if !path.is_file() {
        bail!(Data, "there is no file `{shown}`");
    }
    Ok(ModelFiles::gguf(path.to_owned()))
}

/// The GGUF file of a folder that holds no other model; of a model that was split, the first part.
///
/// Errors (class data): there are several.
fn only_gguf(root: &Path) -> Result<Option<PathBuf>> {
    if [CONFIG, WEIGHTS, INDEX].iter().any(|name| root.join(name).is_file()) {
        return Ok(None);
    }
    let mut files = gguf_files(root);
    if files.len() > 1 {
        let names: Vec<String> = files.iter().map(|path| format!("`{}`", path.display())).collect();
        bail!(
            Data,
            "folder `{}` holds {} GGUF files: name one",
            root.display(),
            names.len();
            hint: "there are {}",
            names.join(", ")
        );
    }
    Ok(files.pop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    fn made(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        root
    }

    fn refused(files: &[(&str, &str)]) -> String {
        let root = made(files);
        let error = model(&Name::Path(root.path().into())).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        format!("{error:#}").replace(&root.path().display().to_string(), "ROOT")
    }

    fn found(root: &tempfile::TempDir) -> ModelFolder {
        match model(&Name::Path(root.path().into())).unwrap() {
            ModelFiles::Folder(folder) => folder,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_with_one_file() {
        let root = made(&[
            (CONFIG, "{}"),
            (TOKENIZER, "{}"),
            (WEIGHTS, ""),
            ("tokenizer_config.json", "{}"),
        ]);
        let files = found(&root);
        assert_eq!(files.weights, [root.path().join(WEIGHTS)]);
        assert_eq!(files.others, [root.path().join("tokenizer_config.json")]);
    }

    #[test]
    fn a_folder_with_shards() {
        let index = r#"{"weight_map": {
            "a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"
        }}"#;
        let shards = ["m-1.safetensors", "m-2.safetensors"];
        let [one, two] = shards.map(|name| (name, ""));
        let root = made(&[(CONFIG, "{}"), (TOKENIZER, "{}"), (INDEX, index), one, two]);
        assert_eq!(found(&root).weights, shards.map(|name| root.path().join(name)));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(refused(&[]), "model folder `ROOT` has no config.json");
        assert_eq!(refused(&[(CONFIG, "{}")]), "model folder `ROOT` has no model.safetensors");
        assert_eq!(
            refused(&[(CONFIG, "{}"), (WEIGHTS, "")]),
            "model folder `ROOT` has no tokenizer.json"
        );
        assert!(
            refused(&[(CONFIG, "{}"), ("pytorch_model.bin", "")])
                .contains("pickled weights are not read")
        );
        assert_eq!(
            refused(&[(CONFIG, "{}"), (INDEX, r#"{"weight_map": {"a": "m.safetensors"}}"#)]),
            "model folder `ROOT` has no m.safetensors, which its model.safetensors.index.json names"
        );
    }

    #[test]
    fn a_byte_order_mark_is_named() {
        let told = refused(&[(CONFIG, "{}"), (INDEX, "\u{feff}{}")]);
        assert_eq!(
            told,
            "`ROOT/model.safetensors.index.json` begins with a byte order mark, which no JSON \
             does; transformers refuses it too"
        );
    }

    #[test]
    fn an_index_names_plain_files_only() {
        for name in [
            "../m.safetensors",
            "/m.safetensors",
            "a/m.safetensors",
            ".m.safetensors",
            "m.bin",
            "c:m.safetensors",
            "",
        ] {
            let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
            assert!(
                refused(&[(CONFIG, "{}"), (INDEX, &index)]).contains("only plain names"),
                "{name}"
            );
        }
        for index in ["", "[]", "{}", r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 1}}"#] {
            refused(&[(CONFIG, "{}"), (INDEX, index)]);
        }
    }

    #[test]
    fn a_folder_of_gguf_files() {
        let root = made(&[
            ("m-00001-of-00002.gguf", ""),
            ("m-00002-of-00002.gguf", ""),
            ("README.md", ""),
        ]);
        let file = root.path().join("m-00001-of-00002.gguf");
        assert_eq!(model(&Name::Path(root.path().into())).unwrap(), ModelFiles::gguf(file));

        std::fs::write(root.path().join("n.gguf"), "").unwrap();
        let error = model(&Name::Path(root.path().into())).unwrap_err();
        assert!(error.to_string().ends_with("holds 2 GGUF files: name one"), "{error}");
        assert!(crate::error::hint_of(&error).unwrap().contains("n.gguf"));
        assert_eq!(
            refused(&[(CONFIG, "{}"), ("m.gguf", "")]),
            "model folder `ROOT` has no model.safetensors"
        );
    }

    #[test]
    fn a_pre_tokenizer_is_named_for_a_gguf_file() {
        let file = || PathBuf::from("m.gguf");
        assert_eq!(
            ModelFiles::gguf(file()).split_by(Some("qwen2")).unwrap(),
            ModelFiles::Gguf { file: file(), pre_tokenizer: Some("qwen2".into()) }
        );
        let refused = |files: ModelFiles, name| class_of(&files.split_by(Some(name)).unwrap_err());
        assert_eq!(refused(ModelFiles::gguf(file()), "qwen"), Class::Usage);
        assert_eq!(refused(ModelFiles::Embedded(&MICRO), "qwen2"), Class::Usage);
    }

    #[test]
    fn other_names() {
        let error = model(&Name::Builtin("x".into())).unwrap_err();
        assert_eq!(error.to_string(), "there is no embedded model `builtin:x`");
        let root = made(&[("m.gguf", ""), ("m.bin", "")]);
        assert!(matches!(
            model(&Name::Path(root.path().join("m.gguf"))).unwrap(),
            ModelFiles::Gguf { .. }
        ));
        assert!(model(&Name::Path(root.path().join("m.bin"))).is_err());
        assert!(model(&Name::Path(root.path().join("none.gguf"))).is_err());
    }
}
