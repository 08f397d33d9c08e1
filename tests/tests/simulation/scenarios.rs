//! Courses of events that chance takes too long to find: each keeps all promises, and shows the mistake that it is about.

use esnode::consensus::{Durable as _, Role};
use esnode::process::version::FORMAT;
use esnode::replica::{Mistake, Request};
use esnode::state_machine::members::Change;
use shared::ids::NodeId;
use shared::version::Range;
use tests::sim::arrival::Arrival;
use tests::sim::bugs::Bug;
use tests::sim::checks::InvariantViolation;
use tests::sim::client::Kind;
use tests::sim::env::{Event, Profile};
use tests::sim::operator::add;
use tests::sim::world::{Setup, World};

/// Longest wait of a story for its next turn, in microseconds.
const LONG: u64 = 5_000_000;

/// A calm cluster with clients, its leader, and the term it leads.
fn calm(seed: u64, bug: Option<Bug>) -> (World, NodeId, u64) {
    let nodes = Some([3, 5][usize::from(seed % 4 < 2)]);
    let mut world = World::new(&Setup { nodes, profile: Some(Profile::FAST), bug, ..Setup::seed(seed) });
    world.many_clients();
    world.run_for(2_000_000).unwrap();
    let leader = world.leader().expect("a calm cluster has a leader");
    let term = world.status(leader).unwrap().term;
    (world, leader, term)
}

fn follower(world: &World, leader: NodeId) -> NodeId {
    leader % world.nodes.len() as u64 + 1
}

/// Everyone still agrees on the leader and the term.
fn undisturbed(world: &World, leader: NodeId, term: u64, seed: u64) {
    for node in &world.nodes {
        let status = node.status().unwrap();
        assert_eq!((status.leader, status.term), (Some(leader), term), "seed {seed}: node {}", node.id);
    }
}

#[test]
fn simulation_of_an_isolated_followers_return_has_no_new_term() {
    for seed in 0..50 {
        let (mut world, leader, term) = calm(seed, None);
        let alone = follower(&world, leader);
        for other in (1..=world.nodes.len() as u64).filter(|other| *other != alone) {
            world.env.network.cut(other, alone);
            // In every other run it can still be heard, and asks for votes all the time.
            if seed % 2 == 0 {
                world.env.network.cut(alone, other);
            }
        }
        world.run_for(3_000_000).unwrap();
        let role = world.status(alone).unwrap().role;
        assert_eq!(role, Role::PreCandidate, "seed {seed}: the follower did not notice that it is alone");
        world.env.heal();
        world.run_for(2_000_000).unwrap();
        undisturbed(&world, leader, term, seed);
    }
}

#[test]
fn simulation_of_slow_disks_has_no_false_election() {
    for seed in 0..50 {
        let (mut world, leader, term) = calm(seed, None);
        let slow = if seed % 2 == 0 { leader } else { follower(&world, leader) };
        // A leader whose disk makes no progress for two seconds steps down.
        let until = world.env.now + 1_700_000;
        world.nodes[usize::try_from(slow - 1).unwrap()].stalled_until = until;
        let before = world.env.checks.commits();
        world.run_for(1_600_000).unwrap();
        undisturbed(&world, leader, term, seed);
        assert!(
            world.env.checks.commits() > before,
            "seed {seed}: a majority of disks is fast enough to commit"
        );
        world.run_for(1_000_000).unwrap();
        undisturbed(&world, leader, term, seed);
        world.settle().unwrap();
    }
}

/// How many entries are on this node's disk.
fn durable(world: &World, node: NodeId) -> u64 {
    world.nodes[usize::try_from(node - 1).unwrap()].disk.log().last_index()
}

/// From now on nobody hears this node but `friends`; what is under way from it is lost.
fn mute(world: &mut World, node: NodeId, friends: &[NodeId]) {
    world.env.network.ended(node);
    for other in (1..=5).filter(|other| *other != node && !friends.contains(other)) {
        world.env.network.cut(node, other);
    }
}

