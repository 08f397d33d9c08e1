//! Logins of escli's SSH transport: keys, agents, certificates and host keys.

use std::collections::VecDeque;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use escli::hosts::ssh::{
    ConfigFile, Connection, Destination, Input, Limits, NoPrompt, Operator, Passphrases, Prompt, SshError,
    SshErrorKind, ask,
};
use shared::spec::{HostKeys, Ssh};
use tests::sshd::SshLab;

/// A prompt that answers from a list, and counts the questions.
#[derive(Clone, Default)]
struct Operates {
    answers: Arc<Mutex<VecDeque<&'static str>>>,
    questions: Arc<Mutex<Vec<String>>>,
    slowly: Duration,
}

impl Operates {
    fn answering(answers: &[&'static str]) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() }
    }

    fn questions(&self) -> Vec<String> {
        self.questions.lock().expect("sound").clone()
    }
}

impl Prompt for Operates {
    fn secret(&self, question: &str) -> Option<String> {
        std::thread::sleep(self.slowly);
        self.questions.lock().expect("sound").push(question.to_owned());
        self.answers.lock().expect("sound").pop_front().map(str::to_owned)
    }
}

async fn open_asking(
    destination: Destination,
    passphrases: &Arc<Passphrases>,
) -> Result<Connection, SshError> {
    let limits = Limits { open: Duration::from_secs(3), ..Limits::default() };
    Connection::open(destination, Arc::clone(passphrases), limits).await
}

async fn open(destination: Destination) -> Result<Connection, SshError> {
    open_asking(destination, &Arc::new(Passphrases::new(NoPrompt))).await
}

async fn works(destination: Destination) -> Result<()> {
    let output = open(destination).await?.run("echo in", Input::None, Duration::from_secs(10)).await?;
    ensure!(output.text() == "in", "{output:?}");
    Ok(())
}

/// Returns the error of a refused login.
async fn refused(destination: Destination) -> String {
    refused_asking(destination, &Arc::new(Passphrases::new(NoPrompt))).await
}

async fn refused_asking(destination: Destination, passphrases: &Arc<Passphrases>) -> String {
    let error = open_asking(destination, passphrases).await.expect_err("an error");
    assert_eq!(error.kind, SshErrorKind::Refused, "{error:?}");
    [&[error.message.clone()][..], &error.details, &error.hints].concat().join("\n")
}

fn contains(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
}

#[tokio::test]
async fn the_agents_keys_come_first() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let held = lab.key("held", "")?;
    let socket = lab.agent(&[&held])?;
    let mut by_agent = lab.to(0);
    by_agent.agent = Some(socket);
    by_agent.identity_files.clear();
    works(by_agent.clone()).await?;
    // With IdentitiesOnly the agent's other keys are not offered.
    by_agent.identities_only = true;
    contains(&refused(by_agent.clone()).await, &["agent: it has no key to try"]);
    // Named by its public key; the private key is only in the agent.
    fs::remove_file(&held)?;
    by_agent.identity_files = vec![held];
    works(by_agent).await
}

#[tokio::test]
async fn a_missing_agent_does_not_prevent_a_login() -> Result<()> {
    let lab = SshLab::start(1)?;
    let mut destination = lab.to(0);
    destination.agent = Some(lab.path("no-such-socket"));
    works(destination.clone()).await?;
    // An agent that hangs.
    let hanging = std::os::unix::net::UnixListener::bind(lab.path("hanging"))?;
    destination.agent = Some(lab.path("hanging"));
    works(destination).await?;
    drop(hanging);
    Ok(())
}

