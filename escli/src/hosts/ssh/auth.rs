//! Logging in: with the keys of the agent first, then with key files. Never with a password.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libssh2_sys::{
    LIBSSH2_ERROR_AGENT_PROTOCOL, LIBSSH2_ERROR_AUTHENTICATION_FAILED, LIBSSH2_ERROR_FILE,
    LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED,
};
use ssh2::PublicKey;

use super::certificate::Certificate;
use super::key_file::KeyFile;
use super::wire::{Deadline, Wire, WireError};
use super::{Destination, SshError, quote};

/// How often the passphrase of one key file is asked for.
const MAX_TRIES: usize = 3;
/// How long an agent may take to list its keys.
const AGENT_TIMEOUT: Duration = Duration::from_secs(1);
/// The agent protocol's request for the list of keys: its length (4 bytes), then its number.
const LIST_IDENTITIES: [u8; 5] = [0, 0, 0, 1, 11];

/// Asks the operator for a secret, and shows them messages. Implementations must not print what is typed.
pub trait Prompt: Send + Sync {
    /// Asks `question` and returns the answer; `None` if there is no terminal, or the operator gives none.
    fn secret(&self, question: &str) -> Option<String>;

    /// Shows the operator one line.
    fn tell(&self, _text: &str) {}
}

/// A prompt for runs without a terminal: every question goes unanswered.
#[derive(Clone, Copy, Debug)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn secret(&self, _question: &str) -> Option<String> {
        None
    }
}

/// The passphrases of encrypted key files. Each is asked for once in a run, however many hosts need it.
pub struct Passphrases {
    prompt: Box<dyn Prompt>,
    asked: Mutex<HashMap<PathBuf, Asked>>,
}

#[derive(Default)]
struct Asked {
    times: usize,
    answer: Option<String>,
}

impl std::fmt::Debug for Passphrases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrases")
    }
}

impl Passphrases {
    /// Returns an empty collection, which asks through `prompt` when a passphrase is first needed.
    pub fn new(prompt: impl Prompt + 'static) -> Self {
        Self { prompt: Box::new(prompt), asked: Mutex::default() }
    }

    /// Shows the operator one line.
    pub(super) fn tell(&self, text: &str) {
        self.prompt.tell(text);
    }

    /// Returns the passphrase of a key file; `None` if the operator gave none, or has tried too often. `wrong` is a
    /// passphrase that the caller has found not to fit. One caller asks at a time; the others wait and get the same
    /// answer.
    pub(super) fn of(&self, path: &Path, wrong: Option<&str>) -> Option<String> {
        // A panic in a prompt leaves the map as it was, so a poisoned lock can be used.
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = asked.entry(path.to_owned()).or_default();
        if asked.answer.is_some() && asked.answer.as_deref() != wrong {
            return asked.answer.clone();
        }
        let given_up = asked.times > 0 && asked.answer.is_none();
        if given_up || asked.times == MAX_TRIES {
            return None;
        }
        asked.times += 1;
        let again = if wrong.is_some() { "that did not fit; " } else { "" };
        asked.answer = self.prompt.secret(&format!("{again}passphrase of {}: ", path.display()));
        asked.answer.clone()
    }
}

/// Logs in to the host on `wire`, after the handshake.
///
/// # Errors
/// `Refused`, with everything that was tried; `Unreachable` if the host goes silent.
pub fn log_in(
    wire: &mut Wire,
    destination: &Destination,
    passphrases: &Passphrases,
    deadline: &mut Deadline,
) -> Result<(), SshError> {
    let methods = wire.until(deadline, |session| session.auth_methods(&destination.user).map(str::to_owned));
    let mut login = Login {
        wire,
        destination,
        passphrases,
        deadline,
        tried: Vec::new(),
        turned_down: false,
        hints: Vec::new(),
    };
    let methods = match methods {
        _ if login.wire.session.authenticated() => return Ok(()),
        Ok(methods) => methods,
        Err(stop) => return Err(login.cut_off(&stop)),
    };
    if !methods.split(',').any(|method| method == "publickey") {
        return Err(SshError::refused(format!("{} takes no keys to log in with", destination.address()))
            .detail(format!("it takes: {methods}"))
            .hint("allow them in its sshd_config: PubkeyAuthentication yes"));
    }
    let files: Vec<_> =
        destination.identity_files.iter().map(|path| (path.as_path(), KeyFile::look(path))).collect();
    let certificates = Certificate::find(&destination.certificate_files, &destination.identity_files);
    let is_in = login.agent(&files, &certificates)? || login.files(&files, &certificates)?;
    if is_in { Ok(()) } else { Err(login.refused(None)) }
}

