//! Random histories against a plain vector.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Append this many entries, starting so far below the end, of this size, in a new term or not.
    Write {
        back: u64,
        count: u64,
        size: usize,
        new_term: bool,
    },
    Vote,
    Sync,
    Mark,
    /// Sync, then open again, in good order or not.
    Reopen {
        close: bool,
    },
    Read {
        low: u64,
        count: u64,
        max_bytes: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0..300usize, 1 => 3000..6000usize];
    let back = prop_oneof![5 => Just(0), 2 => 0..20u64, 1 => 0..500u64];
    prop_oneof![
        8 => (back, 1..30u64, size, any::<bool>())
            .prop_map(|(back, count, size, new_term)| Step::Write { back, count, size, new_term }),
        1 => Just(Step::Vote),
        4 => Just(Step::Sync),
        1 => Just(Step::Mark),
        1 => any::<bool>().prop_map(|close| Step::Reopen { close }),
        6 => (1..300u64, 0..100u64, 0..20_000u64)
            .prop_map(|(low, count, max_bytes)| Step::Read { low, count, max_bytes }),
    ]
}

/// What the log should hold.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub entries: Vec<Entry>,
    pub hard_state: HardState,
}

impl Model {
    pub(super) fn apply(&mut self, batch: &Batch) {
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        for entry in &batch.entries {
            self.entries.truncate(usize::try_from(entry.index).unwrap() - 1);
            self.entries.push(entry.clone());
        }
    }

    fn read(&self, low: u64, high: u64, max_bytes: u64) -> Vec<Entry> {
        let mut bytes = 0;
        let wanted = self.entries.iter().filter(|entry| (low..high).contains(&entry.index));
        let fits = |entry: &&Entry| {
            bytes += entry.data.len() as u64;
            entry.index == low || bytes <= max_bytes
        };
        wanted.take_while(fits).cloned().collect()
    }
}

fn run(steps: &[Step], options: Options) {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut wal, _) = open(dir.path(), options).unwrap();
    let (mut written, mut visible) = (Model::default(), Model::default());
    let mut term = 1;
    for step in steps {
        match *step {
            Step::Write { back, count, size, new_term } => {
                let last = written.entries.len() as u64;
                term += u64::from(new_term || back > 0);
                let first = last.saturating_sub(back) + 1;
                let hard_state = HardState { term, ..written.hard_state };
                let entries = entries(first..first + count, term, size);
                let batch = Batch { hard_state: Some(hard_state), entries };
                wal.write(&batch).unwrap();
                written.apply(&batch);
            }
            Step::Vote => {
                let hard_state = HardState { vote: written.hard_state.vote + 1, ..written.hard_state };
                let batch = Batch { hard_state: Some(hard_state), entries: vec![] };
                wal.write(&batch).unwrap();
                written.apply(&batch);
            }
            Step::Sync => {
                wal.sync().unwrap();
                visible = written.clone();
            }
            Step::Mark => wal.mark().unwrap(),
            Step::Reopen { close } => {
                wal.sync().unwrap();
                visible = written.clone();
                if close {
                    wal.close().unwrap();
                } else {
                    drop(wal);
                }
                let recovered;
                (log, wal, recovered) = open(dir.path(), options).unwrap();
                assert_eq!(recovered.hard_state, visible.hard_state);
                assert_eq!(recovered.torn, None);
                assert_eq!(all(&log), visible.entries);
            }
            Step::Read { low, count, max_bytes } => {
                let found = log.entries(low, low + count, max_bytes).unwrap();
                assert_eq!(found, visible.read(low, low + count, max_bytes));
                let term = visible.entries.get(usize::try_from(low).unwrap() - 1).map(|entry| entry.term);
                assert_eq!(log.term(low).unwrap(), term);
                assert_eq!(log.last_index(), visible.entries.len() as u64);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_vector_in_small_segments(steps in prop::collection::vec(step(), 1..80)) {
        run(&steps, Options { segment_bytes: 16 << 10, sync: true });
    }

    #[test]
    fn behaves_like_a_vector_in_one_segment(steps in prop::collection::vec(step(), 1..80)) {
        run(&steps, Options { segment_bytes: 4 << 20, sync: false });
    }
}

#[test]
fn readers_never_see_a_mixture_while_the_writer_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), Options { segment_bytes: 1 << 20, sync: false }).unwrap();
    put(&mut wal, &entries(1..=400, 1, 500));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Relaxed) {
                let found = log.entries(150, u64::MAX, u64::MAX).unwrap();
                // Each round replaces 200.. as a whole, so one read sees one term there.
                let (old, new) = found.split_at(50);
                assert!(old.iter().all(|entry| entry.term == 1));
                assert!(new.iter().all(|entry| entry.term == new[0].term));
                assert_eq!(new.len(), 201);
                reads += 1;
            }
            reads
        });
        for term in 2..60 {
            put(&mut wal, &entries(200..=400, term, 500));
        }
        done.store(true, Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}
