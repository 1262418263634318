//! Quantised blocks of ggml that candle does not decode: IQ4_NL, IQ4_XS and MXFP4.
//!
//! Layouts: `gguf/quants.py` of ggml-org/llama.cpp, whose numbers these are to the last bit.

use half::f16;

/// What the 4 bits of the IQ4 types stand for.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// What the 4 bits of MXFP4 stand for, doubled.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A type of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
}

impl Blocks {
    /// Numbers in a block.
    pub const fn numbers(self) -> usize {
        match self {
            Self::Iq4Nl | Self::Mxfp4 => 32,
            Self::Iq4Xs => 256,
        }
    }

    /// Bytes of a block.
    pub const fn size(self) -> usize {
        match self {
            Self::Iq4Nl => 2 + 16,
            Self::Iq4Xs => 2 + 2 + 4 + 128,
            Self::Mxfp4 => 1 + 16,
        }
    }

    /// Decodes whole blocks, number by number into `put`.
    pub fn decode(self, bytes: &[u8], mut put: impl FnMut(usize, f32)) {
        for (block, bytes) in bytes.chunks_exact(self.size()).enumerate() {
            let mut put = |at: usize, number: f32| put(block * self.numbers() + at, number);
            match self {
                Self::Iq4Nl => halves(&bytes[2..], &IQ4, scale(bytes), &mut put),
                Self::Mxfp4 => halves(&bytes[1..], &E2M1, e8m0(bytes[0]), &mut put),
                Self::Iq4Xs => {
                    let (d, high) = (scale(bytes), u16::from_le_bytes([bytes[2], bytes[3]]));
                    for (group, quants) in bytes[8..].chunks_exact(16).enumerate() {
                        let low = (bytes[4 + group / 2] >> (4 * (group % 2))) & 15;
                        let scale = (low | (((high >> (2 * group)) & 3) as u8) << 4) as i8 - 32;
                        halves(quants, &IQ4, d * f32::from(scale), &mut |at, number| {
                            put(32 * group + at, number)
                        });
                    }
                }
            }
        }
    }
}

/// 32 numbers of 16 bytes: the low halves come first.
fn halves(quants: &[u8], values: &[i8; 16], scale: f32, put: &mut impl FnMut(usize, f32)) {
    for (at, byte) in quants.iter().enumerate() {
        put(at, scale * f32::from(values[usize::from(byte & 15)]));
        put(at + 16, scale * f32::from(values[usize::from(byte >> 4)]));
    }
}

/// The f16 that begins a block.
fn scale(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Half of 2^(x − 127).
fn e8m0(x: u8) -> f32 {
    f32::from_bits(if x < 2 { 0x0020_0000 << x } else { u32::from(x - 1) << 23 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(kind: Blocks, bytes: &[u8]) -> Vec<f32> {
        let mut numbers = vec![f32::NAN; bytes.len() / kind.size() * kind.numbers()];
        kind.decode(bytes, |at, number| numbers[at] = number);
        numbers
    }

    #[test]
    fn low_halves_come_first() {
        let mut bytes = f16::from_f32(0.5).to_le_bytes().to_vec();
        bytes.extend((0..16).map(|i| i | (15 - i) << 4));
        let numbers = decoded(Blocks::Iq4Nl, &bytes);
        assert_eq!((numbers[0], numbers[15], numbers[16], numbers[31]), (-63.5, 56.5, 56.5, -63.5));
    }

    #[test]
    fn groups_of_a_block_have_scales_of_six_bits() {
        let mut bytes = f16::ONE.to_le_bytes().to_vec();
        bytes.extend(0b01u16.to_le_bytes());
        bytes.extend([0x21, 0, 0, 0]);
        bytes.extend([0x88; 128]);
        let numbers = decoded(Blocks::Iq4Xs, &bytes);
        assert_eq!((numbers[0], numbers[32], numbers[64]), (17.0 - 32.0, 2.0 - 32.0, -32.0));
    }

    #[test]
    fn exponents_reach_below_the_normal_numbers() {
        let mut bytes = vec![128];
        bytes.extend([0x97; 16]);
        let numbers = decoded(Blocks::Mxfp4, &bytes);
        assert_eq!((numbers[0], numbers[16]), (12.0, -1.0));
        assert_eq!(
            [e8m0(0), e8m0(1), e8m0(2), e8m0(127)],
            [f32::powi(2.0, -128), f32::powi(2.0, -127), f32::powi(2.0, -126), 0.5]
        );
    }
}
