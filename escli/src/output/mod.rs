//! What all output shares: formats, when to use colour, the version of documents, and text that is safe for a terminal.

use clap::ValueEnum;

pub mod printable;

/// Version of every document that escli prints. It is raised when a field is removed or changes its meaning.
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
    /// Returns whether the format is for programs. Then exactly one document goes to standard output, whatever happens.
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
