//! `upgrade`: programs that cannot take part in the cluster are refused, whatever else is allowed.

use shared::version::{BuildInfo, Range};

use super::*;
use crate::plan::Refusal;
use crate::plan::upgrade::{UpgradeOptions, upgrade};

const ONE: Range = Range { min: 1, max: 1 };
const BOTH: Range = Range { min: 1, max: 2 };
const TWO: Range = Range { min: 2, max: 2 };

/// To a program that speaks and reads this, with every permission there is.
fn to(world: &World, version: &str, protocol: Range, format: Range) -> Result<Plan, Refusal> {
    let info = BuildInfo { version: version.to_owned(), build: "abc debug".to_owned(), protocol, format };
    let program = Program {
        path: PathBuf::from("/bin/new"),
        release: format!("{version}-1"),
        info: Some(info),
        ..Program::default()
    };
    let options =
        UpgradeOptions { program, allow_downgrade: true, allow_skip: true, ..UpgradeOptions::default() };
    upgrade(&world.spec, &world.facts, &options)
}

/// Nodes that speak protocol 1 to 2 and read formats 1 to 2; their data is in this one.
fn written_in(active: u16) -> World {
    let mut world = world(3, &[1, 2, 3], Some(1));
    for id in 1..=3 {
        let status = world.says(id);
        (status.protocol, status.format, status.active_format) = (Some(BOTH), Some(BOTH), Some(active));
    }
    world
}

#[test]
fn a_program_must_read_what_is_written_and_speak_what_is_spoken() {
    for (active, protocol, format) in [(1, ONE, ONE), (1, TWO, BOTH), (2, ONE, BOTH), (2, BOTH, TWO)] {
        assert!(to(&written_in(active), "0.1.0", protocol, format).is_ok(), "{active} {protocol} {format}");
    }
    let refused = to(&written_in(2), "0.1.0", BOTH, ONE).unwrap_err();
    assert!(refused.message.contains("no changes were made"), "{}", refused.message);
    let why = "n1's data is in on-disk format 2; /bin/new is 0.1.0 and reads format 1";
    assert_eq!((refused.reasons.len(), refused.reasons[0].as_str()), (3, why), "every node is named");
    assert!(!refused.hints.is_empty());
    assert!(to(&written_in(1), "9.0.0", BOTH, TWO).is_err(), "too new to read what there is");
    let three = Range { min: 3, max: 4 };
    let refused = to(&written_in(1), "9.0.0", three, BOTH).unwrap_err();
    let why = "n1 speaks peer protocol 1 to 2; /bin/new is 9.0.0 and speaks 3 to 4";
    assert_eq!(refused.reasons[0], why);
}

#[test]
fn nodes_that_do_not_say_are_upgraded_all_the_same() {
    assert!(to(&world(3, &[1, 2, 3], Some(1)), "0.1.1", TWO, TWO).is_ok());
}