#[tokio::test]
async fn the_passphrase_of_a_key_is_asked_for_once() -> Result<()> {
    let lab = SshLab::start(3)?;
    let key = lab.key("locked", "open sesame")?;
    let operator =
        Operates { slowly: Duration::from_secs(4), ..Operates::answering(&["wrong", "open sesame"]) };
    let passphrases = Arc::new(Passphrases::new(operator.clone()));
    let mut logins = tokio::task::JoinSet::new();
    for index in 0..3 {
        let mut destination = lab.to(index);
        destination.identity_files = vec![key.clone()];
        let passphrases = Arc::clone(&passphrases);
        // The operator answers after the hosts' limit.
        logins.spawn(async move { open_asking(destination, &passphrases).await });
    }
    while let Some(login) = logins.join_next().await {
        login??.run("true", Input::None, Duration::from_secs(10)).await?;
    }
    let questions = operator.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    contains(&questions[0], &[&format!("passphrase of {}: ", key.display())]);
    contains(&questions[1], &["that did not fit"]);
    Ok(())
}

#[tokio::test]
async fn without_a_terminal_the_error_suggests_the_agent() -> Result<()> {
    let lab = SshLab::start(1)?;
    let key = lab.key("locked", "open sesame")?;
    let mut destination = lab.to(0);
    destination.identity_files = vec![key.clone()];
    let name = key.display().to_string();
    let said = refused(destination.clone()).await;
    contains(
        &said,
        &[&format!("{name}: encrypted, and no passphrase was given"), &format!("ssh-add {name}")],
    );
    // Three wrong passphrases end the questions.
    let operator = Operates::answering(&["a", "b", "c", "open sesame"]);
    let said = refused_asking(destination, &Arc::new(Passphrases::new(operator.clone()))).await;
    contains(&said, &["encrypted, and its passphrase was wrong"]);
    assert_eq!(operator.questions().len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_failed_login_lists_everything_that_was_tried() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let (stranger, held) = (lab.unknown_key("stranger", "")?, lab.unknown_key("held", "")?);
    let socket = lab.agent(&[&held])?;
    let mut destination = lab.to(0);
    destination.agent = Some(socket);
    fs::write(lab.path("rubbish"), "rubbish")?;
    destination.identity_files = vec![lab.path("missing"), lab.path("rubbish"), stranger.clone()];
    let said = refused(destination.clone()).await;
    let tried = [
        format!("{} accepts none of our keys", destination.address()),
        "agent: test: not accepted".to_owned(),
        format!("{}: not there", lab.path("missing").display()),
        format!("{}: not a private key", lab.path("rubbish").display()),
        format!("{}: not accepted", stranger.display()),
        format!("ssh-copy-id -p {} {}@{}", destination.port, lab.user(), destination.host),
    ];
    contains(&said, &tried.iter().map(String::as_str).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn too_many_keys_are_explained() -> Result<()> {
    let mut lab = SshLab::empty()?;
    lab.key("id_ed25519", "")?;
    lab.server("MaxAuthTries 2")?;
    let mut destination = lab.to(0);
    destination.identity_files.clear();
    for name in ["one", "two", "three"] {
        destination.identity_files.push(lab.unknown_key(name, "")?);
    }
    contains(&refused(destination).await, &["ended the login", "one: not accepted", "IdentitiesOnly"]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_accepts_no_keys_is_not_sent_passwords() -> Result<()> {
    let mut lab = SshLab::empty()?;
    lab.key("id_ed25519", "")?;
    lab.server("PubkeyAuthentication no\nMatch all\n PasswordAuthentication yes")?;
    contains(&refused(lab.to(0)).await, &["takes no keys to log in with"]);
    Ok(())
}

#[tokio::test]
async fn an_unknown_host_is_refused_unless_new_ones_are_accepted() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let mut destination = lab.to(0);
    destination.known_hosts = vec![lab.path("fresh/known_hosts")];
    let fingerprint = lab.at(0).fingerprint("ed25519")?;
    let said = refused(destination.clone()).await;
    contains(&said, &["is not known", &format!("offered: ED25519 {fingerprint}"), "accept-new", "ssh -o "]);
    assert!(!destination.known_hosts[0].exists());

    for hashed in [false, true] {
        destination.hash_known_hosts = hashed;
        destination.host_keys = HostKeys::AcceptNew;
        _ = fs::remove_file(&destination.known_hosts[0]);
        works(destination.clone()).await?;
        let written = fs::read_to_string(&destination.known_hosts[0])?;
        assert_eq!(written.lines().count(), 1, "{written}");
        assert_eq!(written.starts_with("|1|"), hashed, "{written}");
        // ssh-keygen finds it too.
        let name = lab.at(0).known_as();
        let file = destination.known_hosts[0].display().to_string();
        let found = Command::new("ssh-keygen").args(["-f", &file, "-F", &name]).output()?;
        ensure!(found.status.success(), "ssh-keygen -F {name} finds nothing in {written}");
        // The key is known from now on.
        destination.host_keys = HostKeys::Strict;
        works(destination.clone()).await?;
        assert_eq!(fs::read_to_string(&destination.known_hosts[0])?, written);
    }
    Ok(())
}

#[tokio::test]
async fn a_new_host_key_is_written_once_by_concurrent_logins() -> Result<()> {
    let lab = SshLab::start(1)?;
    let mut destination = lab.to(0);
    destination.known_hosts = vec![lab.path("fresh")];
    // Without a newline at the end, as an editor may leave it.
    fs::write(lab.path("fresh"), "elsewhere ssh-ed25519 AAAA")?;
    destination.host_keys = HostKeys::AcceptNew;
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..6 {
        logins.spawn(open(destination.clone()));
    }
    while let Some(login) = logins.join_next().await {
        login??;
    }
    let written = fs::read_to_string(lab.path("fresh"))?;
    assert_eq!(written.lines().count(), 2, "{written}");
    assert_eq!(written.lines().next(), Some("elsewhere ssh-ed25519 AAAA"));
    Ok(())
}

#[tokio::test]
async fn a_changed_key_is_never_accepted() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let before = lab.at(0).fingerprint("ed25519")?;
    lab.at(0).new_host_keys()?;
    lab.at(0).kill();
    lab.at(0).launch()?;
    let after = lab.at(0).fingerprint("ed25519")?;
    let mut destination = lab.to(0);
    let (file, name) = (lab.path("known_hosts").display().to_string(), lab.at(0).known_as());
    let command = format!("ssh-keygen -f {file} -R '{name}'");
    for keys in [HostKeys::Strict, HostKeys::AcceptNew] {
        destination.host_keys = keys;
        let said = refused(destination.clone()).await;
        let known = format!("known:   ED25519 {before} ({file} line 1)");
        contains(&said, &["has changed", &known, &format!("offered: ED25519 {after}"), &command]);
    }
    // The printed command solves it.
    ensure!(Command::new("sh").args(["-c", &command]).output()?.status.success(), "{command}");
    works(destination).await
}

#[tokio::test]
async fn a_pinned_key_of_any_kind_is_enough() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let mut destination = lab.to(0);
    destination.known_hosts = vec![lab.path("none")];
    for kind in ["ed25519", "ecdsa"] {
        destination.host_keys = HostKeys::Pinned(lab.at(0).fingerprint(kind)?);
        works(destination.clone()).await.context(kind)?;
    }
    assert!(!lab.path("none").exists());
    let wanted = format!("SHA256:{}", "x".repeat(43));
    destination.host_keys = HostKeys::Pinned(wanted.clone());
    // Even a known key is refused.
    destination.known_hosts = vec![lab.path("known_hosts")];
    let offered = lab.at(0).fingerprint("ed25519")?;
    contains(&refused(destination).await, &["not the one in cluster.yaml", &wanted, &offered]);
    Ok(())
}

#[tokio::test]
async fn a_host_with_several_keys_does_not_look_changed() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let name = lab.at(0).known_as();
    let line = format!("{name} {}\n", lab.at(0).host_key("ecdsa")?);
    fs::write(lab.path("known_hosts"), line)?;
    works(lab.to(0)).await
}

#[tokio::test]
async fn markers_in_known_hosts_are_honoured_or_explained() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let known = fs::read_to_string(lab.path("known_hosts"))?;
    let (name, key) = (lab.at(0).known_as(), lab.at(0).host_key("ed25519")?);
    let mut destination = lab.to(0);
    for keys in [HostKeys::Strict, HostKeys::AcceptNew, HostKeys::Pinned(lab.at(0).fingerprint("ed25519")?)] {
        destination.host_keys = keys;
        fs::write(lab.path("known_hosts"), format!("{known}@revoked * {key}\n"))?;
        contains(&refused(destination.clone()).await, &["is revoked", "line 3"]);
    }
    destination.host_keys = HostKeys::Strict;
    fs::write(lab.path("known_hosts"), format!("@cert-authority {name} {key}\n"))?;
    contains(&refused(destination).await, &["is not known", "line 1 trusts an authority", "cannot use"]);
    Ok(())
}

