//! `escli history`: lists past operations, and resumes those that did not finish.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::again::CommandLine;
use super::operation::{Interrupted, Operation, finish};
use super::target::{Change, Target, absolute};
use super::up;
use crate::cli::history::{Args, What};
use crate::cluster_file::{self, Source};
use crate::engine::journal::{Journal, Origin, Record};
use crate::engine::past::{self, OperationState, PastOperation};
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::settings::Settings;
use crate::view;

/// Lists, shows, resumes or aborts operations.
///
/// # Errors
/// [`Exit::Usage`] if an argument is invalid; those of [`Operation::run`]; if the state directory cannot be read.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let (all, broken) = operations(settings)?;
    match args.what.as_ref().unwrap_or(&What::List) {
        What::List => {
            let document = view::history::list_document(&all, &broken);
            view::show(settings, &document, |paint| view::history::list(&all, &broken, paint));
            Ok(Exit::Ok)
        }
        What::Show { id } => {
            let past = find(&all, id.as_deref())?;
            view::show(settings, &view::history::show_document(past), |paint| {
                view::history::show(past, paint)
            });
            Ok(Exit::Ok)
        }
        What::Resume { id } => resume(settings, find(&all, id.as_deref())?).await,
        What::Abort { id } => abort(settings, find(&all, Some(id))?),
    }
}

/// Returns all operations; with `-c`, those of that cluster.yaml.
pub(super) fn operations(settings: &Settings) -> Result<(Vec<PastOperation>, Vec<String>), Failure> {
    let folder = &settings.env.state_dir;
    let (mut all, broken) = past::all(folder)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", folder.display())))?;
    if let Some(file) = &settings.config {
        let file = settings.env.path(file);
        let meant = [absolute(&file), file.canonicalize().unwrap_or(file)];
        // Journals of older versions do not name the file.
        all.retain(|past| past.origin.as_ref().is_none_or(|origin| meant.contains(&origin.file)));
    }
    Ok((all, broken))
}

/// Returns the operation with this id; the last one without an id.
fn find<'a>(all: &'a [PastOperation], id: Option<&str>) -> Result<&'a PastOperation, Failure> {
    let found = match id {
        Some(id) => all.iter().find(|past| past.id == id),
        None => all.last(),
    };
    found.ok_or_else(|| {
        let message = id
            .map_or_else(|| "there are no operations".to_owned(), |id| format!("there is no operation {id}"));
        Failure::usage(message).hint("escli history")
    })
}

/// Checks that the operation can be resumed, and returns what it was asked for.
fn open(past: &PastOperation) -> Result<&Origin, Failure> {
    let id = &past.id;
    let refused = |why: String| Failure::new(Exit::Refused, why).hint(format!("escli history show {id}"));
    match &past.end {
        OperationState::Running => Err(Failure::new(Exit::Locked, format!("{id} is running"))
            .hint("wait until it has finished; escli watch shows its progress")),
        OperationState::Resumed { by } => Err(refused(format!("{id} was already resumed, by {by}"))
            .hint(format!("resume that one:  escli history resume {by}"))),
        end if !end.is_open() => Err(refused(format!("{id} has ended: {}", end.word()))),
        _ => past.origin.as_ref().ok_or_else(|| {
            refused(format!("{id} was started by an older escli, whose journals cannot be resumed"))
                .hint(format!("start it again:  escli {}", past.plan.operation))
        }),
    }
}

pub(super) async fn resume(settings: &Settings, past: &PastOperation) -> Result<Exit, Failure> {
    let origin = open(past)?;
    let (mut target, is_new) = target(settings, origin)?;
    let mut request = origin.request.clone();
    again_with(&mut request, &mut target)?;
    let up = match &mut request {
        Request::Up(options) => Some(&mut **options),
        Request::Restore(options) => Some(&mut options.up),
        _ => None,
    };
    if let Some(options) = up {
        options.new_file = options.new_file.take().filter(|_| is_new);
        if let Some(before) = options.remote.take() {
            let program = before.program.as_ref().map(|program| program.path.as_path());
            options.remote = target.provide(program, before.named)?;
        }
    }
    let interrupted = Interrupted { path: past.path.clone(), membership: origin.membership.clone() };
    let retry = CommandLine::with_file(&origin.file, &past.plan.operation)
        .flag("--fix", matches!(request, Request::Fix(_)));
    let is_local_up = past.plan.operation == "up" && matches!(request, Request::Up(_));
    let operation = Operation {
        settings,
        target: &target,
        name: &past.plan.operation,
        retry,
        confirm: None,
        request,
        resumes: Some(&interrupted),
    };
    let report = operation.run().await?;
    if is_local_up && report.is_some() {
        up::remember(settings, &target);
    }
    Ok(finish(settings, report.as_ref()))
}

/// Brings the paths in a request up to date, which name files on the operator's machine.
fn again_with(request: &mut Request, target: &mut Target) -> Result<(), Failure> {
    let file = target.file_to_write();
    let (adding, removing) = match request {
        Request::AddNode(options) => (Some(&mut **options), None),
        Request::RemoveNode(options) => (None, Some(&mut **options)),
        Request::ReplaceNode(options) => (Some(&mut options.add), Some(&mut options.remove)),
        Request::Recover(options) => {
            options.file = file;
            return Ok(());
        }
        Request::Upgrade(options) => {
            options.remote = target.provide(Some(&options.program.path), true)?;
            return Ok(());
        }
        _ => return Ok(()),
    };
    if let Some(options) = removing {
        options.file.clone_from(&file);
    }
    if let Some(options) = adding {
        options.file = file;
        if let Some(before) = options.remote.take() {
            let program = before.program.as_ref().map(|program| program.path.as_path());
            options.remote = target.provide(program, before.named)?;
        }
    }
    Ok(())
}

/// Returns the cluster of the operation, and whether its cluster.yaml still has to be written.
fn target(settings: &Settings, origin: &Origin) -> Result<(Target, bool), Failure> {
    if let (Some(text), false) = (&origin.text, origin.file.exists()) {
        let spec = cluster_file::parse(&Source::File(origin.file.clone()), text)?;
        let folder = origin.file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        return Ok((Target::new(settings, spec, text.clone(), &folder)?, true));
    }
    let settings = Settings { config: Some(origin.file.clone()), ..settings.clone() };
    let request = &origin.request;
    let change = Change {
        joining: request.joining().map(|options| options.member.clone()),
        leaving: request.leaving(),
    };
    Ok((Target::changing(&settings, &change)?, false))
}

pub(super) fn abort(settings: &Settings, past: &PastOperation) -> Result<Exit, Failure> {
    if past.end == OperationState::Running {
        return Err(Failure::new(Exit::Locked, format!("{} is running", past.id))
            .hint("stop it first: Ctrl-C in its terminal finishes the current step and releases the lock"));
    }
    if !past.end.is_open() {
        return Err(Failure::new(Exit::Refused, format!("{} has ended: {}", past.id, past.end.word())));
    }
    let record = Record::Aborted { who: settings.env.who.clone(), at: Timestamp::now() };
    Journal::reopen(&past.path).and_then(|journal| journal.append(&record)).map_err(|error| {
        Failure::failed(format!("cannot write the journal {}: {error}", past.path.display()))
    })?;
    view::remark(settings, &format!("{} is marked as finished; what it has done stays as it is", past.id));
    Ok(Exit::Ok)
}
