//! Each rule of a hibuilder is broken once, and the check notices.

use std::time::Duration;

use super::*;

/// A hibuilder built step by step, one millisecond each.
struct Builder {
    start: Instant,
    hibuilder: LoadHistory,
    log: Vec<Event>,
}

impl Builder {
    fn new() -> Self {
        Self { start: Instant::now(), hibuilder: LoadHistory::default(), log: Vec::new() }
    }

    fn at(&self, step: u64) -> Instant {
        self.start + Duration::from_millis(step)
    }

    fn write(&mut self, name: (&str, u64), sent: u64, acknowledged: Option<(u64, i64)>) -> &mut Self {
        let write = Write {
            producer: name.0.to_owned(),
            number: name.1,
            idempotent: name.0.starts_with("once"),
            sent: self.at(sent),
            acknowledged: acknowledged.map(|(step, offset)| (self.at(step), offset)),
        };
        self.hibuilder.extend(vec![write], Vec::new(), Vec::new());
        self
    }

    fn end(&mut self, asked: u64, end: i64) -> &mut Self {
        let read = EndRead { asked: self.at(asked), end };
        self.hibuilder.extend(Vec::new(), vec![read], Vec::new());
        self
    }

    fn log(&mut self, values: &[&str]) -> &mut Self {
        let event = |(value, offset): (&&str, i64)| Event { offset, value: value.to_string().into() };
        self.log = values.iter().zip(0..).map(event).collect();
        self
    }

    fn verdict(&mut self) -> String {
        self.hibuilder.check(self.log.clone()).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }
}

#[test]
fn an_allowed_hibuilder_passes() {
    let mut builder = Builder::new();
    builder.write(("plain", 0), 0, Some((1, 0))).write(("plain", 1), 2, None).write(("plain", 2), 3, None);
    builder.write(("once", 0), 0, Some((5, 2))).end(2, 1).end(6, 3);
    assert_eq!(builder.log(&["plain-0", "plain-2", "once-0"]).verdict(), "fine");
    builder.write(("once", 1), 7, Some((8, 3)));
    assert_eq!(builder.log(&["plain-0", "plain-2", "once-0", "once-1"]).verdict(), "fine");
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    let mut builder = Builder::new();
    builder.write(("plain", 0), 0, Some((1, 0))).write(("plain", 1), 2, Some((3, 1)));
    assert!(builder.log(&["plain-0"]).verdict().contains("plain-1 was acknowledged at 1 and is lost"));
    assert!(builder.log(&["plain-1", "plain-0"]).verdict().contains("is lost: found at Some(1)"));
}

#[test]
fn duplicates_and_values_that_nobody_wrote_are_found() {
    let mut builder = Builder::new();
    builder.write(("once", 0), 0, Some((1, 0)));
    assert!(builder.log(&["once-0", "once-0"]).verdict().contains("once-0 is there twice: at 0 and 1"));
    assert!(builder.log(&["once-0", "other"]).verdict().contains("never written"));
}

#[test]
fn a_write_before_an_earlier_one_is_found() {
    let mut builder = Builder::new();
    builder.write(("plain", 0), 0, Some((1, 1))).write(("late", 0), 2, None);
    assert!(builder.log(&["late-0", "plain-0"]).verdict().contains("sent after 1 was acknowledged"));
    let mut builder = Builder::new();
    builder.write(("once", 0), 0, Some((4, 1))).write(("once", 1), 0, Some((4, 0)));
    assert!(builder.log(&["once-1", "once-0"]).verdict().contains("before its predecessor"));
}

#[test]
fn a_stale_read_is_found() {
    let mut builder = Builder::new();
    builder.write(("plain", 0), 0, Some((1, 0))).end(1, 0);
    assert_eq!(
        builder.log(&["plain-0"]).verdict(),
        "fine",
        "it was asked before the acknowledgement was known"
    );
    assert!(builder.end(2, 0).verdict().contains("told 0 when 0 was acknowledged"));
}

#[test]
fn an_event_that_was_read_and_is_gone_is_found() {
    let mut builder = Builder::new();
    builder.write(("plain", 0), 0, None);
    let seen = Event { offset: 0, value: "plain-0".into() };
    builder.hibuilder.extend(Vec::new(), Vec::new(), vec![seen]);
    assert!(builder.verdict().contains("was read and is lost"));
}

#[test]
fn two_leaders_in_one_term_are_found() {
    let log = |term: u64| format!("INFO esnode::driver::run: now Leader term={term} leader=Some(1)\n");
    let leaders = |terms: [u64; 2]| leaders_by_term((1..).zip(terms.map(log)));
    assert_eq!(leaders([2, 3]).unwrap().len(), 2);
    assert!(leaders([2, 2]).unwrap_err().to_string().contains("both led in term 2"));
}
