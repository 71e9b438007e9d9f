//! Everything that people read: words, colours, bars, exit codes. Knows no command.

pub(crate) mod exit;
pub(crate) mod printer;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod table;

pub(crate) use exit::Exit;
pub(crate) use printer::Printer;