fn crash(world: &mut World, nodes: &[NodeId]) {
    for node in nodes {
        world.nodes[usize::try_from(node - 1).unwrap()].crash(&mut world.env);
    }
}

fn start(world: &mut World, nodes: &[NodeId]) {
    world.env.heal();
    nodes.iter().for_each(|node| world.env.at(0, Event::Start(*node)));
}

/// Figure 8 of the Raft paper, which chance takes too long to find: `false` when it took another turn. An entry of the first leader's term is on a majority
/// of disks, but none of the third leader's term is; then the second leader comes back, whose newer log lacks it.
fn figure_8(seed: u64, bug: Option<Bug>) -> Result<bool, InvariantViolation> {
    let profile = Profile { tail_bytes: 0, ..Profile::FAST };
    let mut world = World::new(&Setup { nodes: Some(5), profile: Some(profile), bug, ..Setup::seed(seed) });
    world.many_clients();
    world.run_for(2_000_000)?;
    let first = world.leader().unwrap();
    let [friend, second, left, right] = [1, 2, 3, 4].map(|step| (first + step - 1) % 5 + 1);
    mute(&mut world, first, &[friend]);
    let common = durable(&world, first);
    if !world.run_until(LONG, |world| durable(world, friend) > common + 2)? {
        return Ok(false);
    }
    crash(&mut world, &[first, friend]);

    // Elected by the rest, it has an entry in its own term that nobody else gets.
    [left, right].iter().for_each(|node| mute(&mut world, *node, &[second]));
    let before = durable(&world, second);
    if !world.run_until(LONG, |world| world.status(second).unwrap().role == Role::Leader)? {
        return Ok(false);
    }
    mute(&mut world, second, &[]);
    if !world.run_until(LONG, |world| durable(world, second) > before)? {
        return Ok(false);
    }
    crash(&mut world, &[second]);

    start(&mut world, &[first, friend]);
    if !world.run_until(LONG, |world| [first, friend].contains(&world.leader().unwrap_or(0)))? {
        return Ok(false);
    }
    let third = world.leader().unwrap();
    world.nodes[usize::try_from(third - 1).unwrap()].stalled_until = world.env.now + 100_000;
    if !world.run_until(LONG, |world| durable(world, left) > before)? {
        return Ok(false);
    }
    for node in [first, friend] {
        world.env.network.cut(node, left);
        world.env.network.cut(node, right);
    }
    world.run_for(50_000)?;
    crash(&mut world, &[first, friend]);
    start(&mut world, &[second]);
    world.run_for(2_000_000)?;
    start(&mut world, &[first, friend]);
    world.settle().map(|()| true)
}

#[test]
fn simulation_of_a_majority_for_an_old_term_commits_nothing() {
    let told = (0..20).filter(|seed| figure_8(*seed, None).unwrap()).count();
    assert!(told >= 10, "only {told} runs took the wanted turns");
}

#[test]
fn simulation_catches_a_commit_by_count_alone() {
    let caught: Vec<_> =
        (0..20).filter_map(|seed| figure_8(seed, Some(Bug::Replica(Mistake::CommitByCount))).err()).collect();
    assert!(caught.len() >= 10, "too often unnoticed: {caught:?}");
    let lost = |InvariantViolation(what): &InvariantViolation| what.starts_with("leader completeness");
    assert!(caught.iter().all(lost), "{caught:?}");
}

/// A course of events under one seed, with a mistake or without.
type Scenario = fn(u64, Option<Bug>) -> Result<(), InvariantViolation>;

/// Without the mistake all seeds keep all promises, and with it most break one.
fn shows(mistake: Mistake, scenario: Scenario) {
    shows_bug(Bug::Replica(mistake), scenario);
}

/// The same for a mistake of whatever is around the replica.
fn shows_bug(bug: Bug, scenario: Scenario) {
    const SEEDS: u64 = 20;
    for seed in 0..SEEDS {
        scenario(seed, None).unwrap_or_else(|InvariantViolation(what)| panic!("seed {seed}: {what}"));
    }
    let caught: Vec<_> = (0..SEEDS).filter_map(|seed| scenario(seed, Some(bug)).err()).collect();
    assert!(caught.len() >= 10, "too often unnoticed: {caught:?}");
}

