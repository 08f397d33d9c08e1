//! Disks of single nodes: some whose power can be cut, some that are soon full.
//!
//! After a power cut what was not synced is gone, directory entries included. To cut it, each data directory
//! is an ext4 on a loop device of its own, which the kernel can be told to drop. SIGKILL does not show this:
//! the kernel keeps what a dead process wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use shared::ids::NodeId;

use super::{Cluster, MAX_WAIT};

/// Size of each disk; the image is sparse.
const SIZE: &str = "2G";

/// A mounted file system; unmounted and removed on drop.
#[derive(Debug)]
pub struct Disk {
    /// The image file; `None` for a file system in memory.
    image: Option<PathBuf>,
    at: PathBuf,
}

impl Disk {
    /// A fresh file system at `at`.
    fn mount(at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let image = at.with_extension("img");
        run(Command::new("truncate").args(["-s", SIZE]).arg(&image))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-N", "4096"]).arg(&image))?;
        let disk = Self { image: Some(image), at: at.to_owned() };
        disk.power_on()?;
        // A data directory starts empty.
        std::fs::remove_dir(at.join("lost+found"))?;
        run(Command::new("sync").arg("-f").arg(at))?;
        Ok(disk)
    }

    /// One in memory, at `at`, with room for `mib` MiB.
    fn in_memory(at: &Path, mib: u64) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let disk = Self { image: None, at: at.to_owned() };
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(at))?;
        Ok(disk)
    }

    fn power_on(&self) -> Result<()> {
        let image = self.image.as_ref().context("a disk in memory has no power to cut")?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&self.at))
    }

    /// Unmounts it. Nobody may be using it any more, but the kernel may need a moment to notice.
    fn power_off(&self) -> Result<()> {
        let deadline = Instant::now() + MAX_WAIT;
        while let Err(error) = run(Command::new("umount").arg(&self.at)) {
            ensure!(Instant::now() < deadline, error);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.at));
        let _ = self.image.as_ref().map(std::fs::remove_file);
    }
}

impl Cluster {
    /// Gives every node a disk of its own; to be called before the nodes start.
    pub fn mount_disks(&mut self) -> Result<()> {
        if let Some(lacking) = lacking() {
            bail!(
                "power cannot be cut here: {lacking}. Run the tests where loop devices can be mounted (root, ext4), \
                 or leave these out: cargo nextest run --workspace -E 'not test(/^power_cut::/)'"
            );
        }
        for id in self.ids() {
            let disk = Disk::mount(&self.data_dir(id))
                .with_context(|| format!("power cannot be cut here: no disk for node {id}"))?;
            self.disks.push(disk);
        }
        Ok(())
    }

    /// Gives these nodes disks with room for `mib` MiB; to be called before they start.
    pub fn limit_room(&mut self, ids: &[NodeId], mib: u64) -> Result<()> {
        for id in ids {
            let disk = Disk::in_memory(&self.data_dir(*id), mib)
                .with_context(|| format!("no small disk for node {id}: mounting a tmpfs needs root"))?;
            self.disks.push(disk);
        }
        Ok(())
    }

    /// Gives a node with such a disk room for `mib` MiB from now on.
    pub fn give_room(&self, id: NodeId, mib: u64) -> Result<()> {
        run(Command::new("mount").args(["-o", &format!("remount,size={mib}m")]).arg(self.data_dir(id)))
    }

    /// Cuts the power of these nodes at the same moment. Their disks come back as a reboot would find them;
    /// the processes stay dead.
    pub fn cut_power(&mut self, ids: &[NodeId]) -> Result<()> {
        for id in ids {
            self.signal(*id, Signal::STOP)?;
        }
        for id in ids {
            let pid = self.os_pid(*id);
            self.wait("every thread to stand still", |_| stands_still(pid).then_some(()))?;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/cut_power.py");
        run(Command::new("python3").arg(script).args(ids.iter().map(|id| self.data_dir(*id))))?;
        for id in ids {
            self.signal(*id, Signal::KILL)?;
        }
        for id in ids {
            self.reap(*id)?;
            let at = self.data_dir(*id);
            let disk = self.disks.iter().find(|disk| disk.at == at).context("mount_disks comes first")?;
            disk.power_off()?;
            disk.power_on()?;
        }
        Ok(())
    }
}

/// What this machine lacks for power cuts.
fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("this is not root".to_owned());
    }
    ["mkfs.ext4", "mount", "umount", "python3"].into_iter().find_map(|tool| {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
        (!found.is_ok_and(|status| status.success())).then(|| format!("there is no {tool}"))
    })
}

/// Returns whether no thread of the process runs or waits for the disk.
fn stands_still(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { return true };
        // The state follows the name, which stands in brackets and may hold anything.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| "TtZX".contains(state))
    })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
