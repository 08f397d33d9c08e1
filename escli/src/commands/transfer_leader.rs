//! `escli transfer-leader`.

use std::fmt::Write as _;

use super::again;
use super::operation::{Operation, finish};
use super::target::Target;
use crate::cli::transfer_leader::Args;
use crate::exit::{Exit, Failure};
use crate::plan::request::Request;
use crate::plan::transfer::TransferOptions;
use crate::settings::Settings;

/// Hands leadership to another node.
///
/// # Errors
/// Usage; or the lock is taken.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let mut retry = again(settings, "transfer-leader", &[]);
    if let Some(to) = args.to {
        let _ = write!(retry, " --to {to}");
    }
    let request = Request::TransferLeader(TransferOptions { to: args.to });
    let (name, confirm) = ("transfer-leader", None);
    let operation = Operation { settings, target: &target, name, retry, confirm, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}
