//! PURE: what a machine is asked for a support bundle, and the part of it that every POSIX shell runs alike.

/// What a machine can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The node's program, as it describes itself.
    Version,
    /// What keeps the node running, and how it stands.
    Service,
    /// Kernel, load, memory, disks, and the names and sizes of the node's files.
    Machine,
    /// What operators did there, by the host's own account.
    Operations,
}

impl Evidence {
    /// Everything.
    pub const ALL: [Self; 4] = [Self::Version, Self::Service, Self::Machine, Self::Operations];

    /// The name of its file in an archive.
    pub fn file(self) -> &'static str {
        match self {
            Self::Version => "version.json",
            Self::Service => "service.txt",
            Self::Machine => "machine.txt",
            Self::Operations => "operations.jsonl",
        }
    }
}

/// Describes the process `$pid`.
pub const PROCESS: &str =
    "tr '\\0' ' ' < /proc/$pid/cmdline\nprintf '\\n'; cat /proc/$pid/status /proc/$pid/limits\nexit 0";

/// Describes the machine; `install` and `data` are words of a shell, and `ls` is run by `prefix`.
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
