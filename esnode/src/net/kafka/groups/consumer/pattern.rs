//! Subscriptions by pattern: which topics a client's regular expression matches, whole names as Kafka has it.

use std::collections::BTreeSet;

use regex::bytes::{Regex, RegexBuilder};

use crate::state_machine::StateMachine;
use crate::state_machine::groups::consumer::{ConsumerGroup, Pattern};

/// Bytes that a regular expression may take once compiled.
const MAX_SIZE: usize = 256 << 10;

/// The regular expression, for whole names; `None` if it is none, or takes too much memory.
pub fn compile(regex: &str) -> Option<Regex> {
    // Names of topics are ASCII.
    let build = |regex: &str| RegexBuilder::new(regex).unicode(false).size_limit(MAX_SIZE).build().ok();
    // By itself first: "a)(b" is none.
    build(regex)?;
    build(&format!(r"\A(?:{regex})\z"))
}

/// The pattern with what it matches; from the group if a member subscribes to it already.
pub fn find(state: &StateMachine, group: Option<&ConsumerGroup>, regex: &str, compiled: &Regex) -> Pattern {
    let known = group.and_then(|group| group.patterns().get(regex)).cloned();
    let topics = known.unwrap_or_else(|| matched(state, compiled));
    Pattern { regex: regex.to_owned(), topics }
}

/// What the group's patterns match now, where that differs from what it was told.
pub fn outdated(state: &StateMachine, group: &ConsumerGroup) -> Vec<Pattern> {
    let now = group.patterns().iter().filter_map(|(regex, known)| {
        let topics = matched(state, &compile(regex)?);
        (topics != *known).then(|| Pattern { regex: regex.clone(), topics })
    });
    now.collect()
}

fn matched(state: &StateMachine, compiled: &Regex) -> BTreeSet<String> {
    let names = state.topics().map(|topic| topic.name.as_str());
    names.filter(|name| compiled.is_match(name.as_bytes())).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let matches =
            |regex: &str, name: &str| compile(regex).is_some_and(|regex| regex.is_match(name.as_bytes()));
        assert!(matches("orders-.*", "orders-eu") && matches("a|ab", "ab") && matches("(?i)A", "a"));
        assert!(matches("^orders.*$", "orders") && matches(r"t\d+", "t12") && matches(r"\w*", "a_b"));
        assert!(!matches("orders", "orders-eu") && !matches("b", "ab"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for regex in ["(", "a)(b", "*", "a{9999}{9999}", r"(a)\1", "(?=a)"] {
            assert!(compile(regex).is_none(), "{regex}");
        }
    }
}
