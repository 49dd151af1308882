//! How the waiting page of a room looks: the merchant's name, logo and colour. The colours of the looks are here too,
//! so that an accent is checked against the very backgrounds that people get to see.

use crate::colour::Colour;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, require};

/// Longest logo, as a data URI, in bytes.
pub const LOGO_BYTES_MAX: usize = 4_096;
/// Longest own HTML, in bytes.
pub const HTML_BYTES_MAX: usize = 16_384;
/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 60;
/// Least contrast of text and its background (WCAG 2.2, 1.4.3).
pub const CONTRAST_MIN: f64 = 4.5;

/// What own HTML must not contain. The frame is sandboxed and its policy lets nothing through anyway; but links that
/// nobody can follow are a mistake, and `preconnect` or the address of a frame that is then not loaded still make
/// browsers open a connection.
const OUTWARD: [&str; 5] = ["href", "<iframe", "<frame", "<object", "<embed"];

/// The three looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// White and grey; dark where the device is.
    #[default]
    Plain,
    /// Warm paper; dark brown where the device is dark.
    Warm,
    /// Dark, always.
    Night,
}

/// The appearance of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Theme {
    /// One of three looks.
    pub look: Look,
    /// The merchant's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The merchant's logo: a data URI of PNG, JPEG, WebP or GIF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<String>,
    /// The colour of buttons and links, `#rrggbb`; it must stand out 4.5:1 from the look's background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accent: Option<String>,
    /// Own HTML, shown in a sandboxed frame below the place: no scripts, no forms, no links, no requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// The colours of one look in one light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Behind everything.
    pub ground: Colour,
    /// Text.
    pub ink: Colour,
    /// Less important text.
    pub soft: Colour,
    /// Behind figures and notes.
    pub fill: Colour,
    /// Behind warnings.
    pub warn: Colour,
    /// Buttons, links, focus.
    pub accent: Colour,
    /// Text on a button.
    pub on_accent: Colour,
}

/// Both lights of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours {
    /// The first scheme; whether it is a dark one.
    pub main: (Scheme, bool),
    /// For devices that are set to dark, if that differs.
    pub dark: Option<Scheme>,
}

const fn scheme(rgb: [u32; 7]) -> Scheme {
    let [ground, ink, soft, fill, warn, accent, on_accent] = rgb;
    Scheme {
        ground: Colour::new(ground),
        ink: Colour::new(ink),
        soft: Colour::new(soft),
        fill: Colour::new(fill),
        warn: Colour::new(warn),
        accent: Colour::new(accent),
        on_accent: Colour::new(on_accent),
    }
}

const PLAIN: Scheme = scheme([0xffffff, 0x1b1d21, 0x565b66, 0xf1f3f6, 0xfff3d6, 0x0b57d0, 0xffffff]);
const PLAIN_DARK: Scheme = scheme([0x14161a, 0xeceef2, 0xb3b8c2, 0x22252b, 0x3d3010, 0x9cc2ff, 0x0b1a33]);
const WARM: Scheme = scheme([0xfbf6ec, 0x2b2118, 0x625340, 0xf3ead9, 0xffe6b8, 0x93370f, 0xffffff]);
const WARM_DARK: Scheme = scheme([0x1f1913, 0xf3ebdf, 0xc8baa4, 0x2c241b, 0x4a350f, 0xf0a36b, 0x2a1505]);
const NIGHT: Scheme = scheme([0x0b0d12, 0xf2f4f8, 0xb6bcc8, 0x171b23, 0x3a2e0c, 0x8ab4ff, 0x08172e]);

impl Look {
    /// Its colours without a merchant's accent.
    fn colours(self) -> Colours {
        match self {
            Self::Plain => Colours { main: (PLAIN, false), dark: Some(PLAIN_DARK) },
            Self::Warm => Colours { main: (WARM, false), dark: Some(WARM_DARK) },
            Self::Night => Colours { main: (NIGHT, true), dark: None },
        }
    }
}

