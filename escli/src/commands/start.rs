//! `escli start`.

use std::fmt::Write as _;

use super::operation::{Operation, finish};
use super::target::Target;
use super::{again, binary, word};
use crate::cli::start::Args;
use crate::exit::{Exit, Failure};
use crate::plan::request::Request;
use crate::plan::up::Options;
use crate::settings::Settings;

/// Starts what is down among the nodes named, or among all.
///
/// # Errors
/// Usage; or the lock is taken.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut target = Target::open(settings)?;
    let mut retry = again(settings, "start", &args.nodes);
    if let Some(path) = &args.binary {
        let _ = write!(retry, " --binary {}", word(path));
    }
    let options = Options {
        operation: "start".to_owned(),
        nodes: args.nodes.clone(),
        new_file: None,
        // On hosts of their own, what is installed is started, unless another program is named.
        remote: target.provide(args.binary.as_deref(), args.binary.is_some())?,
        binary: binary::find(settings, args.binary.as_deref(), target.named_binary())?,
        named: args.binary.is_some(),
        retry: retry.clone(),
    };
    let request = Request::Up(Box::new(options));
    let operation =
        Operation { settings, target: &target, name: "start", retry, confirm: None, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}
