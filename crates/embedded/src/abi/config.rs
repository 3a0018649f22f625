//! The C functions for configurations.
//!
//! A `dap_config_t *` is the address of a handle in a table here, and is compared, never followed: a closed
//! configuration is an error in the log, not a wild read. NULL always stands for `g_config`; while that is NULL too, it
//! stands for the configuration that the Rust side has set, or else for the built-in defaults.

mod handles;

use std::env;
use std::ffi::{c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use handles::{HANDLES, Lookup};

use crate::config::{self, Config};
use crate::ctypes::{DAP_CONFIG_ITEM_UNKNOWN, dap_config, dap_config_item_type_t};
use crate::cview::strings::text;
use crate::logging;
use crate::panics::guard;

/// The configuration file that `dap_config_default` reads when the environment variable names none.
const DEFAULT_FILE: &str = "/etc/cellframe-vpn/cellframe-vpn.cfg";
const DEFAULT_FILE_VARIABLE: &str = "CELLFRAME_VPN_CONFIG";

/// The process-wide configuration, NULL until one is opened. C reads it and may set it; Rust uses [`global`].
#[unsafe(no_mangle)]
pub static mut g_config: *mut dap_config = std::ptr::null_mut();

/// Rust's access to `g_config`.
pub fn global() -> &'static AtomicPtr<dap_config> {
    let slot = &raw mut g_config;
    // SAFETY: a static lives for ever and is aligned; Rust accesses it through this function alone, and C sets it
    // before it starts a second thread, as the SDK requires.
    unsafe { AtomicPtr::from_ptr(slot) }
}

/// Opens a configuration that Rust has made, for code that reads it by the functions here, until `dap_config_close`. It
/// does not become `g_config`.
pub fn open(config: Arc<Config>) -> *mut dap_config {
    HANDLES.lock().add(config)
}

/// Sets the directory in which `dap_config_open` looks for files; NULL for the working directory. Returns 0, or -1 if
/// the directory does not exist. Any thread.
///
/// # Safety
/// `dir` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_init(dir: *const c_char) -> c_int {
    guard("dap_config_init", -1, || {
        logging::init();
        if dir.is_null() {
            HANDLES.lock().directory = None;
            return 0;
        }
        // SAFETY: the caller's promise; the string is not kept.
        let Some(dir) = (unsafe { text(dir) }).map(PathBuf::from).filter(|dir| dir.is_dir()) else {
            log::error!("dap_config_init: expected the path of a directory, or NULL");
            return -1;
        };
        HANDLES.lock().directory = Some(dir);
        0
    })
}

/// Reads `<directory of dap_config_init>/<name>.cfg`, or the file itself if `name` is an absolute path, and then
/// `<file>.d/*.cfg`. The first configuration opened becomes `g_config`. Returns NULL if the file cannot be read. Close
/// the result with `dap_config_close`. Any thread.
///
/// # Safety
/// `name` is NULL (the result is NULL) or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_open(name: *const c_char) -> *mut dap_config {
    guard("dap_config_open", std::ptr::null_mut(), || {
        logging::init();
        // SAFETY: the caller's promise; the string is not kept.
        let Some(name) = (unsafe { text(name) }).filter(|name| !name.is_empty()) else {
            log::error!("dap_config_open: expected the name of a configuration");
            return std::ptr::null_mut();
        };
        let path = HANDLES.lock().path_of(name);
        match Config::load(&path) {
            Ok(config) => adopt(config.into(), false),
            Err(error) => {
                log::error!("dap_config_open: {error}");
                std::ptr::null_mut()
            }
        }
    })
}

