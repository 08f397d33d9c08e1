//! Colours. Whether there are any is decided once for each stream, so that everything else can be a pure function.

use crossterm::style::{Color, Stylize};
use shared::ids::NodeId;

use crate::output::ColorChoice;
use crate::overview::Verdict;
use crate::settings::Settings;

/// Adds colours to text, or leaves it unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Returns the colours that the operator wants for a stream; `terminal` says whether the stream is a terminal.
    pub fn new(settings: &Settings, terminal: bool) -> Self {
        let on = match settings.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !settings.env.no_color,
        };
        if on {
            // crossterm itself reads NO_COLOR, which `--color always` overrides.
            crossterm::style::force_color_output(true);
        }
        Self { on }
    }

    /// Returns whether there are colours.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// Colours something that is as it should be.
    pub fn good(self, text: &str) -> String {
        if self.on { text.green().to_string() } else { text.to_owned() }
    }

    /// Colours something that needs attention.
    pub fn warn(self, text: &str) -> String {
        if self.on { text.yellow().to_string() } else { text.to_owned() }
    }

    /// Colours something that is wrong.
    pub fn bad(self, text: &str) -> String {
        if self.on { text.red().to_string() } else { text.to_owned() }
    }

    /// Colours something less important.
    pub fn dim(self, text: &str) -> String {
        if self.on { text.dark_grey().to_string() } else { text.to_owned() }
    }

    /// Makes a name bold.
    pub fn bold(self, text: &str) -> String {
        if self.on { text.bold().to_string() } else { text.to_owned() }
    }

    /// Colours a node's label, so that the lines of different nodes are easy to tell apart.
    pub fn node(self, id: NodeId, text: &str) -> String {
        let colors =
            [Color::DarkCyan, Color::DarkMagenta, Color::DarkBlue, Color::DarkGreen, Color::DarkYellow];
        let color = usize::try_from(id).ok().and_then(|id| colors.get(id % colors.len()));
        match color.filter(|_| self.on) {
            Some(color) => text.with(*color).to_string(),
            None => text.to_owned(),
        }
    }

    /// Colours a verdict.
    pub fn verdict(self, verdict: Verdict) -> String {
        let text = verdict.to_string();
        match verdict {
            Verdict::Healthy => self.good(&text),
            Verdict::Degraded => self.warn(&text),
            Verdict::Unavailable | Verdict::Unknown => self.bad(&text),
        }
    }
}