impl Scheme {
    /// Whether `accent` can be read on every background where links and buttons stand.
    fn carries(&self, accent: Colour) -> bool {
        [self.ground, self.fill].iter().all(|behind| accent.contrast(*behind) >= CONTRAST_MIN)
    }
    fn with_accent(self, accent: Colour) -> Self {
        // White where it can be read; else the background, which the accent stands out from anyway.
        let white = Colour::new(0x00ff_ffff);
        let on_accent = if accent.contrast(white) >= CONTRAST_MIN { white } else { self.ground };
        Self { accent, on_accent, ..self }
    }
}

impl Theme {
    /// The colours of the page. No colour passes on white and on black alike: for devices that are set to dark the
    /// accent is mixed with white until it can be read.
    pub fn colours(&self) -> Colours {
        let colours = self.look.colours();
        let Some(accent) = self.accent.as_deref().and_then(Colour::parse) else { return colours };
        let (main, is_dark) = colours.main;
        let dark = colours.dark.map(|scheme| {
            let lighter = (0..=16).map(|parts| accent.with_white(parts)).find(|c| scheme.carries(*c));
            scheme.with_accent(lighter.unwrap_or(scheme.accent))
        });
        Colours { main: (main.with_accent(accent), is_dark), dark }
    }

    /// Checks what the types let through.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if let Some(name) = &self.name {
            let plain = name.chars().all(|c| !c.is_control());
            require((1..=NAME_CHARS_MAX).contains(&name.chars().count()) && plain, "theme.name", "1 to 60 characters")?;
        }
        if let Some(logo) = &self.logo {
            require(
                is_logo(logo),
                "theme.logo",
                "a data URI in base64 of PNG, JPEG, WebP or GIF, at most 4096 bytes; SVG is refused because it can carry scripts and links",
            )?;
        }
        if let Some(accent) = &self.accent {
            let colour = Colour::parse(accent);
            require(colour.is_some(), "theme.accent", "a colour such as #0b57d0")?;
            let (scheme, is_dark) = self.look.colours().main;
            let advice = if is_dark { "lighter" } else { "darker" };
            require(
                colour.is_some_and(|c| scheme.carries(c)),
                "theme.accent",
                &format!(
                    "a colour that stands out at least 4.5:1 from {} and {}; take a {advice} one",
                    scheme.ground, scheme.fill
                ),
            )?;
        }
        if let Some(html) = &self.html {
            require(html.len() <= HTML_BYTES_MAX, "theme.html", "at most 16384 bytes")?;
            let lower = html.to_ascii_lowercase();
            let found = OUTWARD.iter().find(|part| lower.contains(**part));
            require(
                found.is_none(),
                "theme.html",
                &format!(
                    "text and pictures (data: only) without `{}`: nothing in the frame leads or loads from anywhere",
                    found.unwrap_or(&"")
                ),
            )?;
        }
        Ok(())
    }
}