/// Closes a configuration; strings obtained from it become invalid. If it was `g_config`, `g_config` becomes NULL and
/// the built-in defaults apply. NULL is ignored; a pointer that is not an open configuration is logged. Any thread.
///
/// # Safety
/// No thread uses a string of this configuration any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_close(config: *mut dap_config) {
    guard("dap_config_close", (), || {
        if config.is_null() {
            return;
        }
        let Some(handle) = HANDLES.lock().open.remove(&config.addr()) else {
            log::error!("dap_config_close: {config:p} is not an open configuration");
            return;
        };
        let nothing = std::ptr::null_mut();
        if global().compare_exchange(config, nothing, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            handle.leave_current();
        }
    });
}

/// Closes every configuration and clears the directory. Any thread.
///
/// # Safety
/// No thread uses a string of any configuration any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_deinit() {
    guard("dap_config_deinit", (), || {
        let handles = std::mem::take(&mut *HANDLES.lock());
        global().store(std::ptr::null_mut(), Ordering::Release);
        handles.open.values().for_each(|handle| handle.leave_current());
    });
}

/// Returns the configuration for a program that has none of its own: `g_config` if it is set, else the file that the
/// environment variable CELLFRAME_VPN_CONFIG names, else `/etc/cellframe-vpn/cellframe-vpn.cfg` if it exists, else the
/// built-in defaults. The result becomes `g_config`; repeated calls return the same. NULL if the file cannot be read:
/// until a configuration is opened, nothing starts with the built-in defaults in its place. Any thread.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_default() -> *mut dap_config {
    guard("dap_config_default", std::ptr::null_mut(), || {
        logging::init();
        let open = global().load(Ordering::Acquire);
        if !open.is_null() {
            return open;
        }
        match default_config() {
            Ok(config) => adopt(config.into(), true),
            Err(error) => {
                log::error!("dap_config_default: {error}");
                // The caller may pass the NULL on, which stands for the built-in defaults.
                config::set_current(Config::unreadable(&error));
                std::ptr::null_mut()
            }
        }
    })
}

/// Reads a truth value: true/on/yes/1 or false/off/no/0. Returns `default_value` if the value is absent or invalid, or
/// an argument is NULL. Any thread.
///
/// # Safety
/// `section` and `item` are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_get_item_bool_default(
    config: *mut dap_config,
    section: *const c_char,
    item: *const c_char,
    default_value: bool,
) -> bool {
    // SAFETY: the caller's promise.
    let lookup = unsafe { Lookup::new(config, section, item) };
    guard("dap_config_get_item_bool_default", default_value, || {
        lookup.get(default_value, |config, section, item| config.get_bool(section, item, default_value))
    })
}

/// Returns the type of a value; `DAP_CONFIG_ITEM_UNKNOWN` if it is absent, or an argument is NULL. Any thread.
///
/// # Safety
/// As for `dap_config_get_item_bool_default`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_get_item_type(
    config: *mut dap_config,
    section: *const c_char,
    item: *const c_char,
) -> dap_config_item_type_t {
    // SAFETY: the caller's promise.
    let lookup = unsafe { Lookup::new(config, section, item) };
    guard("dap_config_get_item_type", DAP_CONFIG_ITEM_UNKNOWN, || {
        lookup
            .get(None, |config, section, item| config.kind(section, item))
            .map_or(DAP_CONFIG_ITEM_UNKNOWN, c_int::from)
    })
}

/// Reads an integer, decimal or 0x hexadecimal. Returns `default_value` if the value is absent or invalid, or an
/// argument is NULL. Any thread.
///
/// # Safety
/// As for `dap_config_get_item_bool_default`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _dap_config_get_item_int(
    config: *mut dap_config,
    section: *const c_char,
    item: *const c_char,
    default_value: i64,
) -> i64 {
    // SAFETY: the caller's promise.
    let lookup = unsafe { Lookup::new(config, section, item) };
    guard("_dap_config_get_item_int", default_value, || {
        lookup.get(default_value, |config, section, item| config.get_i64(section, item, default_value))
    })
}