fn violated(what: &str) -> Result<(), InvariantViolation> {
    Err(InvariantViolation(what.to_owned()))
}

/// Three nodes with clients: the leader and its followers.
fn three(seed: u64, bug: Option<Bug>) -> Result<(World, [NodeId; 3]), InvariantViolation> {
    let profile = Some(Profile::FAST);
    let mut world = World::new(&Setup { nodes: Some(3), profile, bug, ..Setup::seed(seed) });
    world.many_clients();
    world.run_for(2_000_000)?;
    let leader = world.leader().expect("a calm cluster has a leader");
    Ok((world, [leader, leader % 3 + 1, (leader + 1) % 3 + 1]))
}

fn ask(world: &mut World, request: &Request) {
    for at in 0..world.nodes.len() {
        world.env.node(0, &world.nodes[at], Arrival::Operator(request.clone()));
    }
}

#[test]
fn simulation_catches_a_change_that_leaves_no_quorum() {
    shows(Mistake::ChangeWithoutQuorum, |seed, bug| {
        let (mut world, [leader, alive, dead]) = three(seed, bug)?;
        crash(&mut world, &[dead]);
        world.run_for(1_000_000)?;
        ask(&mut world, &Request::ChangeMembers(Change::Remove(alive)));
        world.run_for(1_000_000)?;
        world.progress(&[leader, alive])
    });
}

#[test]
fn simulation_catches_a_hand_over_that_does_not_wait_for_the_log() {
    shows(Mistake::TransferWithoutDrain, |seed, bug| {
        let (mut world, [one, other, away]) = three(seed, bug)?;
        for node in [one, other] {
            world.env.network.cut(away, node);
            world.env.network.cut(node, away);
        }
        world.run_for(500_000)?;
        let before = world.unknown;
        for (from, to) in [(one, other), (other, one)].into_iter().cycle().take(10) {
            // What is in the log is committed as soon as the leader's disk is back.
            world.nodes[at(from)].stalled_until = world.env.now + 100_000;
            world.run_for(50_000)?;
            ask(&mut world, &Request::TransferLeader(Some(to)));
            world.run_for(1_000_000)?;
        }
        if world.unknown == before {
            Ok(())
        } else {
            violated("a client does not know what became of a batch")
        }
    });
}

#[test]
fn simulation_catches_a_leader_that_leads_on_with_a_disk_that_hangs() {
    shows(Mistake::LeadOnStalledDisk, |seed, bug| {
        let (mut world, [leader, ..]) = three(seed, bug)?;
        world.nodes[at(leader)].stalled_until = world.env.now + 60_000_000;
        world.run_for(LONG)?;
        world.progress(&[1, 2, 3].into_iter().filter(|node| *node != leader).collect::<Vec<_>>())
    });
}

#[test]
fn simulation_catches_a_format_that_a_member_does_not_read() {
    shows(Mistake::RaiseUnreadFormat, |seed, bug| {
        let profile = Some(Profile::FAST);
        let mut world = World::new(&Setup { nodes: Some(3), profile, bug, ..Setup::seed(seed) });
        world.nodes[2].reads = Range { max: FORMAT.max - 1, ..FORMAT };
        world.many_clients();
        world.run_for(2_000_000)?;
        ask(&mut world, &Request::RaisableFormat(None));
        world.run_for(1_000_000)?;
        let format = |world: &World| world.nodes[0].state().map(|state| state.format());
        if format(&world) != Some(FORMAT.max - 1) {
            return violated("the format is not the newest that all read");
        }
        // The node is upgraded.
        crash(&mut world, &[3]);
        world.nodes[2].reads = FORMAT;
        start(&mut world, &[3]);
        world.run_for(1_000_000)?;
        ask(&mut world, &Request::RaisableFormat(None));
        world.run_for(1_000_000)?;
        let raised = format(&world) == Some(FORMAT.max);
        if raised { world.settle() } else { violated("the format is not raised though all read it") }
    });
}

