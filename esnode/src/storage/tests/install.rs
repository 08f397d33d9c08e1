//! Another node's segments and snapshot take their place in a log: whole, in one step, whatever there was
//! before.

use super::super::log::LogStart;
use super::super::log::header::Header;
use super::super::transfer::commit::{self, Commit};
use super::super::transfer::install;
use super::super::transfer::install::Installation;
use super::super::writer::{WalEvent, WalRequest};
use super::super::{Incoming, Offer, Outgoing, Staged};
use super::*;

/// Where the leader's snapshot is.
const LAST: u64 = 70;

/// A leader's log: entries to 40 of term 1, then a suffix that replaced another one, to 80, with state frames
/// that are its own business.
fn leader(dir: &Path) -> (Log, Wal, Recovered) {
    let (log, mut wal, recovered) = open(dir, SMALL).unwrap();
    put(&mut wal, &entries(1..=45, 1, 200));
    let hard_state = Some(HardState { term: 3, vote: 9, commit: 40 });
    wal.write(&Batch { hard_state, entries: entries(41..=80, 3, 210) }).unwrap();
    wal.sync().unwrap();
    recovered.snapshots.write(&log, LAST, 3, b"the state").unwrap();
    (log, wal, recovered)
}

/// What the leader's log holds up to its snapshot, from `first` on.
fn expected(first: u64) -> Vec<Entry> {
    let all = entries(1..=40, 1, 200).into_iter().chain(entries(41..=LAST, 3, 210));
    all.filter(|entry| entry.index >= first).collect()
}

fn gather(log: &Log, recovered: &Recovered, have: u64) -> Outgoing {
    Outgoing::gather(log, &recovered.snapshots, have).unwrap().unwrap()
}

/// Brings everything to `dir`, in pieces, as the connection would.
fn bring(outgoing: &Outgoing, dir: &Path) -> Staged {
    let (incoming, offer) = (Incoming::of(dir), outgoing.offer());
    incoming.begin(offer).unwrap();
    let mut parts = Vec::new();
    for piece in &offer.segments {
        let mut receiving = incoming.receive(*piece).unwrap();
        while receiving.have() < piece.length {
            receiving.push(&outgoing.read(Some(piece.generation), receiving.have(), 1000).unwrap()).unwrap();
        }
        parts.push(incoming.check(*piece).unwrap());
    }
    let payload = outgoing.read(None, 0, offer.payload).unwrap();
    let packs = offer.packs.as_ref().map(|_| Vec::new());
    incoming.complete(offer, payload, parts, packs).unwrap()
}

/// What is in a follower's log, and that it can go on and be opened again.
fn check_follower(dir: &Path, (log, mut wal): (Log, Wal), expected: &[Entry], hard_state: HardState) {
    assert_eq!(all(&log), expected);
    let more = entries(LAST + 1..=LAST + 60, 4, 150);
    put(&mut wal, &more);
    let whole: Vec<_> = expected.iter().cloned().chain(more).collect();
    assert_eq!(all(&log), whole);
    drop(wal);
    for footers in [true, false] {
        if !footers {
            segments(dir).iter().for_each(|path| drop(fs::remove_file(path.with_extension("sum"))));
        }
        let (log, _wal, recovered) = open(dir, SMALL).unwrap();
        assert_eq!(all(&log), whole);
        let snapshot = recovered.snapshot.unwrap();
        assert_eq!((snapshot.index, &snapshot.payload[..]), (LAST, &b"the state"[..]));
        assert_eq!(recovered.hard_state, hard_state);
    }
}

const OWN: HardState = HardState { term: 4, vote: 2, commit: LAST };