/// Like `_dap_config_get_item_int`, for integers from 0.
///
/// # Safety
/// As for `dap_config_get_item_bool_default`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _dap_config_get_item_uint(
    config: *mut dap_config,
    section: *const c_char,
    item: *const c_char,
    default_value: u64,
) -> u64 {
    // SAFETY: the caller's promise.
    let lookup = unsafe { Lookup::new(config, section, item) };
    guard("_dap_config_get_item_uint", default_value, || {
        lookup.get(default_value, |config, section, item| config.get_u64(section, item, default_value))
    })
}

/// Reads a decimal number. Returns `default_value` if the value is absent or invalid, or an argument is NULL. Any
/// thread.
///
/// # Safety
/// As for `dap_config_get_item_bool_default`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_get_item_double_default(
    config: *mut dap_config,
    section: *const c_char,
    item: *const c_char,
    default_value: f64,
) -> f64 {
    // SAFETY: the caller's promise.
    let lookup = unsafe { Lookup::new(config, section, item) };
    guard("dap_config_get_item_double_default", default_value, || {
        lookup.get(default_value, |config, section, item| config.get_f64(section, item, default_value))
    })
}

/// Reads a text, which belongs to the configuration and lives as long. Returns `default_value`, the same pointer, if
/// the value is absent or a list, or an argument is NULL. Any thread.
///
/// # Safety
/// As for `dap_config_get_item_bool_default`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_get_item_str_default(
    config: *mut dap_config,
    section: *const c_char,
    item: *const c_char,
    default_value: *const c_char,
) -> *const c_char {
    // SAFETY: the caller's promise.
    let lookup = unsafe { Lookup::new(config, section, item) };
    guard("dap_config_get_item_str_default", default_value, || {
        lookup.with_handle(default_value, |handle, section, item| handle.text(section, item).unwrap_or(default_value))
    })
}

/// Reads the items of a list and stores their number in `*array_length`; array and strings belong to the configuration
/// and live as long. A single value is a list of one. Returns NULL (and 0) if the list is absent or empty, or an
/// argument is NULL. Any thread.
///
/// # Safety
/// As for `dap_config_get_item_bool_default`; `array_length` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_config_get_array_str(
    config: *mut dap_config,
    section: *const c_char,
    item: *const c_char,
    array_length: *mut u16,
) -> *mut *const c_char {
    // SAFETY: the caller's promise.
    let lookup = unsafe { Lookup::new(config, section, item) };
    let nothing = (std::ptr::null_mut(), 0);
    let (array, length) = guard("dap_config_get_array_str", nothing, || {
        lookup.with_handle(nothing, |handle, section, item| handle.array(section, item).unwrap_or(nothing))
    });
    if !array_length.is_null() {
        // SAFETY: not NULL, and the caller promises that it is writable.
        unsafe { array_length.write(length) };
    }
    array
}

/// Makes a configuration known to C. It becomes `g_config`, and the process-wide one of the Rust side, if there is none
/// yet. With `only_as_first`, returns the existing first one if there is one. For Rust programs that start the node
/// through its C functions.
pub fn adopt(config: Arc<Config>, only_as_first: bool) -> *mut dap_config {
    let mut handles = HANDLES.lock();
    let current = global().load(Ordering::Acquire);
    if only_as_first && !current.is_null() {
        return current;
    }
    let pointer = handles.add(Arc::clone(&config));
    if current.is_null() {
        global().store(pointer, Ordering::Release);
        config::set_current(config);
    }
    pointer
}

