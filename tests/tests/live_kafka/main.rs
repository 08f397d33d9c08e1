//! Kafka clients against real clusters.

mod clients;
mod groups;
mod produce;
mod topics;
