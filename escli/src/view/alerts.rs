//! PURE: alerts as text.

use std::fmt::Write as _;

use super::paint::Paint;
use crate::overview::alerts::{Alert, AlertState};

/// Returns a table with one row for each alert, its findings below one another.
pub fn text(cluster: &str, alerts: &[Alert], paint: Paint) -> String {
    let count = alerts.iter().filter(|alert| alert.state == AlertState::Firing).count();
    let summary = match count {
        0 => paint.good("no alert"),
        1 => paint.bad("1 alert"),
        count => paint.bad(&format!("{count} alerts")),
    };
    let mut text = format!("{}  {summary}\n", paint.bold(cluster));
    let _ = writeln!(text, "{:<13}  {:<13}  {:<39}  FINDINGS", "ALERT", "STATE", "CONDITION");
    for alert in alerts {
        let state = match alert.state {
            AlertState::Ok => paint.good(&format!("{:<13}", "ok")),
            AlertState::Firing => paint.bad(&format!("{:<13}", "FIRING")),
            AlertState::NotEvaluated => paint.warn(&format!("{:<13}", "not evaluated")),
        };
        for (index, finding) in alert.findings.iter().enumerate() {
            let _ = if index == 0 {
                writeln!(text, "{:<13}  {state}  {:<39}  {finding}", alert.name, alert.condition)
            } else {
                writeln!(text, "{:<71}{finding}", "")
            };
        }
    }
    text
}