struct Login<'a> {
    wire: &'a mut Wire,
    destination: &'a Destination,
    passphrases: &'a Passphrases,
    deadline: &'a mut Deadline,
    tried: Vec<String>,
    /// Whether the host has rejected a key.
    turned_down: bool,
    hints: Vec<String>,
}

/// Checks that an agent answers on `socket`: libssh2 itself would wait for an answer without limit.
fn check_agent(socket: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(socket)?;
    agent.set_read_timeout(Some(AGENT_TIMEOUT))?;
    agent.set_write_timeout(Some(AGENT_TIMEOUT))?;
    agent.write_all(&LIST_IDENTITIES)?;
    let answered = agent.read_exact(&mut [0; 4]);
    answered.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        _ => error,
    })
}

/// The result of an attempt to log in with one key, after which the connection can still be used.
enum Attempt {
    In,
    No,
    /// The key cannot be used, so the host was not asked about it or got no signature: an unreadable file, a wrong
    /// passphrase, or an agent that does not sign. The text says why.
    Useless(String),
}

impl Login<'_> {
    /// Tries the keys of the agent: those that the configuration names first, then the others, unless it allows no
    /// others (`IdentitiesOnly`).
    fn agent(&mut self, files: &[(&Path, KeyFile)], certificates: &[Certificate]) -> Result<bool, SshError> {
        let Some(path) = &self.destination.agent else {
            self.tried.push("agent: none is running (SSH_AUTH_SOCK)".to_owned());
            return Ok(false);
        };
        if let Err(error) = check_agent(path) {
            self.tried.push(format!("agent at {}: {error}", path.display()));
            return Ok(false);
        }
        let listed = || -> Result<_, ssh2::Error> {
            let mut agent = self.wire.session.agent()?;
            agent.set_identity_path(path)?;
            agent.connect()?;
            agent.list_identities()?;
            let keys = agent.identities()?;
            Ok((agent, keys))
        };
        let (agent, keys) = match listed() {
            Ok(listed) => listed,
            Err(error) => {
                self.tried.push(format!("agent at {}: {}", path.display(), error.message()));
                return Ok(false);
            }
        };
        let is_named = |key: &PublicKey| {
            files.iter().any(|(_, file)| file.public_half() == Some(key.blob()))
                || certificates.iter().any(|certificate| certificate.blob() == key.blob())
        };
        let (named, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_named);
        let others = if self.destination.identities_only { Vec::new() } else { others };
        if named.is_empty() && others.is_empty() {
            self.tried.push("agent: it has no key to try".to_owned());
        }
        for key in named.iter().chain(&others) {
            let user = &self.destination.user;
            let attempt = self.attempt(|_| agent.userauth(user, key))?;
            if self.is_in(attempt, &format!("agent: {}", key.comment())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tries the key files, each with its certificates first.
    fn files(&mut self, files: &[(&Path, KeyFile)], certificates: &[Certificate]) -> Result<bool, SshError> {
        for (path, file) in files {
            let own = certificates.iter().filter(|certificate| certificate.is_for(path, file.public_half()));
            let own: Vec<&Path> = own.map(|certificate| certificate.path.as_path()).collect();
            let name = path.display().to_string();
            let &KeyFile::Private { encrypted, .. } = file else {
                let why = match file {
                    KeyFile::Unusable(why) => why,
                    KeyFile::Public(_) if own.is_empty() => "only the public half is here",
                    KeyFile::Public(_) => {
                        "only the public half is here; its certificate must be in the agent as well"
                    }
                    KeyFile::Missing | KeyFile::Private { .. } => "not there",
                };
                self.is_in(Attempt::Useless(why.to_owned()), &name);
                continue;
            };
            for certificate in own.into_iter().map(Some).chain([None]) {
                let attempt = match encrypted {
                    true => self.encrypted(path, certificate)?,
                    false => self.file(path, certificate, None)?,
                };
                let is_useless = matches!(attempt, Attempt::Useless(_));
                let with = certificate.map_or_else(String::new, |path| format!(" with {}", path.display()));
                if self.is_in(attempt, &format!("{name}{with}")) {
                    return Ok(true);
                }
                // The key cannot be used, so another certificate for it does not help.
                if is_useless {
                    break;
                }
            }
        }
        Ok(false)
    }

    fn encrypted(&mut self, path: &Path, certificate: Option<&Path>) -> Result<Attempt, SshError> {
        let mut wrong: Option<String> = None;
        loop {
            let passphrases = self.passphrases;
            let Some(passphrase) = self.deadline.pausing(|| passphrases.of(path, wrong.as_deref())) else {
                let path = path.display().to_string();
                self.hints.push(format!("let the agent hold the key: {}", quote::join(["ssh-add", &path])));
                let why =
                    if wrong.is_some() { "its passphrase was wrong" } else { "no passphrase was given" };
                return Ok(Attempt::Useless(format!("encrypted, and {why}")));
            };
            match self.file(path, certificate, Some(&passphrase))? {
                Attempt::Useless(_) => wrong = Some(passphrase),
                attempt => return Ok(attempt),
            }
        }
    }

    fn file(
        &mut self,
        path: &Path,
        certificate: Option<&Path>,
        passphrase: Option<&str>,
    ) -> Result<Attempt, SshError> {
        let user = &self.destination.user;
        self.attempt(|session| session.userauth_pubkey_file(user, certificate, path, passphrase))
    }

    fn attempt(
        &mut self,
        call: impl FnMut(&mut ssh2::Session) -> Result<(), ssh2::Error>,
    ) -> Result<Attempt, SshError> {
        let result = self.wire.until(self.deadline, call);
        match result {
            Ok(()) => Ok(Attempt::In),
            Err(stop) => match (stop.code(), stop.text()) {
                // libssh2 reports three different failures by this number; only their texts differ.
                (Some(LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED), text) if text.starts_with("waiting for") => {
                    Err(self.cut_off(&stop))
                }
                (Some(LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED), text) if text.starts_with("callback") => {
                    Ok(Attempt::Useless("it was not used to sign".to_owned()))
                }
                (Some(LIBSSH2_ERROR_AUTHENTICATION_FAILED | LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED), _) => {
                    Ok(Attempt::No)
                }
                (Some(LIBSSH2_ERROR_FILE | LIBSSH2_ERROR_AGENT_PROTOCOL), text) => Ok(Attempt::Useless(text)),
                _ => Err(self.cut_off(&stop)),
            },
        }
    }

    /// Returns whether the attempt has logged in. If not, notes why for the error that is shown when no key is
    /// accepted.
    fn is_in(&mut self, attempt: Attempt, what: &str) -> bool {
        match attempt {
            Attempt::In => return true,
            Attempt::No => {
                self.turned_down = true;
                self.tried.push(format!("{what}: not accepted"));
            }
            Attempt::Useless(why) => self.tried.push(format!("{what}: {why}")),
        }
        false
    }

    fn refused(&mut self, end: Option<String>) -> SshError {
        let destination = self.destination;
        let message = match end {
            None => format!("{} accepts none of our keys", destination.address()),
            Some(end) => format!("{} ended the login: {end}", destination.address()),
        };
        let port = destination.port.to_string();
        let login = format!("{}@{}", destination.user, destination.host);
        let copy = quote::join(["ssh-copy-id", "-p", &port, &login]);
        let mut error = SshError::refused(message).details(std::mem::take(&mut self.tried));
        for hint in std::mem::take(&mut self.hints) {
            error = error.hint(hint);
        }
        if destination.identity_files.iter().all(|path| KeyFile::look(path) == KeyFile::Missing) {
            error = error.hint("make a key: ssh-keygen -t ed25519");
        }
        error.hint(format!("give it your key: {copy}, or name another user or identity_file in deploy.ssh"))
    }

    /// The error for a connection that broke during the login.
    fn cut_off(&mut self, stop: &WireError) -> SshError {
        if matches!(stop, WireError::Error(_)) && self.turned_down {
            return self.refused(Some(stop.text())).hint(
                "it may allow fewer tries: set IdentitiesOnly yes and one IdentityFile in ~/.ssh/config",
            );
        }
        let message = format!("{} went away while logging in: {}", self.destination.address(), stop.text());
        SshError::unreachable(message)
    }
}
