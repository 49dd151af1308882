//! Data goes to standard output, messages to standard error; a reader that went away is no error.

use std::io::{IsTerminal as _, Write as _};

/// A message to the person at the terminal. Clears a status line that may stand there.
pub fn note(text: &str) {
    let clear = if std::io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
    let _ = writeln!(std::io::stderr().lock(), "{clear}{text}");
}

/// One line of data.
pub fn data(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes the status over the line before it; only for terminals.
pub fn status(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "\r\x1b[2K{text}");
    let _ = err.flush();
}

/// Whether standard error is a terminal that may be rewritten.
pub fn may_rewrite() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
