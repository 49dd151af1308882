//! Colours and how well they stand out from each other (WCAG 2.2, relative luminance and contrast ratio).

/// A colour of the sRGB space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    rgb: [u8; 3],
}

impl Colour {
    /// From `0xrrggbb`.
    pub const fn new(rgb: u32) -> Self {
        let [_, r, g, b] = rgb.to_be_bytes();
        Self { rgb: [r, g, b] }
    }

    /// From `#rrggbb`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok().map(Self::new)
    }

    /// Mixed with white: `parts` of 16.
    #[must_use]
    pub fn with_white(self, parts: u8) -> Self {
        let mix = |c: u8| {
            let gap = u16::from(u8::MAX - c) * u16::from(parts.min(16)) / 16;
            c.saturating_add(u8::try_from(gap).unwrap_or(u8::MAX))
        };
        Self { rgb: self.rgb.map(mix) }
    }

    /// 0 = black to 1 = white.
    fn luminance(self) -> f64 {
        let [r, g, b] = self.rgb.map(|c| {
            let c = f64::from(c) / 255.0;
            if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    /// 1 = none, 21 = black on white.
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }
}

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [r, g, b] = self.rgb;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_is_that_of_the_standard() {
        let contrast = |a: &str, b: &str| Colour::parse(a).unwrap().contrast(Colour::parse(b).unwrap());
        assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
        assert!((contrast("#123456", "#123456") - 1.0).abs() < 1e-9);
        // The best known pair of greys on both sides of 4.5:1 on white.
        assert!(contrast("#767676", "#ffffff") > 4.5 && contrast("#777777", "#ffffff") < 4.5);
        assert_eq!(contrast("#0b57d0", "#ffffff"), contrast("#ffffff", "#0b57d0"));
    }

    #[test]
    fn only_six_digits_are_a_colour() {
        assert_eq!(Colour::parse("#0B57d0").unwrap().to_string(), "#0b57d0");
        for bad in ["", "#", "0b57d0", "#fff", "#0b57d0ff", "#+1b2c3", "#gggggg", "red"] {
            assert_eq!(Colour::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn white_is_mixed_in_by_sixteenths() {
        let black = Colour::new(0);
        assert_eq!(black.with_white(0), black);
        assert_eq!(black.with_white(8).to_string(), "#7f7f7f");
        assert_eq!(black.with_white(16).to_string(), "#ffffff");
        assert_eq!(black.with_white(200).to_string(), "#ffffff");
    }
}
