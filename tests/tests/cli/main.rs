//! The command line as its users meet it, without a cluster: help, exit codes, output, terminals.

mod commands;
mod terminal;
