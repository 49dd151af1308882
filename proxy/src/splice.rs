//! Pages that are compressed once and never per request. A page is `head + block + tail`: head and tail are the same
//! for everybody and were deflated before, the block is the visitor's and goes in as it is (a *stored* deflate block).
//! The three make one gzip stream (RFC 1951, 1952); the checksums of the halves are combined, not computed again.

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};
use http::{HeaderMap, header};

/// Gzip header: deflate, no name, no time, best compression, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
/// Blocks may be so much longer than the first one of their kind: figures grow.
const SPARE_BYTES: usize = 12;
/// Most bytes of one stored block.
const STORED_BYTES_MAX: usize = 0xffff;
/// The highest level of compression.
const LEVEL_MAX: u32 = 9;
/// Most items of `Accept-Encoding` that are read.
const CODINGS_MAX: usize = 16;

/// What stands before and behind the visitor's block, plain and deflated.
#[derive(Debug)]
pub struct Spliced {
    head: Half,
    tail: Half,
    /// Shorter blocks are filled up with spaces to this length.
    slot_bytes: usize,
    /// The tail behind a block of exactly that length. It refers back to the head, as far as that is then away.
    tail_behind_slot: Vec<u8>,
}

#[derive(Debug)]
struct Half {
    plain: String,
    deflated: Vec<u8>,
    crc: Hasher,
}

impl Half {
    /// `last` ends the stream; otherwise it ends at a byte boundary, and more may follow.
    fn new(plain: String, last: bool) -> Self {
        let deflated = smallest(plain.as_bytes(), &[], last);
        let mut crc = Hasher::new();
        crc.update(plain.as_bytes());
        Self { plain, deflated, crc }
    }
}

/// The best of all levels: for texts of a few KiB it is not always the highest one. What cannot be deflated is stored.
fn smallest(text: &[u8], before: &[u8], last: bool) -> Vec<u8> {
    let found = (1..=LEVEL_MAX).filter_map(|level| deflate(text, before, last, level)).min_by_key(Vec::len);
    found.unwrap_or_else(|| {
        let mut blocks = Vec::new();
        store(&mut blocks, text);
        if last {
            blocks.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
        }
        blocks
    })
}

/// Deflates `text`, which stands behind `before` in the stream.
fn deflate(text: &[u8], before: &[u8], last: bool, level: u32) -> Option<Vec<u8>> {
    let mut encoder = Compress::new(Compression::new(level), false);
    if !before.is_empty() {
        encoder.set_dictionary(before).ok()?;
    }
    let mut out = Vec::with_capacity(text.len() + text.len() / 8 + 64);
    // A sync flush: everything so far, up to a byte boundary.
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let status = encoder.compress_vec(text, &mut out, flush).ok()?;
    let whole = usize::try_from(encoder.total_in()) == Ok(text.len()) && out.len() < out.capacity();
    (whole && (status == Status::StreamEnd) == last).then_some(out)
}

/// Appends `text` as stored blocks, none of them the last one of the stream.
fn store(out: &mut Vec<u8>, text: &[u8]) {
    for piece in text.chunks(STORED_BYTES_MAX) {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(piece);
    }
}

impl Spliced {
    /// Deflates both halves; takes about a millisecond, so keep the result. Blocks will be about `block_bytes` long.
    pub fn new(head: String, tail: String, block_bytes: usize) -> Self {
        let slot_bytes = block_bytes + SPARE_BYTES;
        // Zeros stand for the block, so that nothing refers to it; a tail that has zeros itself refers to nothing.
        let before = if tail.contains('\0') { Vec::new() } else { [head.as_bytes(), &vec![0; slot_bytes]].concat() };
        let tail_behind_slot = smallest(tail.as_bytes(), &before, true);
        Self { head: Half::new(head, false), tail: Half::new(tail, true), slot_bytes, tail_behind_slot }
    }

    /// The page as it is.
    pub fn identity(&self, block: &str) -> Bytes {
        let fill = " ".repeat(self.slot_bytes.saturating_sub(block.len()));
        [self.head.plain.as_str(), block, &fill, self.tail.plain.as_str()].concat().into()
    }

