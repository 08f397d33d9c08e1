//! Processes as /proc shows them: is this pid really our node, and who listens on a port.

use std::fs;
use std::path::Path;

use shared::ids::NodeId;

/// The arguments a node is started with; by them its process is recognised again.
pub fn arguments(id: NodeId, config: &Path) -> [String; 2] {
    [format!("--node-id={id}"), format!("--config={}", config.display())]
}

/// The process `pid` runs, and was started with `arguments`. A pid file outlives its process, and pids are reused.
pub fn is_node(pid: u32, arguments: &[String; 2]) -> bool {
    // A process that ended and was not waited for has an empty command line.
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let given: Vec<&[u8]> = line.split(|byte| *byte == 0).skip(1).collect();
    arguments.iter().all(|argument| given.contains(&argument.as_bytes()))
}

/// The process started with `arguments`, wherever its pid file went.
pub fn find_node(arguments: &[String; 2]) -> Option<u32> {
    pids().find(|pid| is_node(*pid, arguments))
}

/// Who listens on TCP port `port`, e.g. `python3 (pid 4711)`; `None` when it belongs to someone else's user.
pub fn listener_on(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pid = pids().find(|pid| holds(*pid, &inodes))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", name.trim()))
}

/// Inodes of the sockets that listen on `port`, out of the text of /proc/net/tcp.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let wanted = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&wanted) && *state == LISTENING).then(|| (*inode).to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
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
        let port = listener.local_addr().unwrap().port();
        let holder = listener_on(port).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        drop(listener);
        assert_eq!(listener_on(port), None);
    }

    #[test]
    fn only_listening_sockets_of_that_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
             1: 0100007F:2328 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n\
             2: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        assert_eq!(listening_inodes(table, 9000), ["111"]);
    }
}
