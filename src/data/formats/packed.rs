//! Compressed files: gzip and Zstandard, told by their first bytes, whatever they are called.

use std::io::Read;
use std::path::Path;

use anyhow::Result;

use crate::error::{Error, error};

/// Bytes that any file may unpack to; fewer in tests, beside which others count memory.
const SMALL: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };
/// How many times its own size a larger one may have; texts have 3 to 30.
const MOST_TIMES: usize = 100;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// None: in no way that is read.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Packing::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "Zstandard",
        }
    }

    /// The content. All members of a file are read, one after the other, as `gzip` and `zstd` do.
    ///
    /// Errors (class data): the file is cut short or damaged, or unpacks to more than [`most`].
    pub fn unpack(self, path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
        let fault = |e: std::io::Error| {
            let what = match e.kind() {
                std::io::ErrorKind::UnexpectedEof => "is cut short".to_owned(),
                _ => format!("is damaged: {e}"),
            };
            error!(
                Data,
                "`{}` is compressed with {} and {what}",
                path.display(),
                self.name();
                hint: "copy or download it again"
            )
        };
        let most = most(bytes.len());
        let mut out = Vec::new();
        let mut read = |reader: &mut dyn Read| reader.take(most as u64 + 1).read_to_end(&mut out);
        match self {
            Packing::Gzip => read(&mut flate2::read::MultiGzDecoder::new(bytes)),
            Packing::Zstd => zstd::stream::read::Decoder::with_buffer(bytes)
                .and_then(|mut reader| read(&mut reader)),
        }
        .map_err(fault)?;
        if out.len() > most {
            return Err(too_much(path, bytes.len())
                .hint("unpack it yourself if that is what it should hold")
                .into());
        }
        Ok(out)
    }
}

/// The most bytes that `packed` ones may unpack to: what is larger is a trap for memory.
pub(super) fn most(packed: usize) -> usize {
    SMALL.max(packed.saturating_mul(MOST_TIMES))
}

/// The error for a file of `packed` bytes that would be larger.
pub(super) fn too_much(path: &Path, packed: usize) -> Error {
    error!(
        Data,
        "`{}` has {packed} bytes and would unpack to more than {} MiB, over {MOST_TIMES} times its \
         size",
        path.display(),
        most(packed) >> 20
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let packing = Packing::of(bytes).unwrap();
        packing.unpack(Path::new("a.gz"), bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn members_follow_one_another() {
        assert_eq!(unpacked(&[gzip(b"a"), gzip(b"b")].concat()).unwrap(), b"ab");
        let frame = |text: &[u8]| zstd::stream::encode_all(text, 1).unwrap();
        assert_eq!(unpacked(&[frame(b"a"), frame(b"b")].concat()).unwrap(), b"ab");
        assert_eq!(Packing::of(b"{}"), None);
    }

    #[test]
    fn what_is_cut_or_damaged_is_named() {
        let text: Vec<u8> =
            (0..100_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut frame = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        frame.include_checksum(true).unwrap();
        frame.write_all(&text).unwrap();
        for packed in [gzip(&text), frame.finish().unwrap()] {
            let cut = unpacked(&packed[..packed.len() / 2]).unwrap_err();
            assert!(cut.ends_with("is cut short"), "{cut}");
            let mut damaged = packed.clone();
            let middle = damaged.len() / 2;
            damaged[middle..middle + 64].fill(0xff);
            let told = unpacked(&damaged).unwrap_err();
            assert!(told.contains("is damaged: "), "{told}");
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = gzip(&vec![0; SMALL + 1]);
        let told = unpacked(&bomb).unwrap_err();
        assert!(
            told.contains("would unpack to more than 1 MiB, over 100 times its size"),
            "{told}"
        );
    }
}
