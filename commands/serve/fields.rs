//! The fields of a request, taken out one by one; what is left over was not understood and is refused by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::wire::{Failure, Fault};

/// The fields of a JSON object that have not been taken.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Where it is no JSON object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Failure> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Failure::new(Fault::Invalid, "the body is no JSON object")),
            Err(error) => Err(Failure::new(
                Fault::Invalid,
                format!("the body is not valid JSON: {error}"),
            )),
        }
    }

    /// The fields of an object inside of a request.
    pub(super) fn of(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// Takes a field; `null` is the same as nothing.
    ///
    /// # Errors
    /// Where it is of another type.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| Failure::field(name, error)),
        }
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// Where it is not, or of another type.
    pub(super) fn require<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        self.take(name)?
            .ok_or_else(|| Failure::field(name, "it is required"))
    }

    /// Takes a field that is one text or several.
    ///
    /// # Errors
    /// Where it is of another type.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(value) => {
                serde_json::from_value(value).map_err(|error| Failure::field(name, error))
            }
        }
    }

    /// Takes fields that change nothing here: labels for the client's own use and hints that may be ignored.
    pub(super) fn pass_over(&mut self, names: &[&str]) {
        for name in names {
            self.0.shift_remove(*name);
        }
    }

    /// Takes a field that means what is done anyway, if it has one of these values.
    ///
    /// # Errors
    /// Where it has another one.
    pub(super) fn expect(&mut self, name: &str, values: &[Value]) -> Result<(), Failure> {
        match self.0.shift_remove(name) {
            Some(value) if !value.is_null() && !values.contains(&value) => {
                Err(Failure::field(name, format!("{value} is not supported")))
            }
            _ => Ok(()),
        }
    }

    /// The names of fields that nobody took and that say something.
    pub(super) fn rest(self) -> Vec<String> {
        let rest = self.0.into_iter().filter(|(_, value)| !value.is_null());
        rest.map(|(name, _)| name).collect()
    }
}
