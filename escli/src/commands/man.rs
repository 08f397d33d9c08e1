//! `escli man`: manual pages, from the same text as `--help`.

use std::collections::BTreeMap;

use clap_mangen::Man;

use crate::cli::man::Args;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::settings::Settings;
use crate::view;

/// Prints one page, or writes all pages to a directory.
///
/// # Errors
/// [`Exit::Usage`] if there is no such command; if the directory cannot be written to.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let pages = pages().map_err(|error| Failure::failed(format!("cannot make the manual: {error}")))?;
    let Some(folder) = &args.out else {
        let name =
            args.command.as_ref().map_or_else(|| "escli.1".to_owned(), |name| format!("escli-{name}.1"));
        let page = pages.get(&name).ok_or_else(|| {
            let name = args.command.as_deref().unwrap_or_default();
            Failure::usage(format!("there is no command {name}")).hint("escli help")
        })?;
        view::put(page);
        return Ok(Exit::Ok);
    };
    for (name, page) in &pages {
        let path = settings.env.path(folder).join(name);
        files::write_atomically(&path, page)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        view::remark(settings, &format!("wrote {}", path.display()));
    }
    Ok(Exit::Ok)
}

/// Returns all pages by file name.
///
/// # Errors
/// None in practice, since pages are written to memory.
pub fn pages() -> std::io::Result<BTreeMap<String, String>> {
    let mut command = crate::command().disable_help_subcommand(true);
    command.build();
    let version = command.get_version().unwrap_or_default().to_owned();
    let mut pages = BTreeMap::new();
    for command in with_subcommands(&command) {
        let man = Man::new(command.clone()).source(format!("escli {version}")).manual("EventStream");
        let mut page = Vec::new();
        man.render(&mut page)?;
        // clap has no name for the section with exit codes and examples.
        let page = String::from_utf8_lossy(&page).replace(".SH EXTRA\n", ".SH NOTES\n");
        pages.insert(man.get_filename(), page);
    }
    Ok(pages)
}

/// A command, those below it, and those below them.
fn with_subcommands(command: &clap::Command) -> Vec<&clap::Command> {
    let below = command.get_subcommands().filter(|sub| !sub.is_hide_set()).flat_map(with_subcommands);
    std::iter::once(command).chain(below).collect()
}
