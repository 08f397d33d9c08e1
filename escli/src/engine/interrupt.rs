//! Ctrl-C: the first one lets running steps finish, the second one stops at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Counts how often the operator asked to stop.
#[derive(Clone, Debug)]
pub struct Interrupt {
    count: watch::Receiver<u32>,
}

impl Interrupt {
    /// Counts Ctrl-C, SIGTERM and SIGHUP from now on, instead of letting them end this process.
    ///
    /// # Errors
    /// If the signal handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        let (sender, interrupt) = Self::by_hand();
        let mut kinds = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        tokio::spawn(async move {
            loop {
                let [first, second, third] = &mut kinds;
                tokio::select! { _ = first.recv() => (), _ = second.recv() => (), _ = third.recv() => () }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(interrupt)
    }

    /// Returns an interrupt that counts what the returned sender is given; for tests.
    pub fn by_hand() -> (watch::Sender<u32>, Self) {
        let (sender, count) = watch::channel(0);
        (sender, Self { count })
    }

    /// Returns whether the operator has asked to stop.
    pub fn asked(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// Waits until the operator has asked to stop `times` times.
    pub async fn reached(&self, times: u32) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count >= times).await.is_err() {
            // The sender is gone, so the count cannot rise any more.
            std::future::pending::<()>().await;
        }
    }
}
