//! The pages in which entries are stored: a write to the store has one page, so that many changes cost one write.

use super::entry::{Entry, EntryError, Fields};
use super::sums::Sums;

/// The places for entries on a page.
pub const PAGE_ENTRIES: usize = 32;
/// The layout of a stored page.
const VERSION: u8 = 1;

/// A stored page that cannot be read, or an entry on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The page itself.
    #[error("the page is not readable: {0}")]
    Page(EntryError),
    /// One entry; the others are good.
    #[error("the entry at place {place} is not readable: {why}")]
    Entry {
        /// Its place on the page.
        place: usize,
        /// The reason.
        why: EntryError,
    },
}

/// What a page has.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The entries that had a place here and were pushed out, added up.
    pub(super) dropped: Sums,
    /// The entries with their places and numbers.
    pub(super) entries: Vec<(usize, u64, Entry)>,
}

/// Returns a page as it is stored: `places` are its entries with their numbers.
pub(super) fn encode<'a>(dropped: &Sums, places: impl Iterator<Item = Option<(u64, &'a Entry)>>) -> Vec<u8> {
    let mut out = vec![VERSION];
    dropped.encode(&mut out);
    for (place, (number, entry)) in places.enumerate().filter_map(|(place, taken)| Some((place, taken?))) {
        let entry = entry.encode();
        out.push(place as u8);
        out.extend(number.to_le_bytes());
        out.extend((entry.len() as u16).to_le_bytes());
        out.extend(entry);
    }
    out
}

/// Reads a stored page. What is wrong with single entries is passed to `complain`; the others are there.
pub(super) fn decode(bytes: &[u8], mut complain: impl FnMut(PageError)) -> Option<Page> {
    read(bytes, &mut complain).map_err(|why| complain(PageError::Page(why))).ok()
}

fn read(bytes: &[u8], complain: &mut impl FnMut(PageError)) -> Result<Page, EntryError> {
    let mut fields = Fields { bytes, read: 0 };
    let [version] = fields.take()?;
    if version != VERSION {
        return Err(EntryError::Unknown("version"));
    }
    let mut page = Page { dropped: Sums::decode(&mut fields)?, ..Page::default() };
    while !fields.bytes.is_empty() {
        let [place] = fields.take()?.map(usize::from);
        let number = fields.number()?;
        let length = u16::from_le_bytes(fields.take()?);
        let stored = fields.slice(length.into())?;
        let is_free = place < PAGE_ENTRIES && page.entries.iter().all(|(other, ..)| *other != place);
        if !is_free {
            return Err(EntryError::Unknown("place"));
        }
        match Entry::decode(stored) {
            Ok(entry) => page.entries.push((place, number, entry)),
            Err(why) => complain(PageError::Entry { place, why }),
        }
    }
    Ok(page)
}
