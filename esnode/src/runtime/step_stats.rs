//! How long the steps of the raft thread take, for metrics. Knows no metrics library.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::process::histogram::{Histogram, nanos};

/// The steps of the raft thread: what it does from taking events until it looks for more, and whatever comes meanwhile
/// waits for.
#[derive(Debug, Default)]
pub struct StepStats {
    /// All of them.
    pub steps: Histogram,
    longest: AtomicU64,
    longest_cpu: AtomicU64,
}

/// The longest steps since they were last asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongestSteps {
    /// The longest one.
    pub time: Duration,
    /// The one that used the processor longest: without what it waited for locks or for the processor.
    pub cpu: Duration,
}

impl StepStats {
    /// Returns the longest steps since the last call.
    pub fn take_longest(&self) -> LongestSteps {
        let take = |nanos: &AtomicU64| Duration::from_nanos(nanos.swap(0, Relaxed));
        LongestSteps { time: take(&self.longest), cpu: take(&self.longest_cpu) }
    }

    fn ended(&self, time: Duration, cpu: Duration) {
        self.steps.observe(time);
        self.longest.fetch_max(nanos(time), Relaxed);
        self.longest_cpu.fetch_max(nanos(cpu), Relaxed);
    }
}

/// A step under way.
pub(super) struct Step {
    began: Instant,
    /// Processor time of the thread at the start.
    cpu: Duration,
}

impl Step {
    /// Begins one, on the calling thread.
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), cpu: cpu_time() }
    }

    /// For how long it has been under way.
    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends it.
    pub(super) fn end(&self, stats: &StepStats) {
        stats.ended(self.began.elapsed(), cpu_time().saturating_sub(self.cpu));
    }
}

/// Processor time that the calling thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_steps_are_told_once() {
        let stats = StepStats::default();
        let ms = Duration::from_millis;
        stats.ended(ms(7), ms(1));
        stats.ended(ms(3), ms(2));
        assert_eq!(stats.take_longest(), LongestSteps { time: ms(7), cpu: ms(2) });
        stats.ended(ms(1), ms(1));
        assert_eq!(stats.take_longest(), LongestSteps { time: ms(1), cpu: ms(1) });
        assert_eq!((stats.steps.counts().sum::<u64>(), stats.steps.sum()), (3, ms(11)));
    }

    #[test]
    fn waiting_takes_time_and_no_processor() {
        let (stats, step) = (StepStats::default(), Step::begin());
        std::thread::sleep(Duration::from_millis(20));
        step.end(&stats);
        let LongestSteps { time, cpu } = stats.take_longest();
        assert!(time >= Duration::from_millis(20) && cpu < Duration::from_millis(10), "{time:?}, {cpu:?}");
    }
}
