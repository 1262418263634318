//! The files of an adapter folder, and what people have in their place.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::CONFIG;
use crate::error::{Error, bail, error};
use crate::source::{Safetensors, lfs};

const WEIGHTS: &str = "adapter_model.safetensors";
/// Bytes of a config, at most.
const LARGEST: u64 = 4 << 20;

/// The config's text. Errors (class data): none in the folder, and what the folder is then.
pub(super) fn config(folder: &Path) -> Result<String> {
    let path = folder.join(CONFIG);
    let problem = |e: std::io::Error| error!(Data, "cannot read `{}`: {e}", path.display());
    let file = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(without_config(folder).into());
        }
        file => file.map_err(problem)?,
    };
    let mut text = vec![];
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(problem)?;
    if lfs::is_pointer(&text) {
        return Err(lfs::pointer_error(&path).into());
    }
    if text.len() as u64 > LARGEST {
        bail!(
            Data,
            "`{}` is larger than {} MiB, which no adapter's config is",
            path.display(),
            LARGEST >> 20
        );
    }
    String::from_utf8(text)
        .map_err(|_| error!(Data, "`{}` is no UTF-8 text", path.display()).into())
}

/// What a folder without a config is.
fn without_config(folder: &Path) -> Error {
    let shown = folder.display();
    if !folder.exists() {
        return error!(Data, "there is no adapter `{shown}`: there is no such folder");
    }
    let error = error!(Data, "`{shown}` is no PEFT adapter: there is no `{CONFIG}` in it");
    let inside = subfolders(folder);
    let has = |name: &str| folder.join(name).is_file();
    if !inside.is_empty() {
        let names: Vec<String> = inside.iter().map(|name| format!("`{name}`")).collect();
        return error.hint(format!(
            "there are adapters in folders below it: {}; name one of them",
            names.join(", ")
        ));
    }
    if has("config.json") {
        return error
            .hint("the folder holds a whole model: give it as the model, without an adapter");
    }
    if has(WEIGHTS) {
        return error.hint("it stands beside the weights: copy it from where they come from");
    }
    error
}

/// Names of folders in `folder` that hold an adapter, in order.
fn subfolders(folder: &Path) -> Vec<String> {
    const MOST: usize = 8;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|e| e.path().join(CONFIG).is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.truncate(MOST);
    names
}

/// The file of the tensors, open. Errors (class data): none, or one of another format.
pub(super) fn weights(folder: &Path) -> Result<Safetensors> {
    let path = folder.join(WEIGHTS);
    if !path.is_file() {
        instead(folder, &path)?;
    }
    let mut begin = vec![];
    if let Ok(file) = File::open(&path) {
        file.take(1025)
            .read_to_end(&mut begin)
            .map_err(|e| error!(Data, "cannot read `{}`: {e}", path.display()))?;
    }
    if lfs::is_pointer(&begin) {
        return Err(lfs::pointer_error(&path).into());
    }
    Safetensors::open(&[path])
}

/// Errors (class data) where something else stands in the place of the tensors.
fn instead(folder: &Path, wanted: &Path) -> Result<()> {
    let has = |name: &str| folder.join(name).is_file();
    if has("adapter_model.bin") {
        bail!(
            Data,
            "`{}` holds a pickled `adapter_model.bin`, which is not read; save it as safetensors",
            folder.display();
            hint: "load it with peft and save it again: `PeftModel.from_pretrained(base, \
                   adapter).save_pretrained(\"new\")`"
        );
    }
    let parts = |e: &PathBuf| {
        e.file_name().is_some_and(|n| n.to_string_lossy().starts_with("adapter_model-"))
    };
    if std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| parts(&entry.path())) {
        bail!(
            Data,
            "`{}` holds the adapter in parts, which PEFT does not load either",
            folder.display();
            hint: "write them into one `{}`",
            wanted.file_name().unwrap_or_default().display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{class_of, hint_of};

    /// What reading says of a folder with such files, all of them LFS pointers.
    fn said(names: &[&str], read: fn(&Path) -> Result<()>) -> Result<String> {
        let home = tempfile::tempdir()?;
        for name in names {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap())?;
            std::fs::write(
                path,
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            )?;
        }
        let error = read(home.path()).unwrap_err();
        assert_eq!(class_of(&error), crate::error::Class::Data);
        Ok(format!("{error:#} {}", hint_of(&error).unwrap_or_default()))
    }

    #[test]
    fn what_stands_in_the_place_of_an_adapter_is_named() -> Result<()> {
        let text: fn(&Path) -> Result<()> = |path| config(path).map(drop);
        let tensors: fn(&Path) -> Result<()> = |path| weights(path).map(drop);
        for (names, read, want) in [
            (vec!["config.json"], text, "holds a whole model"),
            (
                vec!["two/adapter_config.json", "one/adapter_config.json"],
                text,
                "below it: `one`, `two`; name one",
            ),
            (vec![WEIGHTS], text, "stands beside the weights"),
            (vec![CONFIG], text, "is a Git LFS pointer"),
            (vec![CONFIG, WEIGHTS], tensors, "is a Git LFS pointer"),
            (vec!["adapter_model.bin"], tensors, "pickled `adapter_model.bin`"),
            (vec!["adapter_model-00001-of-00002.safetensors"], tensors, "in parts"),
            (vec![], tensors, "cannot read"),
        ] {
            let message = said(&names, read)?;
            assert!(message.contains(want), "{message} does not say {want}");
        }
        Ok(())
    }
}
