//! Colour, or none: decided once per stream, so that everything else can be a pure function of it.

use crossterm::style::{Color, Stylize};
use shared::ids::NodeId;

use crate::output::ColorChoice;
use crate::overview::Verdict;
use crate::settings::Settings;

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// As the operator and the stream want it; `terminal`: the stream is one.
    pub fn new(settings: &Settings, terminal: bool) -> Self {
        let on = match settings.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !settings.env.no_color,
        };
        if on {
            // It reads NO_COLOR by itself, which `--color always` overrides.
            crossterm::style::force_color_output(true);
        }
        Self { on }
    }

    /// Whether it paints at all.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// Something that is as it should be.
    pub fn good(self, text: &str) -> String {
        if self.on { text.green().to_string() } else { text.to_owned() }
    }

    /// Something to look at.
    pub fn warn(self, text: &str) -> String {
        if self.on { text.yellow().to_string() } else { text.to_owned() }
    }

    /// Something that is wrong.
    pub fn bad(self, text: &str) -> String {
        if self.on { text.red().to_string() } else { text.to_owned() }
    }

    /// Something that matters less.
    pub fn dim(self, text: &str) -> String {
        if self.on { text.dark_grey().to_string() } else { text.to_owned() }
    }

    /// A name.
    pub fn bold(self, text: &str) -> String {
        if self.on { text.bold().to_string() } else { text.to_owned() }
    }

    /// A label that tells one node's lines from another's.
    pub fn node(self, id: NodeId, text: &str) -> String {
        let colors =
            [Color::DarkCyan, Color::DarkMagenta, Color::DarkBlue, Color::DarkGreen, Color::DarkYellow];
        let color = usize::try_from(id).ok().and_then(|id| colors.get(id % colors.len()));
        match color.filter(|_| self.on) {
            Some(color) => text.with(*color).to_string(),
            None => text.to_owned(),
        }
    }

    /// A verdict.
    pub fn verdict(self, verdict: Verdict) -> String {
        let text = verdict.to_string();
        match verdict {
            Verdict::Healthy => self.good(&text),
            Verdict::Degraded => self.warn(&text),
            Verdict::Unavailable | Verdict::Unknown => self.bad(&text),
        }
    }
}
