//! Tests of the parts that decide.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shared::spec::{HostKeys, Ssh};

use super::auth::Passphrases;
use super::config::{Question, SshOptions};
use super::dial::reach;
use super::key_file::KeyFile;
use super::known_hosts::{HostKeyStatus, KnownHosts, Name, fingerprint, kind_of};
use super::wire::Deadline;
use super::{ConfigFile, Destination, NoPrompt, Operator, SshError};

fn operator() -> Operator {
    Operator {
        user: "ann".to_owned(),
        home: PathBuf::from("/home/ann"),
        agent: Some(PathBuf::from("/run/agent")),
        config: ConfigFile::None,
    }
}

/// Resolves with `answers` by host; a host without one is not configured.
fn resolve(
    host: &str,
    node: Option<&Ssh>,
    all: Option<&Ssh>,
    answers: &[(&str, &str)],
) -> Result<Destination, SshError> {
    let mut ask = |question: &Question| {
        let answer = answers.iter().find(|(host, _)| *host == question.host);
        Ok(SshOptions::read(answer.map_or("", |(_, text)| text)))
    };
    Destination::resolve(host, node, all, &operator(), &mut ask)
}

fn ssh(set: impl FnOnce(&mut Ssh)) -> Ssh {
    let mut ssh = Ssh::default();
    set(&mut ssh);
    ssh
}

#[test]
fn without_any_settings_sshs_defaults_hold() {
    let found = resolve("10.0.0.1", None, None, &[]).expect("resolved");
    let usual = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| Path::new("/home/ann/.ssh").join(name));
    let wanted = Destination {
        name: "10.0.0.1".to_owned(),
        host: "10.0.0.1".to_owned(),
        port: 22,
        user: "ann".to_owned(),
        identity_files: usual.into(),
        certificate_files: Vec::new(),
        identities_only: false,
        agent: Some(PathBuf::from("/run/agent")),
        known_hosts: vec![PathBuf::from("/home/ann/.ssh/known_hosts")],
        host_key_alias: None,
        host_keys: HostKeys::Strict,
        hash_known_hosts: false,
        connect_timeout: None,
        jumps: Vec::new(),
    };
    assert_eq!(found, wanted);
}

