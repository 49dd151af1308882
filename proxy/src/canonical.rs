//! One spelling per path: the raw request target becomes a [`CanonicalPath`], or the request is refused.
//!
//! Nothing is rewritten. What this rule has looked at is, byte for byte, what the route table
//! matches and what the upstream receives, so no second spelling of a protected path exists.

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 2_048;
/// Longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 4_096;

/// Why a target is not in its one spelling. The text is for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub &'static str);

/// A path in its only spelling, and the query as it came (without `?`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath {
    path: String,
    query: Option<String>,
}

impl CanonicalPath {
    /// Reads a raw request target.
    ///
    /// # Errors
    /// [`Refusal`] for everything that two parsers could read in two ways.
    pub fn parse(target: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(target).map_err(|_| Refusal("the target is not ASCII"))?;
        if !text.starts_with('/') {
            return Err(Refusal("the target must start with `/`"));
        }
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        check_path(path)?;
        if let Some(query) = query {
            check_query(query)?;
        }
        Ok(Self { path: path.to_owned(), query: query.map(str::to_owned) })
    }
    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    /// Path and query as they are forwarded.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
    /// The value of a plain query parameter of the gate's own (`fg_…`); the first one counts.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .as_deref()?
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    }
    /// The target without the gate's own parameters, if it has any.
    pub fn without_own_parameters(&self) -> Option<String> {
        let query = self.query.as_deref()?;
        let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("fg_")).collect();
        if kept.len() == query.split('&').count() {
            return None;
        }
        Some(if kept.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, kept.join("&")) })
    }
}

fn check_path(path: &str) -> Result<(), Refusal> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Refusal("the path is longer than 2,048 bytes"));
    }
    if is_plain(path) {
        return Ok(());
    }
    let Some(rest) = path.strip_prefix('/') else { return Err(Refusal("the path must start with `/`")) };
    let segments = rest.split('/').count();
    for (i, segment) in rest.split('/').enumerate() {
        // Only the last segment may be empty: that is a path that ends in `/`.
        if segment.is_empty() && i + 1 != segments {
            return Err(Refusal("`//` is not allowed"));
        }
        check_segment(segment)?;
    }
    Ok(())
}

/// What nearly every path is: letters, digits, `-`, `_` and single slashes. The rules below accept all of these (a test
/// compares); this only spares the way there.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.first() == Some(&b'/')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_'))
        && !bytes.windows(2).any(|pair| pair == b"//")
}

fn check_segment(segment: &str) -> Result<(), Refusal> {
    if matches!(segment, "." | "..") {
        return Err(Refusal("`.` and `..` segments are not allowed"));
    }
    // Some servers trim these: then `/buy%20` and `/buy` would be one page.
    if segment.starts_with("%20") || segment.ends_with("%20") {
        return Err(Refusal("a segment may not begin or end with a space"));
    }
    let mut bytes = segment.bytes();
    let mut decoded: Vec<u8> = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            match (bytes.next().and_then(upper_hex), bytes.next().and_then(upper_hex)) {
                (Some(high), Some(low)) => decoded.push(high << 4 | low),
                _ => return Err(Refusal("`%` must be followed by two upper-case hex digits")),
            }
        } else if byte.is_ascii_alphanumeric() || b"._~!$&'()*+,=:@-".contains(&byte) {
            check_escaped(&decoded)?;
            decoded.clear();
        } else {
            return Err(Refusal("the path has a character that is not allowed"));
        }
    }
    check_escaped(&decoded)
}

/// One run of percent-encoded bytes: inner spaces and whole non-ASCII characters only. Strict UTF-8,
/// so overlong forms of `/` and `.` do not pass.
fn check_escaped(run: &[u8]) -> Result<(), Refusal> {
    if run.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(run).map_err(|_| Refusal("percent-encoding must be valid UTF-8"))?;
    for c in text.chars() {
        if c.is_ascii() && c != ' ' {
            return Err(Refusal("this character must not be percent-encoded"));
        }
        if c.is_control() || folds_to_ascii(c) {
            return Err(Refusal("this character is not allowed in a path"));
        }
    }
    Ok(())
}

