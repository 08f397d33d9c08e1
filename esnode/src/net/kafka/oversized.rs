//! Requests that are too large to be held: what their beginning tells is answered, the rest is thrown away.

use bytes::{Buf, Bytes};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ApiKey, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::frame::{Outcome, Request};
use super::request_schema::skip_tags;

/// The answer to a request of which `request` is the beginning: that it is too large, for each partition. `None` if the
/// beginning does not tell all of them, or the API has no such answer.
pub fn refuse(request: &Request) -> Option<Outcome> {
    if request.to.key != ApiKey::Produce {
        return None;
    }
    let flexible = request.to.key.request_header_version(request.to.version) >= 2;
    let mut head = Head { rest: request.body.clone(), flexible };
    head.string()?;
    let acks = head.take(6)?.get_i16();
    let topics = head.topics()?;
    // Nobody reads an answer.
    let answer = || request.to.send(&ProduceResponse::default().with_responses(topics));
    Some(if acks == 0 { Outcome::Close } else { answer() })
}

struct Head {
    rest: Bytes,
    flexible: bool,
}

impl Head {
    fn topics(&mut self) -> Option<Vec<TopicProduceResponse>> {
        let (mut topics, count) = (Vec::new(), self.length()?);
        for topic in 1..=count {
            let name = StrBytes::try_from(self.string()?).ok()?;
            let (mut partitions, count_here) = (Vec::new(), self.length()?);
            for partition in 1..=count_here {
                let index = self.take(4)?.get_i32();
                partitions.push(
                    PartitionProduceResponse::default()
                        .with_index(index)
                        .with_error_code(ResponseError::MessageTooLarge.code())
                        .with_base_offset(-1),
                );
                let records = self.length()?;
                if records > self.rest.len() {
                    let all = topic == count && partition == count_here;
                    let last = TopicProduceResponse::default().with_name(TopicName(name));
                    topics.push(last.with_partition_responses(partitions));
                    return all.then_some(topics);
                }
                self.take(records)?;
                self.tags()?;
            }
            self.tags()?;
            let whole = TopicProduceResponse::default().with_name(TopicName(name));
            topics.push(whole.with_partition_responses(partitions));
        }
        Some(topics)
    }

    fn string(&mut self) -> Option<Bytes> {
        let length =
            if self.flexible { self.length()? } else { self.take(2)?.get_i16().try_into().unwrap_or(0) };
        self.take(length)
    }

    /// Of an array or of bytes; nothing for null.
    fn length(&mut self) -> Option<usize> {
        if !self.flexible {
            return Some(self.take(4)?.get_i32().try_into().unwrap_or(0));
        }
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?.get_u8();
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value.saturating_sub(1));
            }
        }
        None
    }

    fn tags(&mut self) -> Option<()> {
        if self.flexible {
            let rest = skip_tags(&self.rest).ok()?.len();
            self.rest.advance(self.rest.len() - rest);
        }
        Some(())
    }

    fn take(&mut self, bytes: usize) -> Option<Bytes> {
        (bytes <= self.rest.len()).then(|| self.rest.split_to(bytes))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::protocol::Decodable;

    use super::super::tests::{encoded, framed};
    use super::*;

    /// Partitions of one topic with so many bytes each; the answer to the first 64 KiB.
    fn answered(version: i16, acks: i16, sizes: &[usize]) -> Option<Outcome> {
        let partitions = (0..).zip(sizes).map(|(index, size)| {
            PartitionProduceData::default().with_index(index).with_records(Some(vec![7; *size].into()))
        });
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partition_data(partitions.collect());
        let request = ProduceRequest::default().with_acks(acks).with_topic_data(vec![topic]);
        let frame = framed(ApiKey::Produce, version, &encoded(&request, version));
        let head = frame.slice(..frame.len().min(64 << 10));
        refuse(&Request::parse(ApiKey::Produce, head).unwrap())
    }

    #[test]
    fn each_partition_is_told_that_it_was_too_much() {
        for version in 3..=11 {
            let Some(Outcome::Send(frame)) = answered(version, -1, &[10, 20, 1 << 20]) else { panic!() };
            let header = 8 + usize::from(version >= 9);
            let answer = ProduceResponse::decode(&mut frame.freeze().slice(header..), version).unwrap();
            let told: Vec<_> = answer.responses[0]
                .partition_responses
                .iter()
                .map(|partition| (partition.index, partition.error_code))
                .collect();
            assert_eq!(told, [(0, 10), (1, 10), (2, 10)], "version {version}");
        }
    }

    #[test]
    fn where_the_beginning_does_not_tell_all_there_is_no_answer() {
        assert!(answered(9, -1, &[1 << 20, 10]).is_none());
        assert!(matches!(answered(9, 0, &[1 << 20]), Some(Outcome::Close)));
    }
}
