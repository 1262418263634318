//! Named tensors in mapped files: one trait for both formats, and the conversion from stored bytes.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

use anyhow::Result;
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;

use super::gguf_blocks::Blocks;
use crate::error::{bail, error};

/// A file, or several, that hold tensors by name.
pub trait TensorSource: Send + Sync {
    /// All tensor names, sorted.
    fn names(&self) -> Vec<&str>;

    /// The shape in row-major order, outermost dimension first; `None` for an unknown name.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// How the numbers are stored, in the format's own word: `F32`, `BF16`, `Q4_1`.
    fn dtype_name(&self, name: &str) -> Option<String>;

    /// Reads one tensor as F32, F64, BF16 or F16 (rounded to nearest even). The mapped pages it
    /// came from are given back, so reading a whole model holds its weights once.
    ///
    /// Errors: an unknown name, a storage type that cannot be read, or numbers that F16 does not
    /// reach to.
    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor>;
}

/// How numbers lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TensorEncoding {
    F64,
    F32,
    F16,
    BF16,
    /// torch's `float8_e4m3fn`: no infinities.
    E4M3,
    /// torch's `float8_e5m2`.
    E5M2,
    /// Blocks of ggml's quantised types.
    Blocks(GgmlDType),
    /// The same, of types that are decoded here.
    Own(Blocks),
}

impl TensorEncoding {
    /// Numbers in a block, and bytes of a block.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::F64 => (1, 8),
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::E4M3 | Self::E5M2 => (1, 1),
            Self::Blocks(kind) => (kind.block_size(), kind.type_size()),
            Self::Own(kind) => (kind.numbers(), kind.size()),
        }
    }
}

/// The bytes of a file of tensors.
pub(crate) enum FileBytes {
    Mapped(Mmap),
    /// Embedded in the program.
    Embedded(&'static [u8]),
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Embedded(bytes) => bytes,
        }
    }
}

/// Maps a file into memory for reading.
///
/// Errors (class data): the file cannot be opened, is a folder, or is empty.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let problem = |e: std::io::Error| error!(Data, "cannot read `{}`: {e}", path.display());
    let file = File::open(path).map_err(problem)?;
    let metadata = file.metadata().map_err(problem)?;
    if !metadata.is_file() {
        bail!(Data, "`{}` is not a file", path.display());
    }
    if metadata.len() == 0 {
        bail!(Data, "`{}` is empty", path.display());
    }
    // SAFETY: the map is only read. Should another process rewrite the file meanwhile, the numbers
    // change, and should it cut the file short, the process ends with SIGBUS; both hold for every
    // reader of mapped weights.
    Ok(unsafe { Mmap::map(&file) }.map_err(problem)?)
}

/// Numbers decoded by one thread at a time: a multiple of every block size, and small enough for
/// its cache.
const CHUNK: usize = 1 << 15;

/// Numbers after which mapped pages are given back.
const STRETCH: usize = 1 << 22;

/// Converts a tensor's bytes, `range` of `map`, to a tensor of `shape` and `dtype` on `device`.
///
/// The caller has checked that `range` lies in the map and holds exactly the blocks that `shape`
/// wants.
pub(super) fn read(
    map: &FileBytes,
    range: Range<usize>,
    encoding: TensorEncoding,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    if shape.contains(&0) {
        bail!(Data, "it is empty: its shape is {shape:?}");
    }
    Ok(match dtype {
        DType::F32 => Tensor::from_vec(convert(map, range, encoding, |x| x)?, shape, device)?,
        DType::F64 if encoding == TensorEncoding::F64 => {
            Tensor::from_vec(doubles(&map[range]), shape, device)?
        }
        DType::F64 => Tensor::from_vec(convert(map, range, encoding, f64::from)?, shape, device)?,
        DType::BF16 => {
            Tensor::from_vec(convert(map, range, encoding, bf16::from_f32)?, shape, device)?
        }
        DType::F16 => {
            let numbers = in_range(convert(map, range, encoding, f16::from_f32)?)?;
            Tensor::from_vec(numbers, shape, device)?
        }
        other => {
            bail!(Usage, "weights are read as f32, f64, bf16 or f16, not as {}", other.as_str())
        }
    })
}

/// Numbers of 64 bits as they are.
fn doubles(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
}

/// The number of an 8-bit float with 4 bits of exponent and 3 of mantissa, of which all ones are no
/// number.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if byte & 128 == 0 { size } else { -size }
}

/// The numbers, if all are finite.
fn in_range(numbers: Vec<f16>) -> Result<Vec<f16>> {
    if numbers.par_chunks(CHUNK).any(|part| part.iter().any(|x| x.is_infinite())) {
        bail!(
            Data,
            "it holds numbers beyond ±65504, which f16 does not have";
            hint: "keep the weights in f32 or bf16: `--dtype bf16`"
        );
    }
    Ok(numbers)
}

fn convert<T: Copy + Default + Send + Sync>(
    map: &FileBytes,
    range: Range<usize>,
    encoding: TensorEncoding,
    from: impl Fn(f32) -> T + Sync,
) -> Result<Vec<T>> {
    let (numbers, size) = encoding.block();
    let mut values = vec![T::default(); range.len() / size * numbers];
    let mut start = range.start;
    for stretch in values.chunks_mut(STRETCH) {
        let bytes = start..start + stretch.len() / numbers * size;
        let source = map[bytes.clone()].par_chunks(CHUNK / numbers * size);
        stretch
            .par_chunks_mut(CHUNK)
            .zip(source)
            .try_for_each(|(out, bytes)| decode(bytes, encoding, out, &from))?;
        start = bytes.end;
        forget(map, bytes);
    }
    Ok(values)
}

