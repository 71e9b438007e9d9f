//! Which files make a model, and whether a folder has all of them whole; asks only the disk.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::Wanted;
use crate::error::{Error, Result};

use super::name::is_plain;

/// The file that makes a folder a model.
pub(super) const CONFIG: &str = "config.json";
/// The vocabulary.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The weights, where they are one file.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The list of the files of the weights, where they are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Which parts a model for embeddings is made of.
const MODULES: &str = "modules.json";

/// How it pools states.
const POOLING: &str = "1_Pooling/config.json";

/// Longest header that the safetensors format allows, in bytes (the limit of its own library).
const LONGEST_HEADER: u64 = 100_000_000;

/// Why a folder is not a complete model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The first file that is wrong.
    pub(super) file: String,
    /// What is wrong with it.
    problem: &'static str,
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.file, self.problem)
    }
}

/// Whether a file of a repository is wanted beside the weights.
pub(super) fn is_wanted_beside_weights(name: &str) -> bool {
    let is_json = name
        .rsplit_once('.')
        .is_some_and(|(_, extension)| extension == "json");
    // The only file in a folder: how the states of a model for embeddings are pooled.
    if name == POOLING {
        return true;
    }
    is_plain(name)
        && ([
            CONFIG,
            "generation_config.json",
            "special_tokens_map.json",
            MODULES,
        ]
        .contains(&name)
            || name.starts_with("tokenizer") && is_json
            || name.starts_with("chat_template."))
}

/// The first file that is missing from a model's folder or is not whole, `None` where all is there.
///
/// Files without which a model can do are not looked for: the hub alone could say whether they
/// exist. They are downloaded before the weights, so that weights that are there vouch for them.
pub(super) fn first_gap(folder: &Path, wanted: Wanted) -> Result<Option<Gap>> {
    let missing = |file: &str| Gap {
        file: file.to_owned(),
        problem: "is missing",
    };
    let small: &[&str] = match wanted {
        Wanted::Model => &[CONFIG, TOKENIZER],
        Wanted::Tokenizer => &[TOKENIZER],
    };
    if let Some(file) = small.iter().find(|file| !folder.join(file).exists()) {
        return Ok(Some(missing(file)));
    }
    if wanted == Wanted::Tokenizer {
        return Ok(None);
    }
    let shards = if folder.join(WEIGHTS).exists() || !folder.join(INDEX).exists() {
        vec![WEIGHTS.to_owned()]
    } else {
        shards(&folder.join(INDEX))?
    };
    for file in shards {
        let path = folder.join(&file);
        if !path.exists() {
            return Ok(Some(missing(&file)));
        }
        if !is_whole(&path)? {
            return Ok(Some(Gap {
                file,
                problem: "is damaged",
            }));
        }
    }
    Ok(None)
}

/// The names of the files that an index refers to, sorted.
pub(super) fn shards(index: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let wrong = |problem: String| Error::Weights {
        path: index.to_path_buf(),
        problem,
    };
    let text = fs::read(index).map_err(Error::io("read", index))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let mut files = index.weight_map.into_values().collect::<Vec<_>>();
    files.sort_unstable();
    files.dedup();
    if files.is_empty() {
        return Err(wrong("`weight_map` is empty".to_owned()));
    }
    match files
        .iter()
        .find(|file| !is_plain(file) || !file.ends_with(".safetensors"))
    {
        Some(file) => Err(wrong(format!(
            "`{file}` is not the name of a safetensors file"
        ))),
        None => Ok(files),
    }
}

/// Whether a safetensors file is as long as its header says: a cheap check that reads no tensor.
pub(super) fn is_whole(path: &Path) -> Result<bool> {
    #[derive(Deserialize)]
    struct Entry {
        /// Absent from `__metadata__`, the one entry that is no tensor.
        #[serde(default)]
        data_offsets: (u64, u64),
    }
    let read_error = |error| Error::io("read", path)(error);
    let mut file = File::open(path).map_err(read_error)?;
    let length = file.metadata().map_err(read_error)?.len();
    let Some(after_prefix) = length.checked_sub(8) else {
        return Ok(false);
    };
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(read_error)?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > LONGEST_HEADER || header_length > after_prefix {
        return Ok(false);
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header).map_err(read_error)?;
    let Ok(entries) = serde_json::from_slice::<HashMap<String, Entry>>(&header) else {
        return Ok(false);
    };
    let end = entries
        .values()
        .map(|entry| entry.data_offsets.1)
        .max()
        .unwrap_or(0);
    Ok(end == after_prefix - header_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safetensors(data: usize) -> Vec<u8> {
        let header = format!(
            r#"{{"__metadata__":{{"format":"mlx"}},"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}},"b":{{"dtype":"U8","shape":[{}],"data_offsets":[1,{data}]}}}}"#,
            data - 1
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    #[test]
    fn only_the_full_length_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let bytes = safetensors(40);
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                !is_whole(&path).unwrap(),
                "{length} of {} bytes",
                bytes.len()
            );
        }
        fs::write(&path, &bytes).unwrap();
        assert!(is_whole(&path).unwrap());
        fs::write(&path, [bytes.as_slice(), b"x"].concat()).unwrap();
        assert!(!is_whole(&path).unwrap());
    }

    #[test]
    fn a_header_that_lies_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let lies: [&[u8]; 3] = [
            &u64::MAX.to_le_bytes(),
            b"\x04\0\0\0\0\0\0\0null",
            b"\x30\0\0\0\0\0\0\0{\"a\":{\"data_offsets\":[0,18446744073709551615]}}  ",
        ];
        for bytes in lies {
            fs::write(&path, bytes).unwrap();
            assert!(!is_whole(&path).unwrap());
        }
    }

    #[test]
    fn an_index_may_only_name_files_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        for file in [
            "../x.safetensors",
            "/x.safetensors",
            "a/b.safetensors",
            "x.bin",
            "",
        ] {
            fs::write(&path, format!(r#"{{"weight_map":{{"w":"{file}"}}}}"#)).unwrap();
            let error = shards(&path).unwrap_err();
            assert!(matches!(error, Error::Weights { .. }), "{file}: {error}");
        }
        for text in [
            "",
            "{}",
            r#"{"weight_map":{}}"#,
            r#"{"weight_map":{"w":1}}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(
                matches!(shards(&path), Err(Error::Weights { .. })),
                "{text}"
            );
        }
        fs::write(
            &path,
            r#"{"weight_map":{"a":"2.safetensors","b":"1.safetensors","c":"2.safetensors"}}"#,
        )
        .unwrap();
        assert_eq!(shards(&path).unwrap(), ["1.safetensors", "2.safetensors"]);
    }

    #[test]
    fn wants_what_a_model_needs_and_nothing_else() {
        for name in [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "chat_template.jinja",
            "chat_template.json",
            "modules.json",
            "1_Pooling/config.json",
        ] {
            assert!(is_wanted_beside_weights(name), "{name}");
        }
        for name in [
            "README.md",
            "pytorch_model.bin",
            "model.gguf",
            "original/config.json",
            "2_Pooling/config.json",
            "tokenizer.model",
            "consolidated.safetensors",
            "chat_template.../x",
            "preprocessor_config.json",
            INDEX,
        ] {
            assert!(!is_wanted_beside_weights(name), "{name}");
        }
    }
}
