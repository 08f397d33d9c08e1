//! Writes files so that readers find the old content or the new one: to a temporary file, synced, then renamed. A
//! rewritten file keeps its owner, mode and place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

pub mod sha256;

/// Replaces the file at `path` with one that contains `text`.
///
/// # Errors
/// Those of the file system; the old file is then unchanged.
pub fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    File::open(folder)?.sync_all()
}

/// Writes `text` to the file at `path`. An existing file keeps its mode, its owner and all its names; a link is
/// followed.
///
/// # Errors
/// Those of the file system; the old file is then unchanged. The exception is a file that cannot be replaced, because
/// it has several names, it or its folder belongs to another user, or it is mounted on its own: it is overwritten in
/// place, and may be left half written.
pub fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let place = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return write_atomically(path, text),
        place => place?,
    };
    let before = place.metadata()?;
    let folder = place.parent().unwrap_or(Path::new("/"));
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let replaced = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        fchown(&file, Some(before.uid()), Some(before.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &place)?;
        File::open(folder)?.sync_all()
    };
    if before.nlink() == 1 {
        let result = replaced();
        let Err(error) = &result else { return result };
        let _ = fs::remove_file(&temporary);
        if !matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy | io::ErrorKind::ReadOnlyFilesystem
        ) {
            return result;
        }
    }
    let mut file = OpenOptions::new().write(true).open(&place)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

/// Deletes a file; one that does not exist is no error.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether the folder is empty or does not exist.
pub fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Returns whether both paths lead to the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    one == other || place(one).is_some_and(|found| Some(found) == place(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_written_again_stays_whose_it_was_and_where_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let checkout = temp.path().join("checkout");
        fs::create_dir(&checkout).unwrap();
        let (target, link, other) =
            (checkout.join("c.yaml"), temp.path().join("link"), temp.path().join("other"));
        fs::write(&target, "one, and longer").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root can give a file away.
        let owner = if std::os::unix::fs::chown(&target, Some(12_345), Some(54_321)).is_ok() {
            (12_345, 54_321)
        } else {
            (target.metadata().unwrap().uid(), target.metadata().unwrap().gid())
        };
        std::os::unix::fs::symlink("checkout/c.yaml", &link).unwrap();
        let is_as_it_was = |text: &str| {
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            assert!(link.symlink_metadata().unwrap().is_symlink());
            let data = target.metadata().unwrap();
            assert_eq!((mode(&target), (data.uid(), data.gid())), (0o640, owner));
            assert_eq!(fs::read_dir(&checkout).unwrap().count(), 1, "nothing lies beside it");
        };
        rewrite(&link, "two").unwrap();
        is_as_it_was("two");
        fs::hard_link(&target, &other).unwrap();
        rewrite(&link, "three").unwrap();
        is_as_it_was("three");
        assert_eq!(fs::read_to_string(&other).unwrap(), "three", "under its other name too");
        rewrite(&temp.path().join("new"), "new").unwrap();
        assert_eq!(fs::read_to_string(temp.path().join("new")).unwrap(), "new");
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sub").join("file");
        write_atomically(&path, "one").unwrap();
        write_atomically(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
