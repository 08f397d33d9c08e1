//! Finds the esnode program to start nodes with.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::version::BuildInfo;

use crate::failure::Failure;
use crate::files::sha256;
use crate::plan::program::{Program, arch_of};
use crate::settings::Settings;

/// Returns the path of the program: `--binary`, `named` (`deploy.binary` of cluster.yaml), `$ESNODE`, next to escli, or
/// on the PATH. `None` if there is none there; that matters only if a node has to be started.
///
/// # Errors
/// [`Exit::Usage`](crate::failure::Exit::Usage) if one was named and cannot be run: no other one may take its place.
pub fn find(
    settings: &Settings,
    option: Option<&Path>,
    named: Option<&Path>,
) -> Result<Option<PathBuf>, Failure> {
    let explicit =
        [("--binary", option), ("deploy.binary", named), ("$ESNODE", settings.env.esnode.as_deref())];
    for (what, path) in explicit {
        let Some(path) = path else { continue };
        let path = settings.env.path(path);
        return if is_executable(&path) {
            Ok(Some(path))
        } else {
            Err(Failure::usage(format!("{what}: {} is not an executable program", path.display())))
        };
    }
    let beside = settings.env.executable.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let along = settings.env.path.iter().flat_map(std::env::split_paths);
    Ok(beside.into_iter().chain(along).map(|folder| folder.join("esnode")).find(|path| is_executable(path)))
}

/// Reads what must be known of the program at `path` before it is copied to hosts.
///
/// # Errors
/// If it cannot be read.
pub fn program(path: &Path) -> Result<Program, Failure> {
    let read = || -> io::Result<Program> {
        let mut head = Vec::new();
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        file.take(64).read_to_end(&mut head)?;
        let (arch, sha256) = (arch_of(&head), sha256::of_file(path)?);
        let info = info(path, arch.as_deref());
        let version = info.as_ref().map_or("unknown", |info| info.version.as_str());
        let release = format!("{version}-{}", sha256.get(..8).unwrap_or_default());
        Ok(Program { path: path.to_owned(), release, sha256, mib: bytes.div_ceil(1 << 20), arch, info })
    };
    read().map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))
}

/// Returns the program's own description of itself; `None` if it is built for another machine and cannot be run here.
fn info(path: &Path, arch: Option<&str>) -> Option<BuildInfo> {
    let here = arch.is_none_or(|arch| arch == std::env::consts::ARCH);
    let output = here.then(|| Command::new(path).args(["--version", "--json"]).output().ok()).flatten();
    let info = output.and_then(|output| serde_json::from_slice::<BuildInfo>(&output.stdout).ok());
    let plain =
        |info: &BuildInfo| info.version.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    info.filter(plain)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::failure::Exit;
    use crate::settings::Environment;

    fn program(folder: &Path, name: &str) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_first_that_is_named_counts_and_a_named_one_must_exist() {
        let temp = tempfile::tempdir().unwrap();
        let dir = |name: &str| temp.path().join(name);
        let along = program(&dir("path"), "esnode");
        let env = Environment {
            path: Some(dir("path").into_os_string()),
            executable: Some(dir("bin").join("escli")),
            ..Environment::default()
        };
        let mut settings = Cli::parse_from(["escli", "up"]).global.settings(env);
        assert_eq!(find(&settings, None, None).unwrap(), Some(along));
        let beside = program(&dir("bin"), "esnode");
        assert_eq!(find(&settings, None, None).unwrap(), Some(beside));
        let env = program(&dir("env"), "node");
        settings.env.esnode = Some(env.clone());
        assert_eq!(find(&settings, None, None).unwrap(), Some(env));
        let named = program(&dir("named"), "x");
        assert_eq!(find(&settings, None, Some(&named)).unwrap(), Some(named.clone()));
        assert_eq!(find(&settings, Some(&named), None).unwrap(), Some(named.clone()));
        let missing = dir("missing");
        assert_eq!(find(&settings, Some(&missing), Some(&named)).unwrap_err().kind, Exit::Usage);
        settings.env = Environment::default();
        assert_eq!(find(&settings, None, None).unwrap(), None);
    }
}
