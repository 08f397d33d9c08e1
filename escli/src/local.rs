//! Nodes as processes of this machine: implements [`crate::engine::ports::Hosts`].
