//! `mlxr serve` as clients see it: the real binary, real connections, the built-in model.
#![expect(
    clippy::disallowed_methods,
    reason = "a test: it is told how much to ask"
)]

#[cfg(test)]
mod anthropic;
#[cfg(test)]
mod embeddings;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod load;
#[cfg(test)]
mod manners;
#[cfg(test)]
mod models;
#[cfg(test)]
mod ollama;
#[cfg(test)]
mod openai;
#[cfg(test)]
mod support;
