//! The real binary in a sealed environment: what it prints, where, and how it ends.

mod answers;
mod arguments;
mod bad_input;
mod chat;
mod input;
#[cfg(test)]
mod made;
mod requests;
#[cfg(test)]
mod support;
