//! Memory that C frees: it comes from the SDK's allocator, which may differ from malloc.

use std::ffi::{CStr, c_char};
use std::ptr;

use super::raw;

/// Copies a text for C, NUL-terminated. The caller frees it with the SDK's allocator. NULL for `None` and without
/// memory. A NUL inside ends the text.
pub fn c_string(text: Option<&str>) -> *mut c_char {
    let Some(text) = text else { return ptr::null_mut() };
    let bytes = text.as_bytes();
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    // SAFETY: every size is allowed.
    let copy = unsafe { raw::vpn_glue_alloc(length + 1) }.cast::<u8>();
    if !copy.is_null() {
        // SAFETY: copy has length + 1 zeroed bytes and is new, so it cannot overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), copy, length) };
    }
    copy.cast()
}

/// Copies memory of the SDK's allocator and frees it. `None` for NULL.
///
/// # Safety
/// `memory` is NULL or `size` bytes from the SDK's allocator that nothing else uses.
pub(super) unsafe fn take(memory: *mut u8, size: usize) -> Option<Vec<u8>> {
    if memory.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let copy = unsafe { std::slice::from_raw_parts(memory, size) }.to_vec();
    // SAFETY: the caller's promise.
    unsafe { raw::vpn_glue_free(memory.cast()) };
    Some(copy)
}

/// Copies a text of the SDK's allocator and frees it. `None` for NULL.
///
/// # Safety
/// `text` is NULL or a NUL-terminated text from the SDK's allocator that nothing else uses.
pub(super) unsafe fn take_string(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: the caller's promise.
    unsafe { raw::vpn_glue_free(text.cast()) };
    Some(copy)
}
