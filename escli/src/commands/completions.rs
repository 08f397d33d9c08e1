//! `escli completions`: scripts for shells. They ask escli itself for candidates, so they know its current options and
//! the nodes.

use clap_complete::env::Shells;

use crate::cli::completions::{Args, Shell};
use crate::failure::{Exit, Failure};
use crate::settings::Settings;
use crate::view;

/// The environment variable by which a script asks for candidates; `main` checks it before anything else.
pub const VARIABLE: &str = "COMPLETE";

/// Every shell, with the file name of its script in packages.
pub const FILES: [(Shell, &str); 3] =
    [(Shell::Bash, "escli.bash"), (Shell::Zsh, "_escli"), (Shell::Fish, "escli.fish")];

/// Prints the script of a shell.
///
/// # Errors
/// If the script cannot be generated.
pub async fn run(_settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let script =
        script(args.shell).map_err(|error| Failure::failed(format!("cannot make the script: {error}")))?;
    view::put(&script);
    Ok(Exit::Ok)
}

/// Returns the script of a shell. It runs the escli that is on the PATH.
///
/// # Errors
/// If clap_complete does not support the shell any more.
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
        Shell::Fish => format!("{script}\n"),
        Shell::Bash => with_whole_words(script).ok_or(std::io::ErrorKind::Unsupported)?,
        Shell::Zsh => autoloaded(script),
    })
}

/// bash splits `--output=js` at the `=` and expects only the part after it; escli returns the whole word.
const WHOLE_WORDS: &str = r#"_escli() {
    local whole=("${COMP_WORDS[0]}") at=0 number word
    for ((number = 1; number < ${#COMP_WORDS[@]}; number++)); do
        word=${COMP_WORDS[number]}
        if [[ $number == "$COMP_CWORD" && $word != = ]]; then
            word=$2
        fi
        if [[ ${whole[-1]} == --*= || ( $word == = && ${whole[-1]} == --* ) ]]; then
            whole[-1]+=$word
        else
            whole+=("$word")
        fi
        if [[ $number == "$COMP_CWORD" ]]; then
            at=$((${#whole[@]} - 1))
        fi
    done
    local COMP_WORDS=("${whole[@]}") COMP_CWORD=$at
    _clap_complete_escli "$1" "${whole[at]}" "$3"
    if [[ ${whole[at]} == --*=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${whole[at]%%=*}="}")
    fi
}
"#;

/// Puts [`WHOLE_WORDS`] in front of the script that clap generates.
fn with_whole_words(script: &str) -> Option<String> {
    let (function, registration) = script.rsplit_once("\nif ")?;
    let registration = registration.replace("-F _clap_complete_escli ", "-F _escli ");
    registration.contains("-F _escli ").then(|| format!("{function}\n{WHOLE_WORDS}if {registration}\n"))
}

/// zsh loads `_escli` at the first TAB and runs it as the completer at once, so the script must also complete when it
/// is loaded.
fn autoloaded(script: &str) -> String {
    let (function, registration) = script.rsplit_once('\n').unwrap_or(("", script));
    let completer = registration.split_whitespace().nth(1).unwrap_or_default();
    format!(
        "{function}\nif [[ \"${{funcstack[1]}}\" == _escli ]]; then\n    {completer} \"$@\"\nelse\n    {registration}\nfi\n"
    )
}
