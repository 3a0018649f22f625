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
pub struct Config {
    raw: AtomicPtr<c_void>,
    /// Keys of `[srv_vpn]` that are read from the node's configuration in place of this one.
    kept: &'static [&'static str],
}

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
        Config::of_pointer(ptr::null_mut())
    }

    /// Wraps a configuration from C; NULL means the node's.
    ///
    /// # Safety
    /// `config` is NULL or an open configuration of the linked SDK, which stays open while the value is used.
    pub unsafe fn from_raw(config: *mut dap_config_t) -> Config {
        Config::of_pointer(config.cast())
    }

    /// Wraps an open configuration, which the caller closes last.
    pub(super) fn of_pointer(pointer: *mut c_void) -> Config {
        Config { raw: AtomicPtr::new(pointer), kept: &[] }
    }

    #[cfg(feature = "embedded")]
    pub(super) fn raw(&self) -> *mut c_void {
        self.raw.load(Ordering::Relaxed)
    }

    /// Returns the configuration with these keys of `[srv_vpn]` as the node's has them. It is used while this one is open.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn keeping(&self, kept: &'static [&'static str]) -> Config {
        Config { raw: AtomicPtr::new(self.raw.load(Ordering::Relaxed)), kept }
    }

    /// Returns the configuration that has the value of a key.
    fn source(&self, section: &CStr, key: &CStr) -> *mut c_void {
        let is_kept = || self.kept.iter().any(|kept| kept.as_bytes() == key.to_bytes());
        if section == c"srv_vpn" && is_kept() { ptr::null_mut() } else { self.raw.load(Ordering::Relaxed) }
    }

    /// Returns what stands in the file, a list in brackets; `None` if the key is missing.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn written(&self, section: &str, key: &str) -> Option<String> {
        match self.checked_text(section, key, "") {
            Ok(text) => text,
            Err(BadValue { value, .. }) => Some(value),
        }
    }

    /// Returns a text; `None` if the key is missing.
    pub fn text(&self, section: &str, key: &str) -> Option<String> {
        let (section, key) = names(section, key)?;
        // SAFETY: the configuration is open, the names are NUL-terminated.
        let value = unsafe { raw::vpn_glue_config_str(self.source(&section, &key), section.as_ptr(), key.as_ptr()) };
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
        let has = unsafe {
            raw::vpn_glue_config_has(
                self.source(&c_section, &c_key),
                c_section.as_ptr(),
                c_key.as_ptr(),
                &raw mut is_list,
            )
        };
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
        unsafe { raw::vpn_glue_config_bool(self.source(&section, &key), section.as_ptr(), key.as_ptr(), default) }
    }

    /// Returns a number; `default` if the key is missing.
    pub fn number(&self, section: &str, key: &str, default: i64) -> i64 {
        let Some((section, key)) = names(section, key) else { return default };
        // SAFETY: the configuration is open, the names are NUL-terminated.
        unsafe { raw::vpn_glue_config_int(self.source(&section, &key), section.as_ptr(), key.as_ptr(), default) }
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
        let values = unsafe {
            raw::vpn_glue_config_list(self.source(&section, &key), section.as_ptr(), key.as_ptr(), &mut count)
        };
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

/// The file of the node's configuration, read again.
#[cfg(feature = "sdk")]
#[derive(Debug)]
pub struct Reread(Config);

#[cfg(feature = "sdk")]
impl Reread {
    /// Reads it; `None` if it cannot be opened. The node's SDK drops lines that it cannot read.
    pub fn open() -> Option<Reread> {
        // SAFETY: no arguments.
        let config = unsafe { raw::vpn_glue_config_reread() };
        (!config.is_null()).then(|| Reread(Config::of_pointer(config)))
    }
}

#[cfg(feature = "sdk")]
impl std::ops::Deref for Reread {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

#[cfg(feature = "sdk")]
impl Drop for Reread {
    fn drop(&mut self) {
        // SAFETY: it was opened above, and nobody keeps a string of it: `Config` copies each.
        unsafe { raw::vpn_glue_config_close(self.0.raw.load(Ordering::Relaxed)) };
    }
}
