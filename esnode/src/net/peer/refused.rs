//! Why a connection is refused.

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what does not match, and what to do.
    pub text: String,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The two belong to different clusters.
    ForeignCluster,
    /// Another node than the one that was meant.
    WrongNode,
    /// The dialler is no member.
    UnknownNode,
    /// The dialler's data directory is that of a member that was removed.
    Removed,
    /// The dialler's cluster went on without it, after a loss of quorum.
    Abandoned,
    /// The refused side speaks only older protocol versions.
    ProtocolTooOld,
    /// The refused side speaks only newer protocol versions.
    ProtocolTooNew,
    /// The refused side cannot read the on-disk format that the other one writes.
    FormatTooOld,
    /// The refused side writes an on-disk format that the other one cannot read.
    FormatTooNew,
    /// The node that the dialler says it is does not say so too, when asked.
    Unproven,
    /// A reason that this version does not know.
    Other(u16),
}

impl RefusalCode {
    pub(super) fn to_wire(self) -> u16 {
        match self {
            Self::ForeignCluster => 1,
            Self::WrongNode => 2,
            Self::UnknownNode => 3,
            Self::ProtocolTooOld => 4,
            Self::ProtocolTooNew => 5,
            Self::Removed => 6,
            Self::FormatTooOld => 7,
            Self::FormatTooNew => 8,
            Self::Unproven => 9,
            Self::Abandoned => 10,
            Self::Other(code) => code,
        }
    }

    pub(super) fn from_wire(code: u16) -> Self {
        match code {
            1 => Self::ForeignCluster,
            2 => Self::WrongNode,
            3 => Self::UnknownNode,
            4 => Self::ProtocolTooOld,
            5 => Self::ProtocolTooNew,
            6 => Self::Removed,
            7 => Self::FormatTooOld,
            8 => Self::FormatTooNew,
            9 => Self::Unproven,
            10 => Self::Abandoned,
            code => Self::Other(code),
        }
    }
}
