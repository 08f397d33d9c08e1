//! Kafka clients against real clusters.

mod admin;
mod clients;
mod fetch_sessions;
mod groups;
mod matrix;
mod produce;
mod topics;
mod transactions;