#[test]
fn an_empty_log_gets_everything() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, _wal, recovered) = leader(there.path());
    let (mine, mut wal, own) = open(here.path(), SMALL).unwrap();
    let staged = bring(&gather(&log, &recovered, 0), here.path());
    install(&mut wal, &own.snapshots, &staged, Some(OWN)).unwrap();
    assert_eq!((mine.first_index(), mine.last_index(), mine.term(LAST).unwrap()), (1, LAST, Some(3)));
    check_follower(here.path(), (mine, wal), &expected(1), OWN);
    assert!(fs::read_dir(here.path().join("incoming")).unwrap().next().is_none(), "nothing is left there");
}

#[test]
fn an_installation_that_was_cut_short_is_begun_again() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Segments with several places in the index each.
    let options = Options { segment_bytes: 64 << 10, sync: true };
    let (log, mut wal, recovered) = open(there.path(), options).unwrap();
    put(&mut wal, &entries(1..=60, 1, 5000));
    recovered.snapshots.write(&log, 50, 1, b"the state").unwrap();
    let outgoing = gather(&log, &recovered, 0);
    let staged = bring(&outgoing, here.path());
    // The first segment has got the number that the second one came with.
    let [first, second] = [0, 1].map(|at| staged.parts[at].header);
    let renumbered = Header { sequence: second.sequence, ..first };
    Incoming::of(here.path()).put_header(&staged.parts[0].file_name, &renumbered).unwrap();
    let (mine, mut wal, own) = open(here.path(), options).unwrap();
    install(&mut wal, &own.snapshots, &bring(&outgoing, here.path()), Some(OWN)).unwrap();
    assert_eq!(all(&mine), entries(1..=50, 1, 5000));
}

#[test]
fn a_log_that_is_behind_goes_on_and_gives_up_what_differs() {
    for count in [1, 10, 30, 40, 55, 69] {
        let have = count as u64;
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (log, _wal, recovered) = leader(there.path());
        let (mine, mut wal, own) = open(here.path(), SMALL).unwrap();
        put(&mut wal, &expected(1)[..count]);
        own.snapshots.write(&mine, have, mine.term(have).unwrap().unwrap(), b"old").unwrap();
        // Never committed.
        put(&mut wal, &entries(have + 1..=have + 20, 3, 33));
        let outgoing = gather(&log, &recovered, have);
        let all_segments = gather(&log, &recovered, 0).offer().segments.len();
        assert!(have < 20 || outgoing.offer().segments.len() < all_segments, "only what is lacking");
        install(&mut wal, &own.snapshots, &bring(&outgoing, here.path()), Some(OWN)).unwrap();
        check_follower(here.path(), (mine, wal), &expected(1), OWN);
    }
}

#[test]
fn a_log_that_the_leader_no_longer_reaches_back_to_is_given_up() {
    // What the leader has deleted, what this node has deleted, how far it is.
    for (theirs, ours, have) in [(50, 0, 5), (50, 0, 0), (20, 38, 39), (0, 38, 39)] {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (log, _wal, recovered) = leader(there.path());
        log.delete_before(theirs);
        let (mine, mut wal, own) = open(here.path(), SMALL).unwrap();
        put(&mut wal, &expected(1)[..have]);
        mine.delete_before(ours);
        let staged = bring(&gather(&log, &recovered, have as u64), here.path());
        install(&mut wal, &own.snapshots, &staged, Some(OWN)).unwrap();
        let first = mine.first_index();
        assert!(first <= have as u64 + 1 || first == log.first_index());
        assert_eq!(mine.term(first - 1).unwrap(), log.term(first - 1).unwrap());
        check_follower(here.path(), (mine, wal), &expected(first), OWN);
    }
}

#[test]
fn entries_that_were_never_committed_are_nothing_to_go_on_from() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, _wal, recovered) = leader(there.path());
    log.delete_before(50);
    let (mine, mut wal, own) = open(here.path(), SMALL).unwrap();
    put(&mut wal, &expected(1)[..5]);
    // Up to beyond where the leader's log begins.
    put(&mut wal, &entries(6..=60, 2, 33));
    let staged = bring(&gather(&log, &recovered, 5), here.path());
    install(&mut wal, &own.snapshots, &staged, Some(OWN)).unwrap();
    assert_eq!(mine.first_index(), log.first_index());
    check_follower(here.path(), (mine, wal), &expected(log.first_index()), OWN);
}

