//! A SentencePiece model, `tokenizer.model`: the parts of its protocol buffer that say how texts
//! are split.
//!
//! Field numbers: `sentencepiece_model.proto` of google/sentencepiece.

use anyhow::Result;

use crate::error::{Error, bail, error};

/// Larger files are no tokenizers.
const LARGEST: usize = 1 << 28;
/// More pieces than any vocabulary has.
const MOST: usize = 1 << 24;

/// How the pieces were found, and are found again in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelType {
    Unigram,
    Bpe,
}

/// What a piece is: one that is split into, or one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: PieceKind,
}

/// A model, with SentencePiece's own values where the file gives none.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pub pieces: Vec<Piece>,
    pub kind: ModelType,
    pub byte_fallback: bool,
    /// Ids of the roles; below 0 where there is none.
    pub unk: i32,
    pub bos: i32,
    pub eos: i32,
    pub unk_piece: String,
    pub bos_piece: String,
    pub eos_piece: String,
    pub charsmap: Vec<u8>,
    pub add_dummy_prefix: bool,
    pub remove_extra_whitespaces: bool,
    pub escape_whitespaces: bool,
}

/// A value of a protocol buffer.
enum Wire<'a> {
    Number(u64),
    Fixed(u32),
    Bytes(&'a [u8]),
}

fn damaged(what: &str) -> Error {
    error!(Data, "it is no SentencePiece model, or damaged: {what}")
}

/// The fields of a message, in the order of the file.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Wire<'_>)>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = field(&mut bytes);
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Wire<'a>)> {
    let key = number(bytes)?;
    let value = match key & 7 {
        0 => Wire::Number(number(bytes)?),
        1 => Wire::Bytes(take(bytes, 8)?),
        2 => {
            let count = number(bytes)?;
            Wire::Bytes(take(bytes, count)?)
        }
        5 => Wire::Fixed(u32::from_le_bytes(take(bytes, 4)?.try_into().unwrap_or_default())),
        _ => bail!(Data, "it is no SentencePiece model, or damaged: a field of an unknown type"),
    };
    Ok((key >> 3, value))
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Result<&'a [u8]> {
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= bytes.len())
        .ok_or_else(|| damaged("a field is cut short"))?;
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    Ok(taken)
}

fn number(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in 0..10 {
        let (first, rest) = bytes.split_first().ok_or_else(|| damaged("a number is cut short"))?;
        *bytes = rest;
        value |= u64::from(first & 0x7F) << (7 * shift).min(63);
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number without end").into())
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).map_err(|_| damaged("a piece is no UTF-8"))?.to_owned())
}

