//! The header of a GGUF file (version 2 or 3, little endian): metadata and tensor table, read with
//! every count, size and offset held against the file's length before anything is allocated.
//!
//! Format: docs/gguf.md of ggml-org/ggml.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use candle_core::quantized::GgmlDType;

use super::gguf::Value;
use super::gguf_blocks::Blocks;
use super::tensors::Encoding;
use crate::bail_data;

/// ggml's own bound on dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// Fewest bytes of a metadata entry: key length, type, one byte of value.
const MIN_ENTRY: usize = 8 + 4 + 1;
/// Fewest bytes of a tensor's row in the table: name length, dimensions, type, offset.
const MIN_TENSOR: usize = 8 + 4 + 4 + 8;
/// Alignment of tensor data where the file states none.
const ALIGNMENT: u64 = 32;

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, Described>,
}

/// A tensor of the table, checked: its shape in row-major order, its type, its place in the file.
#[derive(Debug)]
pub(super) struct Described {
    pub shape: Vec<usize>,
    pub kind: u32,
    pub range: Range<usize>,
}

/// ggml's types by number: name, numbers in a block, bytes of a block, and how to read it where
/// that is known.
pub(super) fn kind(number: u32) -> Option<(&'static str, usize, usize, Option<Encoding>)> {
    let blocks = |name, kind: GgmlDType| {
        (name, kind.block_size(), kind.type_size(), Some(Encoding::Blocks(kind)))
    };
    let own = |name, kind: Blocks| (name, kind.numbers(), kind.size(), Some(Encoding::Own(kind)));
    Some(match number {
        0 => ("F32", 1, 4, Some(Encoding::F32)),
        1 => ("F16", 1, 2, Some(Encoding::F16)),
        2 => blocks("Q4_0", GgmlDType::Q4_0),
        3 => blocks("Q4_1", GgmlDType::Q4_1),
        6 => blocks("Q5_0", GgmlDType::Q5_0),
        7 => blocks("Q5_1", GgmlDType::Q5_1),
        8 => blocks("Q8_0", GgmlDType::Q8_0),
        9 => ("Q8_1", 32, 36, None),
        10 => blocks("Q2_K", GgmlDType::Q2K),
        11 => blocks("Q3_K", GgmlDType::Q3K),
        12 => blocks("Q4_K", GgmlDType::Q4K),
        13 => blocks("Q5_K", GgmlDType::Q5K),
        14 => blocks("Q6_K", GgmlDType::Q6K),
        15 => blocks("Q8_K", GgmlDType::Q8K),
        16 => ("IQ2_XXS", 256, 66, None),
        17 => ("IQ2_XS", 256, 74, None),
        18 => ("IQ3_XXS", 256, 98, None),
        19 => ("IQ1_S", 256, 50, None),
        20 => own("IQ4_NL", Blocks::Iq4Nl),
        21 => ("IQ3_S", 256, 110, None),
        22 => ("IQ2_S", 256, 82, None),
        23 => own("IQ4_XS", Blocks::Iq4Xs),
        24 => ("I8", 1, 1, None),
        25 => ("I16", 1, 2, None),
        26 => ("I32", 1, 4, None),
        27 => ("I64", 1, 8, None),
        28 => ("F64", 1, 8, None),
        29 => ("IQ1_M", 256, 56, None),
        30 => ("BF16", 1, 2, Some(Encoding::BF16)),
        31 => ("Q4_0_4_4", 32, 18, None),
        32 => ("Q4_0_4_8", 32, 18, None),
        33 => ("Q4_0_8_8", 32, 18, None),
        34 => ("TQ1_0", 256, 54, None),
        35 => ("TQ2_0", 256, 66, None),
        36 => ("IQ4_NL_4_4", 32, 18, None),
        37 => ("IQ4_NL_4_8", 32, 18, None),
        38 => ("IQ4_NL_8_8", 32, 18, None),
        39 => own("MXFP4", Blocks::Mxfp4),
        40 => ("NVFP4", 64, 36, None),
        41 => ("Q1_0", 128, 18, None),
        _ => return None,
    })
}

