//! Tensors out of safetensors and GGUF files: their numbers, and what hostile or damaged files
//! give.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, TensorView, serialize};
use xgbrun::error::{Class, class_of};
use xgbrun::source::{Gguf, Safetensors, TensorSource};

use crate::common::gguf::{Meta, gguf};
use crate::common::{self, FOLDER, GGUF};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn safetensors(&self, bytes: &[u8]) -> anyhow::Result<Safetensors> {
        Safetensors::open(&[self.write("m.safetensors", bytes)])
    }

    fn gguf(&self, bytes: &[u8]) -> anyhow::Result<Gguf> {
        Gguf::open(&self.write("m.gguf", bytes))
    }
}

/// The message of an error that must be of class data.
fn data_error<T>(result: anyhow::Result<T>) -> String {
    let Err(error) = result else { panic!("accepted") };
    assert_eq!(class_of(&error), Class::Data, "{error:#}");
    format!("{error:#}")
}

fn floats(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn le(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn small_safetensors() -> Vec<u8> {
    let (a, b) = (le(&floats(6)), vec![0u8; 8]);
    let view =
        |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    serialize(
        [("a.weight", view(Dtype::F32, &[2, 3], &a)), ("ids", view(Dtype::I64, &[1], &b))],
        None,
    )
    .unwrap()
}

fn small_gguf() -> Vec<u8> {
    let metadata = [
        ("general.architecture", Meta::Text("llama")),
        ("llama.block_count", Meta::U32(1)),
        ("tokenizer.ggml.tokens", Meta::Texts(vec!["a", "b"])),
        ("tokenizer.ggml.scores", Meta::F32s(vec![0.5, -1.0])),
        ("flag", Meta::Bool(true)),
        ("eps", Meta::F32(0.25)),
    ];
    gguf(
        &metadata,
        &[("a.weight", vec![3, 2], 0, le(&floats(6))), ("b.weight", vec![4], 0, le(&floats(4)))],
    )
}

#[test]
fn safetensors_are_read() {
    let files = Files::new();
    let source = files.safetensors(&small_safetensors()).unwrap();
    assert_eq!(source.names(), ["a.weight", "ids"]);
    assert_eq!(
        (source.shape("a.weight"), source.dtype_name("a.weight")),
        (Some([2, 3].as_slice()), Some("F32".to_owned()))
    );
    assert_eq!((source.shape("x"), source.dtype_name("x")), (None, None));
    let tensor = source.load("a.weight", DType::F32, &Device::Cpu).unwrap();
    assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), floats(6));

    let error = data_error(source.load("ids", DType::F32, &Device::Cpu));
    let words = "m.safetensors`: tensor `ids` is stored as I64; weights are read from F64, F32, \
                 F16, BF16, F8_E4M3 and F8_E5M2";
    assert!(error.ends_with(words), "{error}");
    assert_eq!(
        data_error(source.load("a.weihgt", DType::F32, &Device::Cpu)),
        "there is no tensor `a.weihgt`; did you mean `a.weight`?"
    );
}

#[test]
fn shards_are_one_source_and_copies_are_told() {
    let files = Files::new();
    let one = |name: &str, value: f32| {
        let bytes = le(&[value]);
        serialize([(name, TensorView::new(Dtype::F32, vec![1], &bytes).unwrap())], None).unwrap()
    };
    let (a, b) = (
        files.write("1.safetensors", &one("a", 1.0)),
        files.write("2.safetensors", &one("b", 1.0)),
    );
    let shards = Safetensors::open(&[a.clone(), b]).unwrap();
    assert_eq!((shards.names(), shards.copies().len()), (vec!["a", "b"], 0));
    // As in transformers, the last file counts; copies with other numbers are told.
    for (value, copies) in [(1.0, vec![]), (2.0, vec!["a".to_owned()])] {
        let again = files.write("3.safetensors", &one("a", value));
        let source = Safetensors::open(&[a.clone(), again.clone()]).unwrap();
        assert_eq!(
            (source.names(), source.file_of("a"), source.copies()),
            (vec!["a"], Some(again.as_path()), copies.as_slice())
        );
    }
}

