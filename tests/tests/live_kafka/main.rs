//! Kafka clients against real clusters.

mod admin;
mod clients;
mod groups;
mod produce;
mod topics;
mod transactions;
