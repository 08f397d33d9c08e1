//! The table of served APIs: what ApiVersions offers and where requests go, from one place, so that nothing is
//! offered that is not served.

use std::sync::Arc;

use kafka_protocol::messages::ApiKey;

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::request_schema::{self, Field};
use super::session::Session;
use super::{
    configs, coordinator, delete_records, describe_cluster, describe_producers, elect_leaders, fetch, groups,
    leader_epoch, list_offsets, log_dirs, metadata, partitions, produce, producer_id, quorum, reassignments,
    topic_partitions, topics, transactions, versions,
};

/// Memory of one element of a request once it is decoded, with what its handler makes of it: it can be fifty times what
/// the element takes in the frame.
pub const ELEMENT: usize = 192;

/// A served API.
#[derive(Debug)]
pub struct Api {
    /// Which.
    pub key: ApiKey,
    /// Oldest version that ApiVersions names. Clients take 0 as a sign of features that older versions lack, so it
    /// can be lower than `served_from`.
    pub offered_from: i16,
    /// Oldest version that is understood.
    pub served_from: i16,
    /// Newest version, offered and understood.
    pub to: i16,
    /// Layout of the request in every served version.
    layout: &'static [Field],
    handle: Handler,
}

/// Begins to serve a request. Whatever must happen in the order of requests happens before it returns.
type Handler = fn(&Arc<Session>, &Request) -> Result<Answer, BadRequest>;

const fn api(key: ApiKey, versions: (i16, i16), layout: &'static [Field], handle: Handler) -> Api {
    Api { key, offered_from: versions.0, served_from: versions.0, to: versions.1, layout, handle }
}