/// Characters that a server with Unicode folding would read as ASCII: full-width forms, `ı`, `ſ`, `K`.
fn folds_to_ascii(c: char) -> bool {
    let lone = |mut mapped: Box<dyn Iterator<Item = char>>| {
        mapped.next().is_some_and(|m| m.is_ascii()) && mapped.next().is_none()
    };
    !c.is_ascii()
        && (('\u{FF01}'..='\u{FF5E}').contains(&c)
            || lone(Box::new(c.to_lowercase()))
            || lone(Box::new(c.to_uppercase())))
}

fn check_query(query: &str) -> Result<(), Refusal> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(Refusal("the query is longer than 4,096 bytes"));
    }
    // Never used to choose a rule, so spellings may vary; but it must be visible ASCII without a fragment.
    if query.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\".contains(&b)) {
        Ok(())
    } else {
        Err(Refusal("the query has a character that is not allowed"))
    }
}

fn upper_hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_paths_pass_unchanged() {
        for target in [
            "/",
            "/deals",
            "/deals/",
            "/a.b/c..d/...",
            "/x-y_z~!$&'()*+,=:@",
            "/%EC%83%81%ED%92%88/1",
            "/my%20file.pdf",
            "/deals?x=1&y=%ea%b0%80",
            "/?",
            "/a?b?c/../d",
            "/stra%C3%9Fe",
        ] {
            assert_eq!(CanonicalPath::parse(target.as_bytes()).map(|p| p.target()), Ok(target.to_owned()));
        }
    }

    #[test]
    fn every_second_spelling_is_refused() {
        for target in [
            "",
            "buy",
            "*",
            "http://h/buy",
            "HTTP://h//buy",
            "//buy",
            "/x//buy",
            "/buy//",
            "/./buy",
            "/x/../buy",
            "/..",
            "/.",
            "/buy/.",
            "/%62uy",
            "/b%75y",
            "/%2e/buy",
            "/%2E%2E/buy",
            "/buy%2f",
            "/buy%2Fx",
            "/buy%5C",
            "/%5cbuy",
            "\\buy",
            "/\\buy",
            "/buy%00",
            "/buy%25",
            "/buy%2562",
            "/buy;x",
            "/..;/buy",
            "/buy#x",
            "/buy%23",
            "/buy%3F",
            "/buy%3B",
            "/b\u{fc}y",
            "/buy\0",
            "/buy\n",
            "/bu y",
            "/buy%",
            "/buy%4",
            "/buy%zz",
            "/%ec%83%81",
            "/%C0%AFbuy",
            "/%C0%AE/buy",
            "/%E0%80%AF",
            "/%F0%80%80%AF",
            "/%ED%A0%80",
            "/%FF",
            "/%EF%BC%8Fbuy",
            "/%EF%BD%82uy",
            "/%E2%84%AA",
            "/%C5%BF",
            "/%C2%85",
            "/buy%20",
            "/%20buy",
            "/buy%09",
            "/buy%7F",
            "/buy|",
            "/buy^",
            "/\"buy\"",
            "/<buy>",
            "/{buy}",
            "/[buy]",
            "/`",
            "/buy?a b",
            "/buy?a#b",
            "/buy?\u{e9}",
            "/buy?\0",
        ] {
            assert!(CanonicalPath::parse(target.as_bytes()).is_err(), "{target:?} was accepted");
        }
        assert!(CanonicalPath::parse(b"/b\xffy").is_err());
        assert!(CanonicalPath::parse(format!("/{}", "a".repeat(PATH_BYTES_MAX)).as_bytes()).is_err());
        assert!(CanonicalPath::parse(format!("/{}", "a".repeat(PATH_BYTES_MAX - 1)).as_bytes()).is_ok());
        assert!(CanonicalPath::parse(format!("/?{}", "a".repeat(QUERY_BYTES_MAX + 1)).as_bytes()).is_err());
    }

    #[test]
    fn own_parameters_are_found_and_taken_off() {
        let path = CanonicalPath::parse(b"/buy?a=1&fg_refresh=off&fg_lang=en").unwrap();
        assert_eq!(path.parameter("fg_refresh"), Some("off"));
        assert_eq!(path.without_own_parameters().as_deref(), Some("/buy?a=1"));
        assert_eq!(CanonicalPath::parse(b"/buy?fg_lang=en").unwrap().without_own_parameters().as_deref(), Some("/buy"));
        assert_eq!(CanonicalPath::parse(b"/buy?a=1").unwrap().without_own_parameters(), None);
    }

    /// What a lenient server does to a path: decode everything, turn `\` round, cut parameters,
    /// resolve dots, squeeze slashes, trim.
    fn lenient(path: &str) -> Vec<String> {
        let bytes = path.as_bytes();
        let mut out = Vec::new();
        let mut i = 0;
        while i < bytes.len() {
            let code = (bytes[i] == b'%')
                .then(|| path.get(i + 1..i + 3))
                .flatten()
                .and_then(|h| u8::from_str_radix(h, 16).ok());
            out.push(code.unwrap_or(bytes[i]));
            i += if code.is_some() { 3 } else { 1 };
        }
        let text = String::from_utf8_lossy(&out).replace('\\', "/");
        let mut segments: Vec<String> = Vec::new();
        for s in text.split('/').map(|s| s.split([';', '\0', '#']).next().unwrap_or("").trim()) {
            match s {
                "" | "." => {}
                ".." => drop(segments.pop()),
                s => segments.push(s.to_owned()),
            }
        }
        segments
    }

    #[test]
    fn a_plain_path_is_one_that_the_rules_accept() {
        let parts = ["/", "a", "-", "_", "9", ".", "%20", "//", "b"];
        for i in 0..parts.len().pow(4) {
            let path: String = (0..4).map(|digit| parts[i / parts.len().pow(digit) % parts.len()]).collect();
            if is_plain(&path) {
                let segments: Vec<&str> = path[1..].split('/').collect();
                let last = segments.len() - 1;
                assert!(segments.iter().enumerate().all(|(n, s)| !s.is_empty() || n == last), "{path}");
                assert!(segments.iter().all(|s| check_segment(s).is_ok()), "{path}");
            }
        }
        assert!(is_plain("/deals/01-a_B/buy") && is_plain("/") && !is_plain("") && !is_plain("a"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn what_passes_has_one_reading(parts in proptest::collection::vec(prop_oneof![
            Just("/"), Just("//"), Just("."), Just(".."), Just("buy"), Just("%62uy"), Just("%2F"), Just("%2f"), Just("%5C"), Just(";"),
            Just("\\"), Just("%00"), Just("%20"), Just("%C0%AF"), Just("%EC%83%81"), Just("%25"), Just("%2E"), Just("a"), Just("#"), Just(" "),
        ], 1..8)) {
            let raw = format!("/{}", parts.concat());
            if let Ok(path) = CanonicalPath::parse(raw.as_bytes()) {
                prop_assert_eq!(path.path(), &raw);
                // A lenient server finds the same segments as a plain split of the undecoded text.
                let plain: Vec<&str> = raw.split('/').filter(|s| !s.is_empty()).collect();
                let read = lenient(&raw);
                prop_assert_eq!(plain.len(), read.len(), "{}", raw);
                for (a, b) in plain.iter().zip(&read) {
                    let same = a == b || a.contains('%');
                    prop_assert!(same && (!a.contains('%') || b != "buy"), "{} is read as {:?}", raw, read);
                }
            }
        }
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = CanonicalPath::parse(&bytes);
        }
    }
}