/// Resolves a host by an ssh configuration, with the lab's user as the operator.
fn resolve(lab: &SshLab, config: &str, host: &str, ssh: Option<&Ssh>) -> Result<Destination, SshError> {
    let file = lab.path("config");
    fs::write(&file, config).expect("written");
    let operator = Operator {
        user: "nobody-here".to_owned(),
        home: lab.path(""),
        agent: None,
        config: ConfigFile::File(file),
    };
    Destination::resolve(host, None, ssh, &operator, &mut |question| ask(&operator.config, question))
}

#[tokio::test]
async fn the_operators_ssh_configuration_is_used() -> Result<()> {
    let mut lab = SshLab::start(3)?;
    let addresses: Vec<_> = (0..3).map(|index| lab.at(index).address).collect();
    let hosts: String = (0..3)
        .map(|i| format!("Host n{i}\n HostName {}\n Port {}\n", addresses[i].ip(), addresses[i].port()))
        .collect();
    let all = format!(
        "Host *\n User {}\n IdentityFile {}\n IdentitiesOnly yes\n UserKnownHostsFile {}\n",
        lab.user(),
        lab.path("id_ed25519").display(),
        lab.path("known_hosts").display()
    );
    works(resolve(&lab, &(hosts.clone() + &all), "n0", None)?).await?;
    // Two hops, from the configuration and from cluster.yaml, including the jump of the first hop.
    let jumping = format!("Host n0\n ProxyJump n2,n1\n{hosts}{all}");
    let through = resolve(&lab, &jumping, "n0", None)?;
    assert_eq!(through.jumps.iter().map(|jump| jump.name.as_str()).collect::<Vec<_>>(), ["n2", "n1"]);
    works(through).await?;
    let jumping = format!("Host n1\n ProxyJump n2\n{hosts}{all}");
    let ssh = Ssh { jump: Some("n1".to_owned()), ..Ssh::default() };
    let through = resolve(&lab, &jumping, "n0", Some(&ssh))?;
    assert_eq!(through.jumps.iter().map(|jump| jump.name.as_str()).collect::<Vec<_>>(), ["n2", "n1"]);
    works(through).await?;
    // cluster.yaml takes precedence.
    let ssh = Ssh { user: Some("somebody".to_owned()), port: Some(22), ..Ssh::default() };
    let other = resolve(&lab, &(hosts.clone() + &all), "n0", Some(&ssh))?;
    assert_eq!(other.address(), format!("somebody@{}:22", addresses[0].ip()));
    Ok(())
}