#[test]
fn cluster_yaml_goes_before_the_configuration_and_a_node_before_all() {
    let config = "hostname 10.9.9.9\nuser bob\nport 2222\nidentityfile ~/.ssh/other\nidentitiesonly yes\n\
                  userknownhostsfile ~/.ssh/a /b/%h\nglobalknownhostsfile /etc/ssh/known\nconnecttimeout 7\n\
                  stricthostkeychecking accept-new\nhashknownhosts yes\nidentityagent none\nhostkeyalias n\n";
    let plain = resolve("n1", None, None, &[("n1", config)]).expect("resolved");
    assert_eq!((plain.host.as_str(), plain.port, plain.user.as_str()), ("10.9.9.9", 2222, "bob"));
    assert_eq!(plain.identity_files, [Path::new("/home/ann/.ssh/other")]);
    let known = ["/home/ann/.ssh/a", "/b/10.9.9.9", "/etc/ssh/known"].map(PathBuf::from);
    assert_eq!(plain.known_hosts, known);
    assert_eq!(plain.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!((plain.agent, plain.host_key_alias.as_deref()), (None, Some("n")));
    assert!(plain.identities_only && plain.hash_known_hosts && plain.host_keys == HostKeys::AcceptNew);

    let all = ssh(|ssh| {
        ssh.user = Some("all".to_owned());
        ssh.port = Some(1);
        ssh.identity_file = Some(PathBuf::from("~/key"));
        ssh.known_hosts = Some(PathBuf::from("./known"));
        ssh.host_keys = Some(HostKeys::Strict);
    });
    let node = ssh(|ssh| ssh.user = Some("node".to_owned()));
    let given = resolve("n1", Some(&node), Some(&all), &[("n1", config)]).expect("resolved");
    assert_eq!((given.port, given.user.as_str()), (1, "node"));
    assert_eq!(given.identity_files[0], Path::new("/home/ann/key"));
    assert_eq!(given.known_hosts, [Path::new("./known")]);
    assert_eq!(given.host_keys, HostKeys::Strict);
}

#[test]
fn a_jump_gets_what_it_needs_and_no_more() {
    let pinned = HostKeys::Pinned(format!("SHA256:{}", "x".repeat(43)));
    let all = ssh(|ssh| {
        ssh.user = Some("admin".to_owned());
        ssh.port = Some(2222);
        ssh.identity_file = Some(PathBuf::from("/key"));
        ssh.known_hosts = Some(PathBuf::from("/known"));
        ssh.host_keys = Some(pinned.clone());
        ssh.jump = Some("first, bob@[::1]:24".to_owned());
    });
    let answers = [
        ("first", "hostname 1.1.1.1\nuser carl\nidentityfile /its\nproxyjump zero\n"),
        ("zero", "port 99\n"),
    ];
    let found = resolve("n1", None, Some(&all), &answers).expect("resolved");
    let at: Vec<_> = found.jumps.iter().map(Destination::address).collect();
    assert_eq!(at, ["ann@zero:99", "carl@1.1.1.1:22", "bob@[::1]:24"]);
    assert_eq!(found.jumps[1].identity_files, [Path::new("/its"), Path::new("/key")]);
    assert_eq!(found.jumps[1].known_hosts[0], Path::new("/known"));
    assert_eq!((&found.jumps[1].host_keys, &found.host_keys), (&HostKeys::Strict, &pinned));
}

#[test]
fn jumps_can_be_none_wrong_or_round_in_a_circle() {
    let none = ssh(|ssh| ssh.jump = Some("none".to_owned()));
    let config = [("n1", "proxyjump bastion\nproxycommand nc x 22\n")];
    assert!(resolve("n1", Some(&none), None, &config).expect("resolved").jumps.is_empty());
    for wrong in ["a,,b", "@host", "host:0", "host:x", "-oX", "[::1", ""] {
        let jump = ssh(|ssh| ssh.jump = Some(wrong.to_owned()));
        let error = resolve("n1", Some(&jump), None, &[]).expect_err(wrong);
        assert!(error.to_string().contains("is invalid"), "{wrong}: {error}");
    }
    let circle = [("n1", "proxyjump a\n"), ("a", "proxyjump b\n"), ("b", "proxyjump a\n")];
    let error = resolve("n1", None, None, &circle).expect_err("a circle");
    assert_eq!(error.details, ["n1:22 -> a:22 -> b:22 -> a:22"]);
    let command = [("n1", "proxycommand nc x 22\n")];
    let error = resolve("n1", None, None, &command).expect_err("a command");
    assert!(error.to_string().contains("ProxyCommand"), "{error}");
}

/// A key of this kind, made of nothing.
fn key(kind: &str, seed: u8) -> Vec<u8> {
    let length = u32::try_from(kind.len()).expect("short").to_be_bytes();
    [&length[..], kind.as_bytes(), &[seed; 40]].concat()
}

fn base64(key: &[u8]) -> String {
    format!("{} {}", kind_of(key), BASE64_STANDARD.encode(key))
}

fn name(host: &str, port: u16) -> Name {
    let mut destination = resolve(host, None, None, &[]).expect("resolved");
    destination.port = port;
    Name::of(&destination)
}

fn known(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.read(Path::new("known"), text);
    known
}

#[test]
fn names_are_plain_patterns_or_hashed() {
    let (ours, other) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
    let is = |names: &str, host: &str, port: u16| {
        known(&format!("# comment\n\n{names} {} someone@somewhere\n", base64(&ours)))
            .check(&name(host, port), &ours)
            == HostKeyStatus::Known
    };
    for (names, host, port) in [
        ("n1", "N1", 22),
        ("x,n1,y", "n1", 22),
        ("*.example.com,!bad.example.com", "good.example.com", 22),
        ("10.0.0.?", "10.0.0.7", 22),
        ("[n1]:2222", "n1", 2222),
        ("[10.0.0.*]:2222", "10.0.0.7", 2222),
        // As ssh does: a key of the host is good at any port.
        ("n1", "n1", 2222),
        ("*a*b*c", "xxaabybzc", 22),
    ] {
        assert!(is(names, host, port), "{names} is {host}:{port}");
    }
    for (names, host, port) in [
        ("n1", "n11", 22),
        ("*.example.com,!bad.example.com", "bad.example.com", 22),
        ("10.0.0.?", "10.0.0.77", 22),
        ("[n1]:2222", "n1", 22),
        ("[n1]:2222", "n1", 2223),
        ("*a*b*c", "xxaaybz", 22),
        ("|1|nonsense|x", "n1", 22),
    ] {
        assert!(!is(names, host, port), "{names} is not {host}:{port}");
    }
    // What one hashed line says, only its own name says.
    let line = name("n1", 2222).line(&ours, Some(&[7; 20]));
    assert!(!line.contains("n1"), "{line}");
    assert_eq!(known(&line).check(&name("n1", 2222), &ours), HostKeyStatus::Known);
    assert!(matches!(known(&line).check(&name("n1", 2222), &other), HostKeyStatus::Changed(_)));
    assert_eq!(known(&line).check(&name("n2", 2222), &ours), HostKeyStatus::Unknown(Vec::new()));
}

#[test]
fn what_ssh_keygen_hashes_is_understood() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("known");
    let ours = key("ssh-ed25519", 1);
    // ssh-keygen wants a key that makes sense.
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(dir.path().join("k"))
        .output();
    assert!(made.expect("ssh-keygen").status.success());
    let KeyFile::Private { encrypted: false, public: Some(real) } = KeyFile::look(&dir.path().join("k"))
    else {
        panic!("a plain key");
    };
    std::fs::write(&path, format!("[n1]:2222 {}\nn1 {}\n", base64(&real), base64(&real))).expect("written");
    assert!(Command::new("ssh-keygen").arg("-Hf").arg(&path).output().expect("ssh-keygen").status.success());
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(text.starts_with("|1|"), "{text}");
    assert_eq!(known(&text).check(&name("n1", 2222), &real), HostKeyStatus::Known);
    assert!(matches!(known(&text).check(&name("n1", 2222), &ours), HostKeyStatus::Changed(_)));
    let shown =
        Command::new("ssh-keygen").arg("-lf").arg(dir.path().join("k.pub")).output().expect("ssh-keygen");
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&fingerprint(&real)));
}

