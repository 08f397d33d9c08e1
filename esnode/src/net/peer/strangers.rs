//! Limits the number of connections that are not yet known to be a member's. If there is one too many, another one of
//! them is closed, never a member's connection.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// Largest number of such connections.
const MAX: usize = 64;

/// The connections by number; the lowest number is the oldest connection.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<BTreeMap<u64, Stranger>>);

#[derive(Debug)]
struct Stranger {
    stream: Arc<TcpStream>,
    from: Source,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
struct Source {
    address: IpAddr,
    /// A member was reached at its address.
    members: bool,
    /// It has sent an acceptable greeting.
    greeted: bool,
}

impl Strangers {
    /// Adds a connection from `address`; `members` says whether a member was reached at that address. If there are too
    /// many connections, closes another one.
    pub fn come(&self, connection: u64, stream: Arc<TcpStream>, address: IpAddr, members: bool) {
        let mut all = self.0.lock();
        all.insert(connection, Stranger { stream, from: Source { address, members, greeted: false } });
        if all.len() > MAX {
            let sources = all.iter().map(|(connection, stranger)| (*connection, stranger.from));
            if let Some(surplus) =
                surplus(&sources.collect::<Vec<_>>()).and_then(|number| all.remove(&number))
            {
                let _ = surplus.stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Notes that it has sent an acceptable greeting.
    pub fn greeted(&self, connection: u64) {
        if let Some(stranger) = self.0.lock().get_mut(&connection) {
            stranger.from.greeted = true;
        }
    }

    /// Removes a connection that is closed, or no longer a stranger. Returns `false` if it was closed here.
    pub fn leave(&self, connection: u64) -> bool {
        self.0.lock().remove(&connection).is_some()
    }

    /// Closes all.
    pub fn close(&self) {
        for stranger in self.0.lock().values() {
            let _ = stranger.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Returns the connection to close: one of the address with the most connections, and preferably not of a member's
/// address; there the oldest without a greeting, or else the oldest.
fn surplus(all: &[(u64, Source)]) -> Option<u64> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    all.iter().for_each(|(_, from)| *counts.entry(from.address).or_default() += 1);
    let rank = |from: &Source| (!from.members, counts.get(&from.address).copied(), from.address);
    let (_, largest) = all.iter().max_by_key(|(_, from)| rank(from))?;
    let from_largest = all.iter().filter(|(_, from)| from.address == largest.address);
    from_largest
        .min_by_key(|(connection, from)| (from.greeted, *connection))
        .map(|(connection, _)| *connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8, members: bool, greeted: bool) -> Source {
        Source { address: [127, 0, 0, last].into(), members, greeted }
    }

    #[test]
    fn the_address_with_the_most_connections_makes_room_for_the_others() {
        let many = (10..70).map(|connection| (connection, from(9, false, false)));
        let member = [(1, from(1, true, false)), (2, from(2, false, false))];
        let all: Vec<_> = member.into_iter().chain(many).collect();
        assert_eq!(surplus(&all), Some(10), "the oldest of those that are most");
        let many = (10..70).map(|connection| (connection, from(1, true, connection % 2 == 0)));
        let mut all: Vec<_> = many.collect();
        assert_eq!(surplus(&all), Some(11), "one that has said nothing");
        all.push((99, from(7, false, true)));
        assert_eq!(surplus(&all), Some(99), "a member's address is the last to give way");
        assert_eq!(surplus(&[]), None);
    }
}
