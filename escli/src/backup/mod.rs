//! Reading and saving backups. A backup is complete if every file matches the checksum in its manifest, and no file is
//! missing or unknown.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use shared::backup::{self, MANIFEST, Manifest, SCHEMA_VERSION, SUM};
use shared::hex;

use crate::files::sha256;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Largest `backup.json`, in bytes.
const MAX_MANIFEST: u64 = 64 << 20;

/// Why a backup cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The backup is incomplete or damaged.
    #[error("{0}")]
    Damaged(String),
}

/// A backup that was read in full and matches its checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBackup {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest, in hex; identifies the backup.
    pub sum: String,
}

/// The files found in a backup: path, length in bytes and SHA-256 in hex.
type Found = BTreeMap<String, (u64, String)>;

/// Reads a whole backup from a tar stream, and checks it. With `folder`, an empty one, also unpacks it there; it is
/// durable on return.
///
/// # Errors
/// [`BackupError`]. The content of `folder` then is incomplete.
pub fn read_tar(tar: impl Read, folder: Option<&Path>) -> Result<VerifiedBackup, BackupError> {
    let mut archive = tar::Archive::new(tar);
    let (mut found, mut manifest, mut sum) = (Found::new(), Vec::new(), Vec::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = checked(&path)?;
        if let Some(folder) = folder {
            make_room(folder, &path)?;
        }
        if name == MANIFEST || name == SUM {
            let mut text = Vec::new();
            entry.by_ref().take(MAX_MANIFEST).read_to_end(&mut text)?;
            if let Some(folder) = folder {
                let mut file = create(&folder.join(&path))?;
                file.write_all(&text)?;
                file.sync_all()?;
            }
            *(if name == MANIFEST { &mut manifest } else { &mut sum }) = text;
            continue;
        }
        let mut file = folder.map(|folder| create(&folder.join(&path))).transpose()?;
        found.insert(name, copy(&mut entry, file.as_mut())?);
        if let Some(file) = file {
            file.sync_all()?;
        }
    }
    let whole = parse(&manifest, &sum)?;
    compare(&whole.manifest, &found)?;
    Ok(whole)
}

/// Saves a backup that arrives as a tar stream to `path`: as a tar file if the path ends in `.tar`, as a folder
/// otherwise. At `path` there may be nothing, or an empty folder. The backup appears there only when it is complete and
/// durable.
///
/// # Errors
/// [`BackupError`]; then nothing is left at `path`.
pub fn save(tar: impl Read, path: &Path) -> Result<Manifest, BackupError> {
    if path.extension().is_none_or(|end| end != "tar") {
        return keep_folder(tar, path);
    }
    let parent = parent_of(path);
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(|error| named(parent, &error))?;
    let mut tee = Tee { from: tar, to: file.as_file_mut() };
    let VerifiedBackup { manifest, .. } = read_tar(&mut tee, None)?;
    // The end marker of the tar comes after the last file, and must be saved too.
    io::copy(&mut tee, &mut io::sink())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| named(path, &error.error))?;
    File::open(parent)?.sync_all()?;
    Ok(manifest)
}

/// Puts the backup `source`, a tar or a folder, in the place of the empty folder `path`, in one step.
///
/// # Errors
/// [`BackupError`]; `path` is then unchanged.
pub fn unpack(source: &Path, path: &Path) -> Result<(), BackupError> {
    if !source.is_dir() {
        return keep_folder(BufReader::new(File::open(source).map_err(|error| named(source, &error))?), path)
            .map(drop);
    }
    read_folder(source)?;
    let folder = private_folder(parent_of(path))?;
    for place in ["log", "checkpoints", ""] {
        let from = source.join(place);
        make_room(folder.path(), &Path::new(place).join("x"))?;
        for file in fs::read_dir(&from)?.flatten().filter(|file| file.path().is_file()) {
            let mut to = create(&folder.path().join(place).join(file.file_name()))?;
            copy(&mut File::open(file.path())?, Some(&mut to))?;
            to.sync_all()?;
        }
    }
    publish(&folder, path)
}

fn keep_folder(tar: impl Read, path: &Path) -> Result<Manifest, BackupError> {
    let parent = parent_of(path);
    let folder = private_folder(parent).map_err(|error| named(parent, &error))?;
    let VerifiedBackup { manifest, .. } = read_tar(tar, Some(folder.path()))?;
    publish(&folder, path)?;
    Ok(manifest)
}

