//! The node's configuration.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::raw;
use super::types::dap_config_t;

/// A configuration, read section by section and key by key. Any thread.
#[derive(Debug)]
pub struct Config(AtomicPtr<c_void>);

impl Config {
    /// The node's own.
    pub fn of_node() -> Config {
        Config(AtomicPtr::new(ptr::null_mut()))
    }

    /// A configuration from C; NULL is the node's own.
    ///
    /// # Safety
    /// NULL, or an open configuration of the linked SDK that stays open as long as the value is used.
    pub unsafe fn from_raw(config: *mut dap_config_t) -> Config {
        Config(AtomicPtr::new(config.cast()))
    }

    fn raw(&self) -> *mut c_void {
        self.0.load(Ordering::Relaxed)
    }

    /// A text; None when the key is not there.
    pub fn text(&self, section: &str, key: &str) -> Option<String> {
        let (section, key) = names(section, key)?;
        // SAFETY: the configuration is open, the names are NUL-terminated.
        let value = unsafe { raw::vpn_glue_config_str(self.raw(), section.as_ptr(), key.as_ptr()) };
        if value.is_null() {
            return None;
        }
        // SAFETY: a NUL-terminated text that belongs to the open configuration.
        Some(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
    }

    /// A truth value, or `otherwise`.
    pub fn flag(&self, section: &str, key: &str, otherwise: bool) -> bool {
        let Some((section, key)) = names(section, key) else { return otherwise };
        // SAFETY: the configuration is open, the names are NUL-terminated.
        unsafe { raw::vpn_glue_config_bool(self.raw(), section.as_ptr(), key.as_ptr(), otherwise) }
    }

    /// A number, or `otherwise`.
    pub fn number(&self, section: &str, key: &str, otherwise: i64) -> i64 {
        let Some((section, key)) = names(section, key) else { return otherwise };
        // SAFETY: the configuration is open, the names are NUL-terminated.
        unsafe { raw::vpn_glue_config_int(self.raw(), section.as_ptr(), key.as_ptr(), otherwise) }
    }

    /// A number within bounds, or `otherwise`; what is no number or out of bounds is logged with what is expected.
    pub fn number_in(&self, section: &str, key: &str, bounds: std::ops::RangeInclusive<i64>, otherwise: i64) -> i64 {
        let value = self.number(section, key, otherwise);
        let text = self.text(section, key).filter(|text| !is_number(text));
        if bounds.contains(&value) && text.is_none() {
            return value;
        }
        log::warn!(
            "[{section}] {key} = {}: {} to {} is expected; {otherwise} is used",
            text.unwrap_or_else(|| value.to_string()),
            bounds.start(),
            bounds.end()
        );
        otherwise
    }

    /// A list; empty when the key is not there.
    pub fn list(&self, section: &str, key: &str) -> Vec<String> {
        let Some((section, key)) = names(section, key) else { return Vec::new() };
        let mut count = 0u16;
        // SAFETY: the configuration is open, the names are NUL-terminated, count is writable.
        let values = unsafe { raw::vpn_glue_config_list(self.raw(), section.as_ptr(), key.as_ptr(), &mut count) };
        if values.is_null() {
            return Vec::new();
        }
        // SAFETY: the SDK returned `count` pointers that belong to the open configuration.
        let values = unsafe { std::slice::from_raw_parts(values, usize::from(count)) };
        values
            .iter()
            .filter(|value| !value.is_null())
            // SAFETY: each is a NUL-terminated text of the configuration.
            .map(|value| unsafe { CStr::from_ptr(*value) }.to_string_lossy().into_owned())
            .collect()
    }
}

/// Whether an SDK reads this as a number: not every one says so when it does not.
fn is_number(text: &str) -> bool {
    let digits = text.trim().trim_start_matches(['-', '+']);
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn names(section: &str, key: &str) -> Option<(CString, CString)> {
    Some((CString::new(section).ok()?, CString::new(key).ok()?))
}
