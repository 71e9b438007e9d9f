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

/// A piece of work that has begun. It ends when this is dropped, well or not.
#[must_use]
pub struct Work<'a> {
    progress: &'a dyn Progress,
    name: &'a str,
}

impl<'a> Work<'a> {
    /// Begins it: how much of `unit` there is, where known.
    pub fn begin(
        progress: &'a dyn Progress,
        name: &'a str,
        total: Option<u64>,
        unit: Unit,
    ) -> Self {
        progress.start(name, total, unit);
        Self { progress, name }
    }

    /// So much is done, in all.
    pub fn advance(&self, done: u64) {
        self.progress.advance(self.name, done);
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.progress.finish(self.name);
    }
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
