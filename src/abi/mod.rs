//! The exported C symbols, one file per legacy C file. They check arguments and call the layers below, nothing else.
#![allow(unsafe_code, non_snake_case)]

#[cfg(feature = "cmd")]
use std::ffi::c_int;
#[cfg(any(feature = "cmd", feature = "client", feature = "client-tun"))]
use std::ffi::{CStr, c_char};

use crate::sdk::boundary::guard;
use crate::sdk::process;

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

/// Runs an export's body behind the panic boundary; after a panic the export returns `failed`, its documented failure.
/// It also does so at once in a fork's child, to which nothing belongs of what its parent has.
fn boundary<T>(name: &'static str, failed: T, body: impl FnOnce() -> T) -> T {
    if process::is_forked() {
        return failed;
    }
    crate::sdk::start_logging();
    guard(name, failed, body)
}

/// Like [`boundary`], with another result in a fork's child.
#[cfg(any(feature = "client", feature = "client-tun"))]
fn boundary_or<T>(name: &'static str, failed: T, in_child: T, body: impl FnOnce() -> T) -> T {
    if process::is_forked() { in_child } else { boundary(name, failed, body) }
}

/// Reads a string argument from C. Logs NULL and invalid UTF-8 and returns `None` for them.
///
/// # Safety
/// `text` is NULL or NUL-terminated, and stays unchanged for `'a`.
#[cfg(any(feature = "client", feature = "client-tun"))]
unsafe fn text<'a>(function: &str, argument: &str, text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        log::warn!("{function}: {argument} is NULL; expected a string");
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().inspect_err(|_| log::warn!("{function}: {argument} is not valid UTF-8")).ok()
}

/// Reads a command's words; `None` if `argv` or a word is NULL.
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
