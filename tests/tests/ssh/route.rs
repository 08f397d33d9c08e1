//! Routes to admin ports: directly, or through SSH.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use escli::client::AdminClient;
use escli::engine::ports::Cluster as _;
use escli::plan::facts::Way;
use escli::route::{Route, Through};
use escli::ssh::{NoPrompt, Passphrases};
use shared::spec::ClusterFile;
use tests::sshd::SshLab;

const LIMIT: Duration = Duration::from_secs(2);

/// Starts a server that answers every request with "hi". Returns its port.
fn server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while peer.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                    _ = peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
                }
            });
        }
    });
    Ok(port)
}

/// A client of a node at `host`, whose port can also be reached through the lab's server.
fn client(lab: &SshLab, host: &str, port: u16) -> Result<AdminClient> {
    let text = format!(
        "cluster:\n  name: t\n  nodes:\n    - {{ id: 1, host: \"{host}\", http_port: {port}, client_port: 1, cluster_port: 2 }}\n"
    );
    let spec: ClusterFile =
        shared::spec::parse("cluster.yaml", &text).map_err(|error| anyhow::anyhow!("{error}"))?;
    let passphrases = Arc::new(Passphrases::new(NoPrompt));
    Ok(AdminClient::by(&spec, LIMIT, |_, limit| {
        Route::either(limit, Through::new(lab.to(0), "127.0.0.1", port, &passphrases))
    })?)
}

fn free() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[tokio::test]
async fn a_reachable_admin_port_needs_no_login() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let client = client(&lab, "127.0.0.1", server()?)?;
    assert_eq!(client.metrics(1).await?, "hi");
    assert_eq!(client.way(1).await, Way::Direct);
    // A refused connection is final: the host itself has answered.
    let client = self::client(&lab, "127.0.0.1", free()?)?;
    let error = client.metrics(1).await.expect_err("nobody there").to_string();
    assert!(error.starts_with("connection refused :"), "{error}");
    assert_eq!(client.way(1).await, Way::Direct);
    assert!(!lab.at(0).log().contains("Accepted"));
    Ok(())
}

#[tokio::test]
async fn unknown_names_and_blocked_ports_are_reached_through_ssh() -> Result<()> {
    let lab = SshLab::start(1)?;
    let port = server()?;
    let full = TcpListener::bind("127.77.0.1:0")?;
    rustix::net::listen(&full, 0)?;
    // While the first connection is not accepted, the kernel drops later ones.
    let swallows: SocketAddr = full.local_addr()?;
    let _fill: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&swallows, Duration::from_millis(100))).collect();
    let named = client(&lab, "no-such-host.invalid", port)?;
    assert_eq!(named.metrics(1).await?, "hi");
    assert_eq!(named.way(1).await, Way::Through { why: String::new() });

    let begin = Instant::now();
    let route = Route::either(
        LIMIT,
        Through::new(lab.to(0), "127.0.0.1", port, &Arc::new(Passphrases::new(NoPrompt))),
    )?;
    let url = format!("http://{swallows}/");
    let answer =
        route.send(|http| http.get(&url)).await.map_err(|unanswered| anyhow::anyhow!(unanswered.why))?;
    assert_eq!(answer.text().await?, "hi");
    assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
    // The route is remembered.
    let begin = Instant::now();
    route.send(|http| http.get(&url)).await.map_err(|unanswered| anyhow::anyhow!(unanswered.why))?;
    assert!(begin.elapsed() < Duration::from_millis(300), "{:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn an_open_route_without_a_node_differs_from_a_closed_route() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let silent = client(&lab, "no-such-host.invalid", free()?)?;
    let way = silent.way(1).await;
    assert!(
        matches!(&way, Way::Through { why } if why.contains("lookup") || why.contains("name")),
        "{way:?}"
    );
    let error = silent.metrics(1).await.expect_err("nobody there").to_string();
    assert!(error.contains("connect failed"), "{error}");

    lab.server("AllowTcpForwarding no")?;
    let passphrases = Arc::new(Passphrases::new(NoPrompt));
    let forbidden = Through::new(lab.to(1), "127.0.0.1", server()?, &passphrases);
    let closed = Route::either(LIMIT, forbidden)?.way("http://no-such-host.invalid:1/").await;
    let Way::Closed { why } = closed else { anyhow::bail!("{closed:?}") };
    let (direct, ssh) = why.split_once("; through SSH: ").context("both reasons")?;
    assert!(!direct.is_empty() && ssh.contains("prohibited"), "{why}");
    lab.at(0).kill();
    let gone = client(&lab, "no-such-host.invalid", server()?)?;
    let closed = gone.way(1).await;
    assert!(matches!(&closed, Way::Closed { why } if why.contains("connection refused")), "{closed:?}");
    Ok(())
}
