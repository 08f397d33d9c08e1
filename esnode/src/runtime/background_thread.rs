//! A thread whose work can wait, and that ends with its owner.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::process::thread_priority::lower;

/// The thread.
pub(super) struct BackgroundThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundThread {
    /// Starts a thread of this name with lower priority. What `run` gets is disconnected when it is to end.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn spawn(name: &str, run: impl FnOnce(Receiver<()>) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            lower();
            run(stopped);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for BackgroundThread {
    /// Waits until the thread has ended, because another process may use the directory next.
    fn drop(&mut self) {
        drop(self.stop.take());
        // If the thread has panicked, that was already reported.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}
