//! The releases of a local cluster after an upgrade: all lie side by side, and each node's link `current` leads to one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::ids::NodeId;

use super::Layout;
use crate::engine::ports::PortError;
use crate::files::sha256;

/// Returns the release that the node's next start runs; `None` before the first upgrade.
pub fn current(layout: &Layout, id: NodeId) -> Option<String> {
    let to = fs::read_link(layout.current(id)).ok()?;
    Some(to.file_name()?.to_str()?.to_owned())
}

/// Returns the path of that release's program.
pub fn installed(layout: &Layout, id: NodeId) -> Option<PathBuf> {
    Some(layout.released(&current(layout, id)?)).filter(|path| path.is_file())
}

/// Returns whether the release's program exists and has this SHA-256.
pub fn has(layout: &Layout, release: &str, sha256: &str) -> bool {
    sha256::of_file(&layout.released(release)).is_ok_and(|found| found == sha256)
}

/// Copies a program into its release directory, atomically, and runs it once to see that it works.
///
/// # Errors
/// If it cannot be copied, has another checksum, or does not run.
pub fn place(
    layout: &Layout,
    id: NodeId,
    source: &Path,
    release: &str,
    sha256: &str,
) -> Result<(), PortError> {
    let path = layout.released(release);
    let failed = |error: io::Error| PortError::failed(format!("cannot write {}: {error}", path.display()));
    let folder = layout.releases().join(release);
    fs::create_dir_all(&folder).map_err(failed)?;
    let new = folder.join(format!("esnode.n{id}-new"));
    let placed = copy(source, &new).map_err(failed).and_then(|()| {
        let found = sha256::of_file(&new).map_err(failed)?;
        if found != sha256 {
            return Err(PortError::failed(format!(
                "{} has changed during the copy: its SHA-256 is {found}",
                source.display()
            )));
        }
        runs(&new, source)?;
        fs::rename(&new, &path).map_err(failed)
    });
    if placed.is_err() {
        // A failed copy must not take up space on a disk that may be full.
        let _ = fs::remove_file(&new);
    }
    placed
}

fn copy(source: &Path, to: &Path) -> io::Result<()> {
    fs::copy(source, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    File::open(to)?.sync_all()
}

fn runs(program: &Path, source: &Path) -> Result<(), PortError> {
    let said = Command::new(program).arg("--version").output();
    match said {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(PortError::failed(format!(
            "{} does not run here: {}",
            source.display(),
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it exited at once")
        ))),
        Err(error) => Err(PortError::failed(format!("{} does not run here: {error}", source.display()))),
    }
}

/// Makes the node's next start run the release. Deletes the releases that no node runs, nor ran just before.
///
/// # Errors
/// If the link cannot be created.
pub fn switch(
    layout: &Layout,
    nodes: impl Iterator<Item = NodeId>,
    id: NodeId,
    release: &str,
) -> Result<(), PortError> {
    let link = layout.current(id);
    let failed = |error: io::Error| PortError::failed(format!("cannot make {}: {error}", link.display()));
    let before = current(layout, id);
    let new = layout.node(id).join("current-new");
    let _ = fs::remove_file(&new);
    symlink(Path::new("../releases").join(release), &new).map_err(failed)?;
    fs::rename(&new, &link).map_err(failed)?;
    keep(layout, &nodes.filter_map(|id| current(layout, id)).chain(before).collect());
    Ok(())
}

/// Deletes all releases but those in `kept`. One that cannot be deleted only takes up space.
pub fn keep(layout: &Layout, kept: &BTreeSet<String>) {
    for entry in fs::read_dir(layout.releases()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| !kept.contains(name)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let _ = fs::remove_dir(layout.releases());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_lie_side_by_side_until_nobody_runs_them() {
        let temp = tempfile::tempdir().unwrap();
        let layout = Layout::new(temp.path());
        fs::create_dir_all(layout.node(1)).unwrap();
        let program = |name: &str, text: &str| {
            let path = temp.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let sha256 = sha256::of_file(&path).unwrap();
            (path, sha256)
        };
        for release in ["a", "b", "c"] {
            let (path, sha256) = program("good", &format!("#!/bin/sh\n: {release}\n"));
            place(&layout, 1, &path, release, &sha256).unwrap();
            assert!(has(&layout, release, &sha256));
            switch(&layout, [1].into_iter(), 1, release).unwrap();
            assert_eq!(current(&layout, 1).as_deref(), Some(release));
        }
        assert!(!layout.released("a").exists() && layout.released("b").exists());
        let (bad, sha256) = program("bad", "#!/bin/sh\necho broken >&2; exit 1\n");
        let error = place(&layout, 1, &bad, "d", &sha256).unwrap_err().to_string();
        assert!(error.contains("does not run here: broken") && !layout.released("d").exists(), "{error}");
        assert!(
            place(&layout, 1, &bad, "d", "other")
                .unwrap_err()
                .to_string()
                .contains("changed during the copy")
        );
    }
}