/// All of them, by number.
pub static APIS: [Api; 41] = [
    // librdkafka 2.0 stops compressing, silently, when version 0 is not offered.
    Api { offered_from: 0, ..api(ApiKey::Produce, (3, 11), PRODUCE, produce::handle) },
    // Version 17 has a tagged field in each partition, which the codec reads past the size that it says.
    api(ApiKey::Fetch, (4, 16), FETCH, fetch::handle),
    api(ApiKey::ListOffsets, (1, 10), LIST_OFFSETS, list_offsets::handle),
    // librdkafka 2.16 cannot read version 9 when it tells of several unknown topics: it takes memory in proportion
    // to the answer's length, which suffices only with the topic ids of version 10.
    api(ApiKey::Metadata, (0, 13), METADATA, metadata::handle),
    api(ApiKey::FindCoordinator, (0, 5), FIND_COORDINATOR, coordinator::find),
    api(ApiKey::OffsetCommit, (2, 9), OFFSET_COMMIT, groups::commit),
    api(ApiKey::OffsetFetch, (1, 9), OFFSET_FETCH, groups::fetch_offsets),
    api(ApiKey::JoinGroup, (0, 9), JOIN_GROUP, groups::join),
    api(ApiKey::Heartbeat, (0, 4), HEARTBEAT, groups::heartbeat),
    api(ApiKey::LeaveGroup, (0, 5), LEAVE_GROUP, groups::leave),
    api(ApiKey::SyncGroup, (0, 5), SYNC_GROUP, groups::sync),
    api(ApiKey::DescribeGroups, (0, 6), DESCRIBE_GROUPS, groups::describe),
    api(ApiKey::ListGroups, (0, 5), LIST_GROUPS, groups::list),
    api(ApiKey::DeleteGroups, (0, 2), DELETE_GROUPS, groups::delete),
    api(ApiKey::OffsetDelete, (0, 0), OFFSET_DELETE, groups::delete_offsets),
    api(ApiKey::ApiVersions, (0, 4), API_VERSIONS, api_versions),
    api(ApiKey::CreateTopics, (2, 7), CREATE_TOPICS, topics::create),
    api(ApiKey::DeleteTopics, (1, 6), DELETE_TOPICS, topics::delete),
    api(ApiKey::DeleteRecords, (0, 2), DELETE_RECORDS, delete_records::handle),
    api(ApiKey::InitProducerId, (0, 5), INIT_PRODUCER_ID, producer_id::handle),
    api(ApiKey::OffsetForLeaderEpoch, (2, 4), OFFSET_FOR_LEADER_EPOCH, leader_epoch::handle),
    // From version 4 on it is for brokers only.
    api(ApiKey::AddPartitionsToTxn, (0, 3), ADD_PARTITIONS_TO_TXN, transactions::add_partitions),
    api(ApiKey::AddOffsetsToTxn, (0, 4), ADD_OFFSETS_TO_TXN, transactions::add_offsets),
    // Version 5 of both belongs to the second version of transactions (KIP-890), which the node does not offer.
    api(ApiKey::EndTxn, (0, 4), END_TXN, transactions::end),
    api(ApiKey::TxnOffsetCommit, (0, 4), TXN_OFFSET_COMMIT, transactions::commit_offsets),
    api(ApiKey::DescribeConfigs, (1, 4), DESCRIBE_CONFIGS, configs::describe),
    api(ApiKey::AlterConfigs, (0, 2), ALTER_CONFIGS, configs::alter),
    api(ApiKey::DescribeLogDirs, (1, 4), DESCRIBE_LOG_DIRS, log_dirs::handle),
    api(ApiKey::CreatePartitions, (0, 3), CREATE_PARTITIONS, partitions::create),
    api(ApiKey::ElectLeaders, (0, 2), ELECT_LEADERS, elect_leaders::handle),
    api(ApiKey::IncrementalAlterConfigs, (0, 1), INCREMENTAL_ALTER_CONFIGS, configs::incremental_alter),
    api(ApiKey::ListPartitionReassignments, (0, 0), LIST_PARTITION_REASSIGNMENTS, reassignments::list),
    api(ApiKey::DescribeQuorum, (0, 2), DESCRIBE_QUORUM, quorum::handle),
    api(ApiKey::DescribeCluster, (0, 2), DESCRIBE_CLUSTER, describe_cluster::handle),
    api(ApiKey::DescribeProducers, (0, 0), DESCRIBE_PRODUCERS, describe_producers::handle),
    api(ApiKey::DescribeTransactions, (0, 0), DESCRIBE_TRANSACTIONS, transactions::describe),
    api(ApiKey::ListTransactions, (0, 1), LIST_TRANSACTIONS, transactions::list),
    api(ApiKey::ConsumerGroupHeartbeat, (0, 1), CONSUMER_GROUP_HEARTBEAT, groups::heartbeat_consumer),
    api(ApiKey::ConsumerGroupDescribe, (0, 1), CONSUMER_GROUP_DESCRIBE, groups::describe_consumers),
    api(ApiKey::ListConfigResources, (0, 1), LIST_CONFIG_RESOURCES, configs::list),
    api(ApiKey::DescribeTopicPartitions, (0, 0), DESCRIBE_TOPIC_PARTITIONS, topic_partitions::handle),
];

use Field::{Between, Bytes, Fixed, Numbers, Optional, Since, String, Strings, Structs};

