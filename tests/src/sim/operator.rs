//! What an operator asks for, at any moment: changes of the members, hand-overs, a later on-disk format.

use esnode::replica::Request;
use esnode::state_machine::members::{Added, Address, Change};
use fastrand::Rng;
use shared::ids::NodeId;

use super::identity::address;

/// Draws a change of any of so many nodes. An operator does not shrink a cluster below three voters.
pub fn draw_change(nodes: u64, voters: usize, rng: &mut Rng) -> Change {
    let node = rng.u64(1..=nodes);
    match rng.u8(..6) {
        0..=2 => add(node, rng.u8(..4) == 0),
        3 => Change::Promote(node),
        _ if voters > 3 => Change::Remove(node),
        _ => add(node, false),
    }
}

/// Takes a node in, as a learner first.
pub fn add(node: NodeId, stays_learner: bool) -> Change {
    Change::Add(node, Added { address: Address::from(&address(node)), stays_learner })
}

/// A number that tells a request from most others, for the trace's digest.
pub fn mark(request: &Request) -> u64 {
    match request {
        Request::TransferLeader(to) => to.unwrap_or(0),
        Request::ChangeMembers(Change::Add(node, _)) => 1000 + node,
        Request::ChangeMembers(Change::Promote(node)) => 2000 + node,
        Request::ChangeMembers(Change::Remove(node)) => 3000 + node,
        Request::RaisableFormat(to) => 4000 + u64::from(to.unwrap_or(0)),
        Request::Propose(_) | Request::ReadBarrier | Request::Status => 5000,
    }
}
