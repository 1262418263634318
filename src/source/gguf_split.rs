//! The files of a model that was split, as llama.cpp's `gguf-split` writes them:
//! `NAME-00001-of-00003.gguf` and so on, the metadata in the first, `split.no` and `split.count` in
//! each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::gguf_value::GgufValue;
use crate::error::{and_more, bail};

/// As many as llama.cpp can count.
const MOST: u64 = 65_535;

const NAMES: &str = "the parts of a split model lie in one folder and are called \
                     NAME-00001-of-00002.gguf and so on, as llama.cpp's `gguf-split` names them; \
                     its `--merge` makes one file of them";

/// Number and count that a part's metadata state, the first being 0; `None` for a file that is
/// whole.
///
/// Errors (class data), without the file's name.
pub(super) fn stated(metadata: &BTreeMap<String, GgufValue>) -> Result<Option<(u64, u64)>> {
    let number = |key: &str| -> Result<Option<u64>> {
        match metadata.get(key).map(|value| (value, value.as_u64())) {
            None => Ok(None),
            Some((_, Some(n))) => Ok(Some(n)),
            Some((value, None)) => bail!(Data, "`{key}` is {value}, which counts no parts"),
        }
    };
    let Some(count) = number("split.count")?.filter(|count| *count > 1) else { return Ok(None) };
    let no = number("split.no")?.unwrap_or(0);
    if count > MOST || no >= count {
        bail!(
            Data,
            "its metadata make it part {} of {count}, which cannot be",
            no.saturating_add(1)
        );
    }
    Ok(Some((no, count)))
}

/// All parts of the model that `path` is part `no` of, in order; all exist.
///
/// Errors (class data): a part is missing, or the file's name is not that of a part.
pub(super) fn parts(path: &Path, no: u64, count: u64) -> Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, ending) =
        name.split_at(name.len() - name.rsplit_once('.').map_or(0, |(_, ending)| ending.len() + 1));
    let part = |no: u64| format!("-{:05}-of-{count:05}", no + 1);
    let this = format!("`{}` is part {} of {count} of a model", path.display(), no + 1);
    let Some(prefix) = stem.strip_suffix(&part(no)) else {
        bail!(Data, "{this}, and its name is not that of a part"; hint: "{NAMES}");
    };
    let all: Vec<PathBuf> =
        (0..count).map(|no| path.with_file_name(format!("{prefix}{}{ending}", part(no)))).collect();
    let missing: Vec<&PathBuf> = all.iter().filter(|path| !path.is_file()).collect();
    if let Some(first) = missing.first() {
        let more = and_more(missing.len());
        bail!(Data, "{this}, and `{}` is missing{more}", first.display(); hint: "{NAMES}");
    }
    Ok(all)
}

/// Whether a file's name is that of a part behind the first.
pub(super) fn is_later_part(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let Some((before, count)) = stem.rsplit_once("-of-") else { return false };
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    before.rsplit_once('-').is_some_and(|(_, no)| digits(no) && digits(count) && no != "00001")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for name in ["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"] {
            std::fs::write(path(name), "").unwrap();
        }
        let error = parts(&path("m-00003-of-00003.gguf"), 2, 3).unwrap_err().to_string();
        assert!(
            error.contains("is part 3 of 3 of a model")
                && error.ends_with("m-00002-of-00003.gguf` is missing"),
            "{error}"
        );
        std::fs::write(path("m-00002-of-00003.gguf"), "").unwrap();
        let all: Vec<PathBuf> = (1..4).map(|n| path(&format!("m-0000{n}-of-00003.gguf"))).collect();
        assert_eq!(parts(&all[1], 1, 3).unwrap(), all);
        assert!(
            parts(&path("m.gguf"), 0, 2)
                .unwrap_err()
                .to_string()
                .ends_with("is not that of a part")
        );
        assert!(parts(&all[1], 0, 3).is_err() && parts(Path::new("x"), 0, 2).is_err());
        assert!(
            is_later_part(&all[1])
                && !is_later_part(&all[0])
                && !is_later_part(Path::new("a-of-b.gguf"))
        );
    }

    #[test]
    fn what_a_part_may_state() {
        let told = |no: u64, count: u64| {
            stated(&BTreeMap::from([
                ("split.no".into(), GgufValue::Unsigned(no)),
                ("split.count".into(), GgufValue::Unsigned(count)),
            ]))
        };
        assert_eq!(
            (told(0, 0).unwrap(), told(0, 1).unwrap(), told(1, 2).unwrap()),
            (None, None, Some((1, 2)))
        );
        assert!(told(2, 2).is_err() && told(0, 1 << 40).is_err() && told(u64::MAX, 2).is_err());
        assert!(stated(&BTreeMap::from([("split.count".into(), GgufValue::Bool(true))])).is_err());
    }
}