/// Whether this is a picture that can neither run nor load anything. The bytes must be what the type says.
fn is_logo(uri: &str) -> bool {
    if uri.len() > LOGO_BYTES_MAX {
        return false;
    }
    let Some((kind, data)) = uri.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,")) else {
        return false;
    };
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(data) else { return false };
    match kind {
        "png" => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        "jpeg" => bytes.starts_with(b"\xff\xd8\xff"),
        "gif" => bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a"),
        "webp" => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accent(look: Look, accent: &str) -> Theme {
        Theme { look, accent: Some(accent.to_owned()), ..Theme::default() }
    }
    fn data(kind: &str, bytes: &[u8]) -> String {
        format!("data:image/{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    #[test]
    fn every_text_of_every_look_can_be_read() {
        for look in [Look::Plain, Look::Warm, Look::Night] {
            let colours = look.colours();
            for scheme in [Some(colours.main.0), colours.dark].into_iter().flatten() {
                for behind in [scheme.ground, scheme.fill, scheme.warn] {
                    assert!(scheme.ink.contrast(behind) >= 7.0, "{look:?}: ink on {behind}");
                }
                for text in [scheme.soft, scheme.accent] {
                    for behind in [scheme.ground, scheme.fill] {
                        assert!(text.contrast(behind) >= CONTRAST_MIN, "{look:?}: {text} on {behind}");
                    }
                }
                assert!(scheme.on_accent.contrast(scheme.accent) >= CONTRAST_MIN, "{look:?}: the button");
            }
        }
    }

    // pages B15
    #[test]
    fn a_brand_colour_that_cannot_be_read_is_refused_with_the_reason() {
        for (look, bad) in [
            (Look::Plain, "#ffcc00"),
            (Look::Plain, "#7b7b7b"),
            (Look::Warm, "#c9542a"),
            (Look::Night, "#0b57d0"),
            (Look::Plain, "red"),
            (Look::Plain, "#12345"),
        ] {
            let error = accent(look, bad).validate().unwrap_err().to_string();
            assert!(error.contains("theme.accent"), "{error}");
        }
        for (look, good) in
            [(Look::Plain, "#0b57d0"), (Look::Plain, "#B00020"), (Look::Warm, "#7a2e0e"), (Look::Night, "#ffcc00")]
        {
            assert!(accent(look, good).validate().is_ok(), "{good}");
        }
    }

    #[test]
    fn an_accent_that_passes_in_the_light_is_made_lighter_for_the_dark() {
        for colour in ["#000000", "#0b57d0", "#b00020", "#004d1a", "#5b2c6f"] {
            for look in [Look::Plain, Look::Warm] {
                let theme = accent(look, colour);
                theme.validate().unwrap();
                let colours = theme.colours();
                let dark = colours.dark.unwrap();
                assert_eq!(colours.main.0.accent.to_string(), colour);
                for scheme in [colours.main.0, dark] {
                    assert!(scheme.carries(scheme.accent), "{colour} {look:?}");
                    assert!(scheme.on_accent.contrast(scheme.accent) >= CONTRAST_MIN, "{colour} {look:?}");
                }
                assert_ne!(dark.accent, colours.main.0.accent);
            }
        }
    }

    #[test]
    fn a_logo_is_a_small_picture_that_is_what_it_says() {
        let logo = |uri: &str| Theme { logo: Some(uri.to_owned()), ..Theme::default() }.validate();
        for good in [
            data("png", b"\x89PNG\r\n\x1a\n..."),
            data("jpeg", b"\xff\xd8\xff\xe0"),
            data("gif", b"GIF89a"),
            data("webp", b"RIFF\0\0\0\0WEBPVP8 "),
        ] {
            assert!(logo(&good).is_ok(), "{good}");
        }
        for bad in [
            data("svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
            data("png", b"<svg/>"),
            data("webp", b"RIFF"),
            "data:image/png;base64,not base64!".to_owned(),
            "data:image/png,abc".to_owned(),
            "https://cdn.example/logo.png".to_owned(),
            data("png", &[b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 3_100]].concat()),
        ] {
            assert!(logo(&bad).unwrap_err().to_string().contains("theme.logo"), "{bad}");
        }
    }

    #[test]
    fn own_html_is_short_and_leads_nowhere() {
        let html = |text: String| Theme { html: Some(text), ..Theme::default() }.validate();
        assert!(html("<h2>Our teapots</h2>".into()).is_ok());
        for bad in [
            "x".repeat(HTML_BYTES_MAX + 1),
            "<link rel=preconnect HREF=//x>".into(),
            "<iFrame src=//x>".into(),
            "<frameset>".into(),
            "<object data=//x>".into(),
            "<embed src=//x>".into(),
        ] {
            assert!(html(bad).unwrap_err().to_string().contains("theme.html"));
        }
    }
}
