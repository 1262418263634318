//! Tokenizer files: those that disagree, newer kinds, `tokenizer.model`.

use serde_json::Value;
use xgbrun::error::{Class, class_of};
use xgbrun::source::Tokenizer;

use crate::harness::made;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// What differs from transformers' answer on a folder; `None` where all is the same.
fn difference(tokenizer: &Tokenizer, said: &Value, texts: &[Value]) -> Option<String> {
    for (i, text) in texts.iter().enumerate() {
        let plain = tokenizer.encode(text.as_str().unwrap()).unwrap();
        let want = ids(&said["ids"][i]);
        if plain != want {
            return Some(format!("{text}: {plain:?}, right is {want:?}"));
        }
        // A text's beginning counts; the end is the data's.
        let whole = ids(&said["whole"][i]);
        let begun = [tokenizer.begin(), &plain].concat();
        if !whole.starts_with(&begun) || whole.len() > begun.len() + 1 {
            return Some(format!("{text}: begun as {begun:?}, right is {whole:?}"));
        }
        for (skip, key) in [(false, "decoded"), (true, "skipped")] {
            let decoded = tokenizer.decode(&plain, skip).unwrap();
            if said[key][i] != decoded.as_str() {
                return Some(format!("{text}, {key}: {decoded:?}, right is {}", said[key][i]));
            }
        }
    }
    let role = |key: &str| said[key].as_u64().map(|id| id as u32);
    if (tokenizer.bos(), tokenizer.eos()) != (role("bos"), role("eos")) {
        return Some(format!("{:?} {:?}, right is {} {}", tokenizer.bos(), tokenizer.eos(), said["bos"], said["eos"]));
    }
    let roles: serde_json::Map<String, Value> = tokenizer.roles().into_iter().map(|(role, token)| (role, token.into())).collect();
    if Value::Object(roles.clone()) != said["roles"] {
        return Some(format!("{roles:?}, right is {}", said["roles"]));
    }
    if tokenizer.vocab_size() < said["size"].as_u64().unwrap() as usize {
        return Some(format!("{} tokens, right is {}", tokenizer.vocab_size(), said["size"]));
    }
    None
}

#[test]
fn folders_whose_files_disagree_are_read_as_transformers_reads_them() {
    let Some((home, expected)) = made("tokenizer_folders.py") else { return };
    let texts = expected["texts"].as_array().unwrap();
    let (mut wrong, mut read) = (vec![], 0);
    for (name, said) in expected["folders"].as_object().unwrap() {
        let folder = home.path().join(name);
        let found = Tokenizer::from_file(&folder.join(said["file"].as_str().unwrap()));
        match found {
            Err(error) => {
                assert_eq!(class_of(&error), Class::Data);
                if said["error"].is_null() && said["may_refuse"] == false {
                    wrong.push(format!("{name}: {error:#}"));
                }
            }
            Ok(_) if !said["error"].is_null() => {}
            Ok(tokenizer) => {
                read += 1;
                wrong.extend(difference(&tokenizer, said, texts).map(|what| format!("{name} ({}): {what}", said["class"])));
                // Saved, it is the same.
                let saved = tempfile::tempdir().unwrap();
                tokenizer.save(saved.path()).unwrap();
                std::fs::copy(folder.join("config.json"), saved.path().join("config.json")).unwrap();
                let again = Tokenizer::from_file(&saved.path().join("tokenizer.json")).unwrap();
                wrong.extend(difference(&again, said, texts).map(|what| format!("{name}, saved: {what}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {read}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(read > 400, "{read}");
}