const PRODUCE: &[Field] = &[
    String,   // transactional id
    Fixed(6), // acks, timeout
    Structs(&[String, Structs(&[Fixed(4), Bytes])]),
];
const FETCH: &[Field] = &[
    Between(4, 14, &Fixed(4)), // replica
    Fixed(13),                 // max wait, min bytes, max bytes, isolation level
    Since(7, &Fixed(8)),       // session id and epoch
    Structs(&[
        Between(4, 12, &String),
        Since(13, &Fixed(16)), // topic id
        Structs(&[
            Fixed(4),
            Since(9, &Fixed(4)), // current leader epoch
            Fixed(8),
            Since(12, &Fixed(4)), // last fetched epoch
            Since(5, &Fixed(8)),  // log start offset
            Fixed(4),
        ]),
    ]),
    Since(7, &Structs(&[Between(7, 12, &String), Since(13, &Fixed(16)), Numbers(4)])), // forgotten topics
    Since(11, &String),                                                                // rack
];
const LIST_OFFSETS: &[Field] = &[
    Fixed(4),
    Since(2, &Fixed(1)), // isolation level
    Structs(&[String, Structs(&[Fixed(4), Since(4, &Fixed(4)), Fixed(8)])]),
    Since(10, &Fixed(4)), // timeout
];
const METADATA: &[Field] = &[
    Structs(&[Since(10, &Fixed(16)), String]), // topic id, name
    Since(4, &Fixed(1)),                       // allow creation
    Between(8, 10, &Fixed(1)),                 // include the cluster's authorized operations
    Since(8, &Fixed(1)),                       // include the topics'
];
const FIND_COORDINATOR: &[Field] = &[
    Between(0, 3, &String),
    Since(1, &Fixed(1)), // kind
    Since(4, &Strings),
];
const JOIN_GROUP: &[Field] = &[
    String,
    Fixed(4),            // session timeout
    Since(1, &Fixed(4)), // rebalance timeout
    String,              // member
    Since(5, &String),   // group instance
    String,              // protocol type
    Structs(&[String, Bytes]),
    Since(8, &String), // reason
];
const OFFSET_COMMIT: &[Field] = &[
    String,
    Fixed(4),                 // generation
    String,                   // member
    Since(7, &String),        // group instance
    Between(2, 4, &Fixed(8)), // retention time
    Structs(&[String, Structs(&[Fixed(12), Since(6, &Fixed(4)), String])]),
];
const OFFSET_FETCH: &[Field] = &[
    Between(0, 7, &String),
    Between(0, 7, &Structs(&[String, Numbers(4)])),
    Since(
        8,
        &Structs(&[
            String,
            Since(9, &String),   // member
            Since(9, &Fixed(4)), // member epoch
            Structs(&[String, Numbers(4)]),
        ]),
    ),
    Since(7, &Fixed(1)), // require stable
];
const HEARTBEAT: &[Field] = &[String, Fixed(4), String, Since(3, &String)];
const LEAVE_GROUP: &[Field] = &[
    String,
    Between(0, 2, &String),
    Since(3, &Structs(&[String, String, Since(5, &String)])), // member, group instance, reason
];
const SYNC_GROUP: &[Field] = &[
    String,
    Fixed(4),          // generation
    String,            // member
    Since(3, &String), // group instance
    Since(5, &String), // protocol type
    Since(5, &String), // protocol
    Structs(&[String, Bytes]),
];
const DESCRIBE_GROUPS: &[Field] = &[Strings, Since(3, &Fixed(1))];
const LIST_GROUPS: &[Field] = &[Since(4, &Strings), Since(5, &Strings)];
const DELETE_GROUPS: &[Field] = &[Strings];
const OFFSET_DELETE: &[Field] = &[String, Structs(&[String, Structs(&[Fixed(4)])])];
const API_VERSIONS: &[Field] = &[Since(3, &String), Since(3, &String)];
const CREATE_TOPICS: &[Field] = &[
    Structs(&[
        String,
        Fixed(6), // partitions, replication factor
        Structs(&[Fixed(4), Numbers(4)]),
        Structs(&[String, String]),
    ]),
    Fixed(5), // timeout, validate only
];
const DELETE_TOPICS: &[Field] = &[
    Between(1, 5, &Strings),
    Since(6, &Structs(&[String, Fixed(16)])), // name or id
    Fixed(4),
];
const DELETE_RECORDS: &[Field] = &[Structs(&[String, Structs(&[Fixed(12)])]), Fixed(4)];
const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    Since(3, &Fixed(4)), // replica
    Structs(&[String, Structs(&[Fixed(12)])]),
];
const CREATE_PARTITIONS: &[Field] = &[
    Structs(&[String, Fixed(4), Structs(&[Numbers(4)])]), // name, count, assignments
    Fixed(5),                                             // timeout, validate only
];
const INIT_PRODUCER_ID: &[Field] = &[String, Fixed(4), Since(3, &Fixed(10))];
const ADD_PARTITIONS_TO_TXN: &[Field] = &[
    String,    // transactional id
    Fixed(10), // producer id and epoch
    Structs(&[String, Numbers(4)]),
];
const ADD_OFFSETS_TO_TXN: &[Field] = &[String, Fixed(10), String];
const END_TXN: &[Field] = &[String, Fixed(11)];
const TXN_OFFSET_COMMIT: &[Field] = &[
    String,              // transactional id
    String,              // group
    Fixed(10),           // producer id and epoch
    Since(3, &Fixed(4)), // generation
    Since(3, &String),   // member
    Since(3, &String),   // group instance
    Structs(&[String, Structs(&[Fixed(12), Since(2, &Fixed(4)), String])]),
];
const DESCRIBE_TRANSACTIONS: &[Field] = &[Strings];
const LIST_TRANSACTIONS: &[Field] = &[Strings, Numbers(8), Since(1, &Fixed(8))];
const DESCRIBE_CONFIGS: &[Field] = &[
    Structs(&[Fixed(1), String, Strings]), // kind, name, keys
    Fixed(1),                              // include synonyms
    Since(3, &Fixed(1)),                   // include documentation
];
const ALTER_CONFIGS: &[Field] = &[
    Structs(&[Fixed(1), String, Structs(&[String, String])]), // kind, name, settings
    Fixed(1),                                                 // validate only
];
const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    Structs(&[Fixed(1), String, Structs(&[String, Fixed(1), String])]),
    Fixed(1), // validate only
];
const DESCRIBE_LOG_DIRS: &[Field] = &[Structs(&[String, Numbers(4)])];
const ELECT_LEADERS: &[Field] = &[
    Since(1, &Fixed(1)), // kind of election
    Structs(&[String, Numbers(4)]),
    Fixed(4), // timeout
];
const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[Fixed(4), Structs(&[String, Numbers(4)])];
const DESCRIBE_QUORUM: &[Field] = &[Structs(&[String, Structs(&[Fixed(4)])])];
const DESCRIBE_CLUSTER: &[Field] = &[
    Fixed(1),            // include authorized operations
    Since(1, &Fixed(1)), // kind of endpoint
    Since(2, &Fixed(1)), // include fenced brokers
];
const DESCRIBE_PRODUCERS: &[Field] = &[Structs(&[String, Numbers(4)])];
const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    String,            // group
    String,            // member
    Fixed(4),          // member epoch
    String,            // instance
    String,            // rack
    Fixed(4),          // rebalance timeout
    Strings,           // topics
    Since(1, &String), // pattern of topics
    String,            // assignor
    Structs(&[Fixed(16), Numbers(4)]),
];
const CONSUMER_GROUP_DESCRIBE: &[Field] = &[Strings, Fixed(1)];
const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    Structs(&[String]),
    Fixed(4),                      // limit
    Optional(&[String, Fixed(4)]), // cursor
];
const LIST_CONFIG_RESOURCES: &[Field] = &[Since(1, &Numbers(1))]; // kinds

/// Serves ApiVersions, which tells this table.
fn api_versions(_session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    Ok(Answer::Now(versions::supported(request.to, offered())))
}

/// The versions that ApiVersions names: the oldest and the newest of each API.
pub fn offered() -> impl Iterator<Item = (ApiKey, i16, i16)> {
    APIS.iter().map(|api| (api.key, api.offered_from, api.to))
}

/// The served API with this number.
pub fn find(number: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == number)
}

impl Api {
    /// Whether this version is understood.
    pub fn serves(&self, version: i16) -> bool {
        (self.served_from..=self.to).contains(&version)
    }

    /// Whether the request's counts and lengths fit its bytes; gives the bytes that it takes, at most, once decoded.
    pub fn check(&self, request: &Request) -> Result<usize, BadRequest> {
        let version = request.to.version;
        let flexible = self.key.request_header_version(version) >= 2;
        let malformed = |why| BadRequest::MalformedRequest { key: self.key as i16, version, why };
        let elements =
            request_schema::check(self.layout, version, flexible, &request.body).map_err(malformed)?;
        Ok(elements * ELEMENT)
    }

    /// Begins to serve a request that passed [`Api::check`].
    pub fn begin(&self, session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
        (self.handle)(session, request)
    }
}