/// Renames a folder, whose files are durable, to `path`.
fn publish(folder: &tempfile::TempDir, path: &Path) -> Result<(), BackupError> {
    for place in ["log", "checkpoints", "."] {
        File::open(folder.path().join(place))?.sync_all()?;
    }
    fs::rename(folder.path(), path).map_err(|error| named(path, &error))?;
    Ok(File::open(parent_of(path))?.sync_all()?)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a temporary folder in `parent` that only its owner can read. It is deleted when the returned value is
/// dropped.
///
/// # Errors
/// Those of the file system.
pub fn private_folder(parent: &Path) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir_in(parent)
}

/// A reader that also writes what is read through it to `to`.
struct Tee<'a, R> {
    from: R,
    to: &'a mut File,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// Reads and checks a backup that is a folder.
///
/// # Errors
/// [`BackupError`].
pub fn read_folder(folder: &Path) -> Result<VerifiedBackup, BackupError> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| named(&path, &error))?;
    let sum = fs::read(folder.join(SUM)).unwrap_or_default();
    let whole = parse(&text, &sum)?;
    let mut found = Found::new();
    for place in ["log", "checkpoints"] {
        let place = folder.join(place);
        for file in fs::read_dir(&place).map_err(|error| named(&place, &error))? {
            let path = file?.path();
            let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            let mut file = File::open(&path).map_err(|error| named(&path, &error))?;
            found.insert(name, copy(&mut file, None)?);
        }
    }
    compare(&whole.manifest, &found)?;
    Ok(whole)
}

fn named(path: &Path, error: &io::Error) -> BackupError {
    BackupError::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn parse(text: &[u8], sum: &[u8]) -> Result<VerifiedBackup, BackupError> {
    if sum.is_empty() {
        return Err(BackupError::Damaged(format!(
            "{SUM}, the end of the backup, is missing: the backup was cut off"
        )));
    }
    let own = sha256::hex(text);
    if sum != backup::sum(&own).as_bytes() {
        return Err(BackupError::Damaged(format!("{MANIFEST} does not match {SUM}")));
    }
    let damaged = |error: serde_json::Error| BackupError::Damaged(format!("{MANIFEST} is invalid: {error}"));
    #[derive(serde::Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let Version { schema_version: found } = serde_json::from_slice(text).map_err(damaged)?;
    if found > SCHEMA_VERSION {
        return Err(BackupError::Damaged(format!(
            "{MANIFEST} has version {found}, and this escli reads versions up to {SCHEMA_VERSION}: use the escli that \
             wrote it"
        )));
    }
    let manifest = serde_json::from_slice(text).map_err(damaged)?;
    Ok(VerifiedBackup { manifest, sum: own })
}

/// Checks a path in a backup: it must be one that backups have, so that it cannot lead out of the folder.
fn checked(path: &Path) -> Result<String, BackupError> {
    let parts: Vec<_> = path.components().collect();
    let plain = parts.iter().all(|part| matches!(part, Component::Normal(_)));
    let place = path.parent().map(Path::to_path_buf);
    let ours = path == Path::new(MANIFEST)
        || path == Path::new(SUM)
        || (parts.len() == 2
            && place.is_some_and(|place| place == Path::new("log") || place == Path::new("checkpoints")));
    match path.to_str().filter(|_| plain && ours) {
        Some(name) => Ok(name.to_owned()),
        None => Err(BackupError::Damaged(format!("{} is not allowed in a backup", path.display()))),
    }
}

fn make_room(folder: &Path, path: &Path) -> io::Result<()> {
    let parent: PathBuf = path.parent().map(|parent| folder.join(parent)).unwrap_or_default();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn copy(from: &mut impl Read, mut to: Option<&mut File>) -> io::Result<(u64, String)> {
    let (mut hasher, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hex::encode(&hasher.finalize())));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        if let Some(file) = &mut to {
            file.write_all(&buffer[..read])?;
        }
    }
}

/// Checks that the files found are exactly those of the manifest.
fn compare(manifest: &Manifest, found: &Found) -> Result<(), BackupError> {
    let damaged = |text: String| Err(BackupError::Damaged(text));
    for file in &manifest.files {
        match found.get(&file.path) {
            None => return damaged(format!("{} is missing", file.path)),
            Some((bytes, _)) if *bytes != file.bytes => {
                return damaged(format!("{} has {bytes} bytes; expected {}", file.path, file.bytes));
            }
            Some((_, sha256)) if *sha256 != file.sha256 => {
                return damaged(format!("{} is damaged: its SHA-256 is {sha256}", file.path));
            }
            Some(_) => {}
        }
    }
    let besides = found.keys().find(|name| manifest.files.iter().all(|file| file.path != **name));
    besides.map_or(Ok(()), |name| damaged(format!("{name} does not belong to the backup")))
}

