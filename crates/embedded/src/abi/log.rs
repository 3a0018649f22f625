//! The C functions for logging.

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicI32, Ordering};

use log::{Level, LevelFilter};

use crate::ctypes::dap_log_level::{self, *};
use crate::cview::strings::bytes;
use crate::logging;
use crate::panics::guard;

/// The lowest level written, as C set it; -1 while the logger's own filter decides.
static LOWEST: AtomicI32 = AtomicI32::new(-1);

const LEVELS: [dap_log_level; 10] =
    [L_DEBUG, L_INFO, L_NOTICE, L_MSG, L_DAP, L_WARNING, L_ATT, L_ERROR, L_CRITICAL, L_TOTAL];

/// Writes a log line unless its level (a `dap_log_level_t`) is below the level set. Invalid UTF-8 in the message
/// becomes replacement characters. Writes nothing if an argument is NULL. Any thread.
///
/// # Safety
/// `tag` and `message` are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_log_write(log_level: c_int, tag: *const c_char, message: *const c_char) {
    // SAFETY: the caller's promise; the text is not kept. The same for the next.
    let tag = unsafe { bytes(tag) };
    // SAFETY: as above.
    let message = unsafe { bytes(message) };
    guard("dap_log_write", (), || {
        logging::init();
        let Some(message) = message else { return };
        if log_level < LOWEST.load(Ordering::Relaxed) {
            return;
        }
        let tag = String::from_utf8_lossy(tag.unwrap_or(b"-"));
        let message = String::from_utf8_lossy(message);
        log::log!(target: &tag, facade_level(log_level), "{}", message.trim_end_matches('\n'));
    });
}

/// The lowest level written. Any thread.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_log_level_get() -> dap_log_level {
    guard("dap_log_level_get", L_INFO, || {
        logging::init();
        let set = usize::try_from(LOWEST.load(Ordering::Relaxed)).ok();
        set.and_then(|set| LEVELS.get(set).copied()).unwrap_or_else(|| match log::max_level() {
            LevelFilter::Off => L_TOTAL,
            LevelFilter::Error => L_ERROR,
            LevelFilter::Warn => L_WARNING,
            LevelFilter::Info => L_INFO,
            LevelFilter::Debug | LevelFilter::Trace => L_DEBUG,
        })
    })
}

/// Sets the lowest level (a `dap_log_level_t`) that C and this library write, overriding `RUST_LOG`; a level beyond
/// L_TOTAL counts as L_TOTAL, which writes nothing. Any thread.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_log_level_set(log_level: c_int) {
    guard("dap_log_level_set", (), || {
        logging::init();
        let log_level = log_level.clamp(L_DEBUG as c_int, L_TOTAL as c_int);
        LOWEST.store(log_level, Ordering::Relaxed);
        let nothing = log_level == L_TOTAL as c_int;
        logging::set_level(if nothing { LevelFilter::Off } else { facade_level(log_level).to_level_filter() });
    });
}

fn facade_level(log_level: c_int) -> Level {
    match log_level {
        ..=0 => Level::Debug,
        1..=4 => Level::Info,
        5 | 6 => Level::Warn,
        7.. => Level::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_map_and_null_is_silent() {
        let mapped: Vec<Level> = LEVELS.iter().map(|&level| facade_level(level as c_int)).collect();
        use Level::{Debug, Error, Info, Warn};
        assert_eq!(mapped, [Debug, Info, Info, Info, Info, Warn, Warn, Error, Error, Error]);
        assert_eq!((facade_level(-5), facade_level(99)), (Debug, Error));
        for (index, level) in LEVELS.iter().enumerate() {
            assert_eq!(index, *level as usize);
        }
        // SAFETY: NULL is allowed, and the strings are constants.
        unsafe { dap_log_write(1, std::ptr::null(), std::ptr::null()) };
        // SAFETY: as above.
        unsafe { dap_log_write(1, std::ptr::null(), c"from a test, tag NULL\n".as_ptr()) };
        // SAFETY: as above.
        unsafe { dap_log_write(99, c"test".as_ptr(), c"not UTF-8: \xff".as_ptr()) };
    }

    #[test]
    fn the_level_that_was_set_is_got() {
        for (set, got) in [(L_WARNING as c_int, L_WARNING), (-1, L_DEBUG), (99, L_TOTAL), (1, L_INFO)] {
            // SAFETY: no condition.
            unsafe { dap_log_level_set(set) };
            // SAFETY: no condition.
            assert_eq!(unsafe { dap_log_level_get() }, got);
        }
    }
}