#[tokio::test]
async fn a_cycle_of_jump_hosts_is_an_error() -> Result<()> {
    let lab = SshLab::empty()?;
    let begin = Instant::now();
    for config in
        ["Host *\n ProxyJump b\n", "Host a\n ProxyJump b\nHost b\n ProxyJump c\nHost c\n ProxyJump b\n"]
    {
        let error = resolve(&lab, config, "a", None).expect_err("a circle");
        // ssh finds the shortest cycle itself.
        let said = format!("{error}, {:?}", error.details);
        assert!(said.contains("round in a circle") || said.contains("jumphost loop"), "{said}");
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
    Ok(())
}

/// A lab whose server trusts an authority and accepts no other key.
fn of_authority() -> Result<SshLab> {
    let mut lab = SshLab::empty()?;
    let authority = lab.unknown_key("ca", "")?;
    lab.server(&format!("TrustedUserCAKeys {}.pub", authority.display()))?;
    Ok(lab)
}

#[tokio::test]
async fn a_certificate_beside_its_key_logs_in() -> Result<()> {
    let lab = of_authority()?;
    let mut destination = lab.to(0);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = lab.unknown_key_of(kind, kind, "")?;
        destination.identity_files = vec![key.clone()];
        contains(&refused(destination.clone()).await, &[&format!("{}: not accepted", key.display())]);
        let certificate = lab.certify(&key, "always:forever")?;
        works(destination.clone()).await.context(kind)?;
        lab.certify(&key, "20200101:20200102")?;
        let with = format!("{} with {}: not accepted", key.display(), certificate.display());
        contains(&refused(destination.clone()).await, &[&with]);
    }
    // The passphrase of an encrypted key is asked for once.
    let locked = lab.unknown_key("locked", "open sesame")?;
    lab.certify(&locked, "always:forever")?;
    destination.identity_files = vec![lab.path("ed25519"), locked];
    let operator = Operates::answering(&["wrong", "open sesame"]);
    open_asking(destination, &Arc::new(Passphrases::new(operator.clone()))).await?;
    assert_eq!(operator.questions().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_certificate_logs_in_from_the_agent_and_from_certificate_file() -> Result<()> {
    let mut lab = of_authority()?;
    let key = lab.unknown_key("held", "")?;
    let certificate = lab.certify(&key, "always:forever")?;
    let socket = lab.agent(&[&key])?;
    let mut destination = lab.to(0);
    destination.agent = Some(socket);
    destination.identity_files = vec![key.clone()];
    destination.identities_only = true;
    fs::rename(&key, lab.path("away"))?;
    works(destination).await?;
    // Not beside the key.
    fs::rename(lab.path("away"), &key)?;
    fs::rename(&certificate, lab.path("elsewhere.pub"))?;
    let address = lab.at(0).address;
    let config = |more: &str| {
        format!(
            "Host *\n HostName {}\n Port {}\n User {}\n IdentityFile {}\n UserKnownHostsFile {}\n{more}",
            address.ip(),
            address.port(),
            lab.user(),
            key.display(),
            lab.path("known_hosts").display()
        )
    };
    contains(&refused(resolve(&lab, &config(""), "n0", None)?).await, &["held: not accepted"]);
    let named = format!(" CertificateFile {}\n", lab.path("elsewhere.pub").display());
    works(resolve(&lab, &config(&named), "n0", None)?).await
}

#[test]
fn the_configurations_of_all_hosts_are_read_concurrently() -> Result<()> {
    let lab = SshLab::empty()?;
    let file = lab.path("config");
    fs::write(&file, "Match exec \"sleep 0.5\"\n Port 24\n")?;
    let nodes: String = (1..=8).map(|id| format!("    - {{ id: {id}, host: 10.0.0.{id} }}\n")).collect();
    let text = format!("cluster:\n  name: t\n  nodes:\n{nodes}");
    let spec = shared::spec::parse("cluster.yaml", &text).map_err(|error| anyhow::anyhow!("{error}"))?;
    let operator =
        Operator { user: "ann".to_owned(), home: lab.path(""), agent: None, config: ConfigFile::File(file) };
    let begin = Instant::now();
    let found = escli::hosts::remote::resolve(&spec, &operator);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(found.len(), 8);
    for (id, destination) in found {
        let destination = destination?;
        assert_eq!((destination.host, destination.port), (format!("10.0.0.{id}"), 24));
    }
    Ok(())
}
