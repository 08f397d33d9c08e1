//! The writer's thread.

use std::sync::mpsc;
use std::time::Duration;

use super::super::writer::{WalEvent, WalRequest, spawn};
use super::*;

fn events(wal: Wal) -> (super::super::writer::Writer, mpsc::Receiver<WalEvent>) {
    let (sender, receiver) = mpsc::channel();
    (
        spawn(wal, super::super::Snapshots::default(), |_| Ok(()), move |event| sender.send(event).unwrap())
            .unwrap(),
        receiver,
    )
}

#[test]
fn batches_that_queue_up_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (log, wal, _) = open(dir.path(), ROOMY).unwrap();
    let (writer, events) = events(wal);
    for number in 1..=2000 {
        writer.sender().send((Some(number), WalRequest::Write(batch(&entries([number], 1, 50))))).unwrap();
    }
    let mut last = 0;
    while last < 2000 {
        match events.recv_timeout(Duration::from_secs(60)).unwrap() {
            WalEvent::Persisted { number } => {
                assert!(number > last && log.last_index() >= number);
                last = number;
            }
            WalEvent::Failed(error) => panic!("{error}"),
        }
    }
    writer.close();
    assert!(events.recv().is_err(), "an event after the end");
    let syncs = log.stats().syncs.counts().sum::<u64>();
    assert!(syncs < 1000, "{syncs} syncs for 2000 batches");
    assert_eq!(look(dir.path(), ROOMY).unwrap().0, entries(1..=2000, 1, 50));
}

#[test]
fn closing_writes_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (_, wal, _) = open(dir.path(), ROOMY).unwrap();
    let (writer, events) = events(wal);
    writer.sender().send((Some(7), WalRequest::Write(batch(&entries(1..=3, 1, 50))))).unwrap();
    writer.close();
    assert!(matches!(events.recv(), Ok(WalEvent::Persisted { number: 7 })));
    assert_eq!(look(dir.path(), ROOMY).unwrap().0.len(), 3);
}

#[test]
fn a_failure_is_the_last_event_and_nothing_is_persisted_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    wal.redirect(File::options().write(true).open("/dev/null").unwrap());
    let (writer, events) = events(wal);
    for number in 1..=3 {
        // The thread may have ended by then.
        drop(writer.sender().send((Some(number), WalRequest::Write(batch(&entries([number], 1, 50))))));
    }
    assert!(matches!(events.recv_timeout(Duration::from_secs(60)), Ok(WalEvent::Failed(_))));
    writer.close();
    assert!(events.recv().is_err());
    assert_eq!(log.last_index(), 0);
}

#[test]
fn an_idle_writer_protects_its_last_group() {
    let dir = tempfile::tempdir().unwrap();
    let (_, wal, _) = open(dir.path(), SMALL).unwrap();
    let (writer, events) = events(wal);
    writer.sender().send((Some(1), WalRequest::Write(batch(&entries(1..=3, 1, 50))))).unwrap();
    events.recv_timeout(Duration::from_secs(60)).unwrap();
    // Not closed: as if it were killed, but for the moment it may need to write the mark.
    std::thread::sleep(Duration::from_millis(200));
    let killed = tempfile::tempdir().unwrap();
    copy_log(dir.path(), killed.path());
    let path = segments(killed.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(look(killed.path(), SMALL), Err(OpenError::Corrupt { .. })));
    writer.close();
}

/// What nobody waits for, like a raised format, may end a group: what comes before it is reported all the
/// same.
#[test]
fn numbers_only_rise_whatever_ends_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let (_, wal, _) = open(dir.path(), ROOMY).unwrap();
    let (sender, events) = mpsc::channel();
    let slow = |_| {
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    };
    let writer =
        spawn(wal, super::super::Snapshots::default(), slow, move |event| sender.send(event).unwrap())
            .unwrap();
    // While the first one is carried out, the other two gather to one group.
    let works = [
        (None, WalRequest::Adopt(2)),
        (Some(1), WalRequest::Write(batch(&entries(1..=3, 1, 50)))),
        (None, WalRequest::Adopt(2)),
    ];
    works.into_iter().for_each(|work| writer.sender().send(work).unwrap());
    writer.close();
    let reported: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(reported, ["Persisted { number: 1 }"]);
}