#[test]
fn hostile_safetensors_are_refused() {
    let files = Files::new();
    let good = small_safetensors();
    for length in 0..good.len() {
        let error = data_error(files.safetensors(&good[..length]));
        assert!(error.contains("m.safetensors"), "{error}");
    }
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for at in 0..8 + header {
        for flip in [1, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            // Some flips leave a valid file (a letter of a name); all must end without a panic, and
            // as data errors.
            match files.safetensors(&bad) {
                Err(error) => assert_eq!(class_of(&error), Class::Data),
                Ok(source) => source
                    .names()
                    .into_iter()
                    .for_each(|name| drop(source.load(name, DType::F32, &Device::Cpu))),
            }
        }
    }
    let with = |json: &str, data: usize| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let entry = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let cases = [
        ([u64::MAX.to_le_bytes().as_slice(), b"{}"].concat(), "cut short"),
        ([(1u64 << 40).to_le_bytes().as_slice(), b"{}"].concat(), "cut short"),
        (with("", 0), "damaged"),
        (with("[]", 0), "damaged"),
        (with(r#"{"a":1}"#, 4), "damaged"),
        (with(&entry("F32", "[1]", 0, 4), 0), "cut short"),
        (with(&entry("F32", "[1]", 0, 4), 8), "cut short"),
        (with(&entry("F32", "[2]", 0, 4), 4), "damaged"),
        (with(&entry("F32", "[1]", 4, 0), 4), "damaged"),
        (with(&entry("F32", "[1152921504606846976]", 0, 4), 4), "damaged"),
        (with(&entry("F32", "[4294967296,4294967296,4294967296]", 0, 4), 4), "damaged"),
        (with(&entry("F99", "[1]", 0, 4), 4), "damaged"),
        (with(&entry("F32", "[-1]", 0, 4), 4), "damaged"),
        (
            with(
                concat!(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#,
                    r#""b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
                ),
                6,
            ),
            "damaged",
        ),
        (b"\x02\0\0\0\0\0\0\0\xff\xff".to_vec(), "UTF-8"),
        (Vec::new(), "is empty"),
    ];
    for (bytes, part) in cases {
        let error = data_error(files.safetensors(&bytes));
        assert!(error.contains(part), "{error} for {}", String::from_utf8_lossy(&bytes));
    }
    let empty = files
        .safetensors(&with(&entry("F32", "[0,1099511627776,1099511627776]", 0, 0), 0))
        .unwrap();
    assert!(data_error(empty.load("a", DType::F32, &Device::Cpu)).contains("it is empty"));
    assert!(data_error(Safetensors::open(&[files.0.path().join("none")])).contains("cannot read"));
    assert!(data_error(Safetensors::open(&[files.0.path().into()])).contains("is not a file"));
}

#[test]
fn gguf_is_read() {
    use xgbrun::source::GgufValue;
    let files = Files::new();
    let file = files.gguf(&small_gguf()).unwrap();
    assert_eq!(file.required("llama.block_count", GgufValue::as_u64).unwrap(), 1);
    assert_eq!(file.required("general.architecture", GgufValue::as_str).unwrap(), "llama");
    assert_eq!(file.required("tokenizer.ggml.tokens", GgufValue::as_strings).unwrap(), ["a", "b"]);
    assert_eq!(file.required("tokenizer.ggml.scores", GgufValue::as_floats).unwrap(), [0.5, -1.0]);
    assert_eq!(file.optional("flag", GgufValue::as_bool).unwrap(), Some(true));
    assert_eq!(file.optional("eps", GgufValue::as_f64).unwrap(), Some(0.25));
    assert_eq!(file.optional("none", GgufValue::as_bool).unwrap(), None);
    assert!(
        data_error(file.optional("flag", GgufValue::as_u64))
            .ends_with("metadata `flag` has a value of the wrong type: true")
    );
    assert!(
        data_error(file.required("llama.blok_count", GgufValue::as_u64))
            .ends_with("has no metadata `llama.blok_count`")
    );

    assert_eq!(file.names(), ["a.weight", "b.weight"]);
    assert_eq!(
        (file.shape("a.weight"), file.dtype_name("a.weight")),
        (Some([2, 3].as_slice()), Some("F32".to_owned()))
    );
    let tensor = file.load("b.weight", DType::F32, &Device::Cpu).unwrap();
    assert_eq!(tensor.to_vec1::<f32>().unwrap(), floats(4));
    assert!(
        data_error(file.load("c.weight", DType::F32, &Device::Cpu))
            .contains("there is no tensor `c.weight`")
    );
}

#[test]
fn every_quantised_type_is_that_of_candle() {
    use GgmlDType::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8K};
    let types = [
        (2, Q4_0),
        (3, Q4_1),
        (6, Q5_0),
        (7, Q5_1),
        (8, Q8_0),
        (10, Q2K),
        (11, Q3K),
        (12, Q4K),
        (13, Q5K),
        (14, Q6K),
        (15, Q8K),
    ];
    let files = Files::new();
    // More rows than one chunk of the reader holds.
    let numbers = Tensor::from_vec(floats(200 * 512), (200, 512), &Device::Cpu).unwrap();
    for (kind, dtype) in types {
        let quantised = QTensor::quantize(&numbers, dtype).unwrap();
        let expected = quantised.dequantize(&Device::Cpu).unwrap();
        let bytes = quantised.data().unwrap().into_owned();
        let file = files.gguf(&gguf(&[], &[("w", vec![512, 200], kind, bytes)])).unwrap();
        for wanted in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            let loaded = file.load("w", wanted, &Device::Cpu).unwrap();
            let expected = expected.to_dtype(wanted).unwrap();
            let difference = (loaded - expected)
                .unwrap()
                .to_dtype(DType::F32)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            assert_eq!(difference.to_scalar::<f32>().unwrap(), 0.0, "{dtype:?} as {wanted:?}");
        }
        assert!(file.dtype_name("w").unwrap().starts_with('Q'));
    }
    let file = files.gguf(&gguf(&[], &[("w", vec![256], 16, vec![0; 66])])).unwrap();
    assert!(
        data_error(file.load("w", DType::F32, &Device::Cpu))
            .contains("is stored as IQ2_XXS, which is not read")
    );
    assert!(data_error(file.readable()).contains("is stored as IQ2_XXS, which is not read"));
}

