//! Whether the operator agrees: in advance by options, or now, on a terminal.

use std::fmt::Display;

use crate::failure::{Exit, Failure};
use crate::plan::Question;
use crate::settings::Settings;
use crate::view;

/// Asks, unless options have answered already. `typed` is what `--confirm` says; `retry` the command to give it to.
///
/// # Errors
/// Refused, when the operator does not agree, or cannot be asked.
pub fn confirm(
    settings: &Settings,
    question: &Question,
    typed: Option<&str>,
    retry: &dyn Display,
) -> Result<(), Failure> {
    let given = match question {
        Question::Downtime { .. } => false,
        Question::Confirm { .. } => settings.yes,
        Question::TypeName { word, .. } => settings.yes && typed == Some(word.as_str()),
    };
    if given {
        return Ok(());
    }
    if let (Question::TypeName { word, .. }, Some(typed)) = (question, typed)
        && typed != word
    {
        return Err(Failure::new(Exit::Refused, format!("--confirm is {typed}; expected {word}")));
    }
    if settings.env.can_ask && !settings.output.is_machine() {
        return if view::ask(settings, question) {
            Ok(())
        } else {
            Err(Failure::new(Exit::Refused, "not confirmed; no changes were made"))
        };
    }
    let (text, options) = match question {
        Question::Downtime { text } => (text, "--allow-downtime".to_owned()),
        Question::Confirm { text } => (text, "--yes".to_owned()),
        Question::TypeName { text, word } => (text, format!("--yes --confirm {word}")),
    };
    let failure = Failure::new(Exit::Refused, "confirmation required; no changes were made");
    Err(failure.detail(text.clone()).hint(format!("to confirm:  {retry} {options}")))
}
