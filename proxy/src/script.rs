//! Style sheets and scripts as they are sent: without what no browser needs, and with the policy that names their bytes.

use base64::Engine as _;
use queue::theme::{Scheme, Theme};
use sha2::{Digest as _, Sha256};

/// Names in `page/wait.js` that are shortened. None of them is also a property, a key or spread (`...name`) there.
const NAMES: [&str; 41] = [
    "asked", "back", "base", "become", "beep", "behind", "close", "early", "eta", "fails", "fill", "gone", "hide",
    "lang", "later", "live", "mark", "name", "next", "now", "open", "poll", "put", "reload", "ring", "say", "show",
    "some", "sound", "spoke", "state", "stream", "sure", "tabs", "timer", "told", "tries", "turn", "two", "until",
    "wait",
];
/// What they become, in this order: letters that the script does not use.
const LETTERS: &str = "dfghijklmopquvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Drops indentation, empty lines and whole-line comments.
pub fn compact(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Drops every space and line end that a script does not need and shortens [`NAMES`]. The script must have neither
/// template literals nor regular expressions with spaces or quotes, and end each statement by itself.
pub fn squeeze(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    for line in compact(script).lines() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '\'' | '"' => quoted(rest, first),
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
            rest = after;
            if token == " " {
                let needed = out.ends_with(is_word) && rest.starts_with(is_word);
                out.push_str(if needed { " " } else { "" });
            } else {
                out.push_str(if out.ends_with('.') { token } else { short(token) });
            }
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$'
}

/// Length of the string literal at the start of `text`, quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn short(token: &str) -> &str {
    let Some(i) = NAMES.iter().position(|name| *name == token) else { return token };
    LETTERS.get(i..=i).unwrap_or(token)
}

/// `'sha256-…'` of the very bytes that are sent.
pub fn hash(text: &str) -> String {
    format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// The variables that the style sheets use, for a theme.
pub fn colours(theme: &Theme) -> String {
    let colours = theme.colours();
    let (main, is_dark) = colours.main;
    let kinds = match (colours.dark, is_dark) {
        (Some(_), _) => "light dark",
        (None, true) => "dark",
        (None, false) => "light",
    };
    let mut css = format!(":root{{color-scheme:{kinds};{}}}\n", variables(&main));
    if let Some(dark) = colours.dark {
        css.push_str(&format!("@media(prefers-color-scheme:dark){{:root{{{}}}}}\n", variables(&dark)));
    }
    css
}

fn variables(scheme: &Scheme) -> String {
    let Scheme { ground, ink, soft, fill, warn, accent, on_accent } = scheme;
    format!("--bg:{ground};--ink:{ink};--soft:{soft};--fill:{fill};--warn:{warn};--accent:{accent};--on:{on_accent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = include_str!("../page/wait.js");

    #[test]
    fn strings_stay_and_the_rest_gets_shorter() {
        assert_eq!(squeeze("  const a = 'it\\'s  so';\n\n// why\n  return a + b;"), "const a='it\\'s  so';return a+b;");
        assert_eq!(squeeze("let state = s.state, x = { state2: 'state' };"), "let M=s.state,x={state2:'state'};");
        assert_eq!(squeeze("a = b ? \"x : y\" : 'ㄱ ㄴ'"), "a=b?\"x : y\":'ㄱ ㄴ'");
        assert_eq!(squeeze("'open"), "'open");
    }

    #[test]
    fn no_name_that_is_shortened_means_something_else_too() {
        let script = compact(SCRIPT);
        assert!(!script.contains('`') && LETTERS.len() >= NAMES.len());
        for name in NAMES {
            let uses = script.match_indices(name).filter(|(i, _)| {
                let (before, after) = (script[..*i].chars().next_back(), script[i + name.len()..].chars().next());
                !before.is_some_and(is_word) && !after.is_some_and(is_word)
            });
            let mut declared = false;
            for (i, _) in uses {
                assert!(!script[..i].ends_with("..."), "...{name}");
                let after = script[i + name.len()..].trim_start();
                // `{ name: 1 }` and `{ name }` would be keys.
                let key = script[..i].trim_end().ends_with('{') && (after.starts_with(':') || after.starts_with('}'));
                assert!(!key, "{name} is a key");
                declared |= after.starts_with('=') && !after.starts_with("==");
            }
            assert!(declared, "{name} is not in the script any more");
        }
        for letter in LETTERS.chars().take(NAMES.len()) {
            let mut words = script.split(|c| !is_word(c));
            assert!(!words.any(|word| word == letter.to_string()), "the script uses `{letter}`");
        }
    }
}