#[test]
fn hostile_gguf_is_refused() {
    let files = Files::new();
    let good = small_gguf();
    for length in 0..good.len() {
        data_error(files.gguf(&good[..length]));
    }
    let table =
        good.windows(8).rposition(|window| window == b"b.weight").unwrap() + 8 + 4 + 8 + 4 + 8;
    for at in 0..table {
        for flip in [1, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            match files.gguf(&bad) {
                Err(error) => assert_eq!(class_of(&error), Class::Data),
                Ok(file) => file
                    .names()
                    .into_iter()
                    .for_each(|name| drop(file.load(name, DType::F32, &Device::Cpu))),
            }
        }
    }
}

#[test]
fn absurd_gguf_numbers_are_named() {
    let files = Files::new();
    let good = small_gguf();
    let find = |text: &str| {
        good.windows(text.len()).rposition(|window| window == text.as_bytes()).unwrap()
    };
    let (a, b) = (find("a.weight") + 8, find("b.weight") + 8);
    let (arch, tokens) = (find("general.architecture") + 20, find("tokenizer.ggml.tokens") + 21);
    let (big, bigger) = ((1u64 << 60).to_le_bytes(), (1u64 << 50).to_le_bytes());
    let (four, seven) = (4u32.to_le_bytes(), 7u32.to_le_bytes());
    let cases: Vec<(usize, &[u8], &str)> = vec![
        (0, b"GGML", "does not begin with `GGUF`"),
        (4, &[1, 0, 0, 0], "version 1 is not read"),
        (4, &[0, 0, 0, 3], "big-endian"),
        (4, &[4, 0, 0, 0], "version 4 is not known"),
        (8, &big, "claims 1152921504606846976 tensors"),
        (16, &big, "claims 1152921504606846976 metadata entries"),
        (24, &bigger, "claims 1125899906842624 bytes in a metadata key"),
        (arch + 4, &bigger, "claims 1125899906842624 bytes in general.architecture"),
        (arch, &[13, 0, 0, 0], "unknown type 13"),
        (tokens + 8, &big, "claims 1152921504606846976 elements"),
        (tokens + 4, &[9, 0, 0, 0], "is an array of type 9"),
        (find("flag") + 8, &[2], "is a boolean of value 2"),
        (a - 8, b"b.weight", "`b.weight` is there twice"),
        (a - 8, b"\xffweight!", "not UTF-8"),
        (a, &[5, 0, 0, 0], "has 5 dimensions"),
        (a + 4, &[0, 0, 0, 0, 0, 0, 0, 0x80], "impossible shape"),
        (a + 12, &bigger, "lies outside the file"),
        (a + 20, &four, "unknown type 4"),
        (a + 20, &seven, "not a multiple of 32"),
        (b + 16, &[1, 0, 0, 0, 0, 0, 0, 0], "not a multiple of the alignment 32"),
        (b + 16, &[0; 8], "overlap"),
        (b + 16, &[64, 0, 0, 0, 0, 0, 0, 0], "lies outside the file"),
        (b + 16, &[0xe0, 255, 255, 255, 255, 255, 255, 255], "lies outside the file"),
    ];
    for (at, bytes, part) in cases {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        let error = data_error(files.gguf(&bad));
        assert!(error.contains("m.gguf") && error.contains(part), "`{part}` is not in: {error}");
    }
    for alignment in [0, 12, u32::MAX] {
        let error =
            data_error(files.gguf(&gguf(&[("general.alignment", Meta::U32(alignment))], &[])));
        assert!(error.contains("must be a multiple of 8"), "{error}");
    }
    let wide = files
        .gguf(&gguf(&[("general.alignment", Meta::U32(64))], &[("w", vec![4], 0, le(&floats(4)))]));
    assert!(data_error(wide).contains("lies outside the file"), "the writer aligned to 32 only");
}

