//! Every scanner against the expression that it stands for, run by the reference.

use proptest::prelude::*;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::super::structure::{Cut, byte_level};
use super::*;

/// Each scanner's pre-tokenizer as `tokenizer.json` has it.
fn pre_tokenizers() -> Vec<serde_json::Value> {
    let split = |expression: &str| serde_json::json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
    let bytes = |own: bool| serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": own});
    let sequence = |splits: &[&str]| {
        let steps: Vec<_> = splits
            .iter()
            .map(|expression| split(expression))
            .chain([bytes(false)])
            .collect();
        serde_json::json!({"type": "Sequence", "pretokenizers": steps})
    };
    vec![
        bytes(true),
        sequence(&[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]),
        sequence(&[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]),
        sequence(&[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]),
        sequence(&[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]),
        sequence(&[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]),
        sequence(&[
            r"\p{N}{1,3}",
            "[一-龥\u{3040}-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ]),
    ]
}

/// Where the reference ends pieces.
fn reference(pre_tokenizer: &PreTokenizerWrapper, text: &str) -> Vec<usize> {
    let mut pieces = PreTokenizedString::from(text);
    pre_tokenizer.pre_tokenize(&mut pieces).unwrap();
    let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    pieces
        .into_iter()
        .map(|(_, offsets, _)| offsets.1)
        .collect()
}

/// Where a scanner ends them.
fn ends(cut: Cut, text: &str) -> Vec<usize> {
    fn all(scan: &impl Scan, text: &str) -> Vec<usize> {
        let (mut tile, mut all) = (Tile::new(), Vec::new());
        let whole = Text {
            bytes: text.as_bytes(),
            end: text.len(),
        };
        while all.last().copied().unwrap_or(0) < text.len() {
            let at = all.last().copied().unwrap_or(0);
            all.extend_from_slice(tile.ends(scan, whole, at, text.len()));
            assert!(all.is_sorted_by(|a, b| a < b), "{text:?} {all:?}");
        }
        all
    }
    match cut {
        Cut::Gpt2 => all(&Gpt2, text),
        Cut::Plain(plain) => all(&plain, text),
        Cut::Cased(cased) => all(&cased, text),
        Cut::DeepSeek => all(&DeepSeek, text),
        Cut::Seams => unreachable!("no expression"),
    }
}

fn check(text: &str) {
    thread_local! {
        static ALL: Vec<(PreTokenizerWrapper, Cut)> = pre_tokenizers().into_iter().map(|json| {
            let (_, cut) = byte_level(&serde_json::Value::Null, &json).expect("the structure is known");
            (serde_json::from_value(json).unwrap(), cut)
        }).collect();
    }
    ALL.with(|all| {
        for (pre_tokenizer, cut) in all {
            assert_eq!(
                ends(*cut, text),
                reference(pre_tokenizer, text),
                "{cut:?} {text:?}"
            );
        }
    });
}

/// Parts of texts, of all classes that any expression tells apart.
const PARTS: [&str; 52] = [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\u{b}",
    "\u{85}",
    "\u{a0}",
    "\u{3000}",
    "a",
    "Z",
    "the",
    "HTTPServer",
    "camelCase",
    "'",
    "'s",
    "'LL",
    "'re",
    "'ſ",
    "'x",
    "é",
    "É",
    "ß",
    "ſ",
    "ǅ",
    "ʰ",
    "中",
    "文字",
    "か",
    "カ",
    "・",
    "゛",
    "\u{301}",
    "\u{93e}",
    "1",
    "23",
    "4567",
    "٣",
    "½",
    "Ⅷ",
    ".",
    "...",
    "/",
    "//\n",
    "(",
    "_",
    "€",
    "—",
    "🙂",
    "\u{200d}",
    "\0",
    "\u{e000}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(3000)))]
    #[test]
    fn pieces_are_the_references(parts in prop::collection::vec(0..PARTS.len(), 0..24)) {
        let text: String = parts.iter().map(|part| PARTS[*part]).collect();
        check(&text);
    }

    #[test]
    fn any_text_is_cut_alike(text in any::<String>()) {
        check(&text);
    }
}

#[test]
fn white_space_crosses_tiles() {
    for before in ["x\n", "x;\n", "x", "\t\n\n", "é"] {
        for gap in [" ", "\t", " \t"] {
            for length in [1, 2, 63, 64, 65, 127, 128, 129, 130, 200, 4096, 5000] {
                for behind in [
                    "\n", "\n\nx", "x", "'s", "1", ".", "é", "\u{a0}", "\u{85}\n", "",
                ] {
                    for shift in [0, 1, 3900, 4020, 4090, 4095] {
                        let gap = &gap.repeat(length)[..length];
                        check(&format!("{}{before}{gap}{behind}", "a".repeat(shift)));
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn ascii_is_cut_alike(text in "[aZ1. \n'/\t]{0,300}") {
        check(&text);
    }
}

#[test]
fn long_runs_cross_tiles() {
    for part in [
        "a", "A", " ", "\n", "1", ".", "é", "中", "a ", "Aa", " \n", "🙂",
    ] {
        for count in [
            62, 63, 64, 65, 127, 128, 4095, 4096, 4097, 4159, 4160, 4161, 9000,
        ] {
            for tail in ["", "b", "é", " ", "!", "\n"] {
                check(&format!("x {}{tail}", part.repeat(count / part.len())));
            }
        }
    }
}
