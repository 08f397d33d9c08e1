//! Protects the node from web pages in an operator's browser, which could otherwise send requests to it: the admin API
//! has no password that a page would lack.
//!
//! A client that is no browser may address the node by any name. A browser names the page that sends a request, and
//! must have addressed the node by an IP address or by a name in the cluster's own configuration. Any other name may
//! belong to a stranger who has made it point here (DNS rebinding).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, REFERER};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::api::ClusterStatus;
use shared::spec::ClusterFile;

use super::Node;
use super::context::App;
use super::error::ApiError;

/// The header in which a browser says how the page is related to the node. Pages cannot change it.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Headers that only browsers send.
const OF_BROWSERS: [HeaderName; 4] = [ORIGIN, REFERER, SITE, HeaderName::from_static("sec-fetch-mode")];

/// Refuses requests from pages of other sites.
pub(super) async fn guard<N: Node>(State(app): State<Arc<App<N>>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !OF_BROWSERS.iter().any(|name| headers.contains_key(name)) {
        return next.run(request).await;
    }
    let file = app.node.file();
    // A member that was added later is not in the configuration file of the earlier ones, but in the status.
    let known = |host: &str, status: Option<&ClusterStatus>| is_known(host, file, status);
    let verdict = match validate(headers, |host| known(host, None)) {
        Err(_) => {
            let status = app.status().await.ok();
            validate(headers, |host| known(host, status.as_ref()))
        }
        fine => fine,
    };
    match verdict {
        Ok(()) => next.run(request).await,
        Err(why) => refused(why).into_response(),
    }
}

fn validate(headers: &HeaderMap, known: impl Fn(&str) -> bool) -> Result<(), String> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(authority) = text(&HOST) else { return Err("the request has no Host".to_owned()) };
    let Some(host) = host_of(authority) else { return Err(format!("Host {authority:?} is no host")) };
    if !known(&host) {
        return Err(format!(
            "a browser asks a node of this cluster by the name {host:?}, which is none of its own"
        ));
    }
    match text(&SITE) {
        None | Some("same-origin" | "none") => {}
        Some(site) => return Err(format!("a page of another site asks ({SITE}: {site})")),
    }
    match headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or("null")) {
        Some(origin) if origin.strip_prefix("http://") != Some(authority) => {
            Err(format!("a page of another site asks (Origin: {origin})"))
        }
        _ => Ok(()),
    }
}

/// Returns the host of `host:port` in lower case, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> Option<String> {
    let uri: Uri = format!("http://{authority}/").parse().ok()?;
    Some(uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase())
}

fn is_known(host: &str, file: &ClusterFile, status: Option<&ClusterStatus>) -> bool {
    let nodes = file.cluster.nodes.iter().map(|node| (&node.host, &node.advertised_host));
    let peers =
        status.iter().flat_map(|status| &status.peers).map(|peer| (&peer.host, &peer.advertised_host));
    let mut names =
        nodes.chain(peers).flat_map(|(host, advertised)| [Some(host), advertised.as_ref()]).flatten();
    let address = host.parse::<IpAddr>().is_ok() || host.parse::<Ipv6Addr>().is_ok();
    address || host == "localhost" || names.any(|name| name.eq_ignore_ascii_case(host))
}

fn refused(why: String) -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "foreign_page",
        why,
        "call the node with escli or curl, or open it by its address or by the name that cluster.yaml gives it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_are_refused_and_everybody_else_is_not() {
        let known = |host: &str| host == "leader" || host.parse::<IpAddr>().is_ok();
        let validated = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            validate(&headers.collect::<HeaderMap>(), known)
        };
        let fine: [&[(&str, &str)]; 4] = [
            &[("host", "leader:8080"), ("origin", "http://leader:8080")],
            &[("host", "LEADER:8080"), ("sec-fetch-site", "none")],
            &[("host", "[::1]:8080"), ("referer", "http://[::1]:8080/"), ("sec-fetch-site", "same-origin")],
            &[("host", "10.0.0.1"), ("origin", "http://10.0.0.1")],
        ];
        let foreign: [&[(&str, &str)]; 8] = [
            // A page somewhere, a form in it, a picture in it, a file on the operator's disk.
            &[("host", "leader:8080"), ("origin", "http://example.org")],
            &[("host", "10.0.0.1:8080"), ("origin", "http://10.0.0.9:8080")],
            &[("host", "leader:8080"), ("sec-fetch-site", "cross-site")],
            &[("host", "leader:8080"), ("origin", "null")],
            &[("host", "leader:8080"), ("origin", "https://leader:8080")],
            // A name that was made to lead here.
            &[("host", "rebound.example:8080"), ("origin", "http://rebound.example:8080")],
            &[("host", "rebound.example:8080"), ("sec-fetch-site", "same-origin")],
            &[("referer", "http://rebound.example/")],
        ];
        for headers in fine {
            assert_eq!(validated(headers), Ok(()), "{headers:?}");
        }
        for headers in foreign {
            assert!(validated(headers).is_err(), "{headers:?}");
        }
    }
}
