//! PURE: works out where a host is and how to log in: from cluster.yaml first, then from the operator's SSH
//! configuration, then by SSH's defaults. Reads no file and no environment; questions to `ssh` go through a function.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::spec::{HostKeys, Ssh, authority};

use super::config::{Question, SshOptions};
use super::{ConfigFile, SshError};

/// Largest number of jump hosts on the way to a host.
const MAX_JUMPS: usize = 8;
/// File names of the keys that are tried if none is named, best first.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// The operator's account on this machine.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The login name, which is also the default user on hosts.
    pub user: String,
    /// The home directory.
    pub home: PathBuf,
    /// The socket of the agent (`SSH_AUTH_SOCK`).
    pub agent: Option<PathBuf>,
    /// The SSH configuration to use.
    pub config: ConfigFile,
}

/// A host, with everything needed to log in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The host as the operator wrote it, for messages.
    pub name: String,
    /// Name or address to connect to.
    pub host: String,
    /// The SSH port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// Private keys, in the order in which they are tried.
    pub identity_files: Vec<PathBuf>,
    /// Certificates for those keys. If none is named, those beside the keys are used.
    pub certificate_files: Vec<PathBuf>,
    /// Whether keys of the agent that are not in `identity_files` may be used.
    pub identities_only: bool,
    /// The socket of the agent.
    pub agent: Option<PathBuf>,
    /// Files of known host keys; a new key is added to the first one.
    pub known_hosts: Vec<PathBuf>,
    /// Another name under which the host's key is known.
    pub host_key_alias: Option<String>,
    /// Which host keys are trusted.
    pub host_keys: HostKeys,
    /// Whether host names are hashed in an entry for a new key.
    pub hash_known_hosts: bool,
    /// Time limit for one TCP connection; `None` if the configuration sets none.
    pub connect_timeout: Option<Duration>,
    /// The jump hosts, the one nearest to here first. Their own `jumps` are empty.
    pub jumps: Vec<Destination>,
}

impl Destination {
    /// Returns how to reach `host`. Of the settings in cluster.yaml, `for_node` takes precedence over `for_all`.
    ///
    /// # Errors
    /// If the SSH configuration is invalid, or the jump hosts form a loop.
    pub fn resolve(
        host: &str,
        for_node: Option<&Ssh>,
        for_all: Option<&Ssh>,
        operator: &Operator,
        ask: &mut dyn FnMut(&Question) -> Result<SshOptions, SshError>,
    ) -> Result<Self, SshError> {
        let ssh = merged(for_node, for_all);
        Resolver { operator, ssh: &ssh, ask }.target(host)
    }

    /// Returns `user@host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}@{}", self.user, authority(&self.host, self.port))
    }
}

/// Merges the settings of one node with those for all nodes, which count where the first are silent.
fn merged(for_node: Option<&Ssh>, for_all: Option<&Ssh>) -> Ssh {
    let (node, all) = (for_node.cloned().unwrap_or_default(), for_all.cloned().unwrap_or_default());
    Ssh {
        user: node.user.or(all.user),
        port: node.port.or(all.port),
        identity_file: node.identity_file.or(all.identity_file),
        known_hosts: node.known_hosts.or(all.known_hosts),
        host_keys: node.host_keys.or(all.host_keys),
        jump: node.jump.or(all.jump),
    }
}

struct Resolver<'a> {
    operator: &'a Operator,
    ssh: &'a Ssh,
    ask: &'a mut dyn FnMut(&Question) -> Result<SshOptions, SshError>,
}

