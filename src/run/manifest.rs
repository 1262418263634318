//! `run.json`: what a run was started with, enough to start it again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Folder;
use crate::error::error;

/// The name of a model that the recipe made.
pub const CREATED: &str = "created";

/// What decides a run's bytes: the same values give the same run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program.
    pub engine: String,
    /// The recipe as it was named on the command line; its text is kept as `recipe.rhai`.
    pub recipe: String,
    /// SHA-256 of the recipe's text.
    pub recipe_sha256: String,
    /// All parameters after `-p` was applied.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// Those that `-p` gave, as typed: the recipe may read the paths among them.
    #[serde(default)]
    pub given: Vec<(String, String)>,
    /// Those that `--params` gave; the recipe may read no path among them.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub given_in_file: serde_json::Map<String, serde_json::Value>,
    pub seed: u64,
    pub threads: usize,
    pub device: String,
    /// The GPU's name and the version of CUDA that its driver is for; none on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// Storage type of weights.
    pub dtype: String,
    /// Which family of CPU kernels ran.
    pub kernels: String,
    /// SHA-256 of everything that was read: models, data, modules beside the recipe.
    pub digests: BTreeMap<String, String>,
    /// Names of the models, in the order loaded; the first is the run's own.
    #[serde(default)]
    pub models: Vec<String>,
    /// What merges into the run's own model do with the weights: `exact`, `naive` or `none`.
    #[serde(default = "exact")]
    pub merge_mode: String,
    /// The rule by which the tokenizer of the run's own model splits texts, where the recipe named
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_tokenizer: Option<String>,
    /// The head that the recipe gave the run's own model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<serde_json::Value>,
    /// Where the run was begun. None: by a version that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
    /// The template of what was last trained on, the first task's; `recipe` for one of the recipe's
    /// own.
    #[serde(default)]
    pub template: Option<String>,
}

/// Where a run was begun: names in it are paths from there. Nothing is compared with it but places.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The folder, absolute.
    pub folder: String,
    /// Absolute paths of the files and folders that the recipe read, by name.
    #[serde(default)]
    pub places: BTreeMap<String, String>,
}

impl Begun {
    /// In the current folder.
    pub fn here() -> Option<Self> {
        let folder = std::env::current_dir().ok()?;
        Some(Self { folder: folder.to_str()?.to_owned(), places: BTreeMap::new() })
    }
}

impl Manifest {
    /// That of the run in `folder`. Errors: no run's folder (class usage), a damaged `run.json`
    /// (class data).
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("run.json");
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => error!(
                Usage,
                "`{}` is no run folder: there is no `run.json`",
                folder.display();
                hint: "a run writes its folder below `runs`, or to `--out`"
            ),
            _ => error!(Data, "cannot read `{}`: {e}", path.display()),
        })?;
        Ok(serde_json::from_str(&text)
            .map_err(|e| error!(Data, "`{}` does not describe a run: {e}", path.display()))?)
    }

    pub fn save(&self, folder: &Folder) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        folder.write("run.json", text.as_bytes())
    }
}

fn exact() -> String {
    "exact".into()
}

/// SHA-256 as lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_sha256() {
        assert_eq!(
            digest(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_is_saved_can_be_read_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::create(Some(home.path()), "x").unwrap();
        let manifest = Manifest {
            engine: "0.1.0".into(),
            recipe: "r.rhai".into(),
            recipe_sha256: digest(b""),
            parameters: serde_json::Map::from_iter([("rank".into(), 1.into())]),
            given: vec![("model".into(), "m".into())],
            given_in_file: serde_json::Map::from_iter([("rank".into(), 1.into())]),
            seed: 7,
            threads: 2,
            device: "cpu".into(),
            card: None,
            dtype: "f32".into(),
            kernels: "x86-v4".into(),
            digests: BTreeMap::from([("model".into(), digest(b"m"))]),
            models: vec!["model".into()],
            merge_mode: exact(),
            pre_tokenizer: Some("qwen2".into()),
            head: Some(serde_json::json!({ "kind": "regression" })),
            template: Some("alpaca".into()),
            begun: Some(Begun {
                folder: "/a".into(),
                places: BTreeMap::from([("m".into(), "/a/m".into())]),
            }),
        };
        manifest.save(&folder).unwrap();
        let text = std::fs::read_to_string(home.path().join("run.json")).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
        // One of an earlier version says less.
        let mut less: serde_json::Value = serde_json::from_str(&text).unwrap();
        let new = [
            "models",
            "template",
            "given",
            "given_in_file",
            "merge_mode",
            "pre_tokenizer",
            "head",
            "begun",
        ];
        less.as_object_mut().unwrap().retain(|key, _| !new.contains(&key.as_str()));
        assert_eq!(
            serde_json::from_value::<Manifest>(less).unwrap(),
            Manifest {
                models: vec![],
                template: None,
                given: vec![],
                given_in_file: Default::default(),
                pre_tokenizer: None,
                head: None,
                begun: None,
                ..manifest
            }
        );
    }
}
