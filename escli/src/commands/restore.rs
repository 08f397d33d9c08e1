//! `escli restore`: checks that the backup is complete, then does what `up` does, with two more steps on each node:
//! unpack the backup, and recover from it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use shared::backup::SUM;
use shared::ids::ClusterId;
use uuid::Uuid;

use super::again::{CommandLine, word};
use super::operation::{Operation, finish};
use super::target::Target;
use super::up::{local, options, remember, retry};
use crate::backup::{BackupError, VerifiedBackup, read_folder, read_tar};
use crate::cli::restore::Args;
use crate::engine::outcome::Outcome;
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::plan::restore::RestoreOptions;
use crate::settings::Settings;

/// Starts a new cluster from a backup. Nothing is changed unless the whole backup could be read.
///
/// # Errors
/// Wrong usage; an incomplete or damaged backup; a lock that another operator holds.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let (mut target, is_new) =
        if args.up.local { local(settings, &args.up)? } else { (Target::open(settings)?, false) };
    let source = settings.env.path(&args.path);
    if source.is_dir() && target.hosts.remote().is_some() {
        let dir = source.display();
        return Err(Failure::usage(format!(
            "{dir} is a directory; remote hosts need the backup as one file"
        ))
        .hint(format!("tar -C {dir} -cf {dir}.tar log checkpoints backup.json {SUM}")));
    }
    let place = source.clone();
    let read = tokio::task::spawn_blocking(move || whole(&place)).await;
    let VerifiedBackup { manifest, sum } = read.map_err(|error| Failure::failed(error.to_string()))??;
    let up = options(settings, &args.up, &mut target, is_new, "restore")?;
    let retry = retry(CommandLine::new(settings, "restore").argument(&args.path), &args.up);
    let request = Request::Restore(Box::new(RestoreOptions {
        up,
        source,
        sum,
        bytes: manifest.bytes(),
        cluster: ClusterId(Uuid::new_v4()),
        were_empty: false,
    }));
    let operation = Operation {
        settings,
        target: &target,
        name: "restore",
        retry,
        confirm: None,
        request,
        resumes: None,
    };
    let report = operation.run().await?;
    let exit = finish(settings, report.as_ref());
    if report.is_some_and(|report| report.outcome != Outcome::Refused) && args.up.local {
        remember(settings, &target);
    }
    Ok(exit)
}

/// Reads the whole backup at `path`, a tar or a folder, and checks it.
fn whole(path: &Path) -> Result<VerifiedBackup, Failure> {
    let from_file = || read_tar(BufReader::new(File::open(path)?), None);
    let read: Result<_, BackupError> = if path.is_dir() { read_folder(path) } else { from_file() };
    read.map_err(|error| {
        Failure::failed(format!("{} is not a complete backup: {error}; no changes were made", path.display()))
            .hint(format!("escli verify {}", word(path)))
    })
}
