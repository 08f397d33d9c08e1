//! escli's SSH transport against real servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use escli::ssh::{Connection, Destination, Input, Limits, NoPrompt, Passphrases, SshError, Status};
use tests::sshd::Lab;

const LIMIT: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits { open: Duration::from_secs(5), silence: Duration::from_secs(3) }
}

async fn open(destination: Destination) -> Result<Connection, SshError> {
    Connection::open(destination, Arc::new(Passphrases::new(NoPrompt)), limits()).await
}

#[tokio::test]
async fn a_command_runs_and_says_how_it_ended() -> Result<()> {
    let lab = Lab::start(1)?;
    let begin = Instant::now();
    let host = open(lab.to(0)).await?;
    println!("connect {:?}", begin.elapsed());
    let begin = Instant::now();
    let output = host.run("echo out; echo err >&2; exit 3", Input::None, LIMIT).await?;
    println!("command {:?}", begin.elapsed());
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!((output.text().as_str(), output.error_text().as_str()), ("out", "err"));
    for _ in 0..3 {
        let begin = Instant::now();
        host.run("true", Input::None, LIMIT).await?;
        println!("true {:?}", begin.elapsed());
    }
    let killed = host.run("kill -TERM $$", Input::None, LIMIT).await?;
    assert_eq!(killed.status, Status::Signalled("TERM".to_owned()));
    let echoed = host.run("cat", Input::Bytes(b"through\0and\nback".to_vec()), LIMIT).await?;
    assert_eq!(echoed.stdout, b"through\0and\nback");
    assert!(echoed.success());
    Ok(())
}
