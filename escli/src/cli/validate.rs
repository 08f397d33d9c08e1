//! `escli validate`.

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every problem is a line FILE:LINE:COLUMN: MESSAGE on standard output, as editors and CI understand it.

Exit codes: 0 when there is nothing to complain about, 2 when there is.\n\n\
Examples:
  escli validate
  escli validate -c staging.yaml -o json
  generate-cluster | escli validate -c -
  escli validate --schema > cluster.schema.json     for your editor"
)]
pub struct Args {
    /// Print the file's JSON Schema instead.
    #[arg(long)]
    pub schema: bool,
}
