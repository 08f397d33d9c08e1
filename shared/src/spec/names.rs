//! What host names, addresses, user names and paths in a cluster.yaml may contain, and messages for those that are
//! refused.

use core::net::IpAddr;
use std::path::Path;

/// Returns `host:port`, with brackets around an IPv6 address.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Returns whether `host` is an IP address or a host name (RFC 1123; underscores, which are common, are allowed too).
pub fn valid_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // Digits and dots that are no IPv4 address are a mistyped one, not a name.
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let name = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().is_ok() || (!numeric && name.len() <= 253 && name.split('.').all(label))
}

/// Returns a message that says what was expected instead of `text`, which is not a [`valid_host`].
pub(super) fn expected_host(text: &str) -> String {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let inside = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    if let Some((address, "")) = inside.filter(|(address, _)| is_address(address)) {
        return format!("the address without brackets: {address}");
    }
    if text.split_once('%').is_some_and(|(address, _)| is_address(address)) {
        return "an address that means the same on every machine, without a zone".to_owned();
    }
    let with_port = |host: &str, port: &str| port.parse::<u16>().is_ok().then(|| host.to_owned());
    let alone = match inside {
        Some((address, rest)) => rest.strip_prefix(':').and_then(|port| with_port(address, port)),
        None => text.rsplit_once(':').and_then(|(host, port)| with_port(host, port)),
    };
    match alone.filter(|host| valid_host(host)) {
        Some(host) => format!("the host alone: {host}; ports have keys of their own"),
        None => "a host name or an IP address, without a port".to_owned(),
    }
}

/// Returns the one spelling by which hosts are compared: `::1` equals `0:0:0:0:0:0:0:1`, and `A` equals `a.`.
pub(super) fn same_host(host: &str) -> String {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" {
        return "127.0.0.1".to_owned();
    }
    host.parse().map_or(name, |address: IpAddr| address.to_canonical().to_string())
}

/// Returns the path of a directory on a host, without a trailing slash. It contains only characters that have no
/// meaning in shell scripts and systemd units.
///
/// # Errors
/// A message that says what was expected instead.
pub fn host_dir(path: &Path) -> Result<&str, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let fits =
        |text: &&str| text.len() > 1 && text.bytes().all(plain) && !text.split('/').any(|part| part == "..");
    if path.starts_with("~") {
        return Err("an absolute path: `~` is ambiguous on a host".to_owned());
    }
    match path.to_str().filter(|_| path.is_absolute()).filter(fits) {
        Some(text) => Ok(text.trim_end_matches('/')),
        None => Err("an absolute path of letters, digits, dots, dashes and underscores".to_owned()),
    }
}

/// Checks that `name` is a user name that `useradd` accepts.
///
/// # Errors
/// A message that says what was expected instead.
pub fn host_user(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if begins && name.len() <= 32 && name.bytes().all(plain) {
        return Ok(());
    }
    Err("a user's name of small letters, digits, dashes and underscores".to_owned())
}

/// Checks a path on the operator's machine. No shell reads it, so blanks are allowed; characters that a shell would
/// expand are refused, because whoever wrote them expects that they are.
pub(super) fn own_path(text: &str) -> Result<(), String> {
    if text.starts_with('~') && !text.starts_with("~/") {
        return Err("a path; only your own home can be abbreviated: `~/`".to_owned());
    }
    if text.chars().any(|c| c.is_control() || "$`'\"\\;&|<>(){}*?".contains(c)) {
        return Err("a literal path: shell syntax is not expanded, except a leading `~/`".to_owned());
    }
    plain(text)
}

/// Checks a user to log in as, or a jump host, in the form that `ssh` takes.
pub(super) fn login(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() || "$`'\";&|<>(){}*?!#".contains(c)) {
        return Err("a literal name: shell syntax is not expanded".to_owned());
    }
    plain(text)
}

/// Checks that `text` is not empty and does not begin like an option of a command.
fn plain(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.starts_with('-') {
        return Err("a value that does not begin with a dash".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_brackets_where_colons_would_mix() {
        let table =
            [("::1", "[::1]:9000"), ("127.0.0.1", "127.0.0.1:9000"), ("db.example", "db.example:9000")];
        for (host, expected) in table {
            assert_eq!(authority(host, 9000), expected);
        }
    }

    #[test]
    fn what_was_meant_by_a_host_is_said() {
        let table = [
            ("[fd00::3]", "the address without brackets: fd00::3"),
            ("[fd00::3]:9000", "the host alone: fd00::3;"),
            ("db.example:9000", "the host alone: db.example;"),
            ("fe80::1%eth0", "without a zone"),
            ("http://db.example", "a host name or an IP address, without a port"),
            ("[db]", "a host name or an IP address, without a port"),
        ];
        for (host, expected) in table {
            assert!(
                !valid_host(host) && expected_host(host).contains(expected),
                "{host}: {}",
                expected_host(host)
            );
        }
    }

    #[test]
    fn one_machine_has_one_spelling() {
        let table = [
            ("0:0:0:0:0:0:0:1", "::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("A.", "a"),
            ("LocalHost", "127.0.0.1"),
        ];
        for (one, other) in table {
            assert_eq!(same_host(one), same_host(other));
        }
    }

    #[test]
    fn paths_are_what_they_are() {
        for path in ["~/.ssh/id", "/a b/id", "./esnode", "/caf\u{e9}", "../id", "/a#b"] {
            assert_eq!(own_path(path), Ok(()), "{path}");
        }
        for path in
            ["~ada/id", "~", "$HOME/id", "/a/$(id)", "/a`id`", "/a;b", "-x", "", "/a\nb", "/a\u{1b}[2J"]
        {
            assert!(own_path(path).is_err(), "{path}");
        }
        for path in ["~/es", "/a b", "/$(id)", "/a'b", "es", "/a/../b", "/a;b", "/caf\u{e9}", "/a\tb"] {
            assert!(host_dir(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(host_dir(Path::new("/srv/es-1/")), Ok("/srv/es-1"));
    }
}