#[cfg(test)]
mod tests {
    use shared::ids::ClusterId;
    use uuid::Uuid;

    use super::*;

    const FILES: [(&str, &[u8]); 2] = [("log/1.seg", b"segment"), ("checkpoints/9.ckpt", b"snapshot")];

    fn manifest() -> Manifest {
        let files = FILES.iter().map(|(path, content)| backup::File {
            path: (*path).to_owned(),
            bytes: content.len() as u64,
            sha256: sha256::hex(content),
        });
        Manifest {
            schema_version: SCHEMA_VERSION,
            cluster_name: "orders".to_owned(),
            cluster_id: ClusterId(Uuid::nil()),
            node: 2,
            version: "0.1.0".to_owned(),
            format: 1,
            initial_members: vec![1, 2, 3],
            first_index: 1,
            last_index: 9,
            last_term: 2,
            taken_at: "2026-01-01T00:00:00Z".to_owned(),
            files: files.collect(),
        }
    }

    fn tar(files: &[(&str, &[u8])], manifest: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let sum = backup::sum(&sha256::hex(manifest));
        for (path, content) in files.iter().chain([&(MANIFEST, manifest), &(SUM, sum.as_bytes())]) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            // As a stranger may write it: the builder refuses such paths.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn text() -> Vec<u8> {
        serde_json::to_vec(&manifest()).unwrap()
    }

    #[test]
    fn what_is_whole_is_unpacked_and_read_again() {
        let temp = tempfile::tempdir().unwrap();
        let whole = tar(&FILES, &text());
        assert_eq!(read_tar(&whole[..], None).unwrap().manifest, manifest());
        assert_eq!(read_tar(&whole[..], Some(temp.path())).unwrap().manifest, manifest());
        assert_eq!(fs::read(temp.path().join("log/1.seg")).unwrap(), b"segment");
        assert_eq!(read_folder(temp.path()).unwrap().manifest, manifest());
        fs::write(temp.path().join("log/2.seg"), b"more").unwrap();
        assert!(read_folder(temp.path()).unwrap_err().to_string().contains("log/2.seg does not belong"));
    }

    #[test]
    fn any_flipped_byte_any_cut_and_any_other_file_is_found() {
        let whole = tar(&FILES, &text());
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            // What tar says of owners, times and padding is nobody's.
            if let Ok(read) = read_tar(&bad[..], None) {
                assert_eq!(read.manifest, manifest(), "byte {at}");
            }
        }
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for cut in 0..end {
            assert!(read_tar(&whole[..cut], None).is_err(), "cut at {cut}");
        }
        let missing = read_tar(&tar(&FILES[..1], &text())[..], None).unwrap_err().to_string();
        assert_eq!(missing, "checkpoints/9.ckpt is missing");
        let other = [FILES[0], ("checkpoints/9.ckpt", b"Snapshot")];
        assert!(read_tar(&tar(&other, &text())[..], None).unwrap_err().to_string().contains("SHA-256"));
        let short = [FILES[0], ("checkpoints/9.ckpt", b"snaps")];
        assert!(read_tar(&tar(&short, &text())[..], None).unwrap_err().to_string().contains("has 5 bytes"));
    }

    #[test]
    fn nothing_leads_out_of_it() {
        for path in ["../x", "/etc/passwd", "log/../../x", "log/a/b", "identity", "lock"] {
            let temp = tempfile::tempdir().unwrap();
            let inner = temp.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let error = read_tar(&tar(&[(path, b"evil")], &text())[..], Some(&inner)).unwrap_err();
            assert!(error.to_string().contains("is not allowed in a backup"), "{path}: {error}");
            assert_eq!(fs::read_dir(&inner).unwrap().count(), 0, "{path}");
        }
    }

    #[test]
    fn a_later_version_is_told_from_nonsense() {
        let later = read_tar(&tar(&FILES, br#"{"schema_version":2}"#)[..], None).unwrap_err().to_string();
        assert!(later.contains("use the escli that wrote it"), "{later}");
        assert!(read_tar(&tar(&FILES, b"{}")[..], None).unwrap_err().to_string().contains("is invalid"));
    }
}
