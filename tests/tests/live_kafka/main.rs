//! Kafka clients against real clusters.

mod clients;
mod produce;
mod topics;
