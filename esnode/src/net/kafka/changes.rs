//! Changes that clients ask the leader for: what of a request is proposed, and what becomes of each element.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, timeout_at};

use super::errors;
use super::frame::{Outcome, Request};
use super::session::Session;
use crate::replica::{ProposeError, portions};
use crate::state_machine::command::{Command, Refusal, Reply};

/// A change that is not made, and what to tell the client.
pub type Refused = (ResponseError, Option<String>);

/// The leader's answer when this node does not lead and the leader can be asked.
pub async fn elsewhere(session: &Session, request: &Request) -> Option<Outcome> {
    if session.leadership().serving { None } else { session.ask_leader(request).await }
}

/// The client's time limit.
pub fn limit(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1))
}

/// One element of a request, by its name: what to do, or why not.
pub type Plan = (StrBytes, Result<Command, Refused>);

/// Proposes what is planned, in order; what does not come about becomes an error. Gives the replies to what does, in
/// order.
pub async fn carry_out(session: &Session, limit: Duration, plans: &mut [Plan]) -> Vec<Reply> {
    withhold(plans, session.node().state_machine().format());
    let until = Instant::now() + limit;
    let work = |(_, plan): &Plan| plan.as_ref().map_or(0, Command::work);
    let mut proposed = Vec::new();
    for part in portions(plans, work) {
        let commands: Vec<Command> =
            plans[part.clone()].iter().filter_map(|(_, plan)| plan.as_ref().ok().cloned()).collect();
        if !commands.is_empty() {
            proposed.push((part, session.leadership().serving.then(|| session.node().propose(&commands))));
        }
    }
    let mut done = Vec::new();
    for (part, outcome) in proposed {
        let replies = match outcome {
            Some(outcome) => timeout_at(until, outcome).await.unwrap_or(Err(ProposeError::Unknown)),
            None => Err(ProposeError::NotLeader(session.leadership().leader)),
        };
        done.extend(settle(&mut plans[part], replies));
    }
    done
}

/// Members that read only an older on-disk format than a command is of would not know it.
fn withhold(plans: &mut [Plan], format: u16) {
    for (_, plan) in plans {
        if let Some(since) = plan.as_ref().ok().map(Command::since).filter(|since| *since > format) {
            let why =
                format!("needs on-disk format {since}; the cluster's is {format} until it has been upgraded");
            *plan = refuse(ResponseError::UnsupportedVersion, why);
        }
    }
}

/// Puts an error in the place of each plan that did not come about; gives the other replies, in order.
pub(super) fn settle(plans: &mut [Plan], replies: Result<Vec<Reply>, ProposeError>) -> Vec<Reply> {
    let open = plans.iter_mut().map(|(_, plan)| plan).filter(|plan| plan.is_ok());
    let mut done = Vec::new();
    match replies {
        Ok(replies) => {
            for (plan, reply) in open.zip(replies) {
                match reply {
                    Reply::Refused(why) => *plan = Err(refused(why)),
                    reply => done.push(reply),
                }
            }
        }
        Err(error) => open.for_each(|plan| *plan = Err((errors::topics(error), Some(error.to_string())))),
    }
    done
}

/// Says what is not done, and why.
pub fn refuse<T>(error: ResponseError, why: impl Into<String>) -> Result<T, Refused> {
    Err((error, Some(why.into())))
}

/// The same for what the state machine has refused.
pub fn refused(why: Refusal) -> Refused {
    // Names are checked before anything is proposed, so it must be the number.
    let code =
        if why == Refusal::InvalidTopic { ResponseError::InvalidPartitions } else { errors::refusal(why) };
    (code, Some(why.to_string()))
}

/// The elements of a request by what they name, each once and in order; none where several name the same.
pub fn once<K: Clone + Eq + Hash, T>(elements: &[T], key: impl Fn(&T) -> K) -> Vec<(K, Option<&T>)> {
    let mut places = HashMap::new();
    let mut once = Vec::with_capacity(elements.len());
    for element in elements {
        let key = key(element);
        match places.get(&key) {
            Some(place) => once[*place] = (key, None),
            None => {
                places.insert(key.clone(), once.len());
                once.push((key, Some(element)));
            }
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::topics::creation;

    #[test]
    fn what_older_members_cannot_read_is_not_proposed() {
        let grow = Command::CreatePartitions { name: "t".to_owned(), count: 2 };
        let mut plans: Vec<Plan> =
            vec![("t".into(), Ok(grow.clone())), ("u".into(), Ok(creation("u", 1, vec![])))];
        withhold(&mut plans, 2);
        assert_eq!(plans[0].1, Ok(grow));
        withhold(&mut plans, 1);
        assert_eq!(plans[0].1.as_ref().unwrap_err().0, ResponseError::UnsupportedVersion);
        assert!(plans[1].1.is_ok());
    }
}
