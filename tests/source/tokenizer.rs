//! Tokenizers against transformers' ids, llama2.c's SentencePiece algorithm, and their own saved
//! form.

use std::path::Path;

use serde_json::Value;
use xgbrun::error::{Class, class_of};
use xgbrun::source::{Gguf, Tokenizer};

use crate::common::gguf::{Meta, gguf};
use crate::common::{self, FOLDER, GGUF};

fn written(bytes: &[u8]) -> (tempfile::TempDir, Gguf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, bytes).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    (folder, gguf)
}

/// Texts and the ids that transformers gives them.
fn reference() -> Option<Vec<(String, Vec<u32>)>> {
    let text = std::fs::read_to_string(common::shared("peer/reference.json")?).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let ids = |value: &Value| {
        value["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let rows = |key: &str, text: &str| -> Vec<(String, Vec<u32>)> {
        json[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row[text].as_str().unwrap().to_owned(), ids(row)))
            .collect()
    };
    Some([rows("tokenizer", "text"), rows("prompts", "prompt")].concat())
}

fn holds(tokenizer: &Tokenizer, reference: &[(String, Vec<u32>)]) {
    assert!(reference.len() > 8);
    for (text, ids) in reference {
        assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(&tokenizer.decode(ids, false).unwrap(), text);
    }
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()), (Some(1), Some(2), false));
    assert!(tokenizer.chat_template().unwrap().contains("<|im_start|>"));
    assert_eq!(tokenizer.decode(&[1, 504, 2], true).unwrap(), "The");
}

#[test]
fn smollm2_from_gguf_and_folder_and_saved() {
    let (Some(file), Some(folder), Some(reference)) =
        (common::model(GGUF), common::model(FOLDER), reference())
    else {
        return;
    };
    let from_gguf = Tokenizer::from_gguf(&Gguf::open(&file).unwrap()).unwrap();
    holds(&from_gguf, &reference);
    let from_folder = Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap();
    holds(&from_folder, &reference);
    for tokenizer in [from_gguf, from_folder] {
        let saved = tempfile::tempdir().unwrap();
        tokenizer.save(saved.path()).unwrap();
        let again = Tokenizer::from_file(&saved.path().join("tokenizer.json")).unwrap();
        holds(&again, &reference);
        // Saving over itself keeps the files.
        again.save(saved.path()).unwrap();
        holds(&Tokenizer::from_file(&saved.path().join("tokenizer.json")).unwrap(), &reference);
    }
}

