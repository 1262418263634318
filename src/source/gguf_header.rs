//! The header of a GGUF file (version 2 or 3, little endian): metadata and tensor table, read with
//! every count, size and offset held against the file's length before anything is allocated.
//!
//! Format: docs/gguf.md of ggml-org/ggml.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use candle_core::quantized::GgmlDType;

use super::gguf_blocks::Blocks;
use super::gguf_value::GgufValue;
use super::tensors::TensorEncoding;
use crate::error::bail;

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
pub(super) struct GgufHeader {
    pub metadata: BTreeMap<String, GgufValue>,
    pub tensors: BTreeMap<String, GgufTensorInfo>,
}

/// A tensor of the table, checked: its shape in row-major order, its type, its place in the file.
#[derive(Debug)]
pub(super) struct GgufTensorInfo {
    pub shape: Vec<usize>,
    pub kind: GgmlType,
    pub range: Range<usize>,
}

/// How the numbers of a type lie in a file.
#[derive(Clone, Copy, Debug)]
enum NumberLayout {
    As(TensorEncoding),
    /// Not read: numbers in a block, bytes of a block.
    Unread(usize, usize),
}

/// ggml's types: number, name, layout.
const KINDS: [(u32, &str, NumberLayout); 40] = [
    (0, "F32", NumberLayout::As(TensorEncoding::F32)),
    (1, "F16", NumberLayout::As(TensorEncoding::F16)),
    (2, "Q4_0", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q4_0))),
    (3, "Q4_1", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q4_1))),
    (6, "Q5_0", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q5_0))),
    (7, "Q5_1", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q5_1))),
    (8, "Q8_0", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q8_0))),
    (9, "Q8_1", NumberLayout::Unread(32, 36)),
    (10, "Q2_K", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q2K))),
    (11, "Q3_K", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q3K))),
    (12, "Q4_K", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q4K))),
    (13, "Q5_K", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q5K))),
    (14, "Q6_K", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q6K))),
    (15, "Q8_K", NumberLayout::As(TensorEncoding::Blocks(GgmlDType::Q8K))),
    (16, "IQ2_XXS", NumberLayout::Unread(256, 66)),
    (17, "IQ2_XS", NumberLayout::Unread(256, 74)),
    (18, "IQ3_XXS", NumberLayout::Unread(256, 98)),
    (19, "IQ1_S", NumberLayout::Unread(256, 50)),
    (20, "IQ4_NL", NumberLayout::As(TensorEncoding::Own(Blocks::Iq4Nl))),
    (21, "IQ3_S", NumberLayout::Unread(256, 110)),
    (22, "IQ2_S", NumberLayout::Unread(256, 82)),
    (23, "IQ4_XS", NumberLayout::As(TensorEncoding::Own(Blocks::Iq4Xs))),
    (24, "I8", NumberLayout::Unread(1, 1)),
    (25, "I16", NumberLayout::Unread(1, 2)),
    (26, "I32", NumberLayout::Unread(1, 4)),
    (27, "I64", NumberLayout::Unread(1, 8)),
    (28, "F64", NumberLayout::Unread(1, 8)),
    (29, "IQ1_M", NumberLayout::Unread(256, 56)),
    (30, "BF16", NumberLayout::As(TensorEncoding::BF16)),
    (31, "Q4_0_4_4", NumberLayout::Unread(32, 18)),
    (32, "Q4_0_4_8", NumberLayout::Unread(32, 18)),
    (33, "Q4_0_8_8", NumberLayout::Unread(32, 18)),
    (34, "TQ1_0", NumberLayout::Unread(256, 54)),
    (35, "TQ2_0", NumberLayout::Unread(256, 66)),
    (36, "IQ4_NL_4_4", NumberLayout::Unread(32, 18)),
    (37, "IQ4_NL_4_8", NumberLayout::Unread(32, 18)),
    (38, "IQ4_NL_8_8", NumberLayout::Unread(32, 18)),
    (39, "MXFP4", NumberLayout::As(TensorEncoding::Own(Blocks::Mxfp4))),
    (40, "NVFP4", NumberLayout::Unread(64, 36)),
    (41, "Q1_0", NumberLayout::Unread(128, 18)),
];

/// A type of ggml.
#[derive(Clone, Copy, Debug)]
pub(super) struct GgmlType {
    pub name: &'static str,
    numbers: NumberLayout,
}

impl GgmlType {
    /// The type of that number.
    fn of(number: u32) -> Option<Self> {
        let (_, name, numbers) = *KINDS.iter().find(|(known, ..)| *known == number)?;
        Some(Self { name, numbers })
    }

