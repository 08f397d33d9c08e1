//! Processes, as /proc shows them: whether a process id belongs to a node, and which process listens on a port.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use shared::ids::NodeId;

/// Returns the arguments that a node is started with, by which its process is recognised later.
pub fn arguments(id: NodeId, config: &Path) -> [String; 2] {
    [format!("--node-id={id}"), format!("--config={}", config.display())]
}

/// Returns whether the process `pid` runs and was started with `arguments`. A pid file alone proves nothing: it
/// outlives its process, and process ids are reused.
pub fn is_node(pid: u32, arguments: &[String; 2]) -> bool {
    // A process that has ended, but was not waited for, has an empty command line.
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let given: Vec<&[u8]> = line.split(|byte| *byte == 0).skip(1).collect();
    arguments.iter().all(|argument| given.contains(&argument.as_bytes()))
}

/// Returns the path of the program that the process runs, even if the file is deleted.
pub fn exe(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()?.to_str().map(str::to_owned)
}

/// Returns the id of the process that was started with `arguments`, without a pid file.
pub fn find_node(arguments: &[String; 2]) -> Option<u32> {
    // A process that the node has just forked has the same arguments until it runs another program. It leads no process
    // group.
    pids().filter(|pid| is_node(*pid, arguments)).min_by_key(|pid| !leads_group(*pid))
}

fn leads_group(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::getpgid(Some(pid)) == Ok(pid))
}

/// Returns the process that listens on `address` or on all addresses, e.g. `python3 (pid 4711)`; `None` if it belongs
/// to another user.
pub fn listener_on(address: SocketAddr) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pid = pids().find(|pid| holds(*pid, &inodes))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", name.trim()))
}

/// Returns the inodes of the sockets that prevent listening on `address`, from the text of /proc/net/tcp or tcp6.
fn listening_inodes(table: &str, address: SocketAddr) -> Vec<String> {
    const LISTENING: &str = "0A";
    let wanted = spellings(address);
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (wanted.iter().any(|spelling| spelling == local) && *state == LISTENING).then(|| (*inode).to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// Returns `address`, and the wildcard address, as /proc/net/tcp and tcp6 write them: words of four bytes in the
/// machine's byte order.
fn spellings(address: SocketAddr) -> Vec<String> {
    let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| (word << 8) | u32::from(*byte)).to_be();
    let spell =
        |octets: &[u8]| octets.chunks(4).map(|bytes| format!("{:08X}", word(bytes))).collect::<String>();
    let mut hosts = vec![spell(&[0; 4]), spell(&[0; 16])];
    match address.ip() {
        IpAddr::V4(ip) => hosts.extend([spell(&ip.octets()), spell(&ip.to_ipv6_mapped().octets())]),
        IpAddr::V6(ip) => hosts.push(spell(&ip.octets())),
    }
    hosts.iter().map(|host| format!("{host}:{:04X}", address.port())).collect()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_pid_of_something_else_is_not_the_node() {
        let arguments = arguments(1, Path::new("/nowhere/n1/cluster.yaml"));
        assert!(!is_node(std::process::id(), &arguments));
        assert_eq!(find_node(&arguments), None);
    }

    #[test]
    fn a_port_names_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holder = listener_on(address).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        assert_eq!(listener_on(([127, 77, 66, 55], address.port()).into()), None, "another address");
        drop(listener);
        let everywhere = TcpListener::bind(("::", 0)).or_else(|_| TcpListener::bind(("0.0.0.0", 0))).unwrap();
        let port = everywhere.local_addr().unwrap().port();
        assert!(listener_on(([127, 0, 0, 1], port).into()).is_some(), "all addresses hold this one too");
    }

    #[test]
    fn only_listening_sockets_of_that_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
             1: 0100007F:2328 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n\
             2: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        if cfg!(target_endian = "little") {
            assert_eq!(listening_inodes(table, ([127, 0, 0, 1], 9000).into()), ["111"]);
        }
    }
}
