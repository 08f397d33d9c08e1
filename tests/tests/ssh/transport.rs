//! Commands, uploads and jumps of escli's SSH transport, and hosts that go silent.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use escli::hosts::ssh::{
    Connection, Destination, Input, KeepAlive, Limits, NoPrompt, Passphrases, Source, SshError, SshErrorKind,
    Status, StreamEvent,
};
use rustix::process::Signal;
use shared::spec::HostKeys;
use tests::sshd::SshLab;

const LIMIT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// Size of a binary to upload, in bytes.
const UPLOAD: usize = 15_000_000;

fn limits() -> Limits {
    Limits { open: Duration::from_secs(5), silence: Duration::from_secs(3) }
}

async fn open(destination: Destination) -> Result<Connection, SshError> {
    open_within(destination, limits()).await
}

async fn open_within(destination: Destination, limits: Limits) -> Result<Connection, SshError> {
    Connection::open(destination, Arc::new(Passphrases::new(NoPrompt)), limits).await
}

/// Returns random bytes.
fn noise(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..size).map(|_| random.u8(..)).collect()
}

/// Returns the error of a connection that does not open, and how long that took.
async fn fails(destination: Destination, limits: Limits) -> (SshError, Duration) {
    let begin = Instant::now();
    let error = open_within(destination, limits).await.expect_err("an error");
    (error, begin.elapsed())
}

#[tokio::test]
async fn a_command_runs_and_reports_its_exit_status() -> Result<()> {
    let lab = SshLab::start(1)?;
    let begin = Instant::now();
    let host = open(lab.to(0)).await?;
    println!("connect and log in: {:?}", begin.elapsed());
    let output = host.run("echo out; echo err >&2; exit 3", Input::None, LIMIT).await?;
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!((output.text().as_str(), output.error_text().as_str()), ("out", "err"));
    let begin = Instant::now();
    for _ in 0..10 {
        assert!(host.run("echo x", Input::None, LIMIT).await?.success());
    }
    println!("a command: {:?}", begin.elapsed() / 10);
    let killed = host.run("kill -TERM $$", Input::None, LIMIT).await?;
    assert_eq!(killed.status, Status::Signalled("TERM".to_owned()));
    let echoed = host.run("cat", Input::Bytes(b"through\0and\nback".to_vec()), LIMIT).await?;
    assert_eq!(echoed.stdout, b"through\0and\nback");
    let missing = host.run("cat", Input::File(lab.path("nothing")), LIMIT).await.expect_err("no such file");
    assert!(missing.kind == SshErrorKind::Failed && missing.message.contains("nothing"), "{missing}");
    Ok(())
}

