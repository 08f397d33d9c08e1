//! Command lines for hints, mostly the same command again. They work from any directory.

use std::fmt;
use std::path::Path;

use shared::ids::NodeId;

use crate::hosts::ssh::quote;
use crate::settings::Settings;

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    text: String,
    base_port: Option<u16>,
}

impl CommandLine {
    /// Returns `escli COMMAND`, with the `-c` that was given.
    pub fn new(settings: &Settings, command: &str) -> Self {
        let config =
            settings.config.as_deref().map_or_else(String::new, |path| format!(" -c {}", word(path)));
        Self { text: format!("escli{config} {command}"), base_port: None }
    }

    /// Returns `escli -c FILE COMMAND`.
    pub fn with_file(file: &Path, command: &str) -> Self {
        Self { text: format!("escli -c {} {command}", word(file)), base_port: None }
    }

    /// Adds nodes.
    #[must_use]
    pub fn nodes(self, ids: &[NodeId]) -> Self {
        ids.iter().fold(self, |line, id| line.push(&id.to_string()))
    }

    /// Adds an option without a value, if it was given.
    #[must_use]
    pub fn flag(self, option: &str, given: bool) -> Self {
        if given { self.push(option) } else { self }
    }

    /// Adds an option and its value, if it was given.
    #[must_use]
    pub fn value(self, option: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.push(option).push(&value.to_string()),
            None => self,
        }
    }

    /// Adds an option and its path, if it was given.
    #[must_use]
    pub fn path(self, option: &str, path: Option<&Path>) -> Self {
        self.value(option, path.map(word))
    }

    /// Adds a word, such as the name of a topic.
    #[must_use]
    pub fn word(self, text: &str) -> Self {
        self.push(&quote::word(text))
    }

    /// Adds a path.
    #[must_use]
    pub fn argument(self, path: &Path) -> Self {
        self.push(&word(path))
    }

    /// Has the command line end with this `--base-port`, or with none.
    #[must_use]
    pub fn base_port(self, base_port: Option<u16>) -> Self {
        Self { base_port, ..self }
    }

    fn push(mut self, word: &str) -> Self {
        self.text.push(' ');
        self.text.push_str(word);
        self
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.base_port.map_or(Ok(()), |port| write!(f, " --base-port {port}"))
    }
}

/// Returns a path as a word of a command that can be pasted.
pub fn word(path: &Path) -> String {
    quote::word(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_said_again_and_the_ports_can_be_others() {
        let line = CommandLine::with_file(Path::new("my file.yaml"), "up").flag("--local", true);
        let line =
            line.flag("--force", false).value("--nodes", Some(3)).path("--dir", None).base_port(Some(9000));
        assert_eq!(line.to_string(), "escli -c 'my file.yaml' up --local --nodes 3 --base-port 9000");
        assert_eq!(line.base_port(Some(12_000)).to_string().rsplit(' ').next(), Some("12000"));
    }
}
