//! `escli add-node`, `remove-node` and `replace-node`: turn arguments into a request to the planner.

use shared::api::{Membership, PeerStatus};
use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node, Service};

use super::again::CommandLine;
use super::binary;
use super::operation::{Operation, finish};
use super::target::{Change, Target};
use crate::admin_client::connect::admin;
use crate::cli::add_node::NewNode;
use crate::cli::remove_node::Removal;
use crate::cli::{add_node, remove_node, replace_node};
use crate::cluster_file;
use crate::engine::observe::observe_api;
use crate::failure::{Exit, Failure};
use crate::plan::members::{AddOptions, RemoveOptions, ReplaceOptions};
use crate::plan::request::Request;
use crate::settings::Settings;

/// Adds a node to the cluster.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn add(settings: &Settings, args: &add_node::Args) -> Result<Exit, Failure> {
    let settings = &of_local(settings, args.node.local)?;
    let spec = cluster_file::load(settings)?.spec;
    let node = newcomer(&spec, args.id, &args.node)?;
    let mut target =
        Target::changing(settings, &Change { joining: Some(node.clone()), leaving: Vec::new() })?;
    let add = joining(settings, &mut target, node, &args.node, args.learner_only)?;
    let retry = with_place(CommandLine::new(settings, "add-node").nodes(&[args.id]), &args.node)
        .flag("--learner-only", args.learner_only);
    run(settings, &target, "add-node", retry, None, Request::AddNode(Box::new(add))).await
}

/// Removes a node from the cluster.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn remove(settings: &Settings, args: &remove_node::Args) -> Result<Exit, Failure> {
    let spec = cluster_file::load(settings)?.spec;
    let node = member(settings, &spec, args.id).await?;
    let target = Target::changing(settings, &Change { joining: None, leaving: vec![node.clone()] })?;
    let remove = leaving(&target, node, &args.removal);
    let retry = with_removal(CommandLine::new(settings, "remove-node").nodes(&[args.id]), &args.removal);
    let request = Request::RemoveNode(Box::new(remove));
    run(settings, &target, "remove-node", retry, args.removal.confirm.as_deref(), request).await
}

/// Replaces a node with a new one.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn replace(settings: &Settings, args: &replace_node::Args) -> Result<Exit, Failure> {
    let settings = &of_local(settings, args.node.local)?;
    let spec = cluster_file::load(settings)?.spec;
    let (new, old) = (newcomer(&spec, args.new, &args.node)?, member(settings, &spec, args.old).await?);
    let change = Change { joining: Some(new.clone()), leaving: vec![old.clone()] };
    let mut target = Target::changing(settings, &change)?;
    let add = joining(settings, &mut target, new, &args.node, false)?;
    let remove = leaving(&target, old, &args.removal);
    let retry = CommandLine::new(settings, "replace-node").nodes(&[args.old, args.new]);
    let retry = with_removal(with_place(retry, &args.node), &args.removal);
    let request = Request::ReplaceNode(Box::new(ReplaceOptions { add, remove }));
    run(settings, &target, "replace-node", retry, args.removal.confirm.as_deref(), request).await
}

