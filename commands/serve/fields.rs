//! The fields of a request, taken out one by one; what is left over was not understood and is refused by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::wire::{Failure, Fault};

/// The fields of a JSON object that have not been taken, and what is known of those that are not honoured.
pub(super) struct Fields {
    values: Map<String, Value>,
    refused: Vec<Failure>,
    left_out: Vec<String>,
}

/// What a client asked for and does not get.
pub(super) struct Rest {
    /// Why it cannot be answered, unless the server is lenient.
    pub(super) refused: Vec<Failure>,
    /// The names of what is left out for everybody: a header tells of it.
    pub(super) left_out: Vec<String>,
}

impl Fields {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Where it is no JSON object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Failure> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self::of(fields)),
            Ok(_) => Err(Failure::new(Fault::Invalid, "the body is no JSON object")),
            Err(error) => Err(Failure::new(
                Fault::Invalid,
                format!("the body is not valid JSON: {error}"),
            )),
        }
    }

    fn of(values: Map<String, Value>) -> Self {
        Self {
            values,
            refused: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Takes a field; `null` is the same as nothing.
    ///
    /// # Errors
    /// Where it is of another type.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        match self.values.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| Failure::field(name, error)),
        }
    }

    /// A field as the client wrote it, without taking it.
    pub(super) fn echo(&self, name: &str) -> Option<Value> {
        self.values.get(name).cloned()
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
        match self.take(name)? {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(value) => {
                serde_json::from_value(value).map_err(|error| Failure::field(name, error))
            }
        }
    }

    /// Takes the start of a generator of random numbers; -1 is any, as llama.cpp has it.
    ///
    /// # Errors
    /// Where it is something else.
    pub(super) fn seed(&mut self) -> Result<Option<u64>, Failure> {
        match self.take::<Value>("seed")? {
            None => Ok(None),
            Some(value) if value == -1 => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                Failure::field("seed", "it is a whole number from 0 on, or -1 for any")
            }),
        }
    }

    /// Reads an object in a field; what is not honoured in it is told of with the names of both.
    ///
    /// # Errors
    /// Where it is no object, or as `read`.
    pub(super) fn within<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let values = match self.take(name)? {
            None => return Ok(None),
            Some(Value::Object(values)) => values,
            Some(_) => return Err(Failure::field(name, "it is no object")),
        };
        let mut inner = Self::of(values);
        let read = read(&mut inner).map_err(|failure| failure.within(name))?;
        let Rest { refused, left_out } = inner.rest();
        let refused = refused.into_iter().map(|failure| failure.within(name));
        self.refused.extend(refused);
        let left_out = left_out.iter().map(|inner| format!("{name}.{inner}"));
        self.left_out.extend(left_out);
        Ok(Some(read))
    }

    /// Takes fields that change no answer: labels for the client's own use, and what is done anyway.
    pub(super) fn pass_over(&mut self, names: &[&str]) {
        for name in names {
            self.values.shift_remove(*name);
        }
    }

    /// Takes fields that are not honoured, though clients that cannot be told otherwise send them always: a header of
    /// the response tells of them.
    pub(super) fn leave_out(&mut self, names: &[&str]) {
        for name in names {
            let value = self.values.shift_remove(*name);
            if value.is_some_and(|value| !value.is_null()) {
                self.left_out.push((*name).to_owned());
            }
        }
    }

    /// The same of something inside of a field that is taken.
    pub(super) fn leave_out_of(&mut self, name: &str, what: impl std::fmt::Display) {
        self.left_out.push(format!("{name}{what}"));
    }

    /// Takes a field that means what is done anyway if it has one of these values; with another one it is not
    /// honoured.
    pub(super) fn expect(&mut self, name: &str, values: &[Value]) {
        if let Some(value) = self.values.shift_remove(name)
            && !value.is_null()
            && !values.contains(&value)
        {
            self.refused
                .push(Failure::field(name, format!("{value} is not supported")));
        }
    }

    /// What was asked and nobody took.
    pub(super) fn rest(self) -> Rest {
        let mut refused = self.refused;
        let rest = self
            .values
            .into_iter()
            .filter(|(_, value)| !value.is_null());
        refused.extend(rest.map(|(name, _)| Failure::field(name, "it is not supported")));
        Rest {
            refused,
            left_out: self.left_out,
        }
    }
}