#[test]
fn a_log_that_is_retired_up_to_its_snapshot_can_still_be_offered() {
    for at in 41..=60 {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut wal, recovered) = open(dir.path(), SMALL).unwrap();
        put(&mut wal, &entries(1..=80, 1, 200));
        recovered.snapshots.write(&log, at, 1, b"the state").unwrap();
        log.delete_before(at);
        assert_eq!(gather(&log, &recovered, 0).offer().index, at);
    }
}

#[test]
fn an_offer_is_what_it_is_even_when_the_log_goes_on_and_is_retired() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, mut wal, recovered) = leader(there.path());
    let outgoing = gather(&log, &recovered, 0);
    put(&mut wal, &entries(81..=140, 3, 200));
    log.delete_before(130);
    for at in [130, 131] {
        recovered.snapshots.write(&log, at, 3, b"").unwrap();
    }
    assert!(log.first_index() > LAST);
    let (mine, mut wal, own) = open(here.path(), SMALL).unwrap();
    install(&mut wal, &own.snapshots, &bring(&outgoing, here.path()), Some(OWN)).unwrap();
    check_follower(here.path(), (mine, wal), &expected(1), OWN);
    assert!(Outgoing::gather(&log, &recovered.snapshots, 131).unwrap().is_none(), "nothing is lacking");
}

#[test]
fn through_the_writers_thread_it_stands_between_what_comes_before_and_after() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, _wal, recovered) = leader(there.path());
    let (mine, wal, own) = open(here.path(), SMALL).unwrap();
    let staged = std::sync::Arc::new(bring(&gather(&log, &recovered, 0), here.path()));
    let (sender, events) = std::sync::mpsc::channel();
    let writer =
        super::super::writer::spawn(wal, own.snapshots, |_| Ok(()), move |event| sender.send(event).unwrap())
            .unwrap();
    let works = [
        WalRequest::Write(batch(&entries(1..=3, 2, 50))),
        WalRequest::Install(staged, Some(OWN)),
        WalRequest::Write(batch(&entries(LAST + 1..=LAST + 2, 4, 50))),
    ];
    for (number, work) in (1..).zip(works) {
        writer.sender().send((Some(number), work)).unwrap();
    }
    while !matches!(events.recv().unwrap(), WalEvent::Persisted { number: 3 }) {}
    writer.close();
    assert_eq!(mine.entries(1, LAST + 1, u64::MAX).unwrap(), expected(1));
    assert_eq!(mine.last_index(), LAST + 2);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|file| file.unwrap()) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

