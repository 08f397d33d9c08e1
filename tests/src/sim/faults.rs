//! What goes wrong, and when.

use esnode::replica::Request;
use fastrand::Rng;
use shared::ids::NodeId;

use super::Micros;
use super::arrival::Arrival;
use super::checks::InvariantViolation;
use super::env::{Env, Event};
use super::network::NetworkFaults;
use super::node::Node;
use super::operator;

/// Actions within which a doomed node dies: so many that it may be between any two of them.
const MAX_LAST_ACTIONS: u32 = 60;

/// One more thing goes wrong; the next one is scheduled.
pub fn strike(nodes: &mut [Node], env: &mut Env) {
    if !env.trouble {
        return;
    }
    let count = nodes.len();
    let at = env.rng.usize(..count);
    let span = env.rng.u64(20_000..2_000_000);
    match env.rng.u8(..22) {
        0..=4 => doom(&mut nodes[at], env),
        5 => {
            env.note(format_args!("power cut"));
            for node in nodes.iter_mut().filter(|node| node.is_up()) {
                node.fuse = Some(env.rng.u32(..5));
            }
        }
        6..=9 => partition(count as u64, span, env),
        10 => env.heal(),
        11..=12 => {
            env.note(format_args!("node {}'s disk stalls for {span} us", nodes[at].id));
            nodes[at].stalled_until = env.now + span;
        }
        13..=14 => {
            env.note(format_args!("node {} stands still for {span} us", nodes[at].id));
            nodes[at].paused_until = env.now + span;
        }
        15 => {
            env.note(format_args!("node {}'s disk fails its next sync", nodes[at].id));
            nodes[at].disk.fails = true;
        }
        16 => {
            let faults = NetworkFaults::draw(&mut env.rng);
            env.note(format_args!("faults: {faults:?}"));
            env.network.faults = faults;
        }
        17 => {
            env.note(format_args!("node {}'s disk is almost full, or no more", nodes[at].id));
            nodes[at].disk.low_on_space ^= true;
            nodes[at].disk.tell();
        }
        18 => ask_everyone(nodes, &Request::RaisableFormat(None), env),
        _ => {
            let to = env.rng.u64(1..=count as u64);
            env.note(format_args!("everyone is asked to hand over to node {to}"));
            ask_everyone(nodes, &Request::TransferLeader(Some(to)), env);
        }
    }
    if env.profile.spares > 0 && env.rng.bool() {
        let voters = env.checks.newest_members().voters.len();
        let change = operator::draw_change(count as u64, voters, &mut env.rng);
        ask_everyone(nodes, &Request::ChangeMembers(change), env);
    }
    let pause = env.rng.u64(50_000..900_000);
    env.at(pause, Event::Fault);
}

/// The operator asks every node, as whoever leads is not known.
fn ask_everyone(nodes: &[Node], request: &Request, env: &mut Env) {
    for node in nodes {
        env.node(0, node, Arrival::Operator(request.clone()));
    }
}

/// Everything that can be mended is.
pub fn mend(nodes: &mut [Node], env: &mut Env) -> Result<(), InvariantViolation> {
    env.note(format_args!("all is mended"));
    env.trouble = false;
    env.heal();
    env.network.faults = NetworkFaults::CALM;
    for node in nodes {
        repair(node, env)?;
    }
    Ok(())
}

/// Nothing more goes wrong, but nothing is mended either except between the nodes of `core`: they run and hear each
/// other. The others are off for good, or heard but deaf, or hear but are mute.
pub fn freeze(nodes: &mut [Node], core: &[NodeId], env: &mut Env) -> Result<(), InvariantViolation> {
    let (core_nodes, others): (Vec<_>, Vec<_>) = nodes.iter_mut().partition(|node| core.contains(&node.id));
    env.note(format_args!("faults are frozen; {core:?} are connected"));
    env.trouble = false;
    env.heal();
    env.network.faults = NetworkFaults::CALM;
    for node in core_nodes {
        repair(node, env)?;
    }
    for node in others {
        let way = env.rng.u8(..4);
        if way == 0 && node.is_up() {
            node.crash(env);
        }
        for inside in core {
            if way != 1 {
                env.network.cut(node.id, *inside);
            }
            if way != 2 {
                env.network.cut(*inside, node.id);
            }
        }
    }
    Ok(())
}

fn repair(node: &mut Node, env: &mut Env) -> Result<(), InvariantViolation> {
    node.fuse = None;
    node.paused_until = 0;
    node.stalled_until = 0;
    node.disk.fails = false;
    node.disk.low_on_space = false;
    node.disk.tell();
    if !node.is_up() {
        node.start(env)?;
    }
    Ok(())
}

/// What failed once may soon fail again: so that nodes also die in the middle of elections.
pub fn perhaps_again(node: &mut Node, env: &mut Env) {
    if env.trouble && env.rng.u8(..3) == 0 {
        doom(node, env);
    }
}

fn doom(node: &mut Node, env: &mut Env) {
    let left = env.rng.u32(..MAX_LAST_ACTIONS);
    env.note(format_args!("node {} dies after {left} more actions", node.id));
    node.fuse = Some(left);
}

/// Cuts links for a while: a part from the rest in both directions or one, one node in one direction, or any.
fn partition(count: u64, span: Micros, env: &mut Env) {
    let shape = env.rng.u8(..4);
    let side = sides(count, shape, &mut env.rng);
    env.note(format_args!("links are cut for {span} us: shape {shape}, {side:?}"));
    for from in 1..=count {
        for to in 1..=count {
            let (a, b) = (side.contains(&from), side.contains(&to));
            let cut = match shape {
                0 => a != b,
                1 => a && !b,
                2 => !a && b,
                _ => from < to && env.rng.bool(),
            };
            if cut && from != to {
                env.network.cut(from, to);
                if shape == 3 {
                    env.network.cut(to, from);
                }
            }
        }
    }
    env.at(span, Event::Heal);
}

fn sides(count: u64, shape: u8, rng: &mut Rng) -> Vec<NodeId> {
    if shape == 3 || count < 2 {
        return Vec::new();
    }
    let mut nodes: Vec<_> = (1..=count).collect();
    rng.shuffle(&mut nodes);
    let size = rng.usize(1..=nodes.len() / 2);
    nodes.truncate(size);
    nodes
}
