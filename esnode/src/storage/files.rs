//! Operations on files and directories that the rest of `storage` uses: errors that name the file, durable creation and
//! removal, and atomic replacement.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Returns a function that puts the path of `dir/name` in front of an error's message. An empty name stands
/// for `dir`.
pub(crate) fn named(dir: &Path, name: &str) -> impl Fn(io::Error) -> io::Error + Copy {
    move |error| {
        let path = if name.is_empty() { dir.to_owned() } else { dir.join(name) };
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    }
}

/// Returns whether the file system or the user's quota has no room left. What was to be written can be tried
/// again later.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Creates `dir` and its parents, readable by their owner only. Existing ones stay as they are.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(named(dir, ""))
}

/// Makes creations, removals and renames in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(named(dir, ""))
}

/// Returns the names in `dir` that end in `extension`, sorted.
pub(crate) fn list(dir: &Path, extension: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(dir).map_err(named(dir, ""))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name.ends_with(extension) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes `dir/name` if it is there.
pub(crate) fn remove_if_present(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(dir, name)(error)),
        _ => Ok(()),
    }
}

/// Writes `bytes` to `dir/name`, readable by its owner only. The content is durable on return, the name is
/// not yet.
pub(crate) fn write_synced(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(dir.join(name));
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(named(dir, name))
}

/// Replaces `dir/name` in one step, by renaming `dir/temporary`: after a power cut the file has either the old or the
/// new content. Durable on return.
pub(crate) fn replace(dir: &Path, temporary: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_synced(dir, temporary, bytes)?;
    fs::rename(dir.join(temporary), dir.join(name)).map_err(named(dir, name))?;
    sync_dir(dir)
}

/// Creates `path` with `capacity` bytes of allocated blocks, so that writing to it cannot find the disk full.
pub(crate) fn allocate(path: &Path, capacity: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let allocated = match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, capacity) {
        // Not every file system supports this; otherwise blocks are allocated when they are written.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(capacity),
        done => done.map_err(io::Error::from),
    };
    // An incomplete file would be in the way of the next attempt.
    allocated.inspect_err(|_| drop(fs::remove_file(path))).map(|()| file)
}
