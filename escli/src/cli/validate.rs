//! `escli validate`.

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints every problem as FILE:LINE:COLUMN: MESSAGE on standard output, which editors and CI systems
understand.

Exit codes: 0 when the file is valid, 2 when it is not.\n\n\
Examples:
  escli validate
  escli validate -c staging.yaml -o json
  generate-cluster | escli validate -c -
  escli validate --schema > cluster.schema.json     for your editor"
)]
pub struct Args {
    /// Print the JSON Schema of cluster.yaml instead.
    #[arg(long)]
    pub schema: bool,
}
