//! The binary: parse, act, report.

fn main() {}
