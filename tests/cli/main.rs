//! The real binary in a sealed environment: what it prints, where, and how it ends.

mod answers;
mod arguments;
mod bad_input;
#[cfg(test)]
mod bad_weights;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod bench_tokenize;
mod bounds;
mod chat;
#[cfg(test)]
mod doctor;
mod forms;
mod input;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod made;
#[cfg(test)]
mod manners;
#[cfg(test)]
mod quantize;
#[cfg(test)]
mod quantized;
#[cfg(test)]
mod ranks;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod shells;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokenize;
