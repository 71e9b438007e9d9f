//! The metadata of a GGUF file: names and values.

use std::collections::BTreeMap;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Self>),
}

/// All of a file.
#[derive(Debug, Default)]
pub(super) struct Metadata(pub(super) BTreeMap<String, Value>);

impl Value {
    /// A whole number that is not negative.
    pub(super) fn size(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(number) => Some(number),
            Self::Signed(number) => number.try_into().ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Metadata {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Result<&str, String> {
        self.get(name)
            .and_then(Value::text)
            .ok_or_else(|| format!("its metadata have no text `{name}`"))
    }

    /// A whole number that is not negative, if there is one.
    pub(super) fn optional_size(&self, name: &str) -> Result<Option<u64>, String> {
        let wrong = || format!("`{name}` in its metadata is not a size");
        self.get(name)
            .map(|value| value.size().ok_or_else(wrong))
            .transpose()
    }

    /// A whole number that is not negative.
    pub(super) fn size(&self, name: &str) -> Result<u64, String> {
        self.optional_size(name)?
            .ok_or_else(|| format!("its metadata have no `{name}`"))
    }

    /// A number, if there is one.
    pub(super) fn optional_number(&self, name: &str) -> Result<Option<f64>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(value) => match value.size() {
                Some(number) => Ok(Some(number as f64)),
                None => Err(format!("`{name}` in its metadata is not a number")),
            },
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A list, each of whose values is taken by `each`.
    pub(super) fn list<'a, T>(
        &'a self,
        name: &str,
        each: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, String> {
        match self.get(name) {
            Some(Value::List(list)) => list.iter().map(each).collect(),
            _ => None,
        }
        .ok_or_else(|| format!("`{name}` in its metadata is missing or not a list of its kind"))
    }
}
