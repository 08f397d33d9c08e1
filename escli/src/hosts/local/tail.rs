//! Reads the end of a log file, and follows what is appended. Rotation and truncation lose no line that still exists.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Number of bytes read at once from the end backwards.
const WINDOW: u64 = 64 * 1024;

/// Returns the last `count` lines of a log. Only its end is read, however large it is. If it was rotated, older lines
/// are read from the file with `.1` behind its name.
///
/// # Errors
/// Those of the file system.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let lines = lines_of(path, count)?;
    let older = lines_of(&path.with_added_extension("1"), count - lines.len()).unwrap_or_default();
    Ok([older, lines].concat())
}

fn lines_of(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    let bytes = end_of(&mut file, end, count)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect())
}

/// Returns a part of the file that ends at `end` and has at least `count` lines, if there are so many.
fn end_of(file: &mut File, end: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut window = WINDOW;
    loop {
        let begin = end.saturating_sub(window);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(end - begin).read_to_end(&mut bytes)?;
        // The first line may be incomplete, so there must be one line end more than lines.
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        if begin == 0 || ends > count {
            return Ok(bytes);
        }
        window *= 4;
    }
}

/// A log file that is followed by its name.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    at: u64,
    /// The beginning of a line whose end has not been written yet.
    begun: Vec<u8>,
}

impl Tail {
    /// Returns the last `count` lines, and a follower that continues behind them. A file that does not exist yet has no
    /// lines.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: PathBuf, count: usize) -> io::Result<(Vec<String>, Self)> {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Vec::new(), Self { path, open: None }));
            }
            Err(error) => return Err(error),
        };
        let data = file.metadata()?;
        let bytes = end_of(&mut file, data.len(), count)?;
        let mut open = Open { file, inode: data.ino(), at: data.len(), begun: Vec::new() };
        let mut lines = open.split(&bytes);
        lines.drain(..lines.len().saturating_sub(count));
        Ok((lines, Self { path, open: Some(open) }))
    }

    /// Returns the lines that were completed since the last call.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn more(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if let Some(open) = &mut self.open {
            // Lines that were written before the file was renamed come first.
            lines.extend(open.read()?);
        }
        let now = match std::fs::metadata(&self.path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
            Err(error) => return Err(error),
        };
        if self.open.as_ref().is_none_or(|open| open.inode != now.ino()) {
            if let Some(old) = self.open.take() {
                lines.extend(old.rest());
            }
            let file = File::open(&self.path)?;
            let inode = file.metadata()?.ino();
            let mut open = Open { file, inode, at: 0, begun: Vec::new() };
            lines.extend(open.read()?);
            self.open = Some(open);
        }
        Ok(lines)
    }
}

impl Open {
    fn read(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if self.file.metadata()?.len() < self.at {
            lines.extend(self.rest_taken());
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        lines.extend(self.split(&bytes));
        Ok(lines)
    }

    /// Returns the complete lines in `bytes`, and keeps the rest until its end arrives.
    fn split(&mut self, bytes: &[u8]) -> Vec<String> {
        self.begun.extend_from_slice(bytes);
        let Some(last) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.begun.split_off(last + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }

    /// Returns a line that will never be completed, because its file was replaced.
    fn rest_taken(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    fn rest(mut self) -> Option<String> {
        self.rest_taken()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;

    fn append(path: &Path, text: &str) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_end_of_a_long_log() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        fs::write(&path, &text).unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["line 49998", "line 49999"]);
        assert_eq!(last_lines(&path, 40_000).unwrap()[0], "line 10000", "more than one window");
        assert_eq!(last_lines(&path, 60_000).unwrap().len(), 50_000);
        let (lines, _) = Tail::open(path.clone(), 3).unwrap();
        assert_eq!(lines, ["line 49997", "line 49998", "line 49999"]);
        fs::write(&path, "only").unwrap();
        assert_eq!(last_lines(&path, 20).unwrap(), ["only"]);
        fs::write(temp.path().join("log.1"), "older\nold\n").unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["old", "only"]);
        assert_eq!(last_lines(&path, 1).unwrap(), ["only"]);
    }

    #[test]
    fn lines_come_whole_and_once() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        append(&path, "one\ntw");
        let (lines, mut tail) = Tail::open(path.clone(), 10).unwrap();
        assert_eq!(lines, ["one"]);
        assert_eq!(tail.more().unwrap(), Vec::<String>::new());
        append(&path, "o\nthree\n");
        assert_eq!(tail.more().unwrap(), ["two", "three"]);
        assert_eq!(tail.more().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn rotation_and_truncation_lose_nothing_that_is_there() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        append(&path, "one\n");
        let (_, mut tail) = Tail::open(path.clone(), 0).unwrap();
        append(&path, "two\ncut");
        fs::rename(&path, temp.path().join("log.1")).unwrap();
        assert_eq!(tail.more().unwrap(), ["two"], "the new file is not there yet");
        append(&path, "three\n");
        assert_eq!(tail.more().unwrap(), ["cut", "three"]);
        fs::write(&path, "").unwrap();
        assert_eq!(tail.more().unwrap(), Vec::<String>::new());
        append(&path, "4\n");
        assert_eq!(tail.more().unwrap(), ["4"]);
    }

    #[test]
    fn a_log_that_comes_later_is_followed_from_its_beginning() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let (lines, mut tail) = Tail::open(path.clone(), 10).unwrap();
        assert_eq!((lines, tail.more().unwrap()), (Vec::new(), Vec::new()));
        append(&path, "first\n");
        assert_eq!(tail.more().unwrap(), ["first"]);
    }
}