/// llama2.c's tok512.bin as pieces in SentencePiece's writing, with scores and token types.
fn stories(path: &Path) -> (Vec<String>, Vec<f32>, Vec<i32>) {
    let bytes = std::fs::read(path).unwrap();
    let (mut pieces, mut scores, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 4;
    while at < bytes.len() {
        let word = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap();
        let length = i32::from_le_bytes(word(at + 4)) as usize;
        let text = String::from_utf8(bytes[at + 8..at + 8 + length].to_vec()).unwrap();
        let (piece, kind) = match pieces.len() {
            0 => ("<unk>".to_owned(), 2),
            1 => ("<s>".to_owned(), 3),
            2 => ("</s>".to_owned(), 3),
            id @ 3..259 => (format!("<0x{:02X}>", id - 3), 6),
            _ => (text.replace(' ', "▁"), 1),
        };
        scores.push(f32::from_le_bytes(word(at)));
        pieces.push(piece);
        types.push(kind);
        at += 8 + length;
    }
    assert_eq!(pieces.len(), 512);
    (pieces, scores, types)
}

fn stories_gguf(path: &Path, prefix: bool) -> Vec<u8> {
    let (pieces, scores, types) = stories(path);
    gguf(
        &[
            ("tokenizer.ggml.model", Meta::Text("llama")),
            ("tokenizer.ggml.tokens", Meta::Texts(pieces.iter().map(String::as_str).collect())),
            ("tokenizer.ggml.scores", Meta::F32s(scores)),
            ("tokenizer.ggml.token_type", Meta::I32s(types)),
            ("tokenizer.ggml.bos_token_id", Meta::U32(1)),
            ("tokenizer.ggml.eos_token_id", Meta::U32(2)),
            ("tokenizer.ggml.unknown_token_id", Meta::U32(0)),
            ("tokenizer.ggml.add_space_prefix", Meta::Bool(prefix)),
        ],
        &[],
    )
}

/// The algorithm of llama2.c: merge the adjacent pair whose join has the best score, until none is
/// left.
fn greedy(pieces: &[String], scores: &[f32], text: &str) -> Vec<u32> {
    let find = |piece: &str| {
        pieces.iter().skip(259).position(|known| known == piece).map(|at| at as u32 + 259)
    };
    let mut ids: Vec<u32> = Vec::new();
    for c in text.replace(' ', "▁").chars() {
        match find(&c.to_string()) {
            Some(id) => ids.push(id),
            None => ids.extend(c.to_string().bytes().map(|byte| u32::from(byte) + 3)),
        }
    }
    loop {
        let mut best: Option<(f32, usize, u32)> = None;
        for at in 1..ids.len() {
            let joined = format!("{}{}", pieces[ids[at - 1] as usize], pieces[ids[at] as usize]);
            if let Some(id) = find(&joined)
                && best.is_none_or(|(score, ..)| scores[id as usize] > score)
            {
                best = Some((scores[id as usize], at, id));
            }
        }
        let Some((_, at, id)) = best else { return ids };
        ids.splice(at - 1..=at, [id]);
    }
}

#[test]
fn sentencepiece_is_that_of_llama2c() {
    let Some(data) = common::shared("data") else { return };
    let path = data.join("models/stories260K/tok512.bin");
    let (_folder, file) = written(&stories_gguf(&path, true));
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    assert_eq!(
        (tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()),
        (512, Some(1), Some(2), true)
    );
    assert_eq!(tokenizer.encode("Once upon a time").unwrap(), [403, 407, 261, 378]);

    let (pieces, scores, _) = stories(&path);
    let sample = std::fs::read_to_string(data.join("text/tinystories_sample.txt")).unwrap();
    let texts = sample.lines().filter(|line| !line.is_empty() && !line.contains("<|"));
    for text in texts.chain(["naïve café 東京 🙂", " two  spaces ", "aaaa\n\tb", "x"]) {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, greedy(&pieces, &scores, &format!(" {text}")), "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
    assert_eq!(tokenizer.encode("").unwrap(), [0u32; 0]);
    // Special tokens written in the text are seen, and each text after one begins anew.
    assert_eq!(tokenizer.encode("<s>Once upon a time</s>").unwrap(), [1, 403, 407, 261, 378, 2]);

    // Saved and read again, it is the same, and knows that a text begins with BOS.
    let saved = tempfile::tempdir().unwrap();
    tokenizer.save(saved.path()).unwrap();
    let again = Tokenizer::from_file(&saved.path().join("tokenizer.json")).unwrap();
    assert_eq!(again.encode("Once upon a time").unwrap(), [403, 407, 261, 378]);
    assert_eq!((again.bos(), again.eos(), again.add_bos()), (Some(1), Some(2), true));

    let (_folder, file) = written(&stories_gguf(&path, false));
    let plain = Tokenizer::from_gguf(&file).unwrap();
    for text in ["Once upon", " time", "a"] {
        let ids = plain.encode(text).unwrap();
        assert_eq!(ids, greedy(&pieces, &scores, text), "{text:?}");
        assert_eq!(plain.decode(&ids, true).unwrap(), text);
    }
}

/// A byte-level vocabulary of single letters, a few merges, one control and one user-defined token.
fn small(pre: &str, merges: Vec<&str>) -> Vec<u8> {
    let letters: Vec<String> = ('!'..='~')
        .map(String::from)
        .chain(["Ġ", "Ċ", "12", "123", "Ġa", "<end>", "<tool>"].map(String::from))
        .collect();
    let types = letters
        .iter()
        .map(|token| {
            if token == "<end>" {
                3
            } else if token == "<tool>" {
                4
            } else {
                1
            }
        })
        .collect();
    gguf(
        &[
            ("tokenizer.ggml.model", Meta::Text("gpt2")),
            ("tokenizer.ggml.pre", Meta::Text(pre)),
            ("tokenizer.ggml.tokens", Meta::Texts(letters.iter().map(String::as_str).collect())),
            ("tokenizer.ggml.merges", Meta::Texts(merges)),
            ("tokenizer.ggml.token_type", Meta::I32s(types)),
            ("tokenizer.ggml.eos_token_id", Meta::U32(99)),
        ],
        &[],
    )
}

#[test]
fn pre_tokenizers_split_numbers_each_in_its_way() {
    let pieces = |pre: &str, text: &str| -> Vec<String> {
        let (_folder, file) = written(&small(pre, vec!["1 2", "12 3", "Ġ a"]));
        let tokenizer = Tokenizer::from_gguf(&file).unwrap();
        tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
    };
    for pre in ["gpt-2", "mpt"] {
        assert_eq!(pieces(pre, "1234 a"), ["123", "4", "Ġa"]);
        assert_eq!(pieces(pre, "4123"), ["4", "123"]);
    }
    assert_eq!(pieces("smollm", "123 a"), ["1", "2", "3", "Ġa"]);
    assert_eq!(pieces("qwen2", "123 a"), ["1", "2", "3", "Ġa"]);
    // Groups of three from the left: 412, 3.
    assert_eq!(pieces("llama-bpe", "4123 a"), ["4", "12", "3", "Ġa"]);
    assert_eq!(pieces("llama-bpe", "a<end><tool> a"), ["a", "<end>", "<tool>", "Ġa"]);
}

#[test]
fn a_rule_may_be_named_or_told_by_the_merges() {
    let encode = |pre: &str,
                  named: Option<&str>,
                  merges: Vec<&str>,
                  text: &str|
     -> anyhow::Result<Vec<String>> {
        let (_folder, file) = written(&small(pre, merges));
        let tokenizer = Tokenizer::from_gguf_split(&file, named)?;
        Ok(tokenizer.encode(text)?.into_iter().map(|id| tokenizer.token(id).unwrap()).collect())
    };
    // llama.cpp's own rule, groups of three from the left, is taken only where it is named.
    let merges = || vec!["1 2", "12 3", "Ġ a"];
    assert_eq!(
        encode("default", Some("default"), merges(), "4123 a").unwrap(),
        ["4", "12", "3", "Ġa"]
    );
    assert_eq!(encode("default", None, merges(), "123 a").unwrap(), ["123", "Ġa"]);
    let error = encode("default", None, merges(), "4123").unwrap_err();
    assert_eq!(class_of(&error), Class::Data);
    assert!(
        error.to_string().contains("`llama-bpe` and `gpt-2` give other tokens for \"4123\""),
        "{error}"
    );
    assert_eq!(encode("smollm", Some("gpt-2"), merges(), "4123").unwrap(), ["4", "123"]);
    assert_eq!(class_of(&encode("smollm", Some("gpt"), merges(), "1").unwrap_err()), Class::Usage);
}

#[test]
fn special_tokens_are_skipped_and_user_defined_ones_are_not() {
    let (_folder, file) = written(&small("gpt-2", vec![]));
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    let ids = tokenizer.encode("a<tool><end>").unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a<tool>");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "a<tool><end>");
    assert_eq!(tokenizer.eos(), tokenizer.id("<end>"));
    assert_eq!(tokenizer.with_special_ids(Some(7), Some(8)).bos(), Some(7));
}

fn refused(bytes: &[u8]) -> String {
    let (_folder, file) = written(bytes);
    let Err(error) = Tokenizer::from_gguf(&file) else { panic!("accepted") };
    assert_eq!(class_of(&error), Class::Data);
    format!("{error:#}")
}

#[test]
fn what_a_gguf_tokenizer_may_not_be() {
    assert!(refused(&gguf(&[], &[])).contains("has no metadata `tokenizer.ggml.tokens`"));
    let unknown = refused(&small("smolm", vec![]));
    assert!(
        unknown.contains("its pre-tokenizer `smolm` is not known, only llama-bpe, qwen2, gpt-2"),
        "{unknown}"
    );
    assert!(unknown.ends_with("did you mean `smollm`?"), "{unknown}");
    assert!(
        refused(&small("gpt-2", vec!["a b"]))
            .ends_with("merge 0 (`a b`) does not give a token of the vocabulary")
    );
    assert!(refused(&small("gpt-2", vec!["<end> <tool>"])).contains("merge 0"));
    assert!(refused(&small("gpt-2", vec!["ab"])).contains("merge 0"));
    let tokens = || ("tokenizer.ggml.tokens", Meta::Texts(vec!["a", "b"]));
    let kind = |kind| ("tokenizer.ggml.model", Meta::Text(kind));
    assert!(
        refused(&gguf(&[tokens(), kind("bert")], &[]))
            .contains("its kind `bert` (WordPiece) is not read")
    );
    assert!(
        refused(&gguf(&[tokens(), ("tokenizer.ggml.eos_token_id", Meta::U32(2))], &[]))
            .contains("is 2, and there are 2 tokens")
    );
    assert!(
        refused(&gguf(&[tokens(), ("tokenizer.ggml.token_type", Meta::I32s(vec![1]))], &[]))
            .contains("2 tokens but 1 token types")
    );
    assert!(
        refused(&gguf(
            &[tokens(), kind("llama"), ("tokenizer.ggml.scores", Meta::F32s(vec![]))],
            &[]
        ))
        .contains("2 tokens but 0 scores")
    );
    assert!(
        refused(&gguf(&[("tokenizer.ggml.tokens", Meta::U32(1))], &[]))
            .contains("value of the wrong type: 1")
    );
}

#[test]
fn what_a_tokenizer_json_may_not_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let absent = Tokenizer::from_file(&path).err().unwrap();
    assert!(absent.to_string().contains("cannot read tokenizer"));
    let bpe = |merges: &str| {
        let model = format!(r#"{{"type":"BPE","vocab":{{"a":0,"b":1,"ab":2}},"merges":{merges}}}"#);
        format!(r#"{{"version":"1.0","added_tokens":[],"model":{model}}}"#)
    };
    for text in [
        "",
        "[]",
        "{}",
        "{\"model\": 1}",
        &bpe("[\"a ab\"]"),
        &bpe("[[\"ab\",\"ab\"]]"),
        &bpe("[[\"a\"]]"),
        &bpe("[7]"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Tokenizer::from_file(&path).err().unwrap_or_else(|| panic!("accepted {text}"));
        assert_eq!(class_of(&error), Class::Data, "{text}");
        assert!(format!("{error:#}").contains(&path.display().to_string()), "{error:#}");
    }
    for merges in ["[\"a b\"]", "[[\"a\",\"b\"]]"] {
        std::fs::write(&path, bpe(merges)).unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        assert_eq!((tokenizer.encode("abb").unwrap(), tokenizer.vocab_size()), (vec![2, 1], 3));
    }
}

#[test]
fn settings_beside_a_tokenizer_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "tokenizer.json",
        r#"{"version":"1.0","truncation":{"direction":"Right","max_length":2,
            "strategy":"LongestFirst","stride":0},"padding":null,
            "added_tokens":[],"post_processor":{"type":"TemplateProcessing",
            "single":[{"SpecialToken":{"id":"s","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
            "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
            "special_tokens":{"s":{"id":"s","ids":[0],"tokens":["s"]}}},
            "model":{"type":"BPE","vocab":{"s":0,"e":1,"a":2},"merges":[]}}"#,
    );
    let read = || Tokenizer::from_file(&path).unwrap();
    // Truncation in the file does not cut texts.
    assert_eq!(read().encode("aaaa").unwrap(), [2; 4]);
    assert_eq!(
        (read().bos(), read().add_bos(), read().begin(), read().chat_template()),
        (None, false, &[0][..], None)
    );
    write(
        "tokenizer_config.json",
        r#"{"bos_token":{"content":"s"},"eos_token":"e",
            "chat_template":[{"name":"default","template":"T"}]}"#,
    );
    assert_eq!(
        (read().bos(), read().eos(), read().add_bos(), read().chat_template()),
        (Some(0), Some(1), true, Some("T"))
    );
    assert_eq!(read().with_special_ids(Some(7), Some(8)).bos(), Some(0));
    write("tokenizer_config.json", r#"{"bos_token":"s","add_bos_token":false}"#);
    write("chat_template.jinja", "J");
    // The post-processor decides, as in transformers 5.
    assert_eq!(
        (read().add_bos(), read().chat_template(), read().notes().len()),
        (true, Some("J"), 1)
    );
    assert!(
        read().notes()[0]
            .contains("`add_bos_token`: false, and tokenizer.json puts `s` before a text")
    );
    write("tokenizer_config.json", "{");
    assert_eq!(class_of(&Tokenizer::from_file(&path).err().unwrap()), Class::Data);
}

/// A BERT's tokenizer whose settings have these keys too.
fn bert(more: Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    common::tiny_bert::write(folder.path());
    let path = folder.path().join("tokenizer_config.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    std::fs::write(&path, settings.to_string()).unwrap();
    Tokenizer::from_file(&folder.path().join("tokenizer.json")).unwrap()
}

fn texts(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|id| tokenizer.token(*id).unwrap()).collect()
}

#[test]
fn a_text_that_is_too_long_is_cut_on_the_side_that_the_files_name() {
    for (settings, want) in [
        (serde_json::json!({}), ["[CLS]", "a", "b", "[SEP]"]),
        (serde_json::json!({ "truncation_side": "right" }), ["[CLS]", "a", "b", "[SEP]"]),
        (serde_json::json!({ "truncation_side": "left" }), ["[CLS]", "c", "d", "[SEP]"]),
    ] {
        let tokenizer = bert(settings);
        let whole = tokenizer.encode_whole("a b c d", None, 4).unwrap();
        assert_eq!(texts(&tokenizer, &whole.ids), want);
        assert!(whole.cut);
    }
}

/// An empty second text is one, as in transformers.
#[test]
fn an_empty_text_of_a_pair_is_a_text() {
    let tokenizer = bert(serde_json::json!({}));
    for (pair, want, types) in [
        (None, &["[CLS]", "a", "[SEP]"][..], &[0, 0, 0][..]),
        (Some(""), &["[CLS]", "a", "[SEP]", "[SEP]"], &[0, 0, 0, 1]),
        (Some("b"), &["[CLS]", "a", "[SEP]", "b", "[SEP]"], &[0, 0, 0, 1, 1]),
    ] {
        let whole = tokenizer.encode_whole("a", pair, 16).unwrap();
        assert_eq!(
            (texts(&tokenizer, &whole.ids), &whole.types[..]),
            (want.iter().map(|t| t.to_string()).collect(), types)
        );
    }
}