#[test]
fn simulation_catches_a_vote_of_an_empty_disk() {
    shows(Mistake::TrustAnyStore, |seed, bug| {
        let (mut world, [leader, wiped, behind]) = three(seed, bug)?;
        // What is committed from now on is on two disks only.
        for other in [leader, wiped] {
            world.env.network.cut(behind, other);
            world.env.network.cut(other, behind);
        }
        world.run_for(500_000)?;
        // One of them is lost.
        crash(&mut world, &[wiped]);
        world.nodes[at(wiped)].wipe(&mut world.env);
        world.env.at(0, Event::Start(wiped));
        let joined = world.run_until(LONG, |world| world.status(wiped).is_some())?;
        crash(&mut world, &[leader]);
        world.env.heal();
        world.run_for(LONG)?;
        if joined { violated("a node with an empty disk takes part") } else { Ok(()) }
    });
}

#[test]
fn simulation_catches_a_stale_read_after_a_pause() {
    shows_bug(Bug::LeaseAcrossPause, |seed, bug| {
        let (mut world, [leader, second, third]) = three(seed, bug)?;
        for _ in 0..32 {
            world.client(Kind::Reader { fresh: true });
        }
        world.run_for(200_000)?;
        // The others elect a leader meanwhile, and this one does not hear of it.
        for other in [second, third] {
            world.env.network.cut(other, leader);
        }
        world.nodes[at(leader)].paused_until = world.env.now + 2_000_000;
        world.run_for(2_500_000)?;
        world.settle()
    });
}

#[test]
fn simulation_catches_a_member_forgotten_in_a_hand_over_that_fails() {
    shows(Mistake::ForgetDropped, |seed, bug| {
        let profile = Some(Profile { spares: 1, ..Profile::FAST });
        let mut world = World::new(&Setup { nodes: Some(3), profile, bug, ..Setup::seed(seed) });
        world.many_clients();
        let new = 4;
        (1..new).for_each(|other| world.env.network.cut(new, other));
        world.run_for(2_000_000)?;
        crash(&mut world, &[new]);
        let leader = world.leader().expect("three nodes elect a leader");
        ask(&mut world, &Request::ChangeMembers(add(new, true)));
        world.run_for(500_000)?;
        // The one that is to take over dies, and meanwhile the new one says who it is.
        let [other, third] = [leader % 3 + 1, (leader + 1) % 3 + 1];
        world.nodes[at(other)].paused_until = world.env.now + LONG;
        ask(&mut world, &Request::TransferLeader(Some(other)));
        world.run_for(5_000)?;
        crash(&mut world, &[other]);
        start(&mut world, &[new]);
        world.run_for(LONG)?;
        world.progress(&[leader, third, new])
    });
}

#[test]
fn simulation_catches_a_removal_that_a_crash_makes_forgotten() {
    shows(Mistake::ForgetRemovals, |seed, bug| {
        let profile = Some(Profile { tail_bytes: 0, ..Profile::FAST });
        let mut world = World::new(&Setup { nodes: Some(3), profile, bug, ..Setup::seed(seed) });
        world.run_for(2_000_000)?;
        let stays = world.leader().expect("a calm cluster has a leader");
        let [first, last] = [stays % 3 + 1, (stays + 1) % 3 + 1];
        let removed = |world: &World, node| {
            world.nodes[at(stays)].state().is_some_and(|state| state.members().was_removed(node))
        };
        for node in [first, last] {
            ask(&mut world, &Request::ChangeMembers(Change::Remove(node)));
            if !world.run_until(LONG, |world| removed(world, node))? {
                return violated("a member is not removed");
            }
        }
        // Of two voters one was removed, and ends; the other one forgets what was not durable.
        let gone = world.run_until(LONG, |world| !world.nodes[at(last)].is_up())?;
        crash(&mut world, &[stays]);
        start(&mut world, &[stays]);
        if gone { world.progress(&[stays]) } else { violated("the removed node stays") }
    });
}

fn at(node: NodeId) -> usize {
    usize::try_from(node - 1).unwrap()
}