impl SentencePiece {
    /// Errors (class data), without the file's name: another kind of file, a damaged one, or a
    /// model of words or letters.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > LARGEST {
            bail!(
                Data,
                "it has {} bytes; SentencePiece models have at most {LARGEST}",
                bytes.len()
            );
        }
        let mut model = Self::empty();
        for field in fields(bytes) {
            match field? {
                (1, Wire::Bytes(piece)) => model.piece(piece)?,
                (2, Wire::Bytes(trainer)) => model.trainer(trainer)?,
                (3, Wire::Bytes(normalizer)) => model.normalizer(normalizer)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err(damaged("it has no pieces").into());
        }
        if model.kind == ModelType::Unigram
            && usize::try_from(model.unk).is_ok_and(|unk| unk >= model.pieces.len())
        {
            bail!(Data, "its unknown piece is {}, and there are {}", model.unk, model.pieces.len());
        }
        if !model.charsmap.is_empty() {
            super::charsmap::check(&model.charsmap)?;
        }
        Ok(model)
    }

    /// A model without pieces, with SentencePiece's own values.
    fn empty() -> Self {
        Self {
            pieces: vec![],
            kind: ModelType::Unigram,
            byte_fallback: false,
            unk: 0,
            bos: 1,
            eos: 2,
            unk_piece: "<unk>".into(),
            bos_piece: "<s>".into(),
            eos_piece: "</s>".into(),
            charsmap: vec![],
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        if self.pieces.len() == MOST {
            bail!(Data, "it has more than {MOST} pieces");
        }
        let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
        for field in fields(bytes) {
            match field? {
                (1, Wire::Bytes(bytes)) => piece.text = text(bytes)?,
                (2, Wire::Fixed(bits)) => piece.score = f32::from_bits(bits),
                (3, Wire::Number(kind)) => {
                    piece.kind = match kind {
                        1 => PieceKind::Normal,
                        2 => PieceKind::Unknown,
                        3 => PieceKind::Control,
                        4 => PieceKind::UserDefined,
                        5 => PieceKind::Unused,
                        6 => PieceKind::Byte,
                        _ => return Err(damaged("a piece of an unknown type").into()),
                    }
                }
                _ => {}
            }
        }
        if !piece.score.is_finite() {
            return Err(damaged("the score of a piece is no number").into());
        }
        self.pieces.push(piece);
        Ok(())
    }

    fn trainer(&mut self, bytes: &[u8]) -> Result<()> {
        for field in fields(bytes) {
            match field? {
                (3, Wire::Number(1)) => self.kind = ModelType::Unigram,
                (3, Wire::Number(2)) => self.kind = ModelType::Bpe,
                (3, Wire::Number(kind)) => {
                    let name = if kind == 3 { "words (`word`)" } else { "letters (`char`)" };
                    bail!(
                        Data,
                        "it is a SentencePiece model of {name}; `bpe` and `unigram` are read"
                    );
                }
                (24, Wire::Number(1)) => {
                    bail!(
                        Data,
                        "it is a SentencePiece model with `treat_whitespace_as_suffix`, which no \
                         fast tokenizer follows"
                    )
                }
                (35, Wire::Number(flag)) => self.byte_fallback = flag != 0,
                (40, Wire::Number(id)) => self.unk = id as i32,
                (41, Wire::Number(id)) => self.bos = id as i32,
                (42, Wire::Number(id)) => self.eos = id as i32,
                (45, Wire::Bytes(piece)) => self.unk_piece = text(piece)?,
                (46, Wire::Bytes(piece)) => self.bos_piece = text(piece)?,
                (47, Wire::Bytes(piece)) => self.eos_piece = text(piece)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, bytes: &[u8]) -> Result<()> {
        for field in fields(bytes) {
            match field? {
                (2, Wire::Bytes(map)) => self.charsmap = map.to_vec(),
                (3, Wire::Number(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Wire::Number(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Wire::Number(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = vec![];
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    pub fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    pub fn flag(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub fn piece(text: &str, score: f32, kind: u64) -> Vec<u8> {
        let score = [varint(2 << 3 | 5), score.to_le_bytes().to_vec()].concat();
        bytes(1, &[bytes(1, text.as_bytes()), score, flag(3, kind)].concat())
    }

    #[test]
    fn a_model_is_read_with_what_it_leaves_out() {
        let file = [
            piece("<unk>", 0.0, 2),
            piece("▁a", -1.5, 1),
            bytes(2, &[flag(3, 2), flag(35, 1), flag(41, u64::MAX), bytes(46, b"<bos>")].concat()),
            bytes(3, &flag(4, 0)),
            bytes(9, b"later"),
        ]
        .concat();
        let model = SentencePiece::read(&file).unwrap();
        assert_eq!(
            (model.pieces.len(), model.pieces[1].score, model.kind, model.byte_fallback),
            (2, -1.5, ModelType::Bpe, true)
        );
        assert_eq!(
            (model.unk, model.bos, model.eos, model.bos_piece.as_str()),
            (0, -1, 2, "<bos>")
        );
        assert_eq!((model.add_dummy_prefix, model.remove_extra_whitespaces), (true, false));
        for cut in 1..file.len() {
            let _ = SentencePiece::read(&file[..cut]);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let refused = |file: &[u8]| SentencePiece::read(file).unwrap_err().to_string();
        assert!(refused(b"").contains("it has no pieces"));
        assert!(refused(b"IQ== 0\nIg== 1\n").contains("no SentencePiece model"));
        assert!(refused(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).contains("cut short"));
        assert!(
            refused(&[piece("a", 0.0, 1), bytes(2, &flag(3, 4))].concat()).contains("of letters")
        );
        assert!(
            refused(&[piece("a", 0.0, 1), bytes(2, &flag(40, 7))].concat())
                .contains("its unknown piece is 7")
        );
        assert!(refused(&piece("a", f32::NAN, 1)).contains("no number"));
        assert!(refused(&piece("a", 0.0, 9)).contains("unknown type"));
    }
}
