//! PURE: what is collected from a machine for a support bundle, and the part of the shell scripts for it that local and
//! remote machines share.

/// One kind of information about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Output of `esnode --version --json`.
    Version,
    /// State of the service manager's unit, or of the process.
    Service,
    /// Kernel, load, memory, disks, and the names and sizes of the node's files.
    Machine,
    /// The history of operations that the host keeps.
    Operations,
}

impl Evidence {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Version, Self::Service, Self::Machine, Self::Operations];

    /// Returns the name of its file in the archive.
    pub fn file(self) -> &'static str {
        match self {
            Self::Version => "version.json",
            Self::Service => "service.txt",
            Self::Machine => "machine.txt",
            Self::Operations => "operations.jsonl",
        }
    }
}

/// A script that prints the command line, status and limits of the process `$pid`.
pub const PROCESS: &str =
    "tr '\\0' ' ' < /proc/$pid/cmdline\nprintf '\\n'; cat /proc/$pid/status /proc/$pid/limits\nexit 0";

/// Returns a script that describes the machine. `install` and `data` are shell words for the two directories, and
/// `prefix` is a command that runs `ls` as a user who may read them.
pub fn machine(install: &str, data: &str, prefix: &str) -> String {
    format!(
        r#"said() {{ printf '$ %s\n' "$*"; "$@" 2>&1; printf '\n'; }}
said date -u
said uname -a
said cat /etc/os-release
said nproc
said cat /proc/loadavg
said head -n 5 /proc/meminfo
for what in cpu memory io; do said cat /proc/pressure/$what; done
said df -Pk {install} {data}
said df -Pi {install} {data}
said {prefix} ls -la {data}
exit 0"#
    )
}
