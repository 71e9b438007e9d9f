//! `mlxr serve` as clients see it: the real binary, real connections, the built-in model.

#[cfg(test)]
mod anthropic;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod manners;
#[cfg(test)]
mod ollama;
#[cfg(test)]
mod openai;
#[cfg(test)]
mod support;
