//! The node's configuration.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::raw;
use super::types::dap_config_t;

/// A configuration with sections and keys. Any thread.
#[derive(Debug)]
pub struct Config(AtomicPtr<c_void>);

impl Config {
    /// Returns the node's configuration.
    pub fn of_node() -> Config {
        Config(AtomicPtr::new(ptr::null_mut()))
    }

    /// Wraps a configuration from C; NULL means the node's.
    ///
    /// # Safety
    /// `config` is NULL or an open configuration of the linked SDK, which stays open while the value is used.
    pub unsafe fn from_raw(config: *mut dap_config_t) -> Config {
        Config(AtomicPtr::new(config.cast()))
    }

    fn raw(&self) -> *mut c_void {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns a text; `None` if the key is missing.
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

    /// Returns a truth value; `default` if the key is missing.
    pub fn flag(&self, section: &str, key: &str, default: bool) -> bool {
        let Some((section, key)) = names(section, key) else { return default };
        // SAFETY: the configuration is open, the names are NUL-terminated.
        unsafe { raw::vpn_glue_config_bool(self.raw(), section.as_ptr(), key.as_ptr(), default) }
    }

    /// Returns a number; `default` if the key is missing.
    pub fn number(&self, section: &str, key: &str, default: i64) -> i64 {
        let Some((section, key)) = names(section, key) else { return default };
        // SAFETY: the configuration is open, the names are NUL-terminated.
        unsafe { raw::vpn_glue_config_int(self.raw(), section.as_ptr(), key.as_ptr(), default) }
    }

    /// Returns a number within bounds; `default` if the key is missing. Logs a warning and returns `default` if the
    /// value is not a number or out of bounds.
    pub fn number_in(&self, section: &str, key: &str, bounds: std::ops::RangeInclusive<i64>, default: i64) -> i64 {
        let value = self.number(section, key, default);
        let text = self.text(section, key).filter(|text| !is_number(text));
        if bounds.contains(&value) && text.is_none() {
            return value;
        }
        log::warn!(
            "[{section}] {key} = {}: expected a number from {} to {}; using {default}",
            text.unwrap_or_else(|| value.to_string()),
            bounds.start(),
            bounds.end()
        );
        default
    }

    /// Returns a list; empty if the key is missing.
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

/// Whether an SDK reads this as a number; not every SDK reports other text.
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
