//! The style sheet and the script: inside the executable, named by their content, cached for ever.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::sync::LazyLock;

const CSS: &[u8] = include_bytes!("../../assets/pages.css");
const JS: &[u8] = include_bytes!("../../assets/pages.js");

struct Asset {
    path: String,
    content_type: &'static str,
    bytes: &'static [u8],
}

static ASSETS: LazyLock<[Asset; 2]> = LazyLock::new(|| {
    let named = |bytes: &'static [u8], extension: &str, content_type| {
        let mut path = String::from("/assets/");
        for byte in Sha256::digest(bytes).iter().take(8) {
            let _ = write!(path, "{byte:02x}");
        }
        let _ = write!(path, ".{extension}");
        Asset { path, content_type, bytes }
    };
    [named(CSS, "css", "text/css; charset=utf-8"), named(JS, "js", "text/javascript; charset=utf-8")]
});

/// Path of the style sheet.
pub fn css() -> &'static str {
    let [css, _] = &*ASSETS;
    &css.path
}

/// Path of the script.
pub fn js() -> &'static str {
    let [_, js] = &*ASSETS;
    &js.path
}

/// The asset with exactly this path. An old name is gone: its page is older than this process.
pub fn serve(path: &str) -> Option<Response> {
    let asset = ASSETS.iter().find(|a| a.path == path)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Some((StatusCode::OK, headers, asset.bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_small_and_found_by_their_names() {
        for (bytes, path) in [(CSS, css()), (JS, js())] {
            assert!(bytes.len() <= 8 * 1024, "{path}: {} bytes uncompressed", bytes.len());
            assert!(serve(path).is_some());
        }
        assert!(serve("/assets/").is_none() && serve("/assets/pages.css").is_none());
    }

    #[test]
    fn the_script_evaluates_nothing_and_writes_no_html() {
        let js = std::str::from_utf8(JS).unwrap();
        for banned in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "http://",
            "https://",
        ] {
            assert!(!js.contains(banned), "{banned}");
        }
        assert!(!std::str::from_utf8(CSS).unwrap().contains("url("), "no request leaves the page");
    }
}
