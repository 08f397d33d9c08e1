//! Clusters of real `esnode` processes: consensus, members, faults, and clients that mean harm.

mod bootstrap;
mod failover;
mod formats;
mod hostile;
mod leader_transfer;
mod members;
mod metrics;
mod nemesis;
mod quorum_loss;
