//! Real SSH servers on loopback addresses, with keys and an agent of their own, run as the user who runs the
//! tests.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use escli::ssh::Destination;
use rustix::process::{Pid, Signal, kill_process};
use shared::spec::HostKeys;
use tempfile::TempDir;

/// Where sshd listens.
const PORT: u16 = 2222;
/// How long a server may take to listen.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A folder with keys, known hosts, servers and perhaps an agent; everything ends on drop.
pub struct SshLab {
    dir: TempDir,
    user: String,
    servers: Vec<Sshd>,
    agent: Option<Child>,
}

impl SshLab {
    /// Starts servers that accept the new key `id_ed25519`, and whose host keys are known.
    pub fn start(count: usize) -> Result<Self> {
        let mut lab = Self::empty()?;
        lab.key("id_ed25519", "")?;
        for _ in 0..count {
            lab.server("")?;
        }
        Ok(lab)
    }

    /// No servers, no keys.
    pub fn empty() -> Result<Self> {
        let output = Command::new("id").arg("-un").output()?;
        let user = String::from_utf8(output.stdout)?.trim().to_owned();
        let lab = Self { dir: tempfile::tempdir()?, user, servers: Vec::new(), agent: None };
        fs::write(lab.path("authorized_keys"), "")?;
        fs::write(lab.path("known_hosts"), "")?;
        Ok(lab)
    }

    /// A path in the lab's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The user who runs the tests, and who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Makes a key that every server accepts.
    pub fn key(&self, name: &str, passphrase: &str) -> Result<PathBuf> {
        let path = self.unknown_key(name, passphrase)?;
        let public = fs::read_to_string(path.with_extension("pub"))?;
        let authorized = fs::read_to_string(self.path("authorized_keys"))?;
        fs::write(self.path("authorized_keys"), authorized + &public)?;
        Ok(path)
    }

    /// Makes a key that no server accepts.
    pub fn unknown_key(&self, name: &str, passphrase: &str) -> Result<PathBuf> {
        self.unknown_key_of("ed25519", name, passphrase)
    }

    /// The same, of any kind.
    pub fn unknown_key_of(&self, kind: &str, name: &str, passphrase: &str) -> Result<PathBuf> {
        let path = self.path(name);
        keygen(&path, kind, passphrase)?;
        Ok(path)
    }

    /// Certifies a key for this user, by an authority of the lab. Returns the path of the certificate.
    pub fn certify(&self, key: &Path, valid: &str) -> Result<PathBuf> {
        let mut command = Command::new("ssh-keygen");
        command.arg("-q").arg("-s").arg(self.path("ca")).args(["-I", "test", "-n", &self.user, "-V", valid]);
        let output = command.arg(key.with_extension("pub")).output()?;
        ensure!(output.status.success(), "ssh-keygen -s: {}", String::from_utf8_lossy(&output.stderr));
        let name = key.file_name().and_then(|name| name.to_str()).context("a name")?;
        Ok(key.with_file_name(format!("{name}-cert.pub")))
    }

    /// Starts one more server, with these lines added to its configuration, and makes its host keys known.
    pub fn server(&mut self, extra: &str) -> Result<usize> {
        let index = self.servers.len();
        let server = Sshd::start(self.dir.path(), index, extra)?;
        let known = fs::read_to_string(self.path("known_hosts"))?;
        fs::write(self.path("known_hosts"), known + &server.known()?)?;
        self.servers.push(server);
        Ok(index)
    }

    /// One of the servers.
    pub fn at(&mut self, index: usize) -> &mut Sshd {
        &mut self.servers[index]
    }

    /// The destination of a server, with `id_ed25519`.
    pub fn to(&self, index: usize) -> Destination {
        self.destination(&format!("h{index}"), self.servers[index].address)
    }

    /// The destination of any address, with `id_ed25519`.
    pub fn destination(&self, name: &str, address: SocketAddr) -> Destination {
        Destination {
            name: name.to_owned(),
            host: address.ip().to_string(),
            port: address.port(),
            user: self.user.clone(),
            identity_files: vec![self.path("id_ed25519")],
            certificate_files: Vec::new(),
            identities_only: false,
            agent: None,
            known_hosts: vec![self.path("known_hosts")],
            host_key_alias: None,
            host_keys: HostKeys::Strict,
            hash_known_hosts: false,
            connect_timeout: None,
            jumps: Vec::new(),
        }
    }

    /// Starts an agent that holds these keys, which have no passphrases. Returns the path of its socket.
    pub fn agent(&mut self, keys: &[&Path]) -> Result<PathBuf> {
        let socket = self.path("agent");
        let agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        self.agent = Some(agent.context("no ssh-agent: tests/setup.sh installs it")?);
        wait_for("the agent's socket", || socket.exists())?;
        for key in keys {
            let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).output()?;
            ensure!(added.status.success(), "ssh-add: {}", String::from_utf8_lossy(&added.stderr));
        }
        Ok(socket)
    }
}

