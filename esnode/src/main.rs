//! `esnode`: parse, run, exit code.

fn main() {}
