//! The C functions for the store, under the names of the SDK's global database.

use std::ffi::{c_char, c_int, c_void};

use crate::cview::strings::{bytes, malloc_copy, text};
use crate::panics::guard;
use crate::store::{self, StoreError, VALUE_MAX};

/// Returns a copy of the value, `malloc`ed, with a NUL behind it; stores its length in `*size`, whether it is pinned in
/// `*is_pinned`, and when it was set (nanoseconds since 1970) in `*ts`. If there is no such value, the store fails
/// (logged), or a name is NULL, returns NULL and writes only 0 to `*size`. The out pointers may be NULL. Any thread;
/// reads the disk.
///
/// # Safety
/// `group` and `key` are NULL or NUL-terminated strings; the out pointers are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_global_db_get_sync(
    group: *const c_char,
    key: *const c_char,
    size: *mut usize,
    is_pinned: *mut bool,
    ts: *mut u64,
) -> *mut u8 {
    // SAFETY: the caller's promise.
    let names = unsafe { names(group, key) };
    let record = guard("dap_global_db_get_sync", None, || {
        let (group, key) = names.or_else(|| bad_names("dap_global_db_get_sync"))?;
        store::get_record(group, key)
            .inspect_err(|error| host::log_bounded!(Error, "dap_global_db_get_sync: {error}"))
            .ok()?
    });
    if !size.is_null() {
        // SAFETY: not NULL, and the caller promises that it is writable.
        unsafe { size.write(record.as_ref().map_or(0, |record| record.value.len())) };
    }
    let Some(record) = record else { return std::ptr::null_mut() };
    if !is_pinned.is_null() {
        // SAFETY: as above.
        unsafe { is_pinned.write(record.is_pinned) };
    }
    if !ts.is_null() {
        // SAFETY: as above.
        unsafe { ts.write(record.timestamp) };
    }
    malloc_copy(&record.value)
}

/// Sets a value; it is on the disk on return. A `len` of `(size_t)-1` means a C string, stored with its NUL, as in the
/// SDK. Returns 0, or -EINVAL (NULL, or a name or value beyond the store's bounds), -EBUSY (another process uses the
/// store), -EIO; failures are logged. Any thread; writes the disk.
///
/// # Safety
/// `group` and `key` are NULL or NUL-terminated strings; `value` is NULL or has `len` readable bytes, or is a
/// NUL-terminated string when `len` is `(size_t)-1`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_global_db_set_sync(
    group: *const c_char,
    key: *const c_char,
    value: *const c_void,
    len: usize,
    pin: bool,
) -> c_int {
    // SAFETY: the caller's promise.
    let names = unsafe { names(group, key) };
    // SAFETY: the caller's promise.
    let value = unsafe { value_bytes(value, len) };
    guard("dap_global_db_set_sync", -libc::EIO, || {
        let (Some((group, key)), Some(value)) = (names, value) else {
            log::error!("dap_global_db_set_sync: expected a group, a key and a value of up to {VALUE_MAX} bytes");
            return -libc::EINVAL;
        };
        code("dap_global_db_set_sync", store::set_pinned(group, key, value, pin))
    })
}

/// Removes a value; succeeds if there is none. Returns the codes of `dap_global_db_set_sync`. Any thread; writes the
/// disk.
///
/// # Safety
/// `group` and `key` are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_global_db_del_sync(group: *const c_char, key: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let names = unsafe { names(group, key) };
    guard("dap_global_db_del_sync", -libc::EIO, || {
        let Some((group, key)) = names.or_else(|| bad_names("dap_global_db_del_sync")) else { return -libc::EINVAL };
        code("dap_global_db_del_sync", store::delete(group, key).map(drop))
    })
}

/// # Safety
/// `group` and `key` are NULL or NUL-terminated strings that outlive the result.
unsafe fn names<'a>(group: *const c_char, key: *const c_char) -> Option<(&'a str, &'a str)> {
    // SAFETY: the caller's promise.
    let group = unsafe { text(group) };
    // SAFETY: as above.
    let key = unsafe { text(key) };
    group.zip(key)
}

fn bad_names<T>(function: &str) -> Option<T> {
    log::error!("{function}: group and key must be text, not NULL");
    None
}

/// # Safety
/// As for `value` and `len` of `dap_global_db_set_sync`; the bytes outlive the result.
unsafe fn value_bytes<'a>(value: *const c_void, len: usize) -> Option<&'a [u8]> {
    let value = value.cast::<u8>();
    let len = match len {
        0 => return Some(&[]),
        usize::MAX => {
            // SAFETY: the caller promises a NUL-terminated string for this length.
            unsafe { bytes(value.cast()) }?.len() + 1
        }
        len => len,
    };
    if value.is_null() || len > VALUE_MAX {
        return None;
    }
    // SAFETY: not NULL, and the caller promises `len` bytes; a string has its NUL behind it.
    Some(unsafe { std::slice::from_raw_parts(value, len) })
}

fn code(function: &str, result: Result<(), StoreError>) -> c_int {
    let Err(error) = result else { return 0 };
    host::log_bounded!(Error, "{function}: {error}");
    match error {
        StoreError::NameLength(_) | StoreError::ValueLength(_) => -libc::EINVAL,
        StoreError::Locked(_) => -libc::EBUSY,
        StoreError::Open { .. } | StoreError::State(_) | StoreError::Database(_) => -libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_bounds() {
        let (null, g) = (std::ptr::null(), c"g".as_ptr());
        let mut size = 7;
        for (group, key) in [(null, g), (g, null), (null, null)] {
            // SAFETY: NULL is allowed, `size` is this test's own.
            let value =
                unsafe { dap_global_db_get_sync(group, key, &mut size, std::ptr::null_mut(), std::ptr::null_mut()) };
            assert!(value.is_null() && size == 0);
            // SAFETY: NULL is allowed.
            assert_eq!(unsafe { dap_global_db_set_sync(group, key, c"v".as_ptr().cast(), 1, false) }, -libc::EINVAL);
            // SAFETY: NULL is allowed.
            assert_eq!(unsafe { dap_global_db_del_sync(group, key) }, -libc::EINVAL);
        }
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { dap_global_db_set_sync(g, g, std::ptr::null(), 5, false) }, -libc::EINVAL);
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { dap_global_db_set_sync(g, g, std::ptr::null(), usize::MAX, false) }, -libc::EINVAL);
    }

    #[test]
    fn a_string_length_counts_the_nul() {
        // SAFETY: a string constant.
        let value = unsafe { value_bytes(c"abc".as_ptr().cast(), usize::MAX) };
        assert_eq!(value, Some(&b"abc\0"[..]));
        // SAFETY: three bytes.
        assert_eq!(unsafe { value_bytes(c"abc".as_ptr().cast(), 3) }, Some(&b"abc"[..]));
        // SAFETY: NULL has no bytes.
        assert_eq!(unsafe { value_bytes(std::ptr::null(), 0) }, Some(&[][..]));
    }
}