    /// The page as a gzip stream; nothing is compressed here.
    pub fn gzip(&self, block: &str) -> Bytes {
        let mut block = block.as_bytes().to_vec();
        block.resize(block.len().max(self.slot_bytes), b' ');
        let tail = if block.len() == self.slot_bytes { &self.tail_behind_slot } else { &self.tail.deflated };
        let stored = block.len() + 5 * block.len().div_ceil(STORED_BYTES_MAX);
        let mut out = Vec::with_capacity(HEADER.len() + self.head.deflated.len() + stored + tail.len() + 8);
        out.extend_from_slice(&HEADER);
        out.extend_from_slice(&self.head.deflated);
        store(&mut out, &block);
        out.extend_from_slice(tail);
        let mut crc = self.head.crc.clone();
        crc.update(&block);
        crc.combine(&self.tail.crc);
        out.extend_from_slice(&crc.finalize().to_le_bytes());
        // RFC 1952: the length modulo 2^32.
        let length = (self.head.plain.len() + block.len() + self.tail.plain.len()) as u32;
        out.extend_from_slice(&length.to_le_bytes());
        out.into()
    }
}

/// Whether the client takes gzip, and not less gladly than plain text (RFC 9110, 12.5.3).
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    let items = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    for item in items.flat_map(|v| v.split(',')).take(CODINGS_MAX) {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or("").to_ascii_lowercase();
        let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
        let weight = weight.map_or(1.0, |q| q.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0));
        match coding.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "identity" => identity = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read as _;

    fn gunzip(bytes: &[u8]) -> String {
        let mut text = String::new();
        let mut decoder = GzDecoder::new(bytes);
        decoder.read_to_string(&mut text).unwrap();
        assert!(decoder.into_inner().is_empty(), "nothing behind the stream");
        text
    }

    proptest! {
        #[test]
        fn the_stream_unpacks_to_the_very_page(head in ".{0,2000}", block in ".{0,500}", tail in ".{0,2000}", slot in 0_usize..600) {
            let page = Spliced::new(head.clone(), tail.clone(), slot);
            let fill = " ".repeat((slot + SPARE_BYTES).saturating_sub(block.len()));
            let whole = format!("{head}{block}{fill}{tail}");
            prop_assert_eq!(&gunzip(&page.gzip(&block)), &whole);
            prop_assert_eq!(&page.identity(&block)[..], whole.as_bytes());
        }
    }

    #[test]
    fn the_tail_refers_back_over_the_block() {
        let text: String = (0..400_u32).map(|i| format!("{:x}", i.wrapping_mul(2_654_435_761))).collect();
        let page = Spliced::new(text.clone(), text.clone(), 10);
        assert!(page.tail_behind_slot.len() < page.tail.deflated.len() / 4, "{} bytes", page.tail_behind_slot.len());
        for block in ["", "short", "twenty-two bytes, just", "longer than the twenty-two bytes of the slot"] {
            assert_eq!(gunzip(&page.gzip(block)), format!("{text}{block:<22}{text}"));
        }
    }

    #[test]
    fn blocks_of_any_length_fit() {
        let page = Spliced::new("<p>".repeat(900), "</p>".repeat(900), 10);
        for length in [0, 1, 65_534, 65_535, 65_536, 200_000] {
            let block = "x".repeat(length);
            assert_eq!(gunzip(&page.gzip(&block)).len(), length.max(10 + SPARE_BYTES) + 900 * 7, "{length}");
        }
        assert!(page.gzip("").len() < 130, "the halves are compressed");
    }

    #[test]
    fn a_half_that_cannot_be_deflated_is_stored() {
        let mut page = Spliced::new("head".into(), "tail".into(), 0);
        page.head.deflated.clear();
        store(&mut page.head.deflated, b"head");
        page.tail_behind_slot.clear();
        store(&mut page.tail_behind_slot, b"tail");
        page.tail_behind_slot.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
        assert_eq!(gunzip(&page.gzip(" and ")), format!("head{:<12}tail", " and "));
    }

    #[test]
    fn a_wrong_checksum_would_be_noticed() {
        let mut bytes = Spliced::new("head".into(), "tail".into(), 5).gzip("block").to_vec();
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
        assert!(GzDecoder::new(&bytes[..]).read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn gzip_only_where_it_is_welcome() {
        let accepts = |value: &str| {
            let headers = [(header::ACCEPT_ENCODING, value.parse().unwrap())].into_iter().collect();
            accepts_gzip(&headers)
        };
        for yes in
            ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, GZIP;q=0.5", "*", "x-gzip", "identity;q=0.5, gzip;q=0.6"]
        {
            assert!(accepts(yes), "{yes}");
        }
        for no in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip; q=0.0, *",
            "*;q=0",
            "gzip;q=nan",
            "gzip;q=2",
            "identity;q=1, gzip;q=0.2",
        ] {
            assert!(!accepts(no), "{no}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
