//! The text of a cluster.yaml before an operation and after it.

use std::fs;
use std::io;
use std::path::Path;

use crate::engine::ports::{ClusterFileStore, PortError};
use crate::files;

/// The replacement of a file's text by another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingEdit {
    /// The text that was read; `None` if the file is new.
    pub before: Option<String>,
    /// The text to write.
    pub after: String,
    /// Whether `down` may delete the file, because it belongs to a local cluster.
    pub is_removable: bool,
}

impl ClusterFileStore for PendingEdit {
    fn is_current(&self, path: &Path) -> bool {
        fs::read_to_string(path).is_ok_and(|text| text == self.after)
    }

    fn write(&self, path: &Path) -> Result<(), PortError> {
        let failed = |error: io::Error| failed("write", path, &error);
        let found = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if found.is_some() && found != self.before && found.as_deref() != Some(&self.after) {
            return Err(PortError::failed(format!(
                "{} was changed by somebody else meanwhile, and was left as it is",
                path.display()
            )));
        }
        files::rewrite(path, &self.after).map_err(failed)
    }

    fn remove(&self, path: &Path) -> Result<(), PortError> {
        if !self.is_removable {
            return Err(PortError::failed(format!("{} is the operator's own file", path.display())));
        }
        files::remove(path).map_err(|error| failed("delete", path, &error))?;
        // Deletes the directory too, unless something else is in it.
        let _ = path.parent().map(fs::remove_dir);
        Ok(())
    }
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> PortError {
    PortError::failed(format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_wrote_meanwhile_stays() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cluster.yaml");
        let edit =
            PendingEdit { before: Some("a".to_owned()), after: "b".to_owned(), ..PendingEdit::default() };
        fs::write(&path, "a").unwrap();
        edit.write(&path).unwrap();
        assert!(edit.is_current(&path));
        edit.write(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(edit.write(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert!(edit.remove(&path).is_err(), "it is the operator's");
        PendingEdit { is_removable: true, ..edit }.remove(&path).unwrap();
        assert!(!temp.path().exists());
    }
}
