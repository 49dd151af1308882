//! The files of one gate's journal: names, the end of the last one, and appending. One process per gate and directory.

use serde::Serialize;
use service_kit::chain::{Entry, Tail};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The ending of a journal's files.
pub const ENDING: &str = ".ndjson";
/// How much of the end of a file is searched for its last line: more than the longest line there can be.
const LAST_LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// An entry that every line of a gate shares.
#[derive(Serialize)]
pub struct Stamped<'a, T> {
    /// When it was written, by this machine's clock.
    pub at_ms: i64,
    /// By which gate.
    pub gate: &'a str,
    /// What.
    #[serde(flatten)]
    pub body: T,
}

#[derive(Serialize)]
struct Opened {
    opened: u64,
}

/// The open file of a gate.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    gate: String,
    index: u64,
    file: File,
    bytes: u64,
    bytes_max: u64,
    tail: Tail,
    _lock: File,
}

/// The part of a file's name that stands for a gate.
fn plain(gate: &str) -> String {
    gate.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect()
}

/// Gate and index of a journal file, by its name.
pub fn parse_name(path: &Path) -> Option<(String, u64)> {
    let (gate, index) = path.file_name()?.to_str()?.strip_suffix(ENDING)?.rsplit_once('.')?;
    Some((gate.to_owned(), index.parse().ok()?))
}

/// All journal files of a directory, by gate and then by index.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(dir: &Path) -> std::io::Result<Vec<(String, u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some((gate, index)) = parse_name(&path) {
            found.push((gate, index, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The last whole line of a file, and whether it is sound; `None` when there is no whole line.
fn last_line(path: &Path) -> std::io::Result<Option<Result<Tail, ()>>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINE_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LAST_LINE_BYTES_MAX).read_to_end(&mut bytes)?;
    // What stands behind the last line break is torn.
    let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { return Ok(None) };
    let whole = bytes.get(..end).unwrap_or_default();
    let start = whole.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = String::from_utf8_lossy(whole.get(start..).unwrap_or_default()).into_owned();
    Ok(Some(Entry::read(&line).map(|entry| entry.tail()).map_err(drop)))
}

impl Files {
    /// Continues the journal of `gate` in `dir` with a new file.
    pub fn open(dir: &Path, gate: &str, bytes_max: u64, now_ms: i64) -> std::io::Result<Self> {
        match DirBuilder::new().mode(0o700).recursive(true).create(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let name = plain(gate);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join(format!("{name}.lock")))?;
        lock.try_lock().map_err(|_| std::io::Error::other("another gate of this address writes its journal here"))?;
        let mut tail = Tail::default();
        let mut index = 0;
        for (_, i, path) in list(dir)?.into_iter().rev().filter(|(g, ..)| *g == name) {
            index = index.max(i);
            match last_line(&path)? {
                Some(Ok(found)) => {
                    tail = found;
                    break;
                }
                Some(Err(())) => {
                    // Somebody changed the end of it: reading it will say so. This start begins a chain of its own.
                    tracing::error!(file = %path.display(), "the journal's last entry does not hold");
                    break;
                }
                None => {}
            }
        }
        let file = Self::create(dir, &name, index + 1)?;
        let mut files =
            Self { dir: dir.to_owned(), gate: name, index: index + 1, file, bytes: 0, bytes_max, tail, _lock: lock };
        files.begin(now_ms)?;
        Ok(files)
    }

    fn create(dir: &Path, name: &str, index: u64) -> std::io::Result<File> {
        let path = dir.join(format!("{name}.{index:06}{ENDING}"));
        OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)
    }

    fn begin(&mut self, now_ms: i64) -> std::io::Result<()> {
        self.append(now_ms, &[Opened { opened: self.index }])?;
        // The name must survive a power cut as well as the content.
        File::open(&self.dir)?.sync_all()
    }

    /// Appends one entry per body and has the disk keep them. After an error nothing of it counts, and the next call
    /// goes on in a new file.
    pub fn append<T: Serialize>(&mut self, now_ms: i64, bodies: &[T]) -> std::io::Result<()> {
        let mut tail = self.tail.clone();
        let mut text = String::new();
        for body in bodies {
            let line = tail.append(&Stamped { at_ms: now_ms, gate: &self.gate, body })?;
            text.push_str(&line);
            text.push('\n');
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        self.bytes = self.bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.tail = tail;
        Ok(())
    }

    /// Goes on in a new file when this one is large enough, or when `broken` says that its end cannot be trusted.
    pub fn rotate(&mut self, now_ms: i64, broken: bool) -> std::io::Result<()> {
        if !broken && self.bytes < self.bytes_max {
            return Ok(());
        }
        let next = Self::create(&self.dir, &self.gate, self.index + 1)?;
        let before = (std::mem::replace(&mut self.file, next), std::mem::replace(&mut self.bytes, 0));
        self.index += 1;
        let begun = self.begin(now_ms);
        if begun.is_err() {
            // A full disk still makes empty files: without this there would be one more at every try.
            let _ = std::fs::remove_file(self.dir.join(format!("{}.{:06}{ENDING}", self.gate, self.index)));
            (self.file, self.bytes) = before;
            self.index -= 1;
        }
        begun
    }
}
