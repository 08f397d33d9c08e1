//! raft-rs's types from this program's and back. Payloads are shared, not copied.

use raft::eraftpb;

use super::message::{ConfChange, ConfChangeType, ConfState, Message, MessageType, SnapshotMetadata};
use crate::entry::{Entry, EntryKind};

/// A message that Raft wants sent; `None` for types that stay within a node.
pub(super) fn message_from_raft(message: eraftpb::Message) -> Option<Message> {
    Some(Message {
        kind: kind_from_raft(message.msg_type)?,
        from: message.from,
        to: message.to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        entries: message.entries.into_vec().into_iter().map(entry_from_raft).collect(),
        snapshot: message
            .snapshot
            .into_option()
            .map(|mut snapshot| snapshot_from_raft(snapshot.take_metadata())),
    })
}

/// A message that arrived, as Raft takes it.
pub(super) fn message_to_raft(message: Message) -> eraftpb::Message {
    let entries: Vec<_> = message.entries.into_iter().map(entry_to_raft).collect();
    let snapshot = message.snapshot.map(|metadata| snapshot_to_raft(&metadata));
    eraftpb::Message {
        msg_type: kind_to_raft(message.kind),
        from: message.from,
        to: message.to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        entries: entries.into(),
        snapshot: snapshot.into(),
        ..eraftpb::Message::default()
    }
}

fn kind_from_raft(kind: eraftpb::MessageType) -> Option<MessageType> {
    MessageType::ALL.into_iter().find(|own| kind_to_raft(*own) == kind)
}

fn kind_to_raft(kind: MessageType) -> eraftpb::MessageType {
    match kind {
        MessageType::Append => eraftpb::MessageType::MsgAppend,
        MessageType::AppendResponse => eraftpb::MessageType::MsgAppendResponse,
        MessageType::Heartbeat => eraftpb::MessageType::MsgHeartbeat,
        MessageType::HeartbeatResponse => eraftpb::MessageType::MsgHeartbeatResponse,
        MessageType::RequestVote => eraftpb::MessageType::MsgRequestVote,
        MessageType::RequestVoteResponse => eraftpb::MessageType::MsgRequestVoteResponse,
        MessageType::RequestPreVote => eraftpb::MessageType::MsgRequestPreVote,
        MessageType::RequestPreVoteResponse => eraftpb::MessageType::MsgRequestPreVoteResponse,
        MessageType::Snapshot => eraftpb::MessageType::MsgSnapshot,
        MessageType::TimeoutNow => eraftpb::MessageType::MsgTimeoutNow,
    }
}

pub(super) fn entry_from_raft(entry: eraftpb::Entry) -> Entry {
    let kind = match entry.entry_type {
        eraftpb::EntryType::EntryNormal => EntryKind::Normal,
        eraftpb::EntryType::EntryConfChange => EntryKind::ConfChange,
        eraftpb::EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    Entry { index: entry.index, term: entry.term, kind, data: entry.data }
}

pub(super) fn entry_to_raft(entry: Entry) -> eraftpb::Entry {
    let entry_type = match entry.kind {
        EntryKind::Normal => eraftpb::EntryType::EntryNormal,
        EntryKind::ConfChange => eraftpb::EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => eraftpb::EntryType::EntryConfChangeV2,
    };
    eraftpb::Entry {
        entry_type,
        index: entry.index,
        term: entry.term,
        data: entry.data,
        ..eraftpb::Entry::default()
    }
}

fn snapshot_from_raft(mut metadata: eraftpb::SnapshotMetadata) -> SnapshotMetadata {
    let conf_state = conf_state_from_raft(metadata.take_conf_state());
    SnapshotMetadata { index: metadata.index, term: metadata.term, conf_state }
}

pub(super) fn snapshot_to_raft(metadata: &SnapshotMetadata) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let there = snapshot.mut_metadata();
    (there.index, there.term) = (metadata.index, metadata.term);
    there.set_conf_state(conf_state_to_raft(&metadata.conf_state));
    snapshot
}

pub(super) fn conf_state_from_raft(members: eraftpb::ConfState) -> ConfState {
    ConfState {
        voters: members.voters,
        learners: members.learners,
        voters_outgoing: members.voters_outgoing,
        learners_next: members.learners_next,
        auto_leave: members.auto_leave,
    }
}

pub(super) fn conf_state_to_raft(members: &ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: members.voters.clone(),
        learners: members.learners.clone(),
        voters_outgoing: members.voters_outgoing.clone(),
        learners_next: members.learners_next.clone(),
        auto_leave: members.auto_leave,
        ..eraftpb::ConfState::default()
    }
}

pub(super) fn change_from_raft(change: eraftpb::ConfChange) -> ConfChange {
    let kind = match change.change_type {
        eraftpb::ConfChangeType::AddNode => ConfChangeType::AddVoter,
        eraftpb::ConfChangeType::AddLearnerNode => ConfChangeType::AddLearner,
        eraftpb::ConfChangeType::RemoveNode => ConfChangeType::Remove,
    };
    ConfChange { kind, node: change.node_id, context: change.context }
}

pub(super) fn change_to_raft(change: &ConfChange) -> eraftpb::ConfChange {
    let change_type = match change.kind {
        ConfChangeType::AddVoter => eraftpb::ConfChangeType::AddNode,
        ConfChangeType::AddLearner => eraftpb::ConfChangeType::AddLearnerNode,
        ConfChangeType::Remove => eraftpb::ConfChangeType::RemoveNode,
    };
    let context = change.context.clone();
    eraftpb::ConfChange { change_type, node_id: change.node, context, ..eraftpb::ConfChange::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protobuf::ProtobufEnum as _;

    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_and_its_payload_is_shared() {
        let data = Bytes::from_static(b"payload");
        let entry = |index, kind| Entry { index, term: 3, kind, data: data.clone() };
        let kinds = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2];
        let conf_state =
            ConfState { voters: vec![1, 2], learners: vec![3], auto_leave: true, ..ConfState::default() };
        for kind in MessageType::ALL {
            let message = Message {
                kind,
                from: 1,
                to: 2,
                term: 3,
                log_term: 4,
                index: 5,
                commit: 6,
                commit_term: 7,
                reject: true,
                reject_hint: 8,
                context: data.clone(),
                entries: (9..).zip(kinds).map(|(index, kind)| entry(index, kind)).collect(),
                snapshot: Some(SnapshotMetadata { index: 9, term: 3, conf_state: conf_state.clone() }),
            };
            let back = message_from_raft(message_to_raft(message.clone())).unwrap();
            assert_eq!(back, message);
            assert_eq!(back.entries[0].data.as_ptr(), data.as_ptr());
            assert_eq!(MessageType::from_u8(kind as u8), Some(kind));
        }
    }

    #[test]
    fn what_stays_within_a_node_is_not_sent() {
        let all = (0..19).filter_map(eraftpb::MessageType::from_i32);
        assert_eq!(all.filter_map(kind_from_raft).count(), MessageType::ALL.len());
    }
}
