//! The nodes that this one opens connections to, and accepts them from: those that are in its log, in its
//! configuration, or named by a member.
//!
//! Pure. Nodes that are only named by non-members do not count.

use std::collections::{BTreeMap, HashSet};

use shared::ids::NodeId;

use super::config::PeerAddress;

/// Host and port.
pub type Place = (String, u16);

/// The known nodes, and where each was named.
#[derive(Debug, Default)]
pub struct Known {
    own: NodeId,
    configured: Vec<PeerAddress>,
    members: Vec<PeerAddress>,
    /// The members, as each of the other nodes names them.
    named: BTreeMap<NodeId, Vec<PeerAddress>>,
    /// Former members: the configuration may still name them.
    gone: HashSet<NodeId>,
}

impl Known {
    /// Returns the nodes of the configuration, which count as the members until the log says more.
    pub fn new(own: NodeId, configured: Vec<PeerAddress>) -> Self {
        let members = configured.clone();
        Self { own, configured, members, ..Self::default() }
    }

    /// Sets the members as the log has them. Returns whether anything changed.
    pub fn set_members(&mut self, members: Vec<PeerAddress>) -> bool {
        let news = self.members != members;
        self.members = members;
        self.forget_strangers();
        news
    }

    /// Sets the former members.
    pub fn set_gone(&mut self, gone: HashSet<NodeId>) {
        self.gone = gone;
    }

    /// Notes the members as `by`, which this node has connected to, names them: this node may have been away when they
    /// changed. They only count if `by` is a member or in the configuration. Returns whether anything changed.
    pub fn name(&mut self, by: NodeId, members: Vec<PeerAddress>) -> bool {
        if !self.is_known(by) {
            return false;
        }
        let before = self.named.insert(by, members);
        before.as_ref() != self.named.get(&by)
    }

    /// Returns whether the node is a member according to the log, or, without a log, to the configuration.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.members.iter().any(|(member, ..)| *member == id)
    }

    /// Returns the members, this node included, to name them to others.
    pub fn members(&self) -> &[PeerAddress] {
        &self.members
    }

    /// Returns all other known nodes with their addresses: from the log, else from the configuration, else as members
    /// name them.
    pub fn places(&self) -> BTreeMap<NodeId, Place> {
        let configured = self.configured.iter().filter(|(id, ..)| !self.gone.contains(id));
        let mut places = BTreeMap::new();
        for (id, host, port) in self.members.iter().chain(configured).chain(self.named.values().flatten()) {
            if *id != self.own {
                places.entry(*id).or_insert_with(|| (host.clone(), *port));
            }
        }
        places
    }

    fn is_known(&self, id: NodeId) -> bool {
        let configured =
            || self.configured.iter().any(|(known, ..)| *known == id) && !self.gone.contains(&id);
        self.is_member(id) || configured()
    }

    fn forget_strangers(&mut self) {
        let mut named = std::mem::take(&mut self.named);
        named.retain(|by, _| self.is_known(*by));
        self.named = named;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ids: &[NodeId], host: &str) -> Vec<PeerAddress> {
        ids.iter().map(|id| (*id, host.to_owned(), 9100)).collect()
    }

    fn ids(known: &Known) -> Vec<NodeId> {
        known.places().into_keys().collect()
    }

    #[test]
    fn the_log_is_above_the_file_and_the_file_above_what_members_say() {
        let mut known = Known::new(1, at(&[1, 2, 3], "file"));
        assert_eq!(ids(&known), [2, 3]);
        assert!(known.set_members(at(&[1, 2, 4], "log")) && !known.set_members(at(&[1, 2, 4], "log")));
        assert!(known.name(2, at(&[1, 2, 3, 4, 5], "said")) && !known.name(2, at(&[1, 2, 3, 4, 5], "said")));
        let hosts: Vec<_> = known.places().into_iter().map(|(id, (host, _))| (id, host)).collect();
        let said = [(2, "log"), (3, "file"), (4, "log"), (5, "said")].map(|(id, host)| (id, host.to_owned()));
        assert_eq!(hosts, said);
        assert!(known.is_member(4) && !known.is_member(3) && !known.is_member(5));
    }

    #[test]
    fn what_those_say_counts_that_are_known_by_themselves() {
        let mut known = Known::new(1, at(&[1, 2, 3], "file"));
        known.set_members(at(&[1, 2], "log"));
        assert!(!known.name(7, at(&[8], "stranger")));
        assert!(known.name(3, at(&[4], "configured")));
        assert!(!known.name(4, at(&[5], "named only")));
        assert_eq!(ids(&known), [2, 3, 4]);
        known.set_gone([3].into());
        known.set_members(at(&[1, 2], "log"));
        assert_eq!(ids(&known), [2], "it was removed, and so is what it said");
    }
}
