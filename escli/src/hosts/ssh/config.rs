//! Reads the operator's SSH configuration by asking the `ssh` program (`ssh -G`), because only that handles Include,
//! Match, patterns, tokens and system defaults exactly as the operator expects.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use super::{Operator, SshError};

/// Time limit of `ssh -G`: a configuration may query the name service or run programs.
const SSH_CONFIG_TIMEOUT: Duration = Duration::from_secs(10);

/// Which SSH configuration is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConfigFile {
    /// `~/.ssh/config` and the system's configuration.
    #[default]
    Default,
    /// Only this file.
    File(PathBuf),
    /// No configuration.
    None,
}

impl Operator {
    /// Returns the operator who runs this process.
    pub fn here(config: ConfigFile) -> Self {
        let name = |key| std::env::var(key).ok().filter(|name| !name.is_empty());
        Self {
            user: name("USER").or_else(|| name("LOGNAME")).unwrap_or_else(|| "root".to_owned()),
            home: std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
            agent: name("SSH_AUTH_SOCK").map(PathBuf::from),
            config,
        }
    }
}

/// A question to `ssh -G`: a host under the name that the operator wrote, and the options from cluster.yaml, which take
/// precedence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Name or address of the host.
    pub host: String,
    /// Options in the form of `ssh -o`.
    pub given: Vec<(&'static str, String)>,
}

/// The answer of `ssh -G`: names of options in lower case with their values, in order. An option may have several
/// values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshOptions(Vec<(String, String)>);

impl SshOptions {
    /// Parses the output of `ssh -G`, which has an option and its value on each line.
    pub fn read(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Self(pairs.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())).collect())
    }

    /// Returns the first value of an option; `None` if it is absent, or `none`.
    pub fn one(&self, key: &str) -> Option<&str> {
        self.all(key).next().filter(|value| !value.eq_ignore_ascii_case("none"))
    }

    /// Returns all values of an option.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns whether the value of an option is `yes` or `true`.
    pub fn yes(&self, key: &str) -> bool {
        self.one(key).is_some_and(|value| matches!(value, "yes" | "true"))
    }
}

/// Runs `ssh -G`, which takes a few milliseconds. If there is no `ssh`, the answer is empty.
///
/// # Errors
/// If the configuration cannot be read; the message is ssh's own, with file and line.
pub fn ask(file: &ConfigFile, question: &Question) -> Result<SshOptions, SshError> {
    let mut command = Command::new("ssh");
    command.args(["-T", "-G"]).stdin(Stdio::null());
    match file {
        ConfigFile::Default => {}
        ConfigFile::File(path) => _ = command.arg("-F").arg(path),
        ConfigFile::None => _ = command.args(["-F", "none"]),
    }
    for (key, value) in &question.given {
        command.arg("-o").arg(format!("{key}={}", quoted(value)));
    }
    command.arg("--").arg(&question.host);
    let (reply, answer) = mpsc::channel();
    thread::spawn(move || reply.send(command.output()));
    let output = match answer.recv_timeout(SSH_CONFIG_TIMEOUT) {
        Ok(Ok(output)) => output,
        Err(_) => {
            let message = format!("ssh -G {} has not ended after {SSH_CONFIG_TIMEOUT:?}", question.host);
            return Err(SshError::failed(message)
                .hint("look for `Match exec` and CanonicalizeHostname in ~/.ssh/config"));
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return without_ssh(file),
        Ok(Err(error)) => return Err(SshError::failed(format!("cannot run ssh: {error}"))),
    };
    if output.status.success() {
        return Ok(SshOptions::read(&String::from_utf8_lossy(&output.stdout)));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
    let host = &question.host;
    Err(SshError::failed(format!("ssh cannot make sense of its configuration for {host}"))
        .details(said)
        .hint(format!("try: ssh -G {host}")))
}

/// Without `ssh`, an existing configuration could not be honoured, so it is refused instead of ignored.
fn without_ssh(file: &ConfigFile) -> Result<SshOptions, SshError> {
    let wanted = match file {
        ConfigFile::None => None,
        ConfigFile::File(path) => Some(path.clone()),
        ConfigFile::Default => std::env::home_dir().map(|home| home.join(".ssh/config")),
    };
    match wanted.filter(|path| Path::exists(path)) {
        None => Ok(SshOptions::default()),
        Some(path) => {
            Err(SshError::failed(format!("there is no ssh program to read {} with", path.display()))
                .hint("install it: sudo apt-get install openssh-client"))
        }
    }
}

/// Quotes a value as ssh_config requires it; only if necessary, since not all options allow quotes.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | '#');
    if value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, ConfigFile) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config");
        std::fs::write(&path, text).expect("written");
        (dir, ConfigFile::File(path))
    }

    #[test]
    fn the_configuration_is_read_as_ssh_reads_it() {
        let text = "Host n1\n HostName 10.0.0.1\n IdentityFile ~/a b\nMatch originalhost n1 user admin\n Port 2222\n\
                    Host *\n User someone\n";
        let (_dir, file) = config(&text.replace("~/a b", "\"~/a b\""));
        let given = vec![("User", "admin".to_owned()), ("IdentityFile", "/x y".to_owned())];
        let answer = ask(&file, &Question { host: "n1".to_owned(), given }).expect("an answer");
        assert_eq!(answer.one("hostname"), Some("10.0.0.1"));
        assert_eq!(answer.one("port"), Some("2222"));
        assert_eq!(answer.one("user"), Some("admin"));
        assert_eq!(answer.all("identityfile").collect::<Vec<_>>(), ["/x y", "~/a b"]);
        assert_eq!(answer.one("connecttimeout"), None);
    }

    #[test]
    fn a_mistake_is_shown_with_its_line() {
        let (_dir, file) = config("Host n1\n  Prot 22\n");
        let error =
            ask(&file, &Question { host: "n1".to_owned(), given: Vec::new() }).expect_err("a mistake");
        let details = error.details.join("\n");
        assert!(details.contains("line 2") && details.contains("prot"), "{details}");
    }

    #[test]
    fn a_host_is_never_taken_for_an_option() {
        let (_dir, file) = config("");
        let question = Question { host: "-oProxyCommand=touch /tmp/x".to_owned(), given: Vec::new() };
        let error = ask(&file, &question);
        assert!(error.is_err() || error.is_ok_and(|answer| answer.one("proxycommand").is_none()));
    }
}
