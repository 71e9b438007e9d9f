//! The real binary in a sealed environment: what it prints, where, and how it ends.

mod answers;
mod arguments;
mod chat;
mod input;
mod requests;
#[cfg(test)]
mod support;
