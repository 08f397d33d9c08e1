//! `escli explain`: what the keys of cluster.yaml mean.

use serde::Serialize;
use shared::spec::Key;

use crate::cli::explain::Args;
use crate::cluster_file::explain::keys_below;
use crate::failure::{Exit, Failure};
use crate::output::SCHEMA_VERSION;
use crate::settings::Settings;
use crate::view;

/// The document of `explain`.
#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    keys: Vec<Key>,
}

/// Prints what a key means, and the keys below it.
///
/// # Errors
/// [`Exit::Usage`] if there is no such key.
pub fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let wanted = args.key.as_deref().unwrap_or_default();
    let keys = keys_below(wanted);
    if keys.is_empty() {
        return Err(Failure::usage(format!("cluster.yaml has no key {wanted}")).hint("escli explain"));
    }
    let document = Document { schema_version: SCHEMA_VERSION, keys };
    view::show(settings, &document, |paint| view::explain::text(&document.keys, paint));
    Ok(Exit::Ok)
}
