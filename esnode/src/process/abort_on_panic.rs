//! Makes a panic in a thread that cannot be replaced end the whole node, which would otherwise seem alive without
//! working. Threads that read bytes from strangers are not among these.

use std::{panic, process, thread};

/// Names of these threads.
const VITAL: [&str; 8] =
    ["raft", "wal", "log-reader", "log-preallocator", "log-scrub", "snapshot", "catch-up", "log-disk-space"];

/// Exit status after a panic; the same as that of a Rust program whose main thread has panicked.
const PANICKED: i32 = 101;

/// From now on, a panic in one of these threads is reported and ends the process.
pub fn install() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        if thread::current().name().is_some_and(|name| VITAL.contains(&name)) {
            process::exit(PANICKED);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names the thread that panics in [`in_a_process_of_its_own`].
    const WHO: &str = "ESNODE_TEST_PANIC_IN";

    #[test]
    #[ignore = "run by the other test, in a process of its own"]
    fn in_a_process_of_its_own() {
        let Ok(name) = std::env::var(WHO) else { return };
        install();
        let ended = thread::Builder::new().name(name).spawn(|| panic!("for a test")).unwrap().join();
        assert!(ended.is_err());
    }

    #[test]
    fn only_a_vital_thread_takes_the_node_with_it() {
        let code = |name: &str| {
            let mut own = process::Command::new(std::env::current_exe().unwrap());
            own.args(["--exact", "process::abort_on_panic::tests::in_a_process_of_its_own", "--ignored"])
                .env(WHO, name);
            own.output().unwrap().status.code()
        };
        assert_eq!(code("snapshot"), Some(PANICKED));
        assert_eq!(code("peer-in-1"), Some(0));
    }
}