fn default_config() -> Result<Config, config::ConfigError> {
    if let Some(path) = env::var_os(DEFAULT_FILE_VARIABLE).filter(|path| !path.is_empty()) {
        return Config::load(Path::new(&path));
    }
    let path = Path::new(DEFAULT_FILE);
    if path.exists() { Config::load(path) } else { Ok(Config::empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    /// Does not set `g_config`, which other tests share: tests/embedded_config.rs covers it.
    fn open(text: &str) -> *mut dap_config {
        HANDLES.lock().add(Config::parse(text, "test.cfg").0.into())
    }

    fn str_of(config: *mut dap_config, section: &CStr, item: &CStr) -> *const c_char {
        // SAFETY: the strings are NUL-terminated.
        unsafe { dap_config_get_item_str_default(config, section.as_ptr(), item.as_ptr(), c"default".as_ptr()) }
    }

    #[test]
    fn values_through_c_and_after_closing() {
        let config = open("[s]\nb=on\ni=-0x10\nu=7\nd=0.5\nt=text\nl=[a,b]\n");
        let (s, bad) = (c"s".as_ptr(), c"none".as_ptr());
        // SAFETY: here and below: the strings are NUL-terminated.
        assert!(unsafe { dap_config_get_item_bool_default(config, s, c"b".as_ptr(), false) });
        // SAFETY: as above.
        assert_eq!(unsafe { _dap_config_get_item_int(config, s, c"i".as_ptr(), 0) }, -16);
        // SAFETY: as above.
        assert_eq!(unsafe { _dap_config_get_item_uint(config, s, c"u".as_ptr(), 0) }, 7);
        // SAFETY: as above.
        assert_eq!(unsafe { _dap_config_get_item_uint(config, s, bad, 9) }, 9);
        // SAFETY: as above.
        assert_eq!(unsafe { dap_config_get_item_double_default(config, s, c"d".as_ptr(), 0.0) }, 0.5);
        let text = str_of(config, c"s", c"t");
        assert_eq!(text, str_of(config, c"s", c"t"));
        // SAFETY: the configuration is open.
        assert_eq!(unsafe { CStr::from_ptr(text) }, c"text");
        assert_eq!(str_of(config, c"s", c"none"), c"default".as_ptr());
        let mut length = 9;
        // SAFETY: as above, and `length` is this test's own.
        let array = unsafe { dap_config_get_array_str(config, s, c"l".as_ptr(), &mut length) };
        assert_eq!(length, 2);
        // SAFETY: the array has two items.
        let second = unsafe { array.add(1) };
        // SAFETY: the second item exists.
        let second = unsafe { second.read() };
        // SAFETY: its text lives as long as the configuration.
        assert_eq!(unsafe { CStr::from_ptr(second) }, c"b");
        // SAFETY: as above.
        assert!(unsafe { dap_config_get_array_str(config, s, bad, &mut length) }.is_null());
        assert_eq!(length, 0);
        // SAFETY: none of its strings is used afterwards.
        unsafe { dap_config_close(config) };
        // SAFETY: closing twice is logged.
        unsafe { dap_config_close(config) };
        assert_eq!(str_of(config, c"s", c"t"), c"default".as_ptr());
    }

    #[test]
    fn null_gives_the_default() {
        let config = open("[s]\nb=on\n");
        let (null, s) = (std::ptr::null(), c"s".as_ptr());
        for (section, item) in [(null, s), (s, null), (null, null)] {
            // SAFETY: NULL is allowed.
            assert!(!unsafe { dap_config_get_item_bool_default(config, section, item, false) });
            // SAFETY: NULL is allowed.
            assert!(unsafe { dap_config_get_item_str_default(config, section, item, null) }.is_null());
            // SAFETY: NULL is allowed.
            assert!(unsafe { dap_config_get_array_str(config, section, item, std::ptr::null_mut()) }.is_null());
        }
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_config_open(null) }.is_null());
        // SAFETY: a string constant.
        assert!(unsafe { dap_config_open(c"/nowhere/x.cfg".as_ptr()) }.is_null());
        // SAFETY: a string constant.
        assert_eq!(unsafe { dap_config_init(c"/nowhere".as_ptr()) }, -1);
        // SAFETY: NULL is allowed.
        unsafe { dap_config_close(std::ptr::null_mut()) };
        // SAFETY: none of its strings is used afterwards.
        unsafe { dap_config_close(config) };
    }
}
