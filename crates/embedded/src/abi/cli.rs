//! The C functions for CLI commands.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

use crate::cli::{self, Command, Reply};
use crate::ctypes::{dap_cli_cmd, dap_cli_server_cmd_callback_t};
use crate::cview::strings::{bytes, malloc_copy, malloc_free, text};
use crate::logging;
use crate::panics::guard;

/// The version passed to a command: replies are text.
const REPLY_VERSION: c_int = 1;

/// Adds a command, or replaces the one with that name. It is called on its own thread with a NULL-terminated argv that
/// it may change until it returns; it leaves its reply in `*reply` through `dap_cli_server_cmd_set_reply_str`.
/// `func_rpc` is not used. Returns NULL when `name` or `func` is NULL, else a pointer that identifies the command,
/// which the caller must neither free nor follow. Any thread.
///
/// # Safety
/// The strings are NULL or NUL-terminated; `func` stays callable until the command is removed and has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_cli_server_cmd_add(
    name: *const c_char,
    func: dap_cli_server_cmd_callback_t,
    func_rpc: *mut c_void,
    doc: *const c_char,
    doc_ex: *const c_char,
) -> *mut dap_cli_cmd {
    let _ = func_rpc;
    // SAFETY: the caller's promise; the text is copied below. The same for the next two.
    let name = unsafe { text(name) };
    // SAFETY: as above.
    let doc = unsafe { text(doc) };
    // SAFETY: as above.
    let doc_ex = unsafe { text(doc_ex) };
    guard("dap_cli_server_cmd_add", std::ptr::null_mut(), || {
        logging::init();
        let (Some(name), Some(func)) = (name.filter(|name| !name.is_empty()), func) else {
            log::error!("dap_cli_server_cmd_add: expected a name and a function");
            return std::ptr::null_mut();
        };
        let command = cli::register(Command {
            name: name.to_owned(),
            doc: doc.unwrap_or_default().to_owned(),
            doc_ex: doc_ex.unwrap_or_default().to_owned(),
            run: Box::new(move |argv| run(func, argv)),
        });
        Arc::as_ptr(&command).cast::<dap_cli_cmd>().cast_mut()
    })
}

/// Removes a command; false if none has that name. A running call continues to its end. Any thread.
///
/// # Safety
/// `name` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_cli_server_cmd_remove(name: *const c_char) -> bool {
    // SAFETY: the caller's promise; the text is not kept.
    let name = unsafe { text(name) };
    guard("dap_cli_server_cmd_remove", false, || {
        if name.is_none() {
            log::error!("dap_cli_server_cmd_remove: expected a command's name, not NULL");
        }
        name.is_some_and(cli::unregister)
    })
}

/// Searches `argv[start..end]` for the word `name`. Returns its index, or 0 if it is not there (or an argument is NULL
/// or negative). With `value`, returns the index behind it and points `*value` to the word there; if `name` is the last
/// word, `*value` is unchanged. Any thread.
///
/// # Safety
/// `argv` is NULL or a NULL-terminated array of at least `end` NUL-terminated strings; `name` is NULL or a
/// NUL-terminated string; `value` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_cli_server_cmd_find_option_val(
    argv: *mut *mut c_char,
    start: c_int,
    end: c_int,
    name: *const c_char,
    value: *mut *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let name = unsafe { bytes(name) };
    let Some(name) = name.filter(|name| !name.is_empty() && !argv.is_null() && start >= 0) else {
        log::error!("dap_cli_server_cmd_find_option_val: expected words, where to begin, and a name");
        return 0;
    };
    for index in start..end {
        // SAFETY: index < end, within the array by the caller's promise.
        let Some(word) = (unsafe { word_at(argv, index) }) else { return 0 };
        if word.to_bytes() != name {
            continue;
        }
        if value.is_null() {
            return index;
        }
        // SAFETY: the word at `index` is not the terminating NULL, so the array extends to index + 1.
        let behind = unsafe { word_at(argv, index + 1) };
        if let Some(behind) = behind {
            // SAFETY: not NULL, and the caller promises that it is writable.
            unsafe { value.write(behind.as_ptr()) };
        }
        return index + 1;
    }
    0
}

/// Replaces the reply of a command: frees `*reply` and sets it to a `malloc`ed copy of `text` (NULL for NULL). To be
/// called on the thread that runs the command.
///
/// # Safety
/// `reply` is NULL (logged) or the pointer that the command was called with: `*reply` is NULL or from `malloc`. `text`
/// is NULL or a NUL-terminated string; it may be `*reply` itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_cli_server_cmd_set_reply_str(reply: *mut *mut c_void, text: *const c_char) {
    if reply.is_null() {
        log::error!("dap_cli_server_cmd_set_reply_str: reply is NULL");
        return;
    }
    // SAFETY: the caller's promise; the text is copied before the old reply, which may be the same memory, is freed.
    let copy = unsafe { bytes(text) }.map_or(std::ptr::null_mut(), malloc_copy);
    // SAFETY: not NULL, and the caller promises a pointer that may be replaced.
    let old = unsafe { reply.replace(copy.cast()) };
    // SAFETY: the caller promises that it came from malloc; no other pointer to it is left.
    unsafe { malloc_free(old) };
}

