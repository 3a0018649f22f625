//! The node's configuration.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::raw;
use super::types::dap_config_t;

/// A configuration with sections and keys. Any thread.
///
/// A `checked_` function is for a security key: a value that cannot be read is an error, which stops the start. The
/// others log it and go on with the default.
#[derive(Debug)]
pub struct Config(AtomicPtr<c_void>);

/// A key that is there, and whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[{section}] {key} = {value}: expected {expected}")]
pub struct BadValue {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// The values that are valid.
    pub expected: String,
}

impl BadValue {
    /// Makes the error of a value that the caller has read as text.
    pub fn new(section: &str, key: &str, value: &str, expected: &str) -> BadValue {
        BadValue { section: section.into(), key: key.into(), value: value.into(), expected: expected.into() }
    }
}

/// Checks the security keys that the embedded SDK reads from the process-wide configuration, and their spelling. A
/// node's SDK reads its own.
pub fn check_process_wide() -> Result<(), BadValue> {
    #[cfg(feature = "embedded")]
    {
        use embedded::config::BadValue as Bad;
        let ours = |Bad { section, key, value, expected, .. }| BadValue { section, key, value, expected };
        embedded::config::current().check().map_err(ours)
    }
    #[cfg(feature = "sdk")]
    Ok(())
}

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

    /// Wraps an open configuration, which the caller closes last.
    #[cfg(feature = "embedded")]
    pub(super) fn of_pointer(pointer: *mut c_void) -> Config {
        Config(AtomicPtr::new(pointer))
    }

    pub(super) fn raw(&self) -> *mut c_void {
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

    /// Returns a text; `None` if the key is missing, an error if it is a list or empty.
    pub fn checked_text(&self, section: &str, key: &str, expected: &str) -> Result<Option<String>, BadValue> {
        let Some((c_section, c_key)) = names(section, key) else { return Ok(None) };
        let mut is_list = false;
        // SAFETY: the configuration is open, the names are NUL-terminated, is_list is writable.
        let has = unsafe { raw::vpn_glue_config_has(self.raw(), c_section.as_ptr(), c_key.as_ptr(), &raw mut is_list) };
        if !has {
            return Ok(None);
        }
        let text = if is_list { None } else { self.text(section, key) };
        match text.filter(|text| !text.is_empty()) {
            Some(text) => Ok(Some(text)),
            None => {
                let value = if is_list { format!("[{}]", self.list(section, key).join(",")) } else { String::new() };
                Err(BadValue::new(section, key, &value, expected))
            }
        }
    }

    /// Returns a truth value; `default` if the key is missing, an error if it is anything but `true`, `on`, `yes`, `1`,
    /// `false`, `off`, `no`, `0`, in any case.
    pub fn checked_flag(&self, section: &str, key: &str, default: bool) -> Result<bool, BadValue> {
        let expected = "true or false";
        let Some(text) = self.checked_text(section, key, expected)? else { return Ok(default) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(BadValue::new(section, key, &text, expected)),
        }
    }

    /// Returns a number within bounds, decimal or 0x hexadecimal; `default` if the key is missing, an error if it is
    /// anything else.
    pub fn checked_number(
        &self,
        section: &str,
        key: &str,
        bounds: std::ops::RangeInclusive<i64>,
        default: i64,
    ) -> Result<i64, BadValue> {
        let expected = format!("a number from {} to {}", bounds.start(), bounds.end());
        let Some(text) = self.checked_text(section, key, &expected)? else { return Ok(default) };
        match number(&text).filter(|number| bounds.contains(number)) {
            Some(number) => Ok(number),
            None => Err(BadValue::new(section, key, &text, &expected)),
        }
    }

    /// Returns what `parse` makes of the items of a list, or of a single value; empty if the key is missing, an error
    /// for the first item of which `parse` makes nothing.
    pub fn checked_list<T>(
        &self,
        section: &str,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, BadValue> {
        let items = self.list(section, key).into_iter();
        items.map(|item| parse(item.trim()).ok_or_else(|| BadValue::new(section, key, &item, expected))).collect()
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

/// Reads a number, decimal or 0x hexadecimal.
fn number(text: &str) -> Option<i64> {
    if !is_number(text) {
        return None;
    }
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    magnitude.ok().map(|magnitude| if negative { -magnitude } else { magnitude })
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
