//! PURE: the node's program on the operator's machine, and whether another machine can run it.

use serde::{Deserialize, Serialize};
use shared::version::BuildInfo;
use std::path::PathBuf;

use super::facts::Machine;

/// A program to copy to hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its path on the operator's machine.
    pub path: PathBuf,
    /// Name of the release: version and first digits of the hash, e.g. `1.4.2-3fa9c1d2`. Builds of one version have
    /// different names.
    pub release: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Size in MiB, rounded up.
    pub mib: u64,
    /// Its own description of itself; `None` if it cannot be run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<BuildInfo>,
    /// The architecture that it is built for, as `uname -m` prints it; `None` if that is not known.
    pub arch: Option<String>,
}

impl Program {
    /// Returns why `machine` cannot run it; `None` if no reason is known.
    pub fn cannot_run_on(&self, machine: &Machine) -> Option<String> {
        let arch = self.arch.as_ref().filter(|arch| **arch != machine.arch)?;
        Some(format!("{} is built for {arch}, the machine is {}", self.path.display(), machine.arch))
    }
}

/// Returns whether it was built by `make up`: quickly, for a first look, and not for hosts.
pub fn is_playground(info: &BuildInfo) -> bool {
    info.build.ends_with(" playground")
}

/// Returns the architecture of an ELF program as `uname -m` prints it, from the first bytes of the file; `None` for any
/// other file.
pub fn arch_of(head: &[u8]) -> Option<String> {
    const MACHINES: [(u16, &str); 4] = [(62, "x86_64"), (183, "aarch64"), (243, "riscv64"), (22, "s390x")];
    let (magic, order) = (head.get(..4)?, *head.get(5)?);
    let machine = [*head.get(18)?, *head.get(19)?];
    if magic != b"\x7fELF" {
        return None;
    }
    let machine = if order == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(machine: u8) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(64, 0);
        head[18] = machine;
        head
    }

    #[test]
    fn a_program_of_another_machine_is_named() {
        assert_eq!(arch_of(b"#!/bin/sh\n# nothing but a script"), None);
        let program = Program { arch: arch_of(&head(183)), path: "esnode".into(), ..Program::default() };
        let machine = |arch: &str| Machine { arch: arch.to_owned(), ..Machine::default() };
        assert_eq!(program.cannot_run_on(&machine("aarch64")), None);
        let why = program.cannot_run_on(&machine("x86_64")).unwrap();
        assert_eq!(why, "esnode is built for aarch64, the machine is x86_64");
    }
}