#[test]
fn a_key_of_another_kind_is_a_changed_one_and_known_kinds_are_asked_for_first() {
    let (ed25519, ecdsa, rsa) = (key("ssh-ed25519", 1), key("ecdsa-sha2-nistp256", 1), key("ssh-rsa", 1));
    let text = format!("n1 {}\nn1 {}\n", base64(&ecdsa), base64(&rsa));
    let known = known(&text);
    assert_eq!(known.check(&name("n1", 22), &rsa), HostKeyStatus::Known);
    let HostKeyStatus::Changed(entries) = known.check(&name("n1", 22), &ed25519) else { panic!("changed") };
    assert_eq!(entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [1, 2]);
    let algorithms = known.algorithms(&name("n1", 22));
    assert!(
        algorithms.starts_with("ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256,ssh-ed25519,"),
        "{algorithms}"
    );
    assert!(known.algorithms(&name("n2", 22)).starts_with("ssh-ed25519,"));
    // Another server on the same host, at another port, has not changed.
    assert_eq!(known.check(&name("n1", 2222), &ed25519), HostKeyStatus::Unknown(Vec::new()));
}

#[test]
fn a_revoked_key_is_revoked_whatever_else_is_said() {
    let ours = key("ssh-ed25519", 1);
    let text = format!("n1 {0}\n@revoked * {0}\n@cert-authority *.com {0}\n", base64(&ours));
    let HostKeyStatus::Revoked(entry) = known(&text).check(&name("n1", 22), &ours) else { panic!("revoked") };
    assert_eq!(entry.line, 2);
    let authority = known(&text.replace("@revoked * ", "@unheard-of * "));
    let other = key("ssh-ed25519", 2);
    assert!(
        matches!(authority.check(&name("a.com", 22), &other), HostKeyStatus::Unknown(list) if list.len() == 1)
    );
}

#[test]
fn key_files_are_seen_through() {
    let dir = tempfile::tempdir().expect("a folder");
    let make = |name: &str, args: &[&str]| {
        let path = dir.path().join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-C", "", "-f"]).arg(&path).args(args).output();
        assert!(made.expect("ssh-keygen").status.success(), "{args:?}");
        path
    };
    for (name, args, encrypted) in [
        ("plain", &["-t", "ed25519", "-N", ""][..], false),
        ("locked", &["-t", "ecdsa", "-N", "open sesame"], true),
        ("pem", &["-t", "ecdsa", "-m", "PEM", "-N", ""], false),
        ("lockedpem", &["-t", "ecdsa", "-m", "PEM", "-N", "open sesame"], true),
        ("pkcs8", &["-t", "ecdsa", "-m", "PKCS8", "-N", "open sesame"], true),
    ] {
        let path = make(name, args);
        let file = KeyFile::look(&path);
        let public = KeyFile::look(&path.with_extension("pub"));
        assert_eq!(file.public_half(), public.public_half(), "{name}");
        assert!(
            matches!(&file, KeyFile::Private { encrypted: found, .. } if *found == encrypted),
            "{name}: {file:?}"
        );
        assert!(matches!(public, KeyFile::Public(_)), "{name}");
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(KeyFile::look(&path), KeyFile::Public(_)), "{name}");
    }
    assert_eq!(KeyFile::look(&dir.path().join("none")), KeyFile::Missing);
    assert!(matches!(KeyFile::look(dir.path()), KeyFile::Unusable(_)));
}

#[test]
fn nobody_is_asked_where_there_is_nobody() {
    let passphrases = Passphrases::new(NoPrompt);
    assert_eq!(passphrases.of(Path::new("key"), None), None);
}

#[test]
fn every_address_of_a_name_gets_its_share_of_the_time() {
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = |listener: &TcpListener| listener.local_addr().expect("an address");
    let (full, open) = (listener(), listener());
    let refusing = address(&listener());
    // Once nobody takes the first, the kernel drops what comes after it.
    rustix::net::listen(&full, 0).expect("listens");
    let _fill: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&address(&full), Duration::from_millis(100))).collect();
    let hop = resolve("n1", None, None, &[]).expect("resolved");
    let deadline = Deadline::after(Duration::from_secs(1));
    reach(&hop, &[refusing, address(&full), address(&open)], &deadline).expect("the third takes it");
    assert!(!deadline.left().is_zero());
    let error = reach(&hop, &[refusing, address(&full)], &deadline).expect_err("nobody takes it");
    let wanted =
        [format!("{refusing}: connection refused"), format!("{}: no answer in time", address(&full))];
    assert_eq!(error.details, wanted);
}
