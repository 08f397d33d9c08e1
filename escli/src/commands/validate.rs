//! `escli validate`: checks a cluster.yaml offline.

use std::fmt::Write as _;

use serde::Serialize;
use shared::spec::{self, ClusterFile, Reader, SpecErrors};

use crate::cli::validate::Args;
use crate::cluster_file;
use crate::failure::{Exit, Failure};
use crate::output::SCHEMA_VERSION;
use crate::plan::quorum::tolerates;
use crate::settings::Settings;
use crate::view::{self, paint::Paint};

/// The document of `validate`.
#[derive(Debug, Serialize)]
struct Verdict {
    schema_version: u32,
    file: String,
    valid: bool,
    problems: Vec<Problem>,
    #[serde(skip)]
    lines: Vec<String>,
    notices: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Problem {
    line: u64,
    column: u64,
    message: String,
}

/// Checks the file and prints everything that is wrong with it.
///
/// # Errors
/// [`Exit::Usage`] if there is no file.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    if args.schema {
        let schema = spec::schema();
        view::show(settings, &schema, |_| format!("{schema:#}\n"));
        return Ok(Exit::Ok);
    }
    let source = cluster_file::find(settings.config.as_deref(), &settings.env)?;
    let verdict = check(source.name(), cluster_file::read(&source)?);
    view::show(settings, &verdict, |paint| describe(&verdict, paint));
    Ok(if verdict.valid { Exit::Ok } else { Exit::Usage })
}

fn check(file: String, bytes: Vec<u8>) -> Verdict {
    let read = spec::decode(&file, bytes);
    let read = read.and_then(|text| Ok((spec::parse_as(Reader::Operator, &file, &text)?, text)));
    let (errors, notices) = match read {
        Ok((spec, text)) => {
            let problems = spec::shared_hosts(&spec, &text);
            (SpecErrors { file: file.clone(), problems }, notices(&spec))
        }
        Err(errors) => (errors, Vec::new()),
    };
    let lines: Vec<_> = errors.lines().collect();
    let problem = |at: spec::Problem| Problem { line: at.line, column: at.column, message: at.message };
    let problems: Vec<_> = errors.problems.into_iter().map(problem).collect();
    Verdict { schema_version: SCHEMA_VERSION, file, valid: problems.is_empty(), problems, lines, notices }
}

/// Returns notices about settings that are valid, but rarely intended.
fn notices(spec: &ClusterFile) -> Vec<String> {
    let count = spec.cluster.nodes.len();
    let spare = tolerates(count);
    let mut notices = Vec::new();
    if spare == 0 {
        notices.push(format!("{count} node(s) tolerate no failure; 3 nodes tolerate one"));
    } else if count.is_multiple_of(2) {
        notices
            .push(format!("{count} nodes tolerate {spare} failure(s), no more than {} nodes do", count - 1));
    }
    if !spec.cluster.storage.wal_sync {
        notices.push("wal_sync is off: acknowledged events are written, but not fsynced".to_owned());
    }
    notices
}

fn describe(verdict: &Verdict, paint: Paint) -> String {
    let mut text = String::new();
    for line in &verdict.lines {
        let _ = writeln!(text, "{line}");
    }
    if verdict.valid {
        let _ = writeln!(text, "{}: {}", verdict.file, paint.good("ok"));
    }
    for notice in &verdict.notices {
        let _ = writeln!(text, "{} {notice}", paint.dim("note:"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_file::template;

    #[test]
    fn every_problem_has_its_place() {
        let text = template::local_text(3, None, None).replace("9001", "0").replace("id: 3", "id: 2");
        let verdict = check("x/cluster.yaml".to_owned(), text.into_bytes());
        assert!(!verdict.valid);
        let text = describe(&verdict, Paint::default());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() >= 2, "{text}");
        assert!(lines[0].starts_with("x/cluster.yaml:13:20: "), "{text}");
        assert!(
            lines.iter().any(|line| line.contains("id 2 is also the id of the node on line 11")),
            "{text}"
        );
    }

    #[test]
    fn what_is_seldom_meant_is_said_and_is_no_problem() {
        let table = [
            (1, "1 node(s) tolerate no failure"),
            (2, "2 node(s) tolerate no failure"),
            (4, "4 nodes tolerate 1"),
        ];
        for (count, notice) in table {
            let verdict = check("f".to_owned(), template::local_text(count, None, None).into_bytes());
            assert!(verdict.valid && verdict.notices[0].starts_with(notice), "{:?}", verdict.notices);
        }
        assert_eq!(
            check("f".to_owned(), template::local_text(3, None, None).into_bytes()).notices,
            Vec::<String>::new()
        );
    }
}
