//! `escli transaction`.

use jiff::Timestamp;

use super::kafka::Kafka;
use crate::cli::transaction::{Args, What};
use crate::failure::{Exit, Failure};
use crate::settings::Settings;
use crate::view::{self, transaction};

/// Lists or describes transactions.
///
/// # Errors
/// Usage; the cluster cannot be reached; there is no such transactional id.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open(settings)?;
    match &args.what {
        What::List => {
            let listed = kafka.client.transactions().await?;
            let ongoing = kafka.client.ongoing(&listed).await?;
            let document = transaction::list_document(&kafka.cluster, listed, &ongoing, Timestamp::now());
            view::show(settings, &document, |paint| transaction::list(&document, paint));
        }
        What::Describe { ids } => {
            let mut described = Vec::new();
            for id in ids {
                described.push(kafka.client.transaction(id).await?);
            }
            let document = transaction::describe_document(&kafka.cluster, described, Timestamp::now());
            view::show(settings, &document, |paint| transaction::describe(&document, paint));
        }
    }
    Ok(Exit::Ok)
}
