//! What long work says about itself; who draws it is not known here.

/// Receives the progress of long work: downloads, loading, prefill.
pub trait Progress: Send + Sync {
    /// A piece of work begins: its name and how much of `unit` there is, where known.
    fn start(&self, _name: &str, _total: Option<u64>, _unit: Unit) {}
    /// So much of the piece of work that began last under this name is done, in all.
    fn advance(&self, _name: &str, _done: u64) {}
    /// The piece of work has ended, well or not.
    fn finish(&self, _name: &str) {}
    /// One sentence without a full stop that the user should know and that ends nothing.
    fn notice(&self, _sentence: &str) {}
}

/// What is being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Tokens of a prompt.
    Tokens,
    /// Tensors, files or other things.
    Items,
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