    /// How it is read, where that is known.
    pub fn encoding(self) -> Option<TensorEncoding> {
        match self.numbers {
            NumberLayout::As(encoding) => Some(encoding),
            NumberLayout::Unread(..) => None,
        }
    }

    /// Numbers in a block, and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self.numbers {
            NumberLayout::As(encoding) => encoding.block(),
            NumberLayout::Unread(numbers, bytes) => (numbers, bytes),
        }
    }
}

/// Reads the header of a whole file given as bytes.
///
/// Errors (class data), without the file's name: anything the format forbids or the file is too
/// short for.
pub(super) fn read(bytes: &[u8]) -> Result<GgufHeader> {
    let mut cursor = HeaderCursor { bytes, at: 0 };
    if cursor.take(4, "the first four bytes")? != b"GGUF" {
        bail!(Data, "it does not begin with `GGUF`");
    }
    check_version(cursor.u32("version")?)?;
    let tensors = cursor.count(MIN_TENSOR, "tensors", 8)?;
    let entries = cursor.count(MIN_ENTRY, "metadata entries", 0)?;
    let metadata = cursor.metadata(entries)?;
    let mut table = Vec::new();
    for _ in 0..tensors {
        table.push(cursor.tensor()?);
    }
    let alignment = alignment(&metadata)?;
    Ok(GgufHeader { metadata, tensors: place(table, cursor.at, bytes.len(), alignment)? })
}

fn check_version(version: u32) -> Result<()> {
    match version {
        2 | 3 => Ok(()),
        1 => {
            bail!(
                Data,
                "GGUF version 1 is not read; convert the model again (versions 2 and 3 are)"
            )
        }
        version if version.swap_bytes() <= 3 => {
            bail!(Data, "it is a big-endian GGUF file; only little-endian ones are read")
        }
        version => bail!(Data, "GGUF version {version} is not known; versions 2 and 3 are read"),
    }
}

/// The alignment of tensor data.
fn alignment(metadata: &BTreeMap<String, GgufValue>) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(ALIGNMENT) };
    match value.as_u64() {
        Some(alignment) if alignment > 0 && alignment % 8 == 0 => Ok(alignment),
        _ => bail!(Data, "`general.alignment` is {value}, and must be a multiple of 8"),
    }
}

/// A row of the tensor table.
struct TensorRow {
    name: String,
    shape: Vec<usize>,
    kind: GgmlType,
    /// Bytes.
    size: u64,
    /// From the start of the data.
    offset: u64,
}

impl TensorRow {
    /// Errors (class data): an offset that is not aligned, or before the end of the row that is
    /// `last` so far.
    fn check_offset(&self, alignment: u64, last: Option<&(String, u64)>) -> Result<()> {
        let Self { name, offset, .. } = self;
        if offset % alignment != 0 {
            bail!(
                Data,
                "tensor `{name}` lies at offset {offset}, which is not a multiple of the alignment \
                 {alignment}"
            );
        }
        match last {
            Some((other, end)) if offset < end => {
                bail!(Data, "tensors `{other}` and `{name}` overlap")
            }
            _ => Ok(()),
        }
    }

    /// Its place in a file of `length` bytes whose data begin at `start`.
    fn range(&self, start: u64, length: usize) -> Result<Range<usize>> {
        let Self { name, size, offset, .. } = self;
        let from = start.checked_add(*offset);
        let range = from.and_then(|from| Some(from..from.checked_add(*size)?));
        match range.filter(|range| range.end <= length as u64) {
            Some(range) => Ok(range.start as usize..range.end as usize),
            None => bail!(
                Data,
                "tensor `{name}` ({size} bytes at offset {offset} of the data) lies outside the \
                 file's {length} bytes"
            ),
        }
    }
}

/// Turns offsets into ranges of the file, and refuses those outside it, unaligned, or over one
/// another.
fn place(
    mut table: Vec<TensorRow>,
    header: usize,
    length: usize,
    alignment: u64,
) -> Result<BTreeMap<String, GgufTensorInfo>> {
    let Some(start) = (header as u64).checked_next_multiple_of(alignment) else {
        bail!(Data, "`general.alignment` is {alignment}, more than the file's {length} bytes");
    };
    table.sort_by_key(|row| row.offset);
    let mut tensors: BTreeMap<String, GgufTensorInfo> = BTreeMap::new();
    let mut last: Option<(String, u64)> = None;
    for row in table {
        row.check_offset(alignment, last.as_ref())?;
        let range = row.range(start, length)?;
        let TensorRow { name, shape, kind, size, offset } = row;
        last = Some((name.clone(), offset + size));
        if tensors.insert(name.clone(), GgufTensorInfo { shape, kind, range }).is_some() {
            bail!(Data, "tensor `{name}` is there twice");
        }
    }
    Ok(tensors)
}

