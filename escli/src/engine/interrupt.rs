//! Ctrl-C: once is "finish what runs now", twice is "stop at once".

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the operator asked to stop.
#[derive(Clone, Debug)]
pub struct Interrupt {
    count: watch::Receiver<u32>,
}

impl Interrupt {
    /// Counts Ctrl-C, SIGTERM and SIGHUP of this process from now on, instead of ending it.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
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

    /// Counted by the holder of the sender.
    pub fn by_hand() -> (watch::Sender<u32>, Self) {
        let (sender, count) = watch::channel(0);
        (sender, Self { count })
    }

    /// At least once.
    pub fn asked(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// Waits until it was asked `times` times.
    pub async fn reached(&self, times: u32) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count >= times).await.is_err() {
            // Nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}