async fn run(
    settings: &Settings,
    target: &Target,
    name: &str,
    retry: CommandLine,
    confirm: Option<&str>,
    request: Request,
) -> Result<Exit, Failure> {
    let operation = Operation { settings, target, name, retry, confirm, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

/// Returns settings that name the cluster.yaml of the local cluster if `local` is set.
fn of_local(settings: &Settings, local: bool) -> Result<Settings, Failure> {
    if !local {
        return Ok(settings.clone());
    }
    let spec = cluster_file::load(settings)?.spec;
    if spec.is_local() {
        return Ok(settings.clone());
    }
    if settings.config.is_some() {
        return Err(Failure::usage(
            "-c names a cluster on remote hosts, but --local means one on this machine",
        ));
    }
    let file = settings.env.last_local().unwrap_or_else(|| settings.env.default_local());
    Ok(Settings { config: Some(file), ..settings.clone() })
}

/// Returns the node to add: as cluster.yaml already describes it, or as the arguments do.
fn newcomer(spec: &ClusterFile, id: NodeId, place: &NewNode) -> Result<Node, Failure> {
    if let Some(node) = spec.node(id) {
        return match &place.host {
            Some(host) if *host != node.host => Err(Failure::usage(format!(
                "node {id} is already in cluster.yaml, at {}; the command line says {host}",
                node.host
            ))),
            _ => Ok(node.clone()),
        };
    }
    let mut node = if spec.is_local() { next(spec, id) } else { Node::at(id, "") };
    match &place.host {
        Some(host) => node.host.clone_from(host),
        None if node.host.is_empty() => {
            return Err(Failure::usage(format!("node {id} is not in cluster.yaml, and --host is missing"))
                .hint(format!("escli add-node {id} --host HOST")));
        }
        None => {}
    }
    node.client_port = place.client_port.unwrap_or(node.client_port);
    node.cluster_port = place.cluster_port.unwrap_or(node.cluster_port);
    node.http_port = place.http_port.unwrap_or(node.http_port);
    node.advertised_host.clone_from(&place.advertised_host);
    Ok(node)
}

/// Returns a further node of a local cluster, on the next free ports.
fn next(spec: &ClusterFile, id: NodeId) -> Node {
    let nodes = &spec.cluster.nodes;
    let behind = |port: fn(&Node) -> u16| nodes.iter().map(port).max().unwrap_or_default().saturating_add(1);
    Node {
        client_port: behind(|node| node.client_port),
        cluster_port: behind(|node| node.cluster_port),
        http_port: behind(|node| node.http_port),
        ..Node::at(id, nodes.first().map_or("127.0.0.1", |node| node.host.as_str()))
    }
}

/// Returns the node to remove: from cluster.yaml, or from the cluster itself if cluster.yaml no longer has it.
async fn member(settings: &Settings, spec: &ClusterFile, id: NodeId) -> Result<Node, Failure> {
    if let Some(node) = spec.node(id) {
        return Ok(node.clone());
    }
    let client = admin(settings, spec)?;
    let facts = observe_api(spec, &client, settings.concurrency).await;
    let peers = facts.statuses().flat_map(|(_, status)| &status.peers);
    let known: Option<&PeerStatus> =
        peers.into_iter().find(|peer| peer.id == id && peer.membership != Membership::None);
    let known = known.ok_or_else(|| {
        Failure::usage(format!("there is no node {id}, neither in cluster.yaml nor among the members"))
            .hint("escli status")
    })?;
    Ok(Node {
        client_port: known.client_port,
        cluster_port: known.cluster_port,
        http_port: known.http_port,
        advertised_host: known.advertised_host.clone(),
        ..Node::at(id, known.host.clone())
    })
}

fn joining(
    settings: &Settings,
    target: &mut Target,
    member: Node,
    place: &NewNode,
    stays_learner: bool,
) -> Result<AddOptions, Failure> {
    let binary = binary::find(settings, place.binary.as_deref(), target.named_binary())?;
    let named = place.binary.is_some() || target.named_binary().is_some();
    let remote = target.provide(binary.as_deref(), named)?;
    let file = target.file_to_write();
    Ok(AddOptions { member, stays_learner, binary, remote, file, was_empty: None })
}

fn leaving(target: &Target, member: Node, removal: &Removal) -> RemoveOptions {
    let service: Option<Service> = target.hosts.remote().map(|hosts| hosts.layout().service);
    let Removal { purge, force, allow_downtime, .. } = *removal;
    RemoveOptions {
        member,
        purge,
        force,
        allow_downtime,
        agreed: false,
        service,
        file: target.file_to_write(),
    }
}

fn with_place(line: CommandLine, place: &NewNode) -> CommandLine {
    line.value("--host", place.host.as_ref())
        .value("--client-port", place.client_port)
        .value("--cluster-port", place.cluster_port)
        .value("--http-port", place.http_port)
        .value("--advertised-host", place.advertised_host.as_ref())
        .path("--binary", place.binary.as_deref())
}

fn with_removal(line: CommandLine, removal: &Removal) -> CommandLine {
    line.flag("--purge", removal.purge).flag("--force", removal.force)
}