/// Reads the header of a whole file given as bytes.
///
/// Errors (class data), without the file's name: anything the format forbids or the file is too
/// short for.
pub(super) fn read(bytes: &[u8]) -> Result<Header> {
    let mut cursor = Cursor { bytes, at: 0 };
    if cursor.take(4, "the first four bytes")? != b"GGUF" {
        bail_data!("it does not begin with `GGUF`");
    }
    match cursor.u32("version")? {
        2 | 3 => {}
        1 => {
            bail_data!("GGUF version 1 is not read; convert the model again (versions 2 and 3 are)")
        }
        version if version.swap_bytes() <= 3 => {
            bail_data!("it is a big-endian GGUF file; only little-endian ones are read")
        }
        version => bail_data!("GGUF version {version} is not known; versions 2 and 3 are read"),
    }
    let tensors = cursor.count(MIN_TENSOR, "tensors", 8)?;
    let entries = cursor.count(MIN_ENTRY, "metadata entries", 0)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..entries {
        let key = cursor.name("a metadata key")?;
        let value = cursor.value(&key)?;
        if metadata.insert(key.clone(), value).is_some() {
            bail_data!("metadata key `{key}` is there twice");
        }
    }
    let mut table = Vec::new();
    for _ in 0..tensors {
        table.push(cursor.tensor()?);
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(value) => match value.as_u64() {
            Some(alignment) if alignment > 0 && alignment % 8 == 0 => alignment,
            _ => bail_data!("`general.alignment` is {value}, and must be a multiple of 8"),
        },
    };
    Ok(Header { metadata, tensors: place(table, cursor.at, bytes.len(), alignment)? })
}

/// A row of the tensor table: name, shape, type, bytes, offset from the start of the data.
type Row = (String, Vec<usize>, u32, u64, u64);

