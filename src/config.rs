//! A model's `config.json`, typed: both forms of every field, errors by name.

mod embedding;
mod packing;
mod rope;
mod sampling;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::ModelFiles;

pub use embedding::EmbeddingConfig;
pub use packing::{PackingConfig, PackingMode, Quantization};
pub use rope::{RopeConfig, RopeScaling};
pub use sampling::default_sampling;

/// No model has wider attention heads (the widest known have 576); tables of this width are made
/// before any weight is seen.
const WIDEST_HEAD: usize = 65_536;

/// A model's `config.json`. A field inside `text_config` goes before one of the same name outside.
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`Error::MissingFile`], [`Error::Io`], or [`Error::Config`] where it is no JSON object.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let bytes = files.require("config.json")?;
        Self::parse(files.path("config.json"), &bytes)
    }

    /// One that is made up; `label` stands for its path in messages.
    pub fn of(label: &str, fields: Map<String, Value>) -> Self {
        Self {
            path: label.into(),
            fields,
        }
    }

    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self> {
        let problem = |problem: String| Error::Config {
            path: path.clone(),
            problem,
        };
        let mut fields: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| problem(error.to_string()))?;
        match fields.remove("text_config") {
            Some(Value::Object(text)) => fields.extend(text),
            Some(_) => return Err(problem("`text_config` is not an object".to_owned())),
            None => {}
        }
        Ok(Self { path, fields })
    }

    /// One without fields, for messages about a file.
    fn of_path(path: PathBuf) -> Self {
        Self {
            path,
            fields: Map::new(),
        }
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The architecture that the checkpoint names first.
    ///
    /// # Errors
    /// [`Error::Config`] where there is none.
    pub fn architecture(&self) -> Result<&str> {
        self.fields
            .get("architectures")
            .and_then(|names| names.as_array()?.first()?.as_str())
            .ok_or_else(|| self.problem("`architectures` names no architecture".to_owned()))
    }

    /// A size that must be there and above 0.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn size(&self, field: &str) -> Result<usize> {
        self.optional_size(field)?
            .ok_or_else(|| self.problem(format!("`{field}` is missing")))
    }

    /// A size that may be absent or null, else above 0.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn optional_size(&self, field: &str) -> Result<Option<usize>> {
        match self.optional_count(field)? {
            Some(0) => Err(self.problem(format!("`{field}` is 0, not a size"))),
            size => Ok(size),
        }
    }

    /// A number of things, which may be none; `None` where the field is absent or null.
    ///
    /// # Errors
    /// [`Error::Config`] where it is something else, or too large for a shape of MLX.
    pub fn optional_count(&self, field: &str) -> Result<Option<usize>> {
        let Some(value) = self.fields.get(field).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        // Sizes become MLX shapes, which are 32-bit.
        let count = value.as_u64().filter(|&count| i32::try_from(count).is_ok());
        match count {
            Some(count) => Ok(Some(count as usize)),
            None => Err(self.problem(format!("`{field}` is {value}, not a size"))),
        }
    }

    /// Width of an attention head: even, because rotary embedding turns pairs of numbers.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn head_width(&self, default: usize) -> Result<usize> {
        let width = self.optional_size("head_dim")?.unwrap_or(default);
        if (2..=WIDEST_HEAD).contains(&width) && width.is_multiple_of(2) {
            return Ok(width);
        }
        Err(self.problem(format!(
            "attention heads are {width} wide, which is not an even number from 2 to {WIDEST_HEAD}"
        )))
    }

    /// What keeps the root of a norm away from 0: a number that is not negative.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn epsilon(&self, field: &str, default: f32) -> Result<f32> {
        let epsilon = self.number_or(field, default)?;
        if epsilon < 0.0 {
            return Err(self.problem(format!("`{field}` is {epsilon}, which is negative")));
        }
        Ok(epsilon)
    }

    /// A number that may be absent or null.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn number_or(&self, field: &str, default: f32) -> Result<f32> {
        self.number_in(&self.fields, field)?.map_or(Ok(default), Ok)
    }

    /// The same, and what it is then is for the caller to say.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn optional_number(&self, field: &str) -> Result<Option<f32>> {
        self.number_in(&self.fields, field)
    }

    /// A yes or no that may be absent or null.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn flag_or(&self, field: &str, default: bool) -> Result<bool> {
        Ok(self.flag(field)?.unwrap_or(default))
    }

    /// The same, and what it is then is for the caller to say.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn flag(&self, field: &str) -> Result<Option<bool>> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.problem(format!("`{field}` is {other}, not true or false"))),
        }
    }

    /// An object that may be absent or null.
    fn object(&self, field: &str) -> Result<Option<&Map<String, Value>>> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(self.problem(format!("`{field}` is {other}, not an object"))),
        }
    }

    /// A list of names that may be absent or null.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    fn names(&self, field: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.fields.get(field).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let names = value
            .as_array()
            .and_then(|names| names.iter().map(Value::as_str).collect());
        match names {
            Some(names) => Ok(Some(names)),
            None => Err(self.problem(format!("`{field}` is {value}, not a list of names"))),
        }
    }

    /// What a list of names says of each of so many layers, if it is there: one of `kinds`, by name.
    ///
    /// # Errors
    /// [`Error::Config`] with the field: another name, or not one for each layer.
    pub fn kinds<T: Copy>(
        &self,
        field: &str,
        layers: usize,
        kinds: &[(&str, T)],
    ) -> Result<Option<Vec<T>>> {
        let Some(names) = self.names(field)? else {
            return Ok(None);
        };
        if names.len() != layers {
            return Err(self.problem(format!(
                "`{field}` has {} entries for {layers} layers",
                names.len()
            )));
        }
        let kind = |name: &str| {
            let found = kinds.iter().find(|(known, _)| *known == name);
            let kind = found.map(|(_, kind)| *kind);
            kind.ok_or_else(|| {
                self.problem(format!("`{field}` names `{name}`, which is not supported"))
            })
        };
        names.into_iter().map(kind).collect::<Result<_>>().map(Some)
    }

    /// A list of indices that may be absent or null: then it is empty.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn indices(&self, field: &str) -> Result<Vec<usize>> {
        let Some(value) = self.fields.get(field).filter(|value| !value.is_null()) else {
            return Ok(Vec::new());
        };
        let index = |value: &Value| value.as_u64().map(|index| index as usize);
        value
            .as_array()
            .and_then(|indices| indices.iter().map(index).collect())
            .ok_or_else(|| self.problem(format!("`{field}` is {value}, not a list of indices")))
    }

    /// Refuses a field that is there and neither null nor false: what it asks for is not honoured.
    ///
    /// # Errors
    /// [`Error::Config`] with the field and its value.
    pub fn refuse(&self, field: &str) -> Result<()> {
        match self.fields.get(field) {
            None | Some(Value::Null | Value::Bool(false)) => Ok(()),
            Some(other) => {
                Err(self.problem(format!("`{field}` is {other}, which is not supported")))
            }
        }
    }

    /// Refuses a text field whose value is none of those that the code honours.
    ///
    /// # Errors
    /// [`Error::Config`] with the field and its value.
    pub fn expect_one_of(&self, field: &str, known: &[&str]) -> Result<()> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(value)) if known.contains(&value.as_str()) => Ok(()),
            Some(other) => Err(self.problem(format!(
                "`{field}` is {other}, and only {} is supported",
                known.join(" or ")
            ))),
        }
    }

    /// How matrices are packed, if they are.
    ///
    /// # Errors
    /// [`Error::Config`] with the field; methods other than MLX's are refused by name.
    pub fn quantization(&self) -> Result<Option<Quantization>> {
        let Some(value) = self
            .fields
            .get("quantization")
            .filter(|value| !value.is_null())
        else {
            return match self
                .fields
                .get("quantization_config")
                .and_then(|other| other.get("quant_method"))
            {
                // Of gpt-oss, whose packed tensors have names of their own.
                Some(method) if method == "mxfp4" => Ok(None),
                Some(method) => {
                    Err(self.problem(format!("`quant_method` {method} is not supported")))
                }
                None => Ok(None),
            };
        };
        let object = value
            .as_object()
            .ok_or_else(|| self.problem("`quantization` is not an object".to_owned()))?;
        let default = self.packing("quantization", object)?;
        let mut overrides = HashMap::new();
        for (prefix, value) in object {
            match value {
                Value::Object(packing) => {
                    overrides.insert(prefix.clone(), Some(self.packing(prefix, packing)?));
                }
                Value::Bool(false) => {
                    overrides.insert(prefix.clone(), None);
                }
                _ => {}
            }
        }
        Ok(Some(Quantization::new(default, overrides)))
    }

    /// Rows and columns of the squares that share a factor in a checkpoint of 8-bit floats, if it says so:
    /// `weight_block_size`, or `block_structure` of compressed-tensors.
    ///
    /// # Errors
    /// [`Error::Config`] where these are no two sizes.
    pub fn fp8_block(&self) -> Result<Option<[usize; 2]>> {
        let Some(method) = self.object("quantization_config")? else {
            return Ok(None);
        };
        let groups = method.get("config_groups").and_then(Value::as_object);
        let mut structures = groups
            .into_iter()
            .flat_map(Map::values)
            .filter_map(|group| group.get("weights")?.get("block_structure"));
        let Some(block) = method
            .get("weight_block_size")
            .or_else(|| structures.next())
        else {
            return Ok(None);
        };
        let sides: Option<Vec<u64>> = block
            .as_array()
            .and_then(|sides| sides.iter().map(Value::as_u64).collect());
        match sides.as_deref() {
            Some(&[rows, columns]) => Ok(Some([rows as usize, columns as usize])),
            _ => Err(self.problem(format!("the size of blocks is {block}, not two sizes"))),
        }
    }

    /// Whether matrices are packed in a way that only their makers' programs undo: by MLX, or by another method. What
    /// 8-bit floats in blocks, compressed-tensors and `ModelOpt` have is said by the tensors.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn is_packed(&self) -> Result<bool> {
        if self
            .fields
            .get("quantization")
            .is_some_and(|value| !value.is_null())
        {
            return Ok(true);
        }
        let Some(method) = self.object("quantization_config")? else {
            return Ok(false);
        };
        let name = method.get("quant_method").and_then(Value::as_str);
        let is_read = matches!(name, Some("compressed-tensors" | "modelopt"));
        Ok(!is_read && self.fp8_block()?.is_none())
    }

    fn packing(&self, name: &str, object: &Map<String, Value>) -> Result<PackingConfig> {
        let refuse = |problem: String| self.problem(format!("`{name}`: {problem}"));
        let mode = match object.get("mode") {
            None => PackingMode::Affine,
            Some(mode) => mode.as_str().unwrap_or_default().parse().map_err(&refuse)?,
        };
        let size = |field: &str| {
            let value = object.get(field).and_then(Value::as_u64);
            value
                .filter(|size| (1..=1024).contains(size))
                .map(|size| size as usize)
                .ok_or_else(|| self.problem(format!("`{name}.{field}` is missing or not a size")))
        };
        let (group_size, bits) = (size("group_size")?, size("bits")?);
        PackingConfig::new(mode, Some(bits), Some(group_size)).map_err(refuse)
    }

    fn number_in(&self, object: &Map<String, Value>, field: &str) -> Result<Option<f32>> {
        match object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().map(|number| number as f32) {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(self.problem(format!("`{field}` is {value}, not a number"))),
            },
        }
    }

    /// An error about this file.
    pub fn problem(&self, problem: String) -> Error {
        Error::Config {
            path: self.path.clone(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests;
