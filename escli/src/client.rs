//! The admin API over HTTP: implements [`crate::engine::ports::Cluster`].
