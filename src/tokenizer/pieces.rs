//! From a token as the vocabulary spells it to the bytes it stands for; knows one token at a time.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How the vocabulary spells bytes, which is what its decoder says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pieces {
    /// GPT-2's: each byte is one printable character.
    ByteLevel,
    /// SentencePiece's: `▁` is a space and `<0xNN>` a byte; the first spaces of a text, at most
    /// `strip` of them, are not part of it.
    ByteFallback {
        /// How many.
        strip: usize,
    },
    /// Anything else: the engine decodes.
    Engine,
}

impl Pieces {
    /// What a decoder says of it.
    pub(super) fn of(decoder: &Value) -> Self {
        if decoder["type"] == "ByteLevel" {
            return Self::ByteLevel;
        }
        let steps = decoder["decoders"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let [space, bytes, fuse, rest @ ..] = steps else {
            return Self::Engine;
        };
        let expected = json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " });
        if *space != expected || bytes["type"] != "ByteFallback" || fuse["type"] != "Fuse" {
            return Self::Engine;
        }
        match rest {
            [] => Self::ByteFallback { strip: 0 },
            [strip] => {
                stripped_spaces(strip).map_or(Self::Engine, |strip| Self::ByteFallback { strip })
            }
            _ => Self::Engine,
        }
    }

    /// Puts the bytes of a token behind others.
    pub(super) fn append(self, token: &str, bytes: &mut Vec<u8>) {
        let begin = bytes.len();
        match self {
            Self::ByteLevel => {
                for character in token.chars() {
                    let Some(byte) = byte_of_char(character) else {
                        // A token with any other character, such as an added one, stands for its own text.
                        bytes.truncate(begin);
                        bytes.extend_from_slice(token.as_bytes());
                        return;
                    };
                    bytes.push(byte);
                }
            }
            Self::ByteFallback { .. } => {
                if let Some(byte) = fallback_byte(token) {
                    bytes.push(byte);
                    return;
                }
                let mut parts = token.split('▁');
                bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
                for part in parts {
                    bytes.push(b' ');
                    bytes.extend_from_slice(part.as_bytes());
                }
            }
            Self::Engine => bytes.extend_from_slice(token.as_bytes()),
        }
    }
}

/// Whether a token is spelled as bytes in GPT-2's way.
pub(super) fn is_byte_level(token: &str) -> bool {
    token
        .chars()
        .all(|character| byte_of_char(character).is_some())
}

/// The byte that a token is, in GPT-2's way.
pub(super) fn byte_level_byte(token: &str) -> Option<u8> {
    let mut characters = token.chars();
    let byte = byte_of_char(characters.next()?)?;
    characters.next().is_none().then_some(byte)
}

/// How many spaces a `Strip` step takes from the start, if that is all it does.
fn stripped_spaces(step: &Value) -> Option<usize> {
    let plain = step["type"] == "Strip" && step["content"] == " " && step["stop"] == 0;
    usize::try_from(step["start"].as_u64().filter(|_| plain)?).ok()
}

/// Whether a token is spelled as a byte, `<0xNN>`.
pub(super) fn is_fallback(token: &str) -> bool {
    fallback_byte(token).is_some()
}

/// The byte that a `<0xNN>` token stands for.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// GPT-2's table read backwards: printable Latin-1 characters are themselves, the other bytes
/// follow from U+0100 on in ascending order.
fn byte_of_char(character: char) -> Option<u8> {
    let byte = match u32::from(character) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// How GPT-2 spells a byte.
#[cfg(test)]
pub(super) fn byte_level_char(byte: u8) -> char {
    let spelled = |character: &char| byte_of_char(*character) == Some(byte);
    ('!'..='\u{143}')
        .find(spelled)
        .expect("every byte has a character")
}