/// A crash anywhere: until it is decided nothing has happened, from then on it has.
#[test]
fn a_crash_at_any_step_leaves_the_old_log_or_the_new_one() {
    for deleted in [0, 50] {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (log, _wal, recovered) = leader(there.path());
        log.delete_before(deleted);
        let (mine, mut wal, own) = open(here.path(), SMALL).unwrap();
        put(&mut wal, &expected(1)[..30]);
        own.snapshots.write(&mine, 30, 1, b"old").unwrap();
        wal.close().unwrap();
        let old = |dir: &Path| {
            let (found, recovered) = look(dir, SMALL).unwrap();
            assert_eq!((found, recovered.snapshot.unwrap().index), (expected(1)[..30].to_vec(), 30));
        };
        let staged = bring(&gather(&log, &recovered, 30), here.path());
        old(here.path());
        // The steps that `Wal::install` takes.
        let (mine, _wal, _) = open(here.path(), SMALL).unwrap();
        let (last, end) = mine.end_of(30).unwrap();
        let end = end + super::super::log::frame::STATE_LEN as u64;
        let plan = mine
            .with_index(|index| Installation::plan(LogStart::default(), index, (last.header, end), &staged))
            .unwrap();
        let incoming = Incoming::of(here.path());
        drop(plan.stage(&incoming, &staged, OWN, 4096).unwrap());
        old(here.path());
        fs::write(here.path().join("incoming/commit.tmp"), b"torn").unwrap();
        old(here.path());
        let commit: Commit = plan.commit(&staged);
        commit::decide(here.path(), &commit).unwrap();
        for done in 0..=commit.renames.len() {
            let crashed = tempfile::tempdir().unwrap();
            copy(here.path(), crashed.path());
            for (from, to) in &commit.renames[..done] {
                let to = crashed.path().join(to);
                fs::rename(crashed.path().join("incoming").join(from), to).unwrap();
            }
            let (log, wal, recovered) = open(crashed.path(), SMALL).unwrap();
            assert_eq!(recovered.hard_state, OWN);
            let first = log.first_index();
            assert_eq!(first > 1, deleted > 0);
            check_follower(crashed.path(), (log, wal), &expected(first), OWN);
        }
        // A decision that cannot be read is none that can be passed over.
        let path = here.path().join("incoming/commit");
        let mut text = fs::read(&path).unwrap();
        text[20] ^= 1;
        fs::write(&path, text).unwrap();
        assert!(matches!(look(here.path(), SMALL), Err(OpenError::Corrupt { .. })));
    }
}

#[test]
fn a_piece_is_gone_on_with_and_one_that_is_damaged_is_received_again() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, _wal, recovered) = leader(there.path());
    let outgoing = gather(&log, &recovered, 0);
    let (incoming, offer) = (Incoming::of(here.path()), outgoing.offer().clone());
    incoming.begin(&offer).unwrap();
    let piece = offer.segments[0];
    let whole = outgoing.read(Some(piece.generation), 0, piece.length).unwrap();
    let half = whole.len() / 2;
    incoming.receive(piece).unwrap().push(&whole[..half]).unwrap();
    // As after a crash, or with another leader that offers the same and more.
    Incoming::of(here.path()).begin(&offer).unwrap();
    let mut receiving = incoming.receive(piece).unwrap();
    assert_eq!(receiving.have(), half as u64);
    receiving.push(&whole[half..]).unwrap();
    incoming.check(piece).unwrap();
    let file = fs::read_dir(here.path().join("incoming")).unwrap().next().unwrap().unwrap().path();
    for at in (0..whole.len()).step_by(3) {
        let mut bad = whole.to_vec();
        bad[at] ^= 1 << (at % 8);
        fs::write(&file, bad).unwrap();
        assert!(incoming.check(piece).is_err(), "byte {at}");
        assert!(!file.exists());
        assert_eq!(incoming.receive(piece).unwrap().have(), 0);
    }
    // For another offer, nothing of it is of use.
    let other = Offer { segments: vec![], ..offer };
    incoming.begin(&other).unwrap();
    assert!(fs::read_dir(here.path().join("incoming")).unwrap().next().is_none());
    incoming.discard().unwrap();
    incoming.discard().unwrap();
    assert!(commit::finish(here.path()).is_ok());
}

#[test]
fn segments_that_do_not_fit_change_nothing() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, _wal, recovered) = leader(there.path());
    let (_, mut wal, own) = open(here.path(), SMALL).unwrap();
    // Of a later term than what would follow it.
    put(&mut wal, &entries(1..=5, 9, 200));
    let outgoing = gather(&log, &recovered, 30);
    let mut staged = bring(&outgoing, here.path());
    staged.before = LogStart::default().before;
    let error = install(&mut wal, &own.snapshots, &staged, None).unwrap_err();
    assert!(error.to_string().contains("not known"), "{error}");
    drop(wal);
    assert_eq!(look(here.path(), SMALL).unwrap().0, entries(1..=5, 9, 200));
}
