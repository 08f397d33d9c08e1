//! Kafka clients against real clusters.

mod admin;
mod clients;
mod produce;
mod topics;
