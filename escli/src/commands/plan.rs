//! `escli plan`: the steps that `escli up` would run.

use super::binary;
use super::target::Target;
use crate::cli::plan::Args;
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::plan::up::UpOptions;
use crate::settings::Settings;
use crate::view;

/// Prints the plan of `up`, and runs none of it.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Refused`] if the planner refuses.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut target = Target::open(settings)?;
    let binary = binary::find(settings, args.binary.as_deref(), target.named_binary())?;
    let named = args.binary.is_some() || target.named_binary().is_some();
    let options = UpOptions {
        operation: "up".to_owned(),
        nodes: Vec::new(),
        new_file: None,
        remote: target.provide(binary.as_deref(), named)?,
        binary,
        named: args.binary.is_some(),
    };
    let facts = target.inspect(settings, true).await;
    let plan = Request::Up(Box::new(options)).plan(&target.spec, target.wanted(), &facts)?;
    view::plan(settings, &plan);
    Ok(if plan.changes() > 0 { Exit::Differences } else { Exit::Ok })
}
