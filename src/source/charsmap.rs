//! SentencePiece's `precompiled_charsmap`: a double array of rewrite rules, checked before the
//! library walks it, and base64 to write it into JSON.
//!
//! The layout, as in google/sentencepiece: bytes of the array (u32), the array (u32 each), texts
//! that end with NUL.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::error::{Error, error};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3)
            .fold(0u32, |word, i| (word << 8) | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

/// The bytes that the text stands for; `None` if it is no base64.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 3);
    for chunk in body.chunks(4) {
        let mut word = 0u32;
        for letter in chunk {
            word = (word << 6) | LETTERS.iter().position(|known| known == letter)? as u32;
        }
        word <<= 6 * (4 - chunk.len());
        out.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(out)
}

/// Errors (class data) where a walk through the array could leave it, or the texts that it names.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let (array, texts) = parts(bytes).ok_or_else(damaged)?;
    let offset = |unit: u32| ((unit >> 10) as usize) << ((unit & (1 << 9)) >> 6);
    let root = *array.first().ok_or_else(damaged)?;
    let (mut seen, mut todo) = (BTreeSet::new(), vec![offset(root)]);
    while let Some(node) = todo.pop() {
        if !seen.insert(node) {
            continue;
        }
        for letter in 1..=255usize {
            let at = node ^ letter;
            let unit = *array.get(at).ok_or_else(damaged)?;
            if (unit & ((1 << 31) | 0xFF)) as usize != letter {
                continue;
            }
            let child = at ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = (array.get(child).ok_or_else(damaged)? & !(1 << 31)) as usize;
                if !texts.is_char_boundary(value) {
                    return Err(damaged().into());
                }
            }
            todo.push(child);
        }
    }
    Ok(())
}

/// The array and the texts of a map.
fn parts(bytes: &[u8]) -> Option<(Vec<u32>, &str)> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let (array, texts) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
    let (array, []) = array.as_chunks::<4>() else { return None };
    let array = array.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    Some((array, std::str::from_utf8(texts).ok()?))
}

fn damaged() -> Error {
    error!(Data, "its `precompiled_charsmap` is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_there_and_back() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"M", "TQ=="),
            (b"Ma", "TWE="),
            (b"Man", "TWFu"),
            (b"\xff\xfe\x00\x01", "//4AAQ=="),
        ] {
            assert_eq!(to_base64(bytes), text);
            assert_eq!(from_base64(text).unwrap(), bytes);
        }
        for bad in ["T", "TQ=", "T===", "T!==", "TQ==="] {
            assert_eq!(from_base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn walks_that_leave_the_array_are_refused() {
        // One block, and no rule in it.
        let map = |root: u32| -> Vec<u8> {
            let array: Vec<u32> =
                std::iter::once(root).chain(std::iter::repeat_n(0, 255)).collect();
            [1024u32].iter().chain(&array).flat_map(|unit| unit.to_le_bytes()).collect()
        };
        check(&map(0)).unwrap();
        for bad in [
            vec![],
            vec![0; 3],
            vec![0; 4],
            vec![8, 0, 0, 0, 0],
            map(1 << 20),
            map(0)[..600].to_vec(),
        ] {
            assert!(check(&bad).is_err());
        }
    }
}