impl Drop for SshLab {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            _ = agent.kill();
            _ = agent.wait();
        }
    }
}

/// One SSH server.
pub struct Sshd {
    /// Where it listens.
    pub address: SocketAddr,
    dir: PathBuf,
    child: Option<Child>,
}

impl Sshd {
    fn start(lab: &Path, index: usize, extra: &str) -> Result<Self> {
        // Every process has its own part of 127.0.0.0/8, so suites that run at once never share an address.
        let serial = std::process::id();
        let (high, low) = (serial / 250 % 250 + 1, serial % 250 + 1);
        let address: SocketAddr = format!("127.{high}.{low}.{}:{PORT}", index + 1).parse()?;
        let dir = lab.join(format!("h{index}"));
        fs::create_dir(&dir)?;
        let mut server = Self { address, dir, child: None };
        server.new_host_keys()?;
        let config = format!(
            "ListenAddress {address}\nHostKey {dir}/ed25519\nHostKey {dir}/ecdsa\nPidFile none\n\
             AuthorizedKeysFile {lab}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\nLogLevel VERBOSE\n\
             SetEnv HOME={lab}\n{extra}\n",
            dir = server.dir.display(),
            lab = lab.display(),
        );
        fs::write(server.dir.join("sshd_config"), config)?;
        server.launch()?;
        Ok(server)
    }

    /// Makes new host keys, which are used from the next start on.
    pub fn new_host_keys(&self) -> Result<()> {
        for kind in ["ed25519", "ecdsa"] {
            let path = self.dir.join(kind);
            _ = fs::remove_file(&path);
            _ = fs::remove_file(path.with_extension("pub"));
            keygen(&path, kind, "")?;
        }
        Ok(())
    }

    /// Starts it and waits until it listens.
    pub fn launch(&mut self) -> Result<()> {
        let program =
            ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let program = program
            .context("no sshd on this machine: run tests/setup.sh, or apt-get install openssh-server")?;
        // sshd drops its privileges there; its service, which does not run here, would make the folder.
        _ = fs::create_dir("/run/sshd");
        let log = fs::File::create(self.dir.join("log"))?;
        let mut command = Command::new(program);
        command.arg("-D").arg("-e").arg("-f").arg(self.dir.join("sshd_config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        self.child = Some(command.spawn()?);
        let address = self.address;
        wait_for("sshd", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
            .with_context(|| self.log())
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// One of its public host keys: kind and base64.
    pub fn host_key(&self, kind: &str) -> Result<String> {
        let text = fs::read_to_string(self.dir.join(kind).with_extension("pub"))?;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// The fingerprint of one of its host keys, as `ssh-keygen` prints it.
    pub fn fingerprint(&self, kind: &str) -> Result<String> {
        let output =
            Command::new("ssh-keygen").arg("-lf").arg(self.dir.join(kind).with_extension("pub")).output()?;
        let line = String::from_utf8(output.stdout)?;
        line.split_whitespace().nth(1).map(str::to_owned).context("a fingerprint")
    }

    /// The name by which its keys are known.
    pub fn known_as(&self) -> String {
        format!("[{}]:{}", self.address.ip(), self.address.port())
    }

    /// Lines for a known_hosts file.
    pub fn known(&self) -> Result<String> {
        let line = |kind| -> Result<String> { Ok(format!("{} {}\n", self.known_as(), self.host_key(kind)?)) };
        Ok(format!("{}{}", line("ed25519")?, line("ecdsa")?))
    }

    /// The processes of its logins and their descendants.
    pub fn sessions(&self) -> Vec<Pid> {
        self.child.as_ref().map(|child| descendants(child.id())).unwrap_or_default()
    }

    /// Sends a signal to all processes of its logins.
    pub fn signal_sessions(&self, signal: Signal) {
        for pid in self.sessions() {
            // It may just have ended.
            _ = kill_process(pid, signal);
        }
    }

    /// Sends a signal to the server that accepts connections.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().try_into().ok()?)) {
            _ = kill_process(pid, signal);
        }
    }

    /// Kills the server and all its logins.
    pub fn kill(&mut self) {
        self.signal_sessions(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keygen(path: &Path, kind: &str, passphrase: &str) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(path);
    let output =
        command.stdin(Stdio::null()).output().context("no ssh-keygen: tests/setup.sh installs it")?;
    ensure!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !done() {
        if begin.elapsed() > MAX_WAIT {
            bail!("timed out after {MAX_WAIT:?} waiting for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// All descendants of a process.
fn descendants(parent: u32) -> Vec<Pid> {
    let children = |parent: u32| -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect()
    };
    let mut found = children(parent);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found.into_iter().filter_map(|pid| Pid::from_raw(pid.try_into().ok()?)).collect()
}