struct HeaderCursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> HeaderCursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        if count > self.left() {
            bail!(
                Data,
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
            bail!(
                Data,
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
            Err(_) => bail!(
                Data,
                "{what} is not UTF-8: `{}`",
                String::from_utf8_lossy(&bytes[..bytes.len().min(64)])
            ),
        }
    }

    /// Text that is repaired where it is not UTF-8, as llama.cpp takes any bytes there.
    fn repaired(&mut self, what: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(self.text(what)?).into_owned())
    }

    fn metadata(&mut self, entries: usize) -> Result<BTreeMap<String, GgufValue>> {
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = self.name("a metadata key")?;
            let value = match self.u32(&key)? {
                9 => self.elements(&key)?,
                kind => self.scalar(kind, &key)?,
            };
            if metadata.insert(key.clone(), value).is_some() {
                bail!(Data, "metadata key `{key}` is there twice");
            }
        }
        Ok(metadata)
    }

    /// An array behind its type.
    fn elements(&mut self, key: &str) -> Result<GgufValue> {
        let kind = self.u32(key)?;
        let Some(size) = scalar_size(kind) else {
            bail!(Data, "metadata `{key}` is an array of type {kind}, which is not read");
        };
        let count = self.count(size, &format!("elements in `{key}`"), 0)?;
        Ok(match kind {
            6 | 12 => {
                let mut floats = Vec::with_capacity(count);
                for _ in 0..count {
                    floats.extend(self.scalar(kind, key)?.as_f64());
                }
                GgufValue::Floats(floats)
            }
            8 => GgufValue::Strings((0..count).map(|_| self.repaired(key)).collect::<Result<_>>()?),
            _ => {
                let mut integers = Vec::with_capacity(count);
                for _ in 0..count {
                    integers.push(self.integer(kind, key)?);
                }
                GgufValue::Integers(integers)
            }
        })
    }

    /// An integer, or a boolean as one.
    fn integer(&mut self, kind: u32, key: &str) -> Result<i64> {
        let element = self.scalar(kind, key)?;
        match element.as_i64().or(element.as_bool().map(i64::from)) {
            Some(integer) => Ok(integer),
            None => bail!(Data, "metadata `{key}` holds {element}, more than 63 bits"),
        }
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<GgufValue> {
        Ok(match kind {
            0 => GgufValue::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => GgufValue::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => GgufValue::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => GgufValue::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => GgufValue::Unsigned(self.u32(key)?.into()),
            5 => GgufValue::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => GgufValue::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => match u8::from_le_bytes(self.array(key)?) {
                flag @ (0 | 1) => GgufValue::Bool(flag == 1),
                other => bail!(Data, "metadata `{key}` is a boolean of value {other}"),
            },
            8 => GgufValue::String(self.repaired(key)?),
            10 => GgufValue::Unsigned(self.u64(key)?),
            11 => GgufValue::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => GgufValue::Float(f64::from_le_bytes(self.array(key)?)),
            other => bail!(Data, "metadata `{key}` has the unknown type {other}"),
        })
    }

    fn tensor(&mut self) -> Result<TensorRow> {
        let name = self.name("a tensor's name")?;
        let dimensions = self.u32(&name)?;
        if dimensions > MAX_DIMENSIONS {
            bail!(
                Data,
                "tensor `{name}` has {dimensions} dimensions; at most {MAX_DIMENSIONS} are possible"
            );
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(&name)?);
        }
        let number = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let Some(kind) = GgmlType::of(number) else {
            bail!(Data, "tensor `{name}` has the unknown type {number}");
        };
        let size = size(&name, kind, &shape)?;
        let shape = shape.iter().rev().map(|dimension| *dimension as usize).collect();
        Ok(TensorRow { name, shape, kind, size, offset })
    }
}

/// Bytes of a tensor; its `shape` begins with the innermost dimension, as in the file.
fn size(name: &str, kind: GgmlType, shape: &[u64]) -> Result<u64> {
    let (numbers, bytes) = kind.block();
    // Blocks lie along the innermost dimension; a tensor without any is one number.
    let row = shape.first().copied().unwrap_or(1);
    if !row.is_multiple_of(numbers as u64) {
        bail!(
            Data,
            "tensor `{name}` of type {} has rows of {row} numbers, not a multiple of {numbers}",
            kind.name
        );
    }
    let count = shape.iter().try_fold(1u64, |product, dimension| product.checked_mul(*dimension));
    match count.and_then(|count| (count / numbers as u64).checked_mul(bytes as u64)) {
        Some(size) => Ok(size),
        None => bail!(Data, "tensor `{name}` claims the impossible shape {shape:?}"),
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