impl Resolver<'_> {
    fn target(&mut self, host: &str) -> Result<Destination, SshError> {
        let mut given = Vec::new();
        let ssh = self.ssh;
        let named = |key, value: Option<String>| value.map(|value| (key, value));
        let file = |path: &PathBuf| path.display().to_string();
        given.extend(named("User", ssh.user.clone()));
        given.extend(named("Port", ssh.port.map(|port| port.to_string())));
        given.extend(named("IdentityFile", ssh.identity_file.as_ref().map(file)));
        // ssh accepts neither blanks nor quotes in a list of jump hosts.
        let jump = ssh.jump.as_ref().map(|jump| jump.split_whitespace().collect());
        given.extend(named("ProxyJump", jump));
        let answer = (self.ask)(&Question { host: host.to_owned(), given })?;
        let mut target = self.destination(host, ssh, &answer);
        if let Some(path) = &ssh.known_hosts {
            target.known_hosts = vec![self.expand(&file(path), &target)];
        }
        if let Some(keys) = &ssh.host_keys {
            target.host_keys = keys.clone();
        }
        target.jumps = self.jumps(&answer, ssh.jump.as_deref(), &target, &mut Vec::new())?;
        Ok(target)
    }

    /// Returns the jump hosts on the way to `target`. As in ssh, the first of them may have jump hosts of its own; each
    /// further one is reached through the one before.
    fn jumps(
        &mut self,
        answer: &SshOptions,
        given: Option<&str>,
        target: &Destination,
        seen: &mut Vec<String>,
    ) -> Result<Vec<Destination>, SshError> {
        if given.is_none() && answer.one("proxycommand").is_some() {
            let name = &target.name;
            let message = format!("{name} is reached through a ProxyCommand, which escli does not run");
            return Err(SshError::failed(message)
                .hint("use ProxyJump in ~/.ssh/config, or `jump` in deploy.ssh of cluster.yaml"));
        }
        let list = given.or_else(|| answer.one("proxyjump")).filter(|list| *list != "none");
        let Some(list) = list else { return Ok(Vec::new()) };
        seen.push(authority(&target.host, target.port));
        let mut found = Vec::new();
        for (index, text) in list.split(',').enumerate() {
            let (hop, its_answer) = self.hop(text.trim(), &target.name)?;
            let at = authority(&hop.host, hop.port);
            if seen.contains(&at) || seen.len() > MAX_JUMPS {
                let round = seen.iter().chain([&at]).map(String::as_str).collect::<Vec<_>>().join(" -> ");
                return Err(SshError::failed(format!("the jumps to {} lead round in a circle", target.name))
                    .detail(round)
                    .hint("exclude the jump host where ProxyJump is set: Host * !JUMP_HOST"));
            }
            if index == 0 {
                found.extend(self.jumps(&its_answer, None, &hop, seen)?);
            }
            seen.push(at);
            found.push(hop);
        }
        Ok(found)
    }

    /// Returns one jump host, written as `[user@]host[:port]` or as an ssh:// URL.
    fn hop(&mut self, text: &str, target: &str) -> Result<(Destination, SshOptions), SshError> {
        let (user, host, port) = hop_parts(text).ok_or_else(|| {
            SshError::failed(format!("the jump {text:?} on the way to {target} is invalid"))
                .hint("expected [user@]host[:port], several with commas between, or none")
        })?;
        let mut given = Vec::new();
        given.extend(user.map(|user| ("User", user.to_owned())));
        given.extend(port.map(|port| ("Port", port.to_string())));
        let answer = (self.ask)(&Question { host: host.to_owned(), given: given.clone() })?;
        let value = |key: &str| given.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
        let own = Ssh { user: value("User"), port, ..Ssh::default() };
        let mut hop = self.destination(host, &own, &answer);
        // The file of known hosts and the key from cluster.yaml hold for the whole way; a pinned host key only for the
        // target.
        if let Some(path) = &self.ssh.known_hosts {
            let path = self.expand(&path.display().to_string(), &hop);
            hop.known_hosts.insert(0, path);
        }
        if let Some(path) = &self.ssh.identity_file {
            let path = self.expand(&path.display().to_string(), &hop);
            if !hop.identity_files.contains(&path) {
                hop.identity_files.push(path);
            }
        }
        if let Some(keys @ (HostKeys::Strict | HostKeys::AcceptNew)) = &self.ssh.host_keys {
            hop.host_keys = keys.clone();
        }
        Ok((hop, answer))
    }

    /// Builds a destination from the answer of `ssh -G`, with SSH's defaults for what it leaves out.
    fn destination(&self, name: &str, given: &Ssh, answer: &SshOptions) -> Destination {
        let word = |key: &str| answer.one(key).map(str::to_owned);
        let user = given.user.clone().or_else(|| word("user"));
        let mut found = Destination {
            name: name.to_owned(),
            host: word("hostname").unwrap_or_else(|| name.to_owned()),
            port: given.port.or_else(|| answer.one("port")?.parse().ok()).unwrap_or(22),
            user: user.unwrap_or_else(|| self.operator.user.clone()),
            identity_files: Vec::new(),
            certificate_files: Vec::new(),
            identities_only: answer.yes("identitiesonly"),
            agent: self.operator.agent.clone(),
            known_hosts: Vec::new(),
            host_key_alias: word("hostkeyalias"),
            host_keys: host_keys(answer.one("stricthostkeychecking")),
            hash_known_hosts: answer.yes("hashknownhosts"),
            connect_timeout: seconds(answer.one("connecttimeout")),
            jumps: Vec::new(),
        };
        found.identity_files = self.identity_files(given, answer, &found);
        let named = answer.all("certificatefile").filter(|path| *path != "none");
        found.certificate_files = named.map(|path| self.expand(path, &found)).collect();
        found.known_hosts = self.known_hosts(answer, &found);
        match answer.all("identityagent").next() {
            None | Some("SSH_AUTH_SOCK" | "$SSH_AUTH_SOCK") => {}
            Some(path) if path.eq_ignore_ascii_case("none") => found.agent = None,
            Some(path) => found.agent = Some(self.expand(path, &found)),
        }
        found
    }

    fn identity_files(&self, given: &Ssh, answer: &SshOptions, found: &Destination) -> Vec<PathBuf> {
        let first = given.identity_file.iter().map(|path| path.display().to_string());
        let named = answer.all("identityfile").filter(|path| *path != "none").map(str::to_owned);
        let mut files: Vec<PathBuf> = Vec::new();
        for path in first.chain(named).map(|path| self.expand(&path, found)) {
            if !files.contains(&path) {
                files.push(path);
            }
        }
        let usual = USUAL_KEYS.map(|name| self.operator.home.join(".ssh").join(name));
        if files.is_empty() {
            return usual.into();
        }
        // If no key is named, ssh lists its default ones, among them types that libssh2 cannot use.
        let home = self.operator.home.join(".ssh");
        let all_usual = files.iter().all(|path| path.parent() == Some(&home) && is_usual(path));
        if all_usual && usual.iter().all(|path| files.contains(path)) { usual.into() } else { files }
    }

    fn known_hosts(&self, answer: &SshOptions, found: &Destination) -> Vec<PathBuf> {
        let lists = answer.all("userknownhostsfile").chain(answer.all("globalknownhostsfile"));
        let named: Vec<_> = lists
            .flat_map(str::split_whitespace)
            .filter(|path| *path != "none")
            .map(|path| self.expand(path, found))
            .collect();
        if named.is_empty() { vec![self.operator.home.join(".ssh/known_hosts")] } else { named }
    }

    /// Expands `~` and the tokens of ssh_config that may occur in a path.
    fn expand(&self, path: &str, found: &Destination) -> PathBuf {
        let home = &self.operator.home;
        if let Some(rest) = path.strip_prefix("~/") {
            return home.join(self.tokens(rest, found));
        }
        PathBuf::from(self.tokens(path, found))
    }

    fn tokens(&self, text: &str, found: &Destination) -> String {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('%') => out.push('%'),
                Some('d') => out.push_str(&self.operator.home.display().to_string()),
                Some('h') => out.push_str(&found.host),
                Some('n') => out.push_str(&found.name),
                Some('p') => out.push_str(&found.port.to_string()),
                Some('r') => out.push_str(&found.user),
                Some('u') => out.push_str(&self.operator.user),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            }
        }
        out
    }
}