#[test]
fn smollm2_loads_the_same_from_both() {
    let (Some(gguf), Some(folder)) = (common::model(GGUF), common::model(FOLDER)) else {
        return;
    };
    let start = std::time::Instant::now();
    let gguf = Gguf::open(&gguf).unwrap();
    let tensors: BTreeMap<&str, Tensor> = gguf
        .names()
        .into_iter()
        .map(|name| (name, gguf.load(name, DType::F32, &Device::Cpu).unwrap()))
        .collect();
    println!("{} tensors from GGUF in {:.2?}", tensors.len(), start.elapsed());
    let start = std::time::Instant::now();
    let safe = Safetensors::open(&[folder.join("model.safetensors")]).unwrap();
    let loaded: BTreeMap<&str, Tensor> = safe
        .names()
        .into_iter()
        .map(|name| (name, safe.load(name, DType::F32, &Device::Cpu).unwrap()))
        .collect();
    println!("{} tensors from safetensors in {:.2?}", loaded.len(), start.elapsed());
    for (ours, theirs) in [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight"),
        ("blk.29.attn_v.weight", "model.layers.29.self_attn.v_proj.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ] {
        assert_eq!(tensors[ours].dims(), loaded[theirs].dims());
        let difference = (&tensors[ours] - &loaded[theirs])
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(difference < 1e-6, "{ours}: {difference}");
    }
}
