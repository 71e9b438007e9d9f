//! Tensors of any name and shape, made up on the spot: for measuring a shape whose weights are not
//! at hand. Knows no architecture; what it makes depends on the tensor's name and shape alone.

use std::sync::Arc;

use half::bf16;

use super::Tensor;
use crate::error::Result;
use crate::mlx::{Bytes, Dtype, MappedFile, Mode, Packing};

/// Standard deviation of the weights: what models are initialized with (GPT-2's 0.02), so that
/// logits stay finite through any number of normed layers.
const DEVIATION: f32 = 0.02;

/// Alignment of what is made, in bytes: a cache line.
const ALIGNMENT: usize = 64;

/// Makes dense tensors in bfloat16 and packed ones as its packing says.
#[derive(Debug)]
pub(super) struct Random {
    packing: Option<Packing>,
}

/// Words of 64 bits, of which some bits are random and some are set.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    random: u64,
    set: u64,
}

impl Random {
    pub(super) fn new(packing: Option<Packing>) -> Self {
        Self { packing }
    }

    /// The tensor, the same at every call; its type is one of `types`.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], types: &[Dtype]) -> Result<Tensor> {
        let (dtype, size) = match types {
            [Dtype::Uint32] => (Dtype::Uint32, 4),
            [Dtype::Uint8] => (Dtype::Uint8, 1),
            _ => (Dtype::Bfloat16, 2),
        };
        let length = shape.iter().product::<usize>() * size;
        // Not at the very beginning: MLX's CPU backend reads the eight bytes in front of the data.
        let range = ALIGNMENT..ALIGNMENT + length;
        let pattern = self.pattern(name, shape, dtype);
        let made = MappedFile::made(ALIGNMENT + length, |bytes| {
            fill(&mut bytes[range.clone()], pattern, hash(name));
        })?;
        Ok(Tensor {
            bytes: Bytes::Mapped(Arc::new(made)),
            range,
            dtype,
        })
    }

    fn pattern(&self, name: &str, shape: &[usize], dtype: Dtype) -> Pattern {
        let mode = self.packing.map(|packing| packing.mode);
        match dtype {
            // Without the exponents' highest bit: all bits set would be no number.
            Dtype::Uint32 if mode == Some(Mode::Mxfp8) => {
                return Pattern {
                    random: 0xbfbf_bfbf_bfbf_bfbf,
                    set: 0,
                };
            }
            Dtype::Uint32 => {
                return Pattern {
                    random: u64::MAX,
                    set: 0,
                };
            }
            Dtype::Uint8 => {
                return Pattern::bytes(match mode {
                    // E2M1 of random bits deviates by 2.9: times 2⁻⁷.
                    Some(Mode::Mxfp4) => 127 - 7,
                    // E4M3 of such bits by 0.6: times 2⁻⁵.
                    Some(Mode::Mxfp8) => 127 - 5,
                    // 2⁻⁷ in E4M3, which is below its normal numbers: 4 · 2⁻⁹.
                    _ => 4,
                });
            }
            _ => {}
        }
        match name.rsplit('.').next() {
            Some("scales") => Pattern::floats(self.affine().0),
            Some("biases") => Pattern::floats(self.affine().1),
            Some("bias") => Pattern::floats(0.0),
            // The only vectors beside biases are the weights of norms.
            _ if shape.len() == 1 => Pattern::floats(1.0),
            // Sign and fraction are random, the exponent is that of 2⁻⁶: they deviate by 0.024.
            _ => Pattern {
                random: 0x807f_807f_807f_807f,
                set: 0x3c80_3c80_3c80_3c80,
            },
        }
    }

    /// Scale and bias by which evenly distributed integers get mean 0 and the deviation.
    fn affine(&self) -> (f32, f32) {
        let bits = self.packing.map_or(0, |packing| packing.bits);
        let levels = f32::from(1_u16 << bits);
        // An even distribution over n integers deviates by n / √12.
        let scale = DEVIATION * 12_f32.sqrt() / levels;
        (scale, -scale * (levels - 1.0) / 2.0)
    }
}

impl Pattern {
    fn bytes(byte: u8) -> Self {
        Self {
            random: 0,
            set: u64::from_ne_bytes([byte; 8]),
        }
    }

    fn floats(value: f32) -> Self {
        let bits = u64::from(bf16::from_f32(value).to_bits());
        Self {
            random: 0,
            set: bits * 0x0001_0001_0001_0001,
        }
    }
}

/// Fills with `SplitMix64` (Steele et al. 2014) from `seed`: fast, and the same on every machine.
fn fill(bytes: &mut [u8], pattern: Pattern, seed: u64) {
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) & pattern.random) | pattern.set).to_le_bytes()
    };
    let mut words = bytes.chunks_exact_mut(size_of::<u64>());
    for place in &mut words {
        place.copy_from_slice(&word());
    }
    let rest = words.into_remainder();
    rest.copy_from_slice(&word()[..rest.len()]);
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
