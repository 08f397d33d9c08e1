//! What happened, in order: a running digest of every event, and the events themselves when someone wants to read.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};

use super::Micros;

/// The run's history. Two runs of the same seed must end with the same digest.
pub struct Trace {
    digest: DefaultHasher,
    print: bool,
    steps: u64,
}

impl Trace {
    /// An empty history; `print` writes every event to standard error as it happens.
    pub fn new(print: bool) -> Self {
        Self { digest: DefaultHasher::new(), print, steps: 0 }
    }

    /// Something happened.
    pub fn note(&mut self, now: Micros, what: fmt::Arguments<'_>) {
        self.steps += 1;
        self.digest.write_u64(now);
        // Hashing cannot fail; `Write` only says it may.
        let _ = Digest(&mut self.digest).write_fmt(what);
        if self.print {
            eprintln!("{:>10}.{:03} ms  {what}", now / 1000, now % 1000);
        }
    }

    /// Events so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The history in one number.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

struct Digest<'a>(&'a mut DefaultHasher);

impl fmt::Write for Digest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