/// Turns offsets into ranges of the file, and refuses those outside it, unaligned, or over one
/// another.
fn place(
    mut table: Vec<Row>,
    header: usize,
    length: usize,
    alignment: u64,
) -> Result<BTreeMap<String, Described>> {
    let Some(start) = (header as u64).checked_next_multiple_of(alignment) else {
        bail_data!("`general.alignment` is {alignment}, more than the file's {length} bytes");
    };
    table.sort_by_key(|(_, _, _, _, offset)| *offset);
    let mut tensors: BTreeMap<String, Described> = BTreeMap::new();
    let mut last: Option<(String, u64)> = None;
    for (name, shape, kind, size, offset) in table {
        if offset % alignment != 0 {
            bail_data!(
                "tensor `{name}` lies at offset {offset}, which is not a multiple of the alignment \
                 {alignment}"
            );
        }
        if let Some((other, end)) = &last
            && offset < *end
        {
            bail_data!("tensors `{other}` and `{name}` overlap");
        }
        let range = start.checked_add(offset).and_then(|from| Some(from..from.checked_add(size)?));
        let Some(range) = range.filter(|range| range.end <= length as u64) else {
            bail_data!(
                "tensor `{name}` ({size} bytes at offset {offset} of the data) lies outside the \
                 file's {length} bytes"
            );
        };
        last = Some((name.clone(), offset + size));
        let described = Described { shape, kind, range: range.start as usize..range.end as usize };
        if tensors.insert(name.clone(), described).is_some() {
            bail_data!("tensor `{name}` is there twice");
        }
    }
    Ok(tensors)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        if count > self.left() {
            bail_data!(
                "it is cut short: {what} needs {count} bytes at byte {}, {} are left",
                self.at,
                self.left()
            );
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things of at least `size` bytes, `reserve` bytes before them not counted, that
    /// the file can hold.
    fn count(&mut self, size: usize, what: &str, reserve: usize) -> Result<usize> {
        let count = self.u64(what)?;
        if count > (self.left().saturating_sub(reserve) / size) as u64 {
            bail_data!(
                "it claims {count} {what}, more than its remaining {} bytes can hold",
                self.left()
            );
        }
        Ok(count as usize)
    }

    fn text(&mut self, what: &str) -> Result<&'a [u8]> {
        let count = self.count(1, &format!("bytes in {what}"), 0)?;
        self.take(count, what)
    }

    fn name(&mut self, what: &str) -> Result<String> {
        let bytes = self.text(what)?;
        match std::str::from_utf8(bytes) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => bail_data!(
                "{what} is not UTF-8: `{}`",
                String::from_utf8_lossy(&bytes[..bytes.len().min(64)])
            ),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32(key)?;
        if kind != 9 {
            return self.scalar(kind, key);
        }
        let kind = self.u32(key)?;
        let Some(size) = scalar_size(kind) else {
            bail_data!("metadata `{key}` is an array of type {kind}, which is not read");
        };
        let count = self.count(size, &format!("elements in `{key}`"), 0)?;
        // Texts are repaired where they are not UTF-8, as llama.cpp takes any bytes there.
        if kind == 8 {
            let texts: Result<_> = (0..count)
                .map(|_| Ok(String::from_utf8_lossy(self.text(key)?).into_owned()))
                .collect();
            return Ok(Value::Strings(texts?));
        }
        Ok(match kind {
            6 | 12 => {
                let mut floats = Vec::with_capacity(count);
                for _ in 0..count {
                    floats.extend(self.scalar(kind, key)?.as_f64());
                }
                Value::Floats(floats)
            }
            _ => {
                let mut integers = Vec::with_capacity(count);
                for _ in 0..count {
                    let element = self.scalar(kind, key)?;
                    match element.as_i64().or(element.as_bool().map(i64::from)) {
                        Some(integer) => integers.push(integer),
                        None => bail_data!("metadata `{key}` holds {element}, more than 63 bits"),
                    }
                }
                Value::Integers(integers)
            }
        })
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => match u8::from_le_bytes(self.array(key)?) {
                flag @ (0 | 1) => Value::Bool(flag == 1),
                other => bail_data!("metadata `{key}` is a boolean of value {other}"),
            },
            8 => Value::String(String::from_utf8_lossy(self.text(key)?).into_owned()),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => bail_data!("metadata `{key}` has the unknown type {other}"),
        })
    }

    fn tensor(&mut self) -> Result<Row> {
        let name = self.name("a tensor's name")?;
        let dimensions = self.u32(&name)?;
        if dimensions > MAX_DIMENSIONS {
            bail_data!(
                "tensor `{name}` has {dimensions} dimensions; at most {MAX_DIMENSIONS} are possible"
            );
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(&name)?);
        }
        let number = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let Some((word, numbers, bytes, _)) = kind(number) else {
            bail_data!("tensor `{name}` has the unknown type {number}");
        };
        // The first dimension of the file is the innermost one, and blocks lie along it; a tensor
        // without any is one number.
        let row = shape.first().copied().unwrap_or(1);
        if !row.is_multiple_of(numbers as u64) {
            bail_data!(
                "tensor `{name}` of type {word} has rows of {row} numbers, not a multiple of \
                 {numbers}"
            );
        }
        let count =
            shape.iter().try_fold(1u64, |product, dimension| product.checked_mul(*dimension));
        let Some(size) = count.and_then(|count| (count / numbers as u64).checked_mul(bytes as u64))
        else {
            bail_data!("tensor `{name}` claims the impossible shape {shape:?}");
        };
        let shape = shape.iter().rev().map(|dimension| *dimension as usize).collect();
        Ok((name, shape, number, size, offset))
    }
}

/// Fewest bytes of an array element of this type; `None` for arrays in arrays and unknown types.
fn scalar_size(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        _ => return None,
    })
}
