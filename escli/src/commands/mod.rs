//! One small file for each subcommand: it takes settings and arguments, and returns an exit code or a failure.

use crate::cli::Command;
use crate::failure::{Exit, Failure};
use crate::settings::Settings;

pub mod again;
pub mod alerts;
pub mod backup;
pub mod binary;
pub mod check;
pub mod completions;
pub mod confirm;
pub mod consume;
pub mod diff;
pub mod down;
pub mod exec;
pub mod explain;
pub mod failures;
pub mod group;
pub mod health;
pub mod history;
pub mod init;
pub mod kafka;
pub mod leases;
pub mod logs;
pub mod man;
pub mod members;
pub mod monitoring;
pub mod operation;
pub mod plan;
pub mod probe;
pub mod produce;
pub mod recover;
pub mod reload;
pub mod render;
pub mod restart;
pub mod restore;
pub mod start;
pub mod status;
pub mod stop;
pub mod support_bundle;
pub mod target;
pub mod topic;
pub mod transaction;
pub mod transfer_leader;
pub mod up;
pub mod upgrade;
pub mod validate;
pub mod verify;
pub mod version;
pub mod watch;

/// Runs one subcommand to its end. It is in the library, because in `main.rs` everything would be compiled a second
/// time.
///
/// # Errors
/// Those of the subcommand; if the async runtime cannot be started.
pub fn run(command: &Command, settings: &Settings) -> Result<Exit, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?
        .block_on(dispatch(command, settings))
}

async fn dispatch(command: &Command, settings: &Settings) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(settings, args).await,
        Command::Start(args) => start::run(settings, args).await,
        Command::Stop(args) => stop::run(settings, args).await,
        Command::Restart(args) => restart::run(settings, args).await,
        Command::Reload(args) => reload::run(settings, args).await,
        Command::TransferLeader(args) => transfer_leader::run(settings, args).await,
        Command::Upgrade(args) => upgrade::run(settings, args).await,
        Command::AddNode(args) => members::add(settings, args).await,
        Command::RemoveNode(args) => members::remove(settings, args).await,
        Command::ReplaceNode(args) => members::replace(settings, args).await,
        Command::Recover(args) => recover::run(settings, args).await,
        Command::Down(args) => down::run(settings, args).await,
        Command::Topic(args) => topic::run(settings, args).await,
        Command::Produce(args) => produce::run(settings, args).await,
        Command::Consume(args) => consume::run(settings, args).await,
        Command::Group(args) => group::run(settings, args).await,
        Command::Transaction(args) => transaction::run(settings, args).await,
        Command::Monitoring(args) => monitoring::run(settings, args),
        Command::Plan(args) => plan::run(settings, args).await,
        Command::Diff(args) => diff::run(settings, args).await,
        Command::Status(args) => status::run(settings, args).await,
        Command::Health(args) => health::run(settings, args).await,
        Command::Alerts(args) => alerts::run(settings, args).await,
        Command::Watch(args) => watch::run(settings, args).await,
        Command::SupportBundle(args) => support_bundle::run(settings, args).await,
        Command::History(args) => history::run(settings, args).await,
        Command::Check(args) => check::run(settings, args).await,
        Command::Exec(args) => exec::run(settings, args).await,
        Command::Logs(args) => logs::run(settings, args).await,
        Command::Backup(args) => backup::run(settings, args).await,
        Command::Restore(args) => restore::run(settings, args).await,
        Command::Verify(args) => verify::run(settings, args).await,
        Command::Init(args) => init::run(settings, args),
        Command::Explain(args) => explain::run(settings, args),
        Command::Validate(args) => validate::run(settings, args).await,
        Command::Render(args) => render::run(settings, args).await,
        Command::Completions(args) => completions::run(settings, args).await,
        Command::Man(args) => man::run(settings, args).await,
        Command::Version(args) => version::run(settings, args).await,
    }
}
