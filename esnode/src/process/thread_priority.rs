//! Threads whose work can wait yield to those that events wait for.

/// How far back a thread steps (nice(2)): far enough to lose every contest, and to go on all the same.
const BACK: i32 = 10;

/// The calling thread yields to all others from now on. On Linux a thread has a priority of its own
/// (setpriority(2), NOTES).
pub fn lower() {
    // Without it everything works, only less smoothly.
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
