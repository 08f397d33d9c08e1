//! `escli completions`: scripts that ask escli itself, so that they never lag behind it and know the nodes.

use clap_complete::env::Shells;

use crate::cli::completions::{Args, Shell};
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::view;

/// The environment variable by which a script asks; `main` answers it before anything else.
pub const VARIABLE: &str = "COMPLETE";

/// Every shell, with the name its script has among the files of a package.
pub const FILES: [(Shell, &str); 3] =
    [(Shell::Bash, "escli.bash"), (Shell::Zsh, "_escli"), (Shell::Fish, "escli.fish")];

/// Prints the script.
///
/// # Errors
/// When the script cannot be made.
pub async fn run(_settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let script =
        script(args.shell).map_err(|error| Failure::failed(format!("cannot make the script: {error}")))?;
    let _ = view::put(&script);
    Ok(Exit::Ok)
}

/// The script of a shell. It looks for escli along the PATH.
///
/// # Errors
/// When clap_complete does not know the shell any more.
pub fn script(shell: Shell) -> std::io::Result<String> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let completer = shells.completer(name).ok_or(std::io::ErrorKind::Unsupported)?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "escli", "escli", "escli", &mut script)?;
    let script = String::from_utf8_lossy(&script);
    let script = script.trim();
    Ok(match shell {
        Shell::Bash | Shell::Fish => format!("{script}\n"),
        Shell::Zsh => autoloaded(script),
    })
}

/// zsh loads `_escli` at the first TAB and runs it as the completer: it must complete then, not only prepare to.
fn autoloaded(script: &str) -> String {
    let (function, registration) = script.rsplit_once('\n').unwrap_or(("", script));
    let completer = registration.split_whitespace().nth(1).unwrap_or_default();
    format!(
        "{function}\nif [[ \"${{funcstack[1]}}\" == _escli ]]; then\n    {completer} \"$@\"\nelse\n    {registration}\nfi\n"
    )
}
