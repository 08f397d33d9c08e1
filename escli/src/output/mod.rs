//! What all output has in common: its formats, when it has colour, the version of its documents, and text made safe for
//! a terminal.

use clap::ValueEnum;

pub mod printable;

/// Version of every document that escli prints. It grows when a field changes its meaning or is removed.
pub const SCHEMA_VERSION: u32 = 1;

/// Format of the data on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people with wide terminals.
    Wide,
    /// One JSON document.
    Json,
    /// The same document as YAML.
    Yaml,
}

impl Format {
    /// Returns whether programs read it: then exactly one document goes to standard output, whatever happens.
    pub fn is_machine(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
