//! Strings and memory that cross the boundary to C.

use std::ffi::{CStr, c_char, c_void};

/// The UTF-8 text of a C string; None for NULL and invalid UTF-8.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that does not change while the result is in use.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    // SAFETY: the caller's promise is this function's own.
    unsafe { bytes(text) }.and_then(|bytes| std::str::from_utf8(bytes).ok())
}

/// The bytes of a C string without its NUL; None for NULL.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and the caller promises a NUL-terminated string that stays unchanged for 'a.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A `malloc`ed copy of `bytes` with a NUL behind it, for C to `free`; NULL if memory is exhausted.
pub(crate) fn malloc_copy(bytes: &[u8]) -> *mut u8 {
    // SAFETY: malloc takes any size; a slice is at most isize::MAX long, so the sum does not wrap.
    let copy = unsafe { libc::malloc(bytes.len() + 1) }.cast::<u8>();
    if copy.is_null() {
        return copy;
    }
    // SAFETY: `copy` has bytes.len() + 1 bytes, fresh from malloc, so it does not overlap `bytes`.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len()) };
    // SAFETY: the offset is the last byte of the allocation.
    let end = unsafe { copy.add(bytes.len()) };
    // SAFETY: `end` is inside the allocation.
    unsafe { end.write(0) };
    copy
}

/// Frees memory from [`malloc_copy`] or from C's own `malloc`; ignores NULL.
///
/// # Safety
/// `memory` is NULL or came from `malloc`, and is not used afterwards.
pub(crate) unsafe fn malloc_free(memory: *mut c_void) {
    // SAFETY: the caller's promise is free's own; free(NULL) does nothing.
    unsafe { libc::free(memory) };
}

/// Copies `text` into a fixed C array, truncated to the array, always NUL-terminated.
pub(crate) fn fill_c_array(array: &mut [c_char], text: &[u8]) {
    let limit = array.len().saturating_sub(1);
    let text = &text[..text.len().min(limit)];
    array.fill(0);
    for (to, from) in array.iter_mut().zip(text) {
        *to = from.cast_signed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_the_border() {
        let copy = malloc_copy(b"text");
        // SAFETY: `copy` is a NUL-terminated string of this test's own.
        assert_eq!(unsafe { text(copy.cast()) }, Some("text"));
        // SAFETY: from malloc, not used again.
        unsafe { malloc_free(copy.cast()) };
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { text(std::ptr::null()) }, None);
        let mut array = [1; 4];
        fill_c_array(&mut array, b"abcdef");
        assert_eq!(array, [97, 98, 99, 0]);
    }
}
