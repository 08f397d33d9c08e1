//! PURE: a place in a partition as operators name it: the beginning, the end, an offset, or a time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What is expected where a position is.
const EXPECTED: &str = "expected beginning, end, an offset such as 1200, a time such as 2026-01-31T10:15:30Z, or an age such as 90m";

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first event that can be read.
    Beginning,
    /// Behind the last event.
    End,
    /// This offset.
    Offset(i64),
    /// The first event at or after this time.
    Time(Timestamp),
    /// The first event that is at most this old.
    Age(Duration),
}

impl Position {
    /// Returns the time that is meant, in ms since 1970, if one is.
    pub fn time(self, now: Timestamp) -> Option<i64> {
        match self {
            Self::Beginning | Self::End | Self::Offset(_) => None,
            Self::Time(time) => Some(time.as_millisecond()),
            Self::Age(age) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Some(now.as_millisecond().saturating_sub(age).max(0))
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("end"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Age(age) => write!(f, "{}ms", age.as_millis()),
        }
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            // Kafka has two words for each.
            "beginning" | "earliest" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Offset).map_err(|_| EXPECTED.to_owned());
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::Time(time));
        }
        let age = text.parse::<SignedDuration>().ok().and_then(|age| Duration::try_from(age).ok());
        age.map(Self::Age).ok_or_else(|| EXPECTED.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_word_an_offset_a_time_or_an_age() {
        let table = [
            ("beginning", Position::Beginning),
            ("earliest", Position::Beginning),
            ("end", Position::End),
            ("latest", Position::End),
            ("0", Position::Offset(0)),
            ("1200", Position::Offset(1200)),
            ("2026-01-31T10:15:30Z", Position::Time("2026-01-31T10:15:30Z".parse().unwrap())),
            ("2026-01-31T11:15:30+01:00", Position::Time("2026-01-31T10:15:30Z".parse().unwrap())),
            ("90m", Position::Age(Duration::from_secs(5400))),
            ("1h30m", Position::Age(Duration::from_secs(5400))),
        ];
        for (text, position) in table {
            assert_eq!(text.parse(), Ok(position), "{text}");
            assert_eq!(position.to_string().parse(), Ok(position), "{text}");
        }
        for text in ["", "start", "-1", "-5m", "1.5", "99999999999999999999", "2026-01-31", "yesterday"] {
            assert_eq!(text.parse::<Position>(), Err(EXPECTED.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_age_is_a_time_before_now() {
        let now: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        let time = |text: &str| text.parse::<Position>().unwrap().time(now);
        assert_eq!(time("1h"), time("2026-01-31T09:00:00Z"));
        assert_eq!(time("600000h"), Some(0));
        assert_eq!((time("12"), time("end")), (None, None));
    }
}
