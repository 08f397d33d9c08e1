//! Lowers the priority of threads whose work can wait, in favour of those that events wait for.

/// The priority of such a thread, as nice(2) counts: others always go first, but it still gets some time.
const BACK: i32 = 10;

/// Lowers the priority of the calling thread. On Linux each thread has its own (setpriority(2), NOTES).
pub fn lower() {
    // If this fails, everything works, but less smoothly.
    let _ = rustix::process::setpriority_process(None, BACK);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_yields() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let after = std::thread::spawn(move || {
            lower();
            own()
        });
        assert_eq!((after.join().unwrap(), own()), (BACK, before));
    }
}
