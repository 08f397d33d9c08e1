//! Adds, removes and promotes members. The leader performs the change, whichever node gets the request.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use shared::api::{AddMember, MemberResponse, Membership};
use shared::ids::{MAX_NODE_ID, NodeId};
use shared::spec::valid_host;
use tokio::time::{Instant, sleep, timeout_at};

use super::Node;
use super::context::{App, Shared, commit_timeout, find, no_leader, not_leader, parse, read};
use super::error::{ApiError, json};
use super::forward::{FORWARDED, forward};
use super::transfer::handed_over;
use crate::replica::ChangeError;
use crate::state_machine::members::{Added, Address, Change};

/// Path of the members, on this node and on the leader.
pub const MEMBERS: &str = "/cluster/members";
/// Time between two attempts while there is no leader.
const PAUSE: Duration = Duration::from_millis(20);

/// A request with everything needed to forward it.
struct Asked {
    change: Change,
    method: Method,
    path: String,
    body: Bytes,
    /// Another node has forwarded it, so it is not forwarded again.
    forwarded: bool,
}

/// `POST /cluster/members`.
pub async fn add<N: Node>(State(app): Shared<N>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    let wanted: AddMember = parse(&body, r#"{"id": 4, "host": "10.0.0.4", "port": 9100}"#)?;
    let change = addition(wanted)?;
    if !app.node.file().cluster.storage.wal_sync {
        return Err(not_synced());
    }
    carry_out(&app, Asked::new(change, Method::POST, MEMBERS.to_owned(), body, &parts.headers)).await
}

/// `DELETE /cluster/members/{id}`.
pub async fn remove<N: Node>(
    State(app): Shared<N>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = number(&id)?;
    let path = format!("{MEMBERS}/{id}");
    carry_out(&app, Asked::new(Change::Remove(id), Method::DELETE, path, Bytes::new(), &headers)).await
}

/// `POST /cluster/members/{id}/promote`.
pub async fn promote<N: Node>(
    State(app): Shared<N>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = number(&id)?;
    let path = format!("{MEMBERS}/{id}/promote");
    carry_out(&app, Asked::new(Change::Promote(id), Method::POST, path, Bytes::new(), &headers)).await
}

/// Parses the id in a path.
fn number(id: &str) -> Result<NodeId, ApiError> {
    let problem = |_| {
        let problem = format!("{id:?} is no node's id");
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", problem, "name a node, for example 4")
    };
    id.parse().map_err(problem)
}

/// Returns the change that a body asks for, if it is valid.
fn addition(wanted: AddMember) -> Result<Change, ApiError> {
    let AddMember { id, host, port, client_port, http_port, advertised_host, learner } = wanted;
    let hosts_valid = std::iter::once(&host).chain(&advertised_host).all(|host| valid_host(host));
    let problem = match () {
        () if !(1..=MAX_NODE_ID).contains(&id) => "id is not a number from 1 to 2147483647",
        () if !hosts_valid => "host is not a host name or an IP address, without a port",
        () if [port, client_port, http_port].contains(&0) => "a port is 0; expected 1 to 65535",
        () => {
            let address = Address { host, advertised_host, cluster_port: port, client_port, http_port };
            return Ok(Change::Add(id, Added { address, stays_learner: learner }));
        }
    };
    Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_request", problem, "correct the body and send it again"))
}

impl Asked {
    fn new(change: Change, method: Method, path: String, body: Bytes, headers: &HeaderMap) -> Self {
        Self { change, method, path, body, forwarded: headers.contains_key(FORWARDED) }
    }
}

/// Has the leader perform the change. Tries again if nobody answered, which is safe because requests can be repeated.
async fn carry_out<N: Node>(app: &Arc<App<N>>, mut asked: Asked) -> Result<Response, ApiError> {
    let commit_timeout = commit_timeout(app.node.file());
    let deadline = Instant::now() + commit_timeout;
    loop {
        let Ok(outcome) = timeout_at(deadline, app.node.change(asked.change.clone())).await else {
            return Err(timed_out(commit_timeout));
        };
        let late = Instant::now() >= deadline;
        match outcome {
            Ok(()) => return answer(app, asked.change.node()).await,
            Err(ChangeError::NotLeader(Some(leader))) => {
                let status = app.status().await?;
                let leader = find(&status, leader).ok_or_else(no_leader)?;
                if asked.forwarded {
                    return Err(not_leader(status.node_id, &leader));
                }
                return Ok(forward(
                    status.node_id,
                    app.node.file(),
                    &leader,
                    asked.method,
                    &asked.path,
                    asked.body,
                )
                .await);
            }
            Err(ChangeError::Leads) => {
                handed_over(app.node.transfer(None).await)?;
                // The node that has forwarded the request did not know the present leader.
                asked.forwarded = false;
            }
            Err(ChangeError::NotLeader(None) | ChangeError::JustElected | ChangeError::Unknown) if !late => {
                sleep(PAUSE).await;
            }
            Err(error) => return Err(refusal(&error)),
        }
    }
}

async fn answer<N: Node>(app: &App<N>, id: NodeId) -> Result<Response, ApiError> {
    let status = app.status().await?;
    let own = (status.node_id, status.membership);
    let mut members: Vec<_> =
        status.peers.iter().map(|peer| (peer.id, peer.membership)).chain([own]).collect();
    members.sort_unstable_by_key(|(id, _)| *id);
    let with = |role| members.iter().filter(|(_, has)| *has == role).map(|(id, _)| *id).collect();
    let membership = members
        .iter()
        .find(|(member, _)| *member == id)
        .map_or(Membership::None, |(_, membership)| *membership);
    let response = MemberResponse {
        id,
        membership,
        voters: with(Membership::Voter),
        learners: with(Membership::Learner),
    };
    Ok(json(StatusCode::OK, &response))
}

fn not_synced() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "not_synced",
        "this node runs with wal_sync: false, which only a single node may: what it has acknowledged or voted does not \
         survive a power cut",
        "set cluster.storage.wal_sync to true, restart the node, and add the other one then",
    )
}

fn timed_out(commit_timeout: Duration) -> ApiError {
    ApiError::new(
        StatusCode::GATEWAY_TIMEOUT,
        "change_timed_out",
        format!("the change was not committed within {} s; it may still be", commit_timeout.as_secs()),
        "check that a majority answers (/cluster/status), then send the same request again",
    )
}

fn refusal(error: &ChangeError) -> ApiError {
    let conflict = StatusCode::CONFLICT;
    let (status, code, hint) = match error {
        ChangeError::NotLeader(_) | ChangeError::JustElected | ChangeError::Leads => return no_leader(),
        ChangeError::InFlight => (conflict, "change_in_flight", "wait until it is done, then try again"),
        ChangeError::NoQuorum(_) => {
            (conflict, "no_quorum", "bring the silent voters back, or add a node, before this one goes")
        }
        ChangeError::LastVoter(_) => (conflict, "last_voter", "add another node first, or stop this one"),
        ChangeError::IdTaken(..) => (conflict, "id_taken", "take another id, or remove that node first"),
        ChangeError::AddressTaken(_) => (conflict, "address_taken", "check host and port"),
        ChangeError::Full => (conflict, "too_many_members", "remove a node first"),
        ChangeError::NotAMember(_) => {
            (StatusCode::NOT_FOUND, "not_a_member", "see /cluster/status for the members")
        }
        ChangeError::Behind(..) => (conflict, "behind", "wait until its lag in /cluster/status is small"),
        ChangeError::Unknown => {
            (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", "send the same request again")
        }
        ChangeError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "ask another node"),
    };
    ApiError::new(status, code, error.to_string(), hint)
}
