//! The node's store: groups of keys and values. Any thread; blocks.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{memory, raw};

/// A value that could not be stored.
#[derive(Debug, thiserror::Error)]
#[error("the store refused {group} / {key} (code {code})")]
pub struct StoreError {
    group: String,
    key: String,
    code: i32,
}

/// The values that the store has refused since it last took one.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Returns how many values the store has refused since it last took one.
pub fn refused_in_a_row() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// Returns the value; `None` if there is none.
pub fn get(group: &str, key: &str) -> Option<Vec<u8>> {
    let (group, key) = (CString::new(group).ok()?, CString::new(key).ok()?);
    let mut size = 0;
    // SAFETY: NUL-terminated names; size is writable.
    let value = unsafe { raw::vpn_glue_store_get(group.as_ptr(), key.as_ptr(), &mut size) };
    // SAFETY: the SDK passes `size` bytes of its allocator, which the caller owns.
    unsafe { memory::take(value, size) }
}

/// Stores a value.
pub fn set(group: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let error = |code| StoreError { group: group.to_owned(), key: key.to_owned(), code };
    let (Ok(c_group), Ok(c_key)) = (CString::new(group), CString::new(key)) else { return Err(error(-1)) };
    // SAFETY: NUL-terminated names; value is read during the call.
    match unsafe { raw::vpn_glue_store_set(c_group.as_ptr(), c_key.as_ptr(), value.as_ptr().cast(), value.len()) } {
        0 => {
            REFUSED.store(0, Ordering::Relaxed);
            Ok(())
        }
        code => {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            Err(error(code))
        }
    }
}
