//! The Kafka front end (default port 9000): a subset of the protocol, batches kept opaque.
