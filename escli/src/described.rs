//! The cluster's own cluster.yaml on the operator's machine: what it said when it was read, and what it is to say.

use std::fs;
use std::io;
use std::path::Path;

use crate::engine::ports::PortError;
use crate::local::files;

/// One text in the place of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// What was read; `None` for a file that is new.
    pub before: Option<String>,
    /// What it is to say.
    pub after: String,
}

impl Described {
    /// A file that stays as it is.
    pub fn as_read(text: String) -> Self {
        Self { before: Some(text.clone()), after: text }
    }

    /// The file says already what it should.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::read_to_string(path).is_ok_and(|text| text == self.after)
    }

    /// Writes it, in its place and as its owner left it, unless somebody else has written something else since it was read.
    ///
    /// # Errors
    /// When it was changed, or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PortError> {
        let failed =
            |error: io::Error| PortError::Failed(format!("cannot write {}: {error}", path.display()));
        let found = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if found.is_some() && found != self.before && found.as_deref() != Some(&self.after) {
            return Err(PortError::Failed(format!(
                "{} was changed by somebody else meanwhile, and was left as it is",
                path.display()
            )));
        }
        files::rewrite(path, &self.after).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_wrote_meanwhile_stays() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cluster.yaml");
        let described = Described { before: Some("a".to_owned()), after: "b".to_owned() };
        fs::write(&path, "a").unwrap();
        described.write(&path).unwrap();
        assert!(described.is_at(&path));
        described.write(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(described.write(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }
}
