//! How a node's admin port is reached: directly; through the jump host that leads to its host; or, where the direct way
//! is closed or the name is one that only ssh knows, through the host's own SSH server.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};

use crate::engine::ports::PortError;
use crate::hosts::ssh::{Destination, Forward, Limits, Obstacle, Passphrases};
use crate::plan::facts::AdminRoute;

/// Of the time for an answer, the part in which a direct connection must be there when there is another way.
const DIRECT_SHARE: f64 = 0.4;
/// The part in which a way through SSH must be there: it gives up before whoever waits at its end does, and says why.
const SSH_SHARE: f64 = 0.75;

/// A way through SSH to a port. Nothing is begun before it is needed.
#[derive(Debug)]
pub struct SshTunnel {
    /// The host that is logged in to.
    pub via: Destination,
    /// The port's host, as that one calls it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// For keys on the way.
    pub passphrases: Arc<Passphrases>,
    begun: OnceLock<Result<(Client, Forward), PortError>>,
}

impl SshTunnel {
    /// A way to `port` of `host`, as `via` calls it.
    pub fn new(via: Destination, host: &str, port: u16, passphrases: &Arc<Passphrases>) -> Self {
        let (host, passphrases) = (host.to_owned(), Arc::clone(passphrases));
        Self { via, host, port, passphrases, begun: OnceLock::new() }
    }

    fn begin(&self, limit: Duration) -> Result<&(Client, Forward), &PortError> {
        let begun = self.begun.get_or_init(|| {
            let limits = Limits { open: limit.mul_f64(SSH_SHARE), ..Limits::default() };
            let (via, passphrases) = (self.via.clone(), Arc::clone(&self.passphrases));
            let forward = Forward::begin(via, &self.host, self.port, passphrases, limits)
                .map_err(|error| PortError::failed(error.to_string()))?;
            let http = built(builder(limit).unix_socket(forward.socket()))?;
            Ok((http, forward))
        });
        begun.as_ref()
    }
}

/// The ways to one node.
#[derive(Debug)]
pub struct Route {
    limit: Duration,
    direct: Option<Client>,
    through: Option<SshTunnel>,
    /// The direct way was found closed and the other one open.
    turned: AtomicBool,
}

/// Why nothing came back.
#[derive(Debug)]
pub struct NoAnswer {
    /// In words, without a port.
    pub why: String,
    /// The answer was invalid, or no time was left for another attempt.
    pub timed_out: bool,
    /// How far the way was open.
    pub route: AdminRoute,
}

impl Route {
    /// Only directly; each answer may take `limit`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn direct(limit: Duration) -> Result<Self, PortError> {
        let direct = Some(built(builder(limit))?);
        Ok(Self { limit, direct, through: None, turned: AtomicBool::new(false) })
    }

    /// Only through SSH.
    pub fn behind(limit: Duration, through: SshTunnel) -> Self {
        Self { limit, direct: None, through: Some(through), turned: AtomicBool::new(true) }
    }

    /// Directly, and through SSH where that is closed.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn either(limit: Duration, through: SshTunnel) -> Result<Self, PortError> {
        let direct = Some(built(builder(limit).connect_timeout(limit.mul_f64(DIRECT_SHARE)))?);
        Ok(Self { limit, direct, through: Some(through), turned: AtomicBool::new(false) })
    }

    /// Sends a request by the way that is open. What was sent is not sent again by the other one.
    ///
    /// # Errors
    /// Why nothing came back.
    pub async fn send(&self, request: impl Fn(&Client) -> RequestBuilder) -> Result<Response, NoAnswer> {
        let closed = match self.direct.as_ref().filter(|_| !self.turned.load(Ordering::Relaxed)) {
            None => None,
            Some(http) => match request(http).send().await {
                Ok(answer) => return Ok(answer),
                Err(error) if self.through.is_some() && is_closed(&error) => Some(NoAnswer::of(&error)),
                Err(error) => return Err(NoAnswer::of(&error)),
            },
        };
        let answer = self.send_through(&request, closed.as_ref()).await;
        if matches!(&answer, Ok(_) | Err(NoAnswer { route: AdminRoute::Tunnelled { .. }, .. })) {
            self.turned.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn send_through(
        &self,
        request: &impl Fn(&Client) -> RequestBuilder,
        closed: Option<&NoAnswer>,
    ) -> Result<Response, NoAnswer> {
        let directly = closed.map_or_else(String::new, |closed| closed.why.clone());
        let also = |why: String| match closed {
            Some(closed) => format!("{}; through SSH: {why}", closed.why),
            None => why,
        };
        let fails =
            |why: String| NoAnswer { route: AdminRoute::Closed { why: why.clone() }, why, timed_out: false };
        let Some(through) = &self.through else { return Err(fails(directly)) };
        let (http, forward) =
            through.begin(self.limit).map_err(|error| fails(also(error.message.clone())))?;
        let error = match request(http).send().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let route = AdminRoute::Tunnelled { why: directly };
        match forward.error() {
            None => Err(NoAnswer { route, ..NoAnswer::of(&error) }),
            // The way is open to its end, and nobody is there.
            Some((Obstacle::Port, error)) => {
                Err(NoAnswer { why: error.report().message.clone(), timed_out: false, route })
            }
            Some((Obstacle::Host, error)) => Err(fails(also(error.report().message.clone()))),
        }
    }

    /// How the port is reached, whether anybody listens there or not; `url` is asked for it.
    pub async fn check(&self, url: &str) -> AdminRoute {
        let answer = self.send(|http| http.get(url)).await;
        match answer {
            Err(unanswered) => unanswered.route,
            Ok(_) if self.turned.load(Ordering::Relaxed) => AdminRoute::Tunnelled { why: String::new() },
            Ok(_) => AdminRoute::Direct,
        }
    }
}

impl NoAnswer {
    /// Of the direct way, and of an answer that broke off.
    pub fn of(error: &reqwest::Error) -> Self {
        let why = root_cause(error);
        let route =
            if is_closed(error) { AdminRoute::Closed { why: why.clone() } } else { AdminRoute::Direct };
        Self { why, timed_out: error.is_timeout(), route }
    }
}

/// Nobody has heard the request, and not because nobody listens.
fn is_closed(error: &reqwest::Error) -> bool {
    error.is_connect()
        && innermost(error).downcast_ref::<io::Error>().map(io::Error::kind)
            != Some(io::ErrorKind::ConnectionRefused)
}

fn builder(limit: Duration) -> reqwest::ClientBuilder {
    // A proxy set for the operator's browsing has no business between escli and its nodes.
    Client::builder().no_proxy().timeout(limit).tcp_nodelay(true)
}

fn built(builder: reqwest::ClientBuilder) -> Result<Client, PortError> {
    builder.build().map_err(|error| PortError::failed(format!("cannot set up the HTTP client: {error}")))
}

fn innermost(error: &reqwest::Error) -> &(dyn Error + 'static) {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

/// The innermost error says it best: "connection refused", not "error sending request for url".
fn root_cause(error: &reqwest::Error) -> String {
    let text = innermost(error).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}