/// Decodes whole blocks into as many numbers.
fn decode<T: Copy>(
    bytes: &[u8],
    encoding: TensorEncoding,
    out: &mut [T],
    from: impl Fn(f32) -> T,
) -> Result<()> {
    match encoding {
        TensorEncoding::F64 => each(bytes, out, |b| from(f64::from_le_bytes(b) as f32)),
        TensorEncoding::F32 => each(bytes, out, |b| from(f32::from_le_bytes(b))),
        TensorEncoding::F16 => each(bytes, out, |b| from(f16::from_le_bytes(b).to_f32())),
        TensorEncoding::BF16 => each(bytes, out, |b| from(bf16::from_le_bytes(b).to_f32())),
        TensorEncoding::E4M3 => each(bytes, out, |[b]| from(e4m3(b))),
        // The upper half of an f16.
        TensorEncoding::E5M2 => each(bytes, out, |[b]| from(f16::from_le_bytes([0, b]).to_f32())),
        TensorEncoding::Blocks(kind) => {
            let decoded = kind.from_data(bytes.into()).dequantize(out.len())?;
            for (o, x) in out.iter_mut().zip(decoded.as_slice::<f32>()?) {
                *o = from(*x);
            }
        }
        TensorEncoding::Own(kind) => kind.decode(bytes, |at, number| out[at] = from(number)),
    }
    Ok(())
}

/// Decodes numbers of `N` bytes.
fn each<T, const N: usize>(bytes: &[u8], out: &mut [T], decode: impl Fn([u8; N]) -> T) {
    for (o, b) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *o = decode(*b);
    }
}

/// Tells the kernel that mapped pages were read for the last time, for now.
fn forget(map: &FileBytes, range: Range<usize>) {
    #[cfg(unix)]
    if let FileBytes::Mapped(map) = map {
        // SAFETY: the map is a shared, read-only one of a file, so pages given up are read again
        // from the file when somebody (a neighbouring tensor on the same page, say) touches them:
        // no byte ever changes.
        let advice = unsafe {
            map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
        };
        // Only advice: when the kernel declines, the pages stay until memory is short.
        let _ = advice;
    }
    #[cfg(not(unix))]
    let _ = (map, range);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn mapped(bytes: &[u8]) -> FileBytes {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        FileBytes::Mapped(map(file.path()).unwrap())
    }

    #[test]
    fn all_encodings_give_the_same_numbers() {
        let numbers: Vec<f32> = (0..256).map(|i| (i as f32 - 128.0) / 8.0).collect();
        let cases: [(TensorEncoding, Vec<u8>); 4] = [
            (
                TensorEncoding::F64,
                numbers.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect(),
            ),
            (TensorEncoding::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
            (
                TensorEncoding::F16,
                numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            ),
            (
                TensorEncoding::BF16,
                numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            ),
        ];
        for (encoding, bytes) in cases {
            let map = mapped(&bytes);
            for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
                let tensor =
                    read(&map, 0..bytes.len(), encoding, &[16, 16], dtype, &Device::Cpu).unwrap();
                assert_eq!((tensor.dims(), tensor.dtype()), ([16, 16].as_slice(), dtype));
                let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                assert_eq!(tensor.to_vec1::<f32>().unwrap(), numbers, "{encoding:?} as {dtype:?}");
            }
        }
    }

    #[test]
    fn floats_of_8_bits_are_those_of_torch() {
        // 1, -1, 2^-9, 448, the largest; 1, -2, 2^-16, 57344, the largest.
        let cases = [
            (TensorEncoding::E4M3, [0x38, 0xb8, 0x01, 0x7e], [1.0, -1.0, 1.0 / 512.0, 448.0]),
            (TensorEncoding::E5M2, [0x3c, 0xc0, 0x01, 0x7b], [1.0, -2.0, 1.0 / 65536.0, 57344.0]),
        ];
        for (encoding, bytes, want) in cases {
            let tensor =
                read(&mapped(&bytes), 0..4, encoding, &[4], DType::F32, &Device::Cpu).unwrap();
            assert_eq!(tensor.to_vec1::<f32>().unwrap(), want);
        }
        assert!(e4m3(0xff).is_nan());
    }

    #[test]
    fn long_tensors_cross_chunks_and_stretches() {
        let numbers: Vec<f32> = (0..STRETCH + CHUNK + 7).map(|i| i as f32).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = read(
            &mapped(&bytes),
            0..bytes.len(),
            TensorEncoding::F32,
            &[numbers.len()],
            DType::F32,
            &Device::Cpu,
        )
        .unwrap();
        assert_eq!(tensor.to_vec1::<f32>().unwrap(), numbers);
    }

    #[test]
    fn other_dtypes_and_empty_tensors_are_refused() {
        let map = mapped(&[0; 8]);
        assert!(
            read(&map, 0..8, TensorEncoding::F32, &[2], DType::U8, &Device::Cpu)
                .unwrap_err()
                .to_string()
                .contains("f32, f64, bf16 or f16")
        );
        let large = 65520f32.to_le_bytes();
        let error =
            read(&mapped(&large), 0..4, TensorEncoding::F32, &[1], DType::F16, &Device::Cpu)
                .unwrap_err()
                .to_string();
        assert!(error.contains("beyond ±65504"), "{error}");
        assert!(
            read(&map, 0..0, TensorEncoding::F32, &[0, 7], DType::F32, &Device::Cpu)
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
    }
}