/// Whether `path` has the name of a default key, which ssh lists by itself.
fn is_usual(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name.strip_prefix("id_").is_some_and(|kind| {
            matches!(kind, "dsa" | "ecdsa" | "ecdsa_sk" | "ed25519" | "ed25519_sk" | "rsa" | "xmss")
        })
    })
}

/// Never more trusting than ssh: `no` becomes `accept-new`, and `ask`, for which there is no dialogue here, becomes
/// strict.
fn host_keys(checking: Option<&str>) -> HostKeys {
    match checking {
        Some("accept-new" | "no" | "off" | "false") => HostKeys::AcceptNew,
        _ => HostKeys::Strict,
    }
}

fn seconds(text: Option<&str>) -> Option<Duration> {
    text?.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Splits `[user@]host[:port]`. An IPv6 address with a port is in brackets.
fn hop_parts(text: &str) -> Option<(Option<&str>, &str, Option<u16>)> {
    let text = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = if let Some(inside) = rest.strip_prefix('[') {
        let (host, after) = inside.split_once(']')?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else if rest.matches(':').count() == 1 {
        let (host, port) = rest.split_once(':')?;
        (host, Some(port))
    } else {
        (rest, None)
    };
    let port =
        port.map(|port| port.parse().ok().filter(|port| *port > 0)).map_or(Some(None), |p| p.map(Some))?;
    let sound = !host.is_empty() && !host.starts_with('-') && user.is_none_or(|user| !user.is_empty());
    sound.then_some((user, host, port))
}
