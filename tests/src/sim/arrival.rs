//! What reaches a simulated node from outside: time, other nodes, its disk, clients and the operator.

use esnode::consensus::{LogRead, Message};
use esnode::entry::Entry;
use esnode::replica::{Hello, Request as ReplicaRequest};
use shared::ids::NodeId;

use super::client::Request;
use super::log::Fetched;
use super::operator;
use super::snapshot_file::SnapshotFile;
use super::trace::mix;

/// What reaches a node.
#[derive(Debug)]
pub enum Arrival {
    /// 10 ms passed.
    Tick,
    /// From another node.
    Message(Box<Message>),
    /// Another node says who it is.
    Hello(Box<Hello>),
    /// The connection to another node is gone.
    Disconnected(NodeId),
    /// Another node refuses this one, as a member that was removed.
    Refused(NodeId),
    /// The sync under way returned.
    Synced,
    /// The replica hears that work up to this number is durable.
    Persisted(u64),
    /// The replica hears which on-disk format the data directory says.
    FormatAdopted(u16),
    /// The disk comes to read old entries.
    Read(LogRead),
    /// Old entries came from the disk.
    LogRead(LogRead, Vec<Entry>),
    /// A snapshot is written.
    SnapshotWritten(Box<SnapshotFile>),
    /// A fetch is over.
    Fetched(Option<Fetched>),
    /// From a client.
    Request(Request),
    /// From the operator.
    Operator(ReplicaRequest),
}

impl Arrival {
    /// Its name, for the trace.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Message(_) => "message",
            Self::Hello(_) => "hello",
            Self::Disconnected(_) => "disconnected",
            Self::Refused(_) => "refused",
            Self::Synced => "synced",
            Self::Persisted(_) => "persisted",
            Self::FormatAdopted(_) => "format adopted",
            Self::Read(_) => "read",
            Self::LogRead(..) => "log read",
            Self::SnapshotWritten(_) => "snapshot written",
            Self::Fetched(_) => "fetched",
            Self::Request(_) => "request",
            Self::Operator(_) => "operator",
        }
    }

    /// A number that tells it from most others, for the trace's digest.
    pub fn mark(&self) -> u64 {
        match self {
            Self::Tick => 0,
            Self::Message(message) => mix(1, mix(message.term, message.index)),
            Self::Hello(hello) => mix(2, hello.node),
            Self::Disconnected(node) => mix(3, *node),
            Self::Refused(node) => mix(4, *node),
            Self::Synced => 5,
            Self::Persisted(number) => mix(6, *number),
            Self::FormatAdopted(format) => mix(7, (*format).into()),
            Self::Read(read) => mix(8, read.low),
            Self::LogRead(read, entries) => mix(9, mix(read.low, entries.len() as u64)),
            Self::SnapshotWritten(file) => mix(10, file.index),
            Self::Fetched(fetched) => mix(11, fetched.as_ref().map_or(0, |fetched| fetched.file().index)),
            Self::Request(request) => mix(12, mix(request.client as u64, request.call)),
            Self::Operator(request) => mix(13, operator::mark(request)),
        }
    }
}
