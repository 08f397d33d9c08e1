//! `escli alerts`: samples every node's metrics for a while, and evaluates the documented alerts.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::Serialize;

use crate::admin_client::AdminClient;
use crate::admin_client::connect::admin;
use crate::cli::alerts::Args;
use crate::cluster_file::{self, Loaded};
use crate::failure::{Exit, Failure};
use crate::output::SCHEMA_VERSION;
use crate::overview::alerts::{Alert, AlertState, Sample, evaluate};
use crate::overview::metrics::Figures;
use crate::settings::Settings;
use crate::view;

/// Time between two samples; a short window is divided by five instead.
const INTERVAL: Duration = Duration::from_secs(1);

/// The document of `alerts`.
#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    cluster: String,
    window_ms: u64,
    samples: usize,
    firing: usize,
    alerts: Vec<Alert>,
}

/// Reports which of the documented alerts fire.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let loaded = cluster_file::load(settings)?;
    let client = admin(settings, &loaded.spec)?;
    let samples = watch(&loaded, &client, args.window.min(settings.timeout)).await;
    let alerts = evaluate(&samples);
    let firing = alerts.iter().filter(|alert| alert.state == AlertState::Firing).count();
    let document = Document {
        schema_version: SCHEMA_VERSION,
        cluster: loaded.spec.cluster.name.clone(),
        window_ms: u64::try_from(args.window.as_millis()).unwrap_or(u64::MAX),
        samples: samples.len(),
        firing,
        alerts,
    };
    view::show(settings, &document, |paint| view::alerts::text(&document.cluster, &document.alerts, paint));
    Ok(if firing > 0 { Exit::Unhealthy } else { Exit::Ok })
}

async fn watch(loaded: &Loaded, client: &AdminClient, window: Duration) -> Vec<Sample> {
    let interval = INTERVAL.min(window / 5).max(Duration::from_millis(20));
    let began = Instant::now();
    let mut samples = Vec::new();
    loop {
        let at = began.elapsed();
        samples.push(sample(loaded, client, at).await);
        if at >= window {
            return samples;
        }
        let next = (at + interval).min(window);
        tokio::time::sleep_until((began + next).into()).await;
    }
}

async fn sample(loaded: &Loaded, client: &AdminClient, at: Duration) -> Sample {
    let ids: Vec<_> = loaded.spec.cluster.nodes.iter().map(|node| node.id).collect();
    let asked = ids.iter().map(|id| async move {
        let text = client.metrics(*id).await.map_err(|error| error.to_string());
        (*id, text.and_then(|text| Figures::parse(&text)))
    });
    Sample { at, nodes: join_all(asked).await.into_iter().collect() }
}