#[tokio::test]
async fn concurrent_uploads_arrive_complete() -> Result<()> {
    let lab = SshLab::start(3)?;
    let bytes = noise(UPLOAD);
    fs::write(lab.path("binary"), &bytes)?;
    let mut hosts = Vec::new();
    for index in 0..3 {
        hosts.push(open(lab.to(index)).await?);
    }
    let begin = Instant::now();
    let mut uploads = tokio::task::JoinSet::new();
    for (index, host) in hosts.iter().cloned().enumerate() {
        let (file, command) = (lab.path("binary"), format!("cat > {}", lab.path("at").display()));
        uploads.spawn(async move { host.run(&format!("{command}{index}"), Input::File(file), LIMIT).await });
    }
    while let Some(done) = uploads.join_next().await {
        assert!(done??.success());
    }
    println!("15 MB to three hosts at once: {:?}", begin.elapsed());
    for index in 0..3 {
        assert!(fs::read(lab.path(&format!("at{index}")))? == bytes, "the upload to h{index} differs");
    }
    let begin = Instant::now();
    assert!(hosts[0].run("cat > /dev/null", Input::Bytes(bytes), LIMIT).await?.success());
    println!("15 MB to one host: {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn twenty_concurrent_logins_succeed() -> Result<()> {
    let lab = SshLab::start(4)?;
    let begin = Instant::now();
    let mut logins = tokio::task::JoinSet::new();
    for index in 0..20 {
        let destination = lab.to(index % 4);
        logins.spawn(async move { open(destination).await?.run("true", Input::None, LIMIT).await });
    }
    while let Some(done) = logins.join_next().await {
        assert!(done??.success());
    }
    println!("twenty logins and a command each: {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn large_input_and_output_do_not_deadlock() -> Result<()> {
    let lab = SshLab::start(1)?;
    let host = open(lab.to(0)).await?;
    let bytes = noise(UPLOAD);
    let begin = Instant::now();
    let echoed = host.run("tee /dev/stderr", Input::Bytes(bytes.clone()), LIMIT).await?;
    println!("15 MB there and back twice: {:?}", begin.elapsed());
    assert!(echoed.stdout == bytes && echoed.stderr == bytes);
    Ok(())
}

#[tokio::test]
async fn input_that_the_command_does_not_read_is_no_error() -> Result<()> {
    let lab = SshLab::start(1)?;
    let host = open(lab.to(0)).await?;
    let bytes = noise(UPLOAD);
    for command in ["true", "head -c 10 >/dev/null", "exec <&-; sleep 0.3"] {
        let output = host.run(command, Input::Bytes(bytes.clone()), LIMIT).await.context(command)?;
        assert!(output.success(), "{command}: {}", output.status);
    }
    // Closing the output early does not end the input.
    let path = lab.path("late");
    let command = format!("exec >&- 2>&-; cat > {}", path.display());
    assert!(host.run(&command, Input::Bytes(bytes.clone()), LIMIT).await?.success());
    assert!(fs::read(path)? == bytes);
    Ok(())
}

#[tokio::test]
async fn a_server_that_sends_nothing_is_unreachable_within_the_limit() -> Result<()> {
    let lab = SshLab::start(0)?;
    let mute = TcpListener::bind("127.0.0.1:0")?;
    let limits = Limits { open: Duration::from_secs(1), ..limits() };
    let (error, took) = fails(lab.destination("mute", mute.local_addr()?), limits).await;
    assert_eq!(error.kind, SshErrorKind::Unreachable, "{error:?}");
    assert!(error.to_string().contains("says nothing"), "{error}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_is_unreachable_within_the_limit() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    lab.at(0).signal(Signal::STOP);
    let limits = Limits { open: Duration::from_secs(1), ..limits() };
    let (error, took) = fails(lab.to(0), limits).await;
    lab.at(0).signal(Signal::CONT);
    assert!(error.kind == SshErrorKind::Unreachable && took < Duration::from_secs(3), "{error} {took:?}");
    Ok(())
}

#[tokio::test]
async fn an_address_that_drops_packets_is_unreachable_within_the_limit() -> Result<()> {
    let lab = SshLab::start(0)?;
    let full = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&full, 0)?;
    let address = full.local_addr()?;
    // While the first connection is not accepted, the kernel drops later ones.
    let _fill: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    let (error, took) =
        fails(lab.destination("swallows", address), Limits { open: SECOND, ..limits() }).await;
    assert!(error.kind == SshErrorKind::Unreachable && took < 3 * SECOND, "{error} {took:?}");
    assert!(error.to_string().ends_with("no answer in time"), "{error}");
    let mut hasty = lab.destination("swallows", address);
    hasty.connect_timeout = Some(Duration::from_millis(100));
    let (_, took) = fails(hasty, limits()).await;
    assert!(took < SECOND, "{took:?}");
    Ok(())
}

/// Starts a proxy that forwards this many bytes of a server, then goes silent or closes.
fn cut_after(server: SocketAddr, bytes: usize, closes: bool) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let carry = move |mut near: TcpStream| -> Result<()> {
        let far = TcpStream::connect(server)?;
        let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        std::io::copy(&mut (&far).take(u64::try_from(bytes)?), &mut near)?;
        if closes {
            near.shutdown(Shutdown::Both)?;
        }
        std::thread::sleep(LIMIT);
        Ok(())
    };
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            std::thread::spawn(move || carry(near));
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_login_cut_at_any_byte_ends_within_the_limit() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let server = lab.at(0).address;
    let limits = Limits { open: 2 * SECOND, ..limits() };
    for (closes, longest) in [(false, 4 * SECOND), (true, 2 * SECOND)] {
        let mut logins = tokio::task::JoinSet::new();
        for bytes in [0, 5, 40, 41, 200, 900, 1200, 1600, 1800, 1900, 2000, 2100, 2200, 2300, 2500, 1 << 20] {
            let mut destination = lab.destination("cut", cut_after(server, bytes, closes)?);
            destination.host_keys = HostKeys::Pinned(lab.at(0).fingerprint("ed25519")?);
            logins.spawn(async move {
                let begin = Instant::now();
                let result = open_within(destination, limits).await;
                let result = match result {
                    Ok(host) => host.run("true", Input::None, 2 * SECOND).await.map(|_| ()),
                    Err(error) => Err(error),
                };
                (bytes, result, begin.elapsed())
            });
        }
        while let Some(done) = logins.join_next().await {
            let (bytes, result, took) = done?;
            println!(
                "{bytes} bytes: {took:?} {}",
                result.as_ref().err().map_or("in".to_owned(), ToString::to_string)
            );
            assert!(took < longest, "{bytes} bytes, closes {closes}: {took:?}");
            assert_eq!(result.is_ok(), bytes == 1 << 20, "{bytes} bytes: {result:?}");
            assert!(
                !result.as_ref().is_err_and(|error| error.kind == SshErrorKind::Failed),
                "{bytes} bytes: {result:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_connection_is_reported_at_once() -> Result<()> {
    let lab = SshLab::start(0)?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (error, took) = fails(lab.destination("gone", free), limits()).await;
    assert!(error.kind == SshErrorKind::Unreachable && took < Duration::from_secs(1), "{took:?}");
    assert_eq!(error.to_string(), format!("gone cannot be reached: {free}: connection refused"));

    let mut nowhere = lab.destination("nowhere", free);
    nowhere.host = "no-such-host.invalid".to_owned();
    let (error, took) = fails(nowhere, limits()).await;
    assert!(error.kind == SshErrorKind::Unreachable && took < Duration::from_secs(6), "{took:?}");
    assert!(error.to_string().contains("no address for the name no-such-host.invalid"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_command_on_a_host_that_goes_silent_is_lost_within_the_limit() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    for (command, limit) in
        [("sleep 60", LIMIT), ("cat > /dev/null", LIMIT), ("sleep 60", Duration::from_secs(1))]
    {
        let host = open(lab.to(0)).await?;
        let input = if command.starts_with("cat") { noise(8 << 20) } else { Vec::new() };
        let begin = Instant::now();
        let running = host.run(command, Input::Bytes(input), limit);
        let freeze = async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            lab.at(0).signal_sessions(Signal::STOP);
        };
        let (result, ()) = tokio::join!(running, freeze);
        let (error, took) = (result.expect_err("a frozen host"), begin.elapsed());
        println!("{command:?} within {limit:?}: {error} after {took:?}");
        assert_eq!(error.kind, SshErrorKind::Lost, "{error:?}");
        assert!(took < limit.min(limits().silence) + Duration::from_secs(3), "{took:?}");
        lab.at(0).signal_sessions(Signal::KILL);
    }
    Ok(())
}

#[tokio::test]
async fn a_host_that_answers_keepalives_is_waited_for() -> Result<()> {
    let lab = SshLab::start(1)?;
    let host = open_within(lab.to(0), limits()).await?;
    assert_eq!(host.run("sleep 7; echo there", Input::None, LIMIT).await?.text(), "there");
    Ok(())
}

#[tokio::test]
async fn a_dead_connection_is_opened_again() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let host = open_within(lab.to(0), Limits { open: Duration::from_secs(2), ..limits() }).await?;
    host.run("true", Input::None, LIMIT).await?;
    lab.at(0).signal_sessions(Signal::KILL);
    assert_eq!(host.run("echo back", Input::None, LIMIT).await?.text(), "back");
    // Frozen, not dead: only the time tells.
    lab.at(0).signal_sessions(Signal::STOP);
    let begin = Instant::now();
    assert_eq!(host.run("echo again", Input::None, LIMIT).await?.text(), "again");
    println!("found frozen, and opened again: {:?}", begin.elapsed());
    // Killed, then started again.
    lab.at(0).kill();
    let error = host.run("true", Input::None, LIMIT).await.expect_err("nobody there");
    assert_eq!(error.kind, SshErrorKind::Unreachable, "{error:?}");
    lab.at(0).launch()?;
    assert_eq!(host.run("echo up", Input::None, LIMIT).await?.text(), "up");
    Ok(())
}

#[tokio::test]
async fn a_command_that_may_have_run_is_not_repeated() -> Result<()> {
    let lab = SshLab::start(1)?;
    let host = open(lab.to(0)).await?;
    let path = lab.path("count");
    let command = format!("echo once >> {}; kill -9 $PPID; sleep 1", path.display());
    let error = host.run(&command, Input::None, LIMIT).await.expect_err("it killed its server");
    assert_eq!(error.kind, SshErrorKind::Lost, "{error:?}");
    assert_eq!(fs::read_to_string(&path)?, "once\n");
    assert!(host.run("true", Input::None, LIMIT).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_is_ended() -> Result<()> {
    let lab = SshLab::start(1)?;
    let host = open(lab.to(0)).await?;
    let long = host.run("sleep 20", Input::None, LIMIT);
    assert!(tokio::time::timeout(Duration::from_millis(500), long).await.is_err());
    let begin = Instant::now();
    assert!(host.run("true", Input::None, LIMIT).await?.success());
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn lines_arrive_as_they_are_written() -> Result<()> {
    let lab = SshLab::start(1)?;
    let host = open(lab.to(0)).await?;
    let path = lab.path("log");
    fs::write(&path, "one\n")?;
    let mut lines = host.stream(&format!("tail -n +1 -f {}", path.display())).await?;
    let line = |text: &str| StreamEvent::Line(Source::Stdout, text.to_owned());
    assert_eq!(lines.next().await.context("a line")??, line("one"));
    fs::OpenOptions::new().append(true).open(&path)?.write_all(b"two\nthree\n")?;
    assert_eq!(lines.next().await.context("a line")??, line("two"));
    assert_eq!(lines.next().await.context("a line")??, line("three"));
    // The connection can be used meanwhile.
    assert!(host.run("true", Input::None, LIMIT).await?.success());
    drop(lines);
    let mut short = host.stream("echo out; echo err >&2; printf rest; exit 4").await?;
    let mut said = Vec::new();
    while let Some(next) = short.next().await {
        said.push(next?);
    }
    assert_eq!(said.pop(), Some(StreamEvent::Ended(Status::Exited(4))));
    assert!(said.contains(&line("out")) && said.contains(&line("rest")), "{said:?}");
    assert!(said.contains(&StreamEvent::Line(Source::Stderr, "err".to_owned())), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_command_ends_when_its_lines_are_not_read() -> Result<()> {
    let lab = SshLab::start(1)?;
    let host = open(lab.to(0)).await?;
    let mut lines = host.stream("echo $$; while sleep 0.1; do echo x; done").await?;
    let StreamEvent::Line(_, pid) = lines.next().await.context("a line")?? else {
        bail!("a line comes first")
    };
    let there = || std::path::Path::new("/proc").join(&pid).exists();
    assert!(there());
    drop(lines);
    let begin = Instant::now();
    while there() {
        assert!(begin.elapsed() < 5 * SECOND, "the command goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_held_command_is_lost_when_its_host_stops_responding() -> Result<()> {
    let mut lab = SshLab::start(1)?;
    let pulse = KeepAlive { interval: Duration::from_millis(50), timeout: Duration::from_millis(600) };
    let host = open(lab.to(0)).await?;
    let answers = "echo there; while read -r beat; do echo .; done; echo over";
    let there = StreamEvent::Line(Source::Stdout, "there".to_owned());
    let mut held = host.hold(answers, pulse).await?;
    assert_eq!(held.next().await.context("a line")??, there);
    tokio::time::sleep(2 * pulse.timeout).await;
    assert!(held.ready().is_none(), "its answers are not passed on, and it goes on");
    // The process does not answer, or the whole host does not.
    for freezes in [false, true] {
        let host = open(lab.to(0)).await?;
        let command = if freezes { answers } else { "echo there; sleep 60" };
        let mut held = host.hold(command, pulse).await?;
        assert_eq!(held.next().await.context("a line")??, there);
        if freezes {
            lab.at(0).signal_sessions(Signal::STOP);
        }
        let begin = Instant::now();
        let lost = held.next().await.context("an end")?.expect_err("no answer");
        assert!(
            lost.kind == SshErrorKind::Lost && begin.elapsed() < 2 * SECOND,
            "{lost} {:?}",
            begin.elapsed()
        );
    }
    Ok(())
}

#[tokio::test]
async fn one_and_two_jump_hosts_are_passed() -> Result<()> {
    let lab = SshLab::start(3)?;
    let bytes = noise(UPLOAD);
    for jumps in [vec![1], vec![1, 2]] {
        let mut target = lab.to(0);
        target.jumps = jumps.iter().map(|index| lab.to(*index)).collect();
        let begin = Instant::now();
        let host = open(target).await?;
        println!("{} jump(s): connect {:?}", jumps.len(), begin.elapsed());
        let from = host.run("echo $SSH_CONNECTION", Input::None, LIMIT).await?.text();
        assert!(host.run("true", Input::None, LIMIT).await?.success(), "{from}");
        let begin = Instant::now();
        let echoed = host.run("cat", Input::Bytes(bytes.clone()), LIMIT).await?;
        println!("{} jump(s): 15 MB there and back {:?}", jumps.len(), begin.elapsed());
        assert!(echoed.stdout == bytes);
    }
    Ok(())
}

#[tokio::test]
async fn a_jump_ends_with_the_connection_through_it() -> Result<()> {
    let mut lab = SshLab::start(2)?;
    let mut target = lab.to(0);
    target.jumps = vec![lab.to(1)];
    let host = open(target).await?;
    assert!(!lab.at(1).sessions().is_empty());
    drop(host);
    let begin = Instant::now();
    while !lab.at(1).sessions().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(5), "the jump host still holds a login");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn an_error_behind_a_jump_host_names_the_host() -> Result<()> {
    let mut lab = SshLab::start(2)?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut target = lab.destination("inner", free);
    target.jumps = vec![lab.to(1)];
    let (error, _) = fails(target, limits()).await;
    assert_eq!(error.kind, SshErrorKind::Unreachable, "{error:?}");
    assert!(error.to_string().contains("cannot be reached through h1"), "{error}");

    // The jump host freezes during a command, not the target.
    let mut target = lab.to(0);
    target.jumps = vec![lab.to(1)];
    let host = open(target).await?;
    let begin = Instant::now();
    let freeze = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        lab.at(1).signal_sessions(Signal::STOP);
    };
    let (result, ()) = tokio::join!(host.run("sleep 60", Input::None, LIMIT), freeze);
    assert!(result.is_err_and(|error| error.kind == SshErrorKind::Lost));
    assert!(begin.elapsed() < limits().silence + Duration::from_secs(3), "{:?}", begin.elapsed());
    Ok(())
}
