//! `escli completions`.

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The scripts call escli, so node ids come from the cluster.yaml that the command would use.\n\n\
Examples:
  escli completions bash > ~/.local/share/bash-completion/completions/escli
  escli completions zsh > \"${fpath[1]}/_escli\"
  escli completions fish > ~/.config/fish/completions/escli.fish"
)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell with completion support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}