/// The word at `index`; None at the terminating NULL.
///
/// # Safety
/// `index` is at most that of the NULL that terminates `argv`, whose other pointers point to NUL-terminated strings.
unsafe fn word_at<'a>(argv: *mut *mut c_char, index: c_int) -> Option<&'a CStr> {
    // SAFETY: within the array by the caller's promise.
    let slot = unsafe { argv.offset(index.try_into().ok()?) };
    // SAFETY: as above.
    let word = unsafe { slot.read() };
    if word.is_null() {
        return None;
    }
    // SAFETY: the caller promises a NUL-terminated string.
    Some(unsafe { CStr::from_ptr(word) })
}

/// Calls a C command with a copy of the words.
fn run(
    func: unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_void, c_int) -> c_int,
    argv: &[String],
) -> Reply {
    let Ok(argc) = c_int::try_from(argv.len()) else {
        return Reply { code: -1, text: "too many words".into() };
    };
    if argv.iter().any(|word| word.contains('\0')) {
        return Reply { code: -1, text: "a word contains a NUL".into() };
    }
    let mut words: Vec<Vec<u8>> = argv.iter().map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    let mut argv: Vec<*mut c_char> = words.iter_mut().map(|word| word.as_mut_ptr().cast()).collect();
    argv.push(std::ptr::null_mut());
    let mut reply: *mut c_void = std::ptr::null_mut();
    // SAFETY: argc words and a NULL, which live, unshared, until the call returns; the command's owner promised that it
    // stays callable.
    let code = unsafe { func(argc, argv.as_mut_ptr(), &raw mut reply, REPLY_VERSION) };
    // SAFETY: a command leaves NULL or a NUL-terminated string from dap_cli_server_cmd_set_reply_str.
    let text = unsafe { bytes(reply.cast_const().cast()) };
    let text = text.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    // SAFETY: it came from malloc, and the text has been copied.
    unsafe { malloc_free(reply) };
    Reply { code, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn last_word(
        argc: c_int,
        argv: *mut *mut c_char,
        reply: *mut *mut c_void,
        version: c_int,
    ) -> c_int {
        let mut value = std::ptr::null();
        // SAFETY: the arguments that the command was called with.
        let found = unsafe { dap_cli_server_cmd_find_option_val(argv, 1, argc, c"-net".as_ptr(), &mut value) };
        // SAFETY: as above, and a string constant.
        unsafe { dap_cli_server_cmd_set_reply_str(reply, c"first".as_ptr()) };
        // SAFETY: as above; the value is one of the words, or NULL.
        unsafe { dap_cli_server_cmd_set_reply_str(reply, value) };
        found * 10 + version
    }

    fn line(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_c_command_gets_words_and_gives_a_reply() {
        let (name, null) = (c"c_last_word".as_ptr(), std::ptr::null_mut());
        // SAFETY: string constants, and a function of this module.
        assert!(!unsafe { dap_cli_server_cmd_add(name, Some(last_word), null, c"doc".as_ptr(), name) }.is_null());
        let run = |words| cli::run(&line(words));
        assert_eq!(run(&["c_last_word", "-net", "backbone"]), Reply { code: 21, text: "backbone".into() });
        assert_eq!(run(&["c_last_word", "-net"]), Reply { code: 21, text: String::new() });
        assert_eq!(run(&["c_last_word"]), Reply { code: 1, text: String::new() });
        assert_eq!(run(&["c_last_word", "a\0b"]).code, -1);
        // SAFETY: string constants.
        assert!(unsafe { dap_cli_server_cmd_remove(name) });
        // SAFETY: string constants.
        assert!(!unsafe { dap_cli_server_cmd_remove(name) });
    }

    #[test]
    fn null_is_answered() {
        let (null, text) = (std::ptr::null_mut(), c"text".as_ptr());
        // SAFETY: NULL is allowed, here and below.
        assert!(unsafe { dap_cli_server_cmd_add(std::ptr::null(), Some(last_word), null, text, text) }.is_null());
        // SAFETY: as above.
        assert!(unsafe { dap_cli_server_cmd_add(text, None, null, text, text) }.is_null());
        // SAFETY: as above.
        assert!(!unsafe { dap_cli_server_cmd_remove(std::ptr::null()) });
        let find = |argv, start, name| {
            // SAFETY: as above.
            unsafe { dap_cli_server_cmd_find_option_val(argv, start, 1, name, std::ptr::null_mut()) }
        };
        let mut word = *b"text\0";
        let mut argv = [word.as_mut_ptr().cast::<c_char>(), std::ptr::null_mut()];
        assert_eq!(find(std::ptr::null_mut(), 0, text), 0);
        assert_eq!(find(argv.as_mut_ptr(), 0, std::ptr::null()), 0);
        assert_eq!(find(argv.as_mut_ptr(), -1, text), 0);
        // SAFETY: as above.
        unsafe { dap_cli_server_cmd_set_reply_str(std::ptr::null_mut(), text) };
    }

    #[test]
    fn the_new_reply_may_be_the_old_one() {
        let mut reply: *mut c_void = malloc_copy(b"same").cast();
        // SAFETY: the reply is from malloc.
        unsafe { dap_cli_server_cmd_set_reply_str(&mut reply, reply.cast()) };
        // SAFETY: a NUL-terminated copy.
        assert_eq!(unsafe { bytes(reply.cast()) }, Some(&b"same"[..]));
        // SAFETY: NULL is allowed as text.
        unsafe { dap_cli_server_cmd_set_reply_str(&mut reply, std::ptr::null()) };
        assert!(reply.is_null());
    }
}
