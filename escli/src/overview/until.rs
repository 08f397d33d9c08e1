//! PURE: the conditions of `watch --until`.

use std::fmt;
use std::str::FromStr;

use super::{Liveness, Overview, Verdict};

/// A condition that `watch` can wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// The verdict is HEALTHY.
    Healthy,
    /// There is a leader, and a majority follows it.
    Leader,
    /// Every node has applied everything that was committed when the wait began.
    CaughtUp,
    /// Every node runs this version.
    Version(String),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("version", version)) if !version.is_empty() => {
                Ok(Self::Version(version.trim_start_matches('v').to_owned()))
            }
            None if text == "healthy" => Ok(Self::Healthy),
            None if text == "leader" => Ok(Self::Leader),
            None if text == "caught-up" => Ok(Self::CaughtUp),
            _ => Err("expected healthy, leader, caught-up or version=V".to_owned()),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Leader => f.write_str("leader"),
            Self::CaughtUp => f.write_str("caught-up"),
            Self::Version(version) => write!(f, "version={version}"),
        }
    }
}

impl Until {
    /// Returns whether the condition is met. `goal` is the highest index that was committed when the wait began.
    pub fn is_reached(&self, seen: &Overview, goal: Option<u64>) -> bool {
        let all_up = seen.nodes.iter().all(|node| node.state == Liveness::Up);
        let writes = matches!(seen.health, Verdict::Healthy | Verdict::Degraded);
        match self {
            Self::Healthy => seen.health_is_good(),
            Self::Leader => writes && seen.leader.is_some(),
            Self::CaughtUp => writes && seen.nodes.iter().all(|node| node.applied_index >= goal),
            Self::Version(version) => all_up && seen.versions == [version.as_str()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::{World, healthy};

    fn reached(until: &str, goal: u64, change: fn(&mut World)) -> bool {
        let mut world = healthy(3);
        change(&mut world);
        until.parse::<Until>().unwrap().is_reached(&world.overview(), Some(goal))
    }

    #[test]
    fn each_condition_has_its_own_sense() {
        assert!(reached("healthy", 0, |_| ()) && !reached("healthy", 0, |w| w.dies(3)));
        assert!(reached("leader", 0, |w| w.dies(3)));
        assert!(!reached("leader", 0, |w| (2..=3).for_each(|id| w.dies(id))), "nobody follows it");
        assert!(reached("caught-up", 48_209, |_| ()));
        assert!(!reached("caught-up", 48_210, |_| ()), "n2 has applied 48209");
        assert!(!reached("caught-up", 0, |w| w.dies(3)), "a node that is silent has not caught up");
        assert!(reached("version=v1.4.2", 0, |_| ()) && reached("version=1.4.2", 0, |_| ()));
        assert!(!reached("version=1.4.2", 0, |w| w.says(3).version = "1.4.1".to_owned()));
        assert!(!reached("version=1.4.2", 0, |w| w.dies(3)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["", "health", "version", "version=", "leader=1"] {
            assert!(text.parse::<Until>().is_err(), "{text}");
        }
    }
}
