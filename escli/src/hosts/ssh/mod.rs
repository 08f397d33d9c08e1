//! SSH: authenticated connections to hosts, and commands on them. Knows nothing of nodes or clusters.
//!
//! [`Destination::resolve`] works out where a host is and how to log in (`destination`, which asks `config`).
//! [`Connection::open`] connects to it (`dial` through `jump`, `host_key` by `known_hosts`, `auth` by `key_file` and
//! `certificate`). [`Connection::run`] and [`Connection::stream`] run commands there (`exec` and `stream` on a `wire`).
//! [`Forward`] leads to a port behind a host. Remote arguments are quoted with [`quote`].

mod auth;
mod certificate;
mod config;
mod connection;
mod destination;
mod dial;
mod error;
mod exec;
mod forward;
mod host;
mod host_key;
mod jump;
mod key_file;
mod known_hosts;
pub mod quote;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use auth::{NoPrompt, Passphrases, Prompt};
pub use config::{ConfigFile, Question, SshOptions, ask};
pub use connection::{Connection, Output};
pub use destination::{Destination, Operator};
pub use error::{SshError, SshErrorKind};
pub use exec::{Input, Source, Status};
pub use forward::{Forward, Obstacle};
pub use host::Limits;
pub use stream::{KeepAlive, Lines, StreamEvent};
