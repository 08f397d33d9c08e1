//! How one node's admin port is reached: directly, or through SSH. A way through SSH leads over the jump host of the
//! node's host, or over the host's own SSH server if the direct way is closed, or only ssh knows the host's name.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};

use crate::engine::ports::PortError;
use crate::hosts::ssh::{Destination, Forward, Limits, Obstacle, Passphrases};
use crate::plan::facts::AdminRoute;

/// Part of the time for an answer within which a direct connection must be open if there is another way.
const DIRECT_SHARE: f64 = 0.4;
/// Part of that time within which a way through SSH must be open. It gives up before its caller does, so that its error
/// can say why.
const SSH_SHARE: f64 = 0.75;

/// A way through SSH to a port. It is opened when it is first needed.
#[derive(Debug)]
pub struct SshTunnel {
    /// The host to log in to.
    pub via: Destination,
    /// The host of the port, as `via` calls it.
    pub host: String,
    /// The port's number.
    pub port: u16,
    /// Passphrases of the keys for the login.
    pub passphrases: Arc<Passphrases>,
    begun: OnceLock<Result<(Client, Forward), PortError>>,
}

impl SshTunnel {
    /// Returns the way to `port` of `host`, as `via` calls it.
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

/// The ways to one node's admin port.
#[derive(Debug)]
pub struct Route {
    limit: Duration,
    direct: Option<Client>,
    through: Option<SshTunnel>,
    /// Set once the direct way was found closed, and the way through SSH open.
    turned: AtomicBool,
}

/// Why a request got no answer.
#[derive(Debug)]
pub struct NoAnswer {
    /// The reason, in words; without the port.
    pub why: String,
    /// There was no answer in time, or it broke off: no time is left for another attempt.
    pub timed_out: bool,
    /// Which way was open, if any.
    pub route: AdminRoute,
}

impl Route {
    /// Returns a route that is only direct. Each answer may take `limit`.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub fn direct(limit: Duration) -> Result<Self, PortError> {
        let direct = Some(built(builder(limit))?);
        Ok(Self { limit, direct, through: None, turned: AtomicBool::new(false) })
    }

    /// Returns a route that only leads through SSH.
    pub fn behind(limit: Duration, through: SshTunnel) -> Self {
        Self { limit, direct: None, through: Some(through), turned: AtomicBool::new(true) }
    }

    /// Returns a route that is direct, and leads through SSH if the direct way is closed.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub fn either(limit: Duration, through: SshTunnel) -> Result<Self, PortError> {
        let direct = Some(built(builder(limit).connect_timeout(limit.mul_f64(DIRECT_SHARE)))?);
        Ok(Self { limit, direct, through: Some(through), turned: AtomicBool::new(false) })
    }

    /// Sends a request by the first way that is open. A request that was sent is never sent again by the other way.
    ///
    /// # Errors
    /// Why there was no answer.
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
            // SSH reached the host, but nothing listens on the port.
            Some((Obstacle::Port, error)) => {
                Err(NoAnswer { why: error.message.clone(), timed_out: false, route })
            }
            Some((Obstacle::Host, error)) => Err(fails(also(error.message.clone()))),
        }
    }

    /// Returns how the port is reached, whether or not something listens there. Requests `url` to find out.
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
    /// The error of a direct connection, or of an answer that broke off.
    pub fn of(error: &reqwest::Error) -> Self {
        let why = root_cause(error);
        let route =
            if is_closed(error) { AdminRoute::Closed { why: why.clone() } } else { AdminRoute::Direct };
        Self { why, timed_out: error.is_timeout(), route }
    }
}

/// Whether the request reached no host at all. A refused connection does not count: a host has answered.
fn is_closed(error: &reqwest::Error) -> bool {
    error.is_connect()
        && innermost(error).downcast_ref::<io::Error>().map(io::Error::kind)
            != Some(io::ErrorKind::ConnectionRefused)
}

fn builder(limit: Duration) -> reqwest::ClientBuilder {
    // A proxy that is set for the operator's browser must not be used between escli and its nodes.
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

/// Returns the innermost error, which is the most precise: "connection refused", not "error sending request for url".
fn root_cause(error: &reqwest::Error) -> String {
    let text = innermost(error).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}
