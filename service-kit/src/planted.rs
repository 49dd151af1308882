//! Planted bugs: mistakes that real shops have made, put into the product on purpose, so that the fault bench can show
//! that its checker is awake (the list is in `e2e/faults/src/planted`).
//!
//! They exist only in a build with the feature `planted-bugs`, which nothing but `make faults-planted` asks for: without
//! it [`planted!`](crate::planted) is the word `false`, the variable is not read, and no name of a bug is in the binary
//! (`e2e/faults/tests/planted.rs` looks). With it `FLOODGATE_PLANTED` chooses one bug at start, so that one build serves
//! all of them: `{"name": "…", "lua": [["header of the script", "text", "other text"]]}`. A replacement whose text is not
//! in its script exactly once ends the process with a word about it: a bench must not believe in a bug that is not there.

/// Whether this bug is planted. Without the feature: `false`.
#[cfg(not(feature = "planted-bugs"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

/// Whether this bug is planted. Without the feature: `false`.
#[cfg(feature = "planted-bugs")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is($name)
    };
}

#[cfg(feature = "planted-bugs")]
pub use with::*;

#[cfg(feature = "planted-bugs")]
mod with {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// The variable that chooses a bug.
    pub const VARIABLE: &str = "FLOODGATE_PLANTED";

    /// The bug of this process.
    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bug {
        name: String,
        /// Start of a script's header after `-- `, the text that is replaced, the text that replaces it.
        lua: Vec<(String, String, String)>,
    }

    fn bug() -> &'static Bug {
        static BUG: OnceLock<Bug> = OnceLock::new();
        BUG.get_or_init(|| match std::env::var(VARIABLE) {
            Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| end(&format!("{VARIABLE}: {error}"))),
            Err(_) => Bug::default(),
        })
    }

    /// What [`planted!`](crate::planted) calls.
    pub fn is(name: &str) -> bool {
        let planted = bug().name == name;
        if planted {
            reached();
        }
        planted
    }

    /// The script with the mistake of this process's bug, if it is about this script.
    pub(crate) fn script(source: &str) -> Option<String> {
        let mut changed = None;
        for (header, from, to) in &bug().lua {
            if source.strip_prefix("-- ").is_some_and(|text| text.starts_with(header.as_str())) {
                let text = changed.get_or_insert_with(|| source.to_owned());
                if text.matches(from.as_str()).count() != 1 {
                    end(&format!("planted bug {}: `{from}` is not once in the script `{header}`", bug().name));
                }
                *text = text.replacen(from.as_str(), to, 1);
                reached();
            }
        }
        changed
    }

    /// Says once that the mistake was made: a bug that nobody met was not caught either.
    fn reached() {
        static SAID: AtomicBool = AtomicBool::new(false);
        if !SAID.swap(true, Ordering::Relaxed) {
            let _ = writeln!(std::io::stderr(), "planted bug {}: reached", bug().name);
        }
    }

    fn end(why: &str) -> ! {
        let _ = writeln!(std::io::stderr(), "{why}");
        std::process::abort()
    }
}
