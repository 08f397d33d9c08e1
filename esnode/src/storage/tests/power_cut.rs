//! A power cut keeps any part of what was written since the last sync: opening must succeed all the same,
//! with everything synced and, in order, some of the rest.

use super::super::log::frame::STATE_LEN;
use super::super::log::header::SEGMENT_HEADER_LEN;
use super::model::Model;
use super::*;

/// The disk writes these whole or not at all.
const SECTOR: usize = 512;

/// What the last segment held when it was last known to be on the disk.
fn durable_image(last: &Path, synced: Option<&(PathBuf, Vec<u8>)>) -> Vec<u8> {
    match synced {
        Some((path, image)) if path == last => image.clone(),
        // Begun since: its head was synced before it got its name.
        _ => {
            let mut image = fs::read(last).unwrap();
            image[SEGMENT_HEADER_LEN + STATE_LEN..].fill(0);
            image
        }
    }
}

fn random_batch(rng: &mut fastrand::Rng, model: &Model) -> Batch {
    let last = model.entries.len() as u64;
    let back = if rng.u8(..5) == 0 { rng.u64(..=last.min(8)) } else { 0 };
    let term = model.hard_state.term.max(1) + u64::from(back > 0 || rng.u8(..8) == 0);
    let first = last - back + 1;
    let sizes = if rng.bool() { 10 } else { 1500 };
    let entries = (first..first + rng.u64(..6)).map(|index| entry(index, term, rng.usize(..sizes))).collect();
    let hard_state = Some(HardState { term, vote: rng.u64(..4), commit: 0 }).filter(|_| rng.bool());
    Batch { hard_state: hard_state.or(Some(HardState { term, ..model.hard_state })), entries }
}

/// One life of the log: some synced groups, then some that are not. Returns the model of what is synced, and
/// each model that replaying ever more of the rest could lead to.
fn live(rng: &mut fastrand::Rng, dir: &Path, mut model: Model) -> (Vec<u8>, PathBuf, Vec<Model>) {
    let (log, mut wal, _) = open(dir, Options { segment_bytes: 16 << 10, sync: true }).unwrap();
    assert_eq!(all(&log), model.entries);
    for _ in 0..rng.u8(..4) {
        for _ in 0..rng.u8(1..4) {
            let batch = random_batch(rng, &model);
            wal.write(&batch).unwrap();
            model.apply(&batch);
        }
        wal.sync().unwrap();
    }
    let synced = segments(dir).pop().map(|last| (last.clone(), fs::read(last).unwrap()));
    let mut possible = vec![model.clone()];
    if rng.bool() {
        wal.mark().unwrap();
    }
    for _ in 0..rng.u8(..4) {
        let batch = random_batch(rng, &model);
        wal.write(&batch).unwrap();
        // State first, then entry by entry.
        model.hard_state = batch.hard_state.unwrap_or(model.hard_state);
        possible.push(model.clone());
        for entry in &batch.entries {
            model.apply(&super::batch(std::slice::from_ref(entry)));
            possible.push(model.clone());
        }
        if rng.bool() {
            wal.flush().unwrap();
        }
    }
    wal.flush().unwrap();
    let last = segments(dir).pop().unwrap();
    let before = durable_image(&last, synced.as_ref());
    (before, last, possible)
}

#[test]
fn whatever_part_of_the_unsynced_survives() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        for life in 0..3 {
            let (before, last, possible) = live(&mut rng, dir.path(), model);
            let after = fs::read(&last).unwrap();
            let keep = rng.u8(..=100);
            let mut image = before;
            for (old, new) in image.chunks_mut(SECTOR).zip(after.chunks(SECTOR)) {
                if rng.u8(..100) < keep {
                    old.copy_from_slice(new);
                }
            }
            fs::write(&last, &image).unwrap();
            let (found, recovered) = look(dir.path(), SMALL)
                .unwrap_or_else(|error| panic!("seed {seed}, life {life}: a torn tail was refused: {error}"));
            let fits = |model: &&Model| {
                // Entries of a group follow its state: the state found is that of the last frame kept, or
                // later.
                model.entries == found && model.hard_state == recovered.hard_state
            };
            model = possible.iter().rev().find(fits).cloned().unwrap_or_else(|| {
                panic!("seed {seed}, life {life}: {} entries, {recovered:?}", found.len());
            });
        }
    }
}
