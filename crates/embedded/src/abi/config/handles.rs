//! The open configurations, and their strings that C holds.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::global;
use crate::config::{self, Config};
use crate::ctypes::dap_config;
use crate::cview::strings::text;

pub(super) static HANDLES: Mutex<Handles> =
    Mutex::new(Handles { directory: None, open: BTreeMap::new(), unnamed: Vec::new() });

#[derive(Default)]
pub(super) struct Handles {
    /// Where `dap_config_open` looks for files; None is the working directory.
    pub(super) directory: Option<PathBuf>,
    /// By address.
    pub(super) open: BTreeMap<usize, Box<Handle>>,
    /// Configurations from which C obtained values without having a pointer. Equal configurations share one handle, so
    /// that setting the same one again adds nothing.
    unnamed: Vec<Handle>,
}

impl Handles {
    pub(super) fn add(&mut self, config: Arc<Config>) -> *mut dap_config {
        let handle = Box::new(Handle::new(config));
        let pointer = (&raw const *handle).cast::<dap_config>().cast_mut();
        self.open.insert(pointer.addr(), handle);
        pointer
    }

    /// The handle of the Rust side's configuration.
    fn of_current(&mut self) -> Option<&mut Handle> {
        let current = config::current();
        let known = self.unnamed.iter().position(|handle| handle.config == current);
        let index = known.unwrap_or_else(|| {
            self.unnamed.push(Handle::new(current));
            self.unnamed.len() - 1
        });
        self.unnamed.get_mut(index)
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        if Path::new(name).is_absolute() {
            return name.into();
        }
        self.directory.clone().unwrap_or_default().join(format!("{name}.cfg"))
    }
}

pub(super) struct Handle {
    config: Arc<Config>,
    /// The strings and arrays whose pointers C holds. An entry never changes, and lives as long as the handle.
    texts: BTreeMap<(String, String), CString>,
    arrays: BTreeMap<(String, String), Array>,
}

struct Array {
    /// Each in a boxed slice, so that neither moves with the map.
    pointers: Box<[*const c_char]>,
    _texts: Vec<CString>,
}

// SAFETY: the pointers point to the heap blocks of `_texts`, which move with the array and are not bound to a thread.
unsafe impl Send for Array {}

impl Handle {
    fn new(config: Arc<Config>) -> Self {
        Self { config, texts: BTreeMap::new(), arrays: BTreeMap::new() }
    }

    /// The built-in defaults apply again, unless the Rust side has set another configuration since.
    pub(super) fn leave_current(&self) {
        if Arc::ptr_eq(&config::current(), &self.config) {
            config::set_current(Config::empty());
        }
    }

    pub(super) fn text(&mut self, section: &str, item: &str) -> Option<*const c_char> {
        let key = (section.to_owned(), item.to_owned());
        if !self.texts.contains_key(&key) {
            let text = c_text(self.config.get_str(section, item)?, section, item)?;
            self.texts.insert(key.clone(), text);
        }
        self.texts.get(&key).map(|text| text.as_ptr())
    }

    pub(super) fn array(&mut self, section: &str, item: &str) -> Option<(*mut *const c_char, u16)> {
        let key = (section.to_owned(), item.to_owned());
        if !self.arrays.contains_key(&key) {
            let texts = self.config.get_list(section, item).into_iter().map(|text| c_text(text, section, item));
            let texts: Vec<CString> = texts.collect::<Option<_>>()?;
            if texts.is_empty() || texts.len() > usize::from(u16::MAX) {
                return None;
            }
            let pointers = texts.iter().map(|text| text.as_ptr()).collect();
            self.arrays.insert(key.clone(), Array { pointers, _texts: texts });
        }
        let array = self.arrays.get_mut(&key)?;
        Some((array.pointers.as_mut_ptr(), array.pointers.len().try_into().ok()?))
    }
}

fn c_text(text: String, section: &str, item: &str) -> Option<CString> {
    CString::new(text).inspect_err(|_| log::error!("[{section}] {item}: the value contains a NUL; it is ignored")).ok()
}

/// The section and item of one look-up. The texts are None for NULL and for invalid UTF-8.
pub(super) struct Lookup<'a> {
    config: *mut dap_config,
    section: Option<&'a str>,
    item: Option<&'a str>,
}

impl<'a> Lookup<'a> {
    /// # Safety
    /// `section` and `item` are NULL or NUL-terminated strings that outlive the result.
    pub(super) unsafe fn new(config: *mut dap_config, section: *const c_char, item: *const c_char) -> Self {
        // SAFETY: the caller's promise.
        let section = unsafe { text::<'a>(section) };
        // SAFETY: as above.
        let item = unsafe { text::<'a>(item) };
        Self { config, section, item }
    }

    pub(super) fn get<T>(&self, default: T, get: impl FnOnce(&Config, &str, &str) -> T) -> T
    where
        T: Copy,
    {
        let config = self.with_handle(None, |handle, section, item| Some((Arc::clone(&handle.config), section, item)));
        config.map_or(default, |(config, section, item)| get(&config, section, item))
    }

    pub(super) fn with_handle<T>(&self, default: T, get: impl FnOnce(&mut Handle, &'a str, &'a str) -> T) -> T {
        let (Some(section), Some(item)) = (self.section, self.item) else {
            log::error!("dap_config_get: section and item must be text, not NULL");
            return default;
        };
        let config = if self.config.is_null() { global().load(Ordering::Acquire) } else { self.config };
        let mut handles = HANDLES.lock();
        if config.is_null() {
            return handles.of_current().map_or(default, |handle| get(handle, section, item));
        }
        match handles.open.get_mut(&config.addr()) {
            Some(handle) => get(handle, section, item),
            None => {
                log::error!(
                    "dap_config_get: {config:p} is not an open configuration; [{section}] {item} has its default"
                );
                default
            }
        }
    }
}
