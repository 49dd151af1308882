//! Another time for one process: `clock_shim.c`, compiled here when there is a C compiler, and its file of offsets.
//!
//! Only the wall clock is stepped in runs. The monotonic offset is there for single experiments: the kernel's own
//! time-outs (futex, epoll) do not know of it, so a process would wait for hours.

use anyhow::Context as _;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("../clock_shim.c");

/// The compiled library.
#[derive(Debug, Clone)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Compiles it into `folder`. `None`, with the reason, when this machine cannot.
    pub fn build(folder: &Path) -> Result<Self, String> {
        let (source, library) = (folder.join("clock_shim.c"), folder.join("clock_shim.so"));
        std::fs::write(&source, SOURCE).map_err(|e| e.to_string())?;
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        let output = cc.output().map_err(|e| format!("no C compiler (`cc`): {e}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(Self { library })
    }

    /// A clock file that moves nothing yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn clock(&self, file: &Path) -> anyhow::Result<Clock> {
        let clock = Clock { library: self.library.clone(), file: file.to_owned() };
        std::fs::write(file, [0_u8; 16]).with_context(|| format!("write {}", file.display()))?;
        Ok(clock)
    }
}

/// The clock of one process, also over its restarts.
#[derive(Debug, Clone)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// What the process needs in its environment.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("FLOODGATE_CLOCK_FILE", &self.file)]
    }
    /// Sets the wall clock this much ahead of (or behind) the machine's.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_ms(&self, ahead_ms: i64) -> anyhow::Result<()> {
        let mut file = std::fs::File::options().write(true).open(&self.file)?;
        file.seek(SeekFrom::Start(0))?;
        // Eight aligned bytes in one write: a reader sees the old or the new offset.
        Ok(file.write_all(&ahead_ms.saturating_mul(1_000_000).to_ne_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(clock: &Clock) -> i64 {
        let mut date = Command::new("date");
        let output = date.arg("+%s").envs(clock.environment()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_process_sees_the_time_that_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let shim = match Shim::build(folder.path()) {
            Ok(shim) => shim,
            Err(why) => return println!("skipped: {why}"),
        };
        let clock = shim.clock(&folder.path().join("clock")).unwrap();
        let real = || service_kit::clock::now_ms() / 1_000;
        assert!((seconds(&clock) - real()).abs() <= 1);
        clock.set_ms(3_600_000).unwrap();
        assert!((seconds(&clock) - real() - 3_600).abs() <= 1);
        clock.set_ms(-3_600_500).unwrap();
        assert!((seconds(&clock) - real() + 3_600).abs() <= 1);
    }
}
