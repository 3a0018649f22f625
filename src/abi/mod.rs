//! The exported C symbols, one file for each legacy C file: argument checks and calls inward, nothing else.
#![allow(unsafe_code, non_snake_case)]

#[cfg(feature = "cmd")]
use std::ffi::c_int;
#[cfg(any(feature = "cmd", feature = "client", feature = "client-tun"))]
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client-tun")]
pub mod client_tun;
#[cfg(feature = "cmd")]
pub mod cmd;
#[cfg(any(feature = "server", feature = "client", feature = "client-tun"))]
pub(crate) mod codes;
#[cfg(feature = "common")]
pub mod common;
#[cfg(feature = "server")]
pub mod server;

/// Runs one export's body. A panic is a defect of this library: it is logged and becomes the documented failure, since
/// unwinding into C is undefined.
fn boundary<T>(name: &'static str, failed: T, body: impl FnOnce() -> T) -> T {
    crate::sdk::start_logging();
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        log::error!("{name}: internal error, please report it: {}", crate::sdk::panic_text(&*panic));
        failed
    })
}

/// A string argument from C, or None for NULL and for bytes that are not UTF-8; the reason is logged.
///
/// # Safety
/// `text` is NULL or NUL-terminated, and stays unchanged for `'a`.
#[cfg(any(feature = "client", feature = "client-tun"))]
unsafe fn text<'a>(function: &str, argument: &str, text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        log::warn!("{function}: {argument} is NULL, a string is expected");
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().inspect_err(|_| log::warn!("{function}: {argument} is not UTF-8")).ok()
}

/// A command's words; None when `argv` is NULL or a word is.
///
/// # Safety
/// `argv` is NULL or holds `argc` pointers, each NULL or a NUL-terminated string.
#[cfg(feature = "cmd")]
unsafe fn arguments(argc: c_int, argv: *mut *mut c_char) -> Option<Vec<String>> {
    let count = usize::try_from(argc).ok()?;
    if argv.is_null() {
        return None;
    }
    let mut words = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: index < argc, and argv holds argc pointers.
        let slot = unsafe { argv.add(index) };
        // SAFETY: slot is inside the array.
        let word = unsafe { *slot };
        if word.is_null() {
            return None;
        }
        // SAFETY: not NULL, and NUL-terminated by the caller's promise.
        words.push(unsafe { CStr::from_ptr(word) }.to_string_lossy().into_owned());
    }
    Some(words)
}
