//! Routes to client ports: as those to admin ports.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use escli::admin_client::connect::Way;
use escli::hosts::ssh::{NoPrompt, Passphrases};
use escli::kafka::KafkaClient;
use escli::kafka::client::Limits;
use escli::kafka::dial::Dialer;
use kafka_protocol::messages::{ApiKey, MetadataResponse};
use shared::spec::ClusterFile;
use tests::scripted_node;
use tests::sshd::SshLab;

const LIMITS: Limits = Limits { answer: Duration::from_secs(2), call: Duration::from_millis(100) };

/// Starts a node that has no topics. Returns its port.
fn node() -> Result<u16> {
    let empty = |_| Some(MetadataResponse::default().into());
    Ok(scripted_node::start(&[ApiKey::Metadata], empty)?.port())
}

/// A client of a node at `host`, whose ports are reached this way.
fn client(host: &str, port: u16, way: &Way) -> Result<KafkaClient> {
    let text = format!(
        "cluster:\n  name: t\n  nodes:\n    - {{ id: 1, host: \"{host}\", http_port: 1, client_port: {port}, cluster_port: 2 }}\n"
    );
    let spec: ClusterFile =
        shared::spec::parse("cluster.yaml", &text).map_err(|error| anyhow::anyhow!("{error}"))?;
    let passphrases = Arc::new(Passphrases::new(NoPrompt));
    Ok(KafkaClient::new(Dialer::by(&spec, &passphrases, |_| way.clone()), LIMITS))
}

#[tokio::test]
async fn client_ports_are_reached_through_ssh_where_they_are_closed_otherwise() -> Result<()> {
    let lab = SshLab::start(1)?;
    let (via, host) = (lab.to(0), "127.0.0.1".to_owned());
    let port = node()?;
    let either = Way::Either { via: via.clone(), host: host.clone() };
    let behind = Way::Behind { via, host };
    for way in [&either, &behind] {
        assert_eq!(client("no-such-host.invalid", port, way)?.topics(None).await?, []);
    }
    assert!(client("no-such-host.invalid", port, &Way::Direct)?.topics(None).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_reachable_client_port_needs_no_login_and_one_without_a_node_is_told_from_a_closed_way()
-> Result<()> {
    let mut lab = SshLab::start(1)?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let either = Way::Either { via: lab.to(0), host: "127.0.0.1".to_owned() };
    assert_eq!(client("127.0.0.1", node()?, &either)?.topics(None).await?, []);
    let refused =
        client("127.0.0.1", free, &either)?.topics(None).await.expect_err("nobody there").to_string();
    assert!(refused.ends_with(": connection refused"), "{refused}");
    assert!(!lab.at(0).log().contains("Accepted"));
    let behind = Way::Behind { via: lab.to(0), host: "127.0.0.1".to_owned() };
    let silent = client("no-such-host.invalid", free, &behind)?.topics(None).await.expect_err("nobody there");
    assert!(silent.to_string().contains("connect failed"), "{silent}");
    Ok(())
}
