//! The C functions for the HTTP side of the listener.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};

use crate::config;
use crate::ctypes::{
    dap_http_client, dap_http_server, dap_http_simple, dap_http_simple_callback_t, dap_http_url_proc, dap_server,
};
use crate::cview::strings::{fill_c_array, text};
use crate::http::{self, Request, Response};
use crate::listener;
use crate::panics::guard;

/// The Content-Type of a reply that names none: the node's endpoints speak JSON.
const DEFAULT_MIME: &str = "application/json";

/// Returns the node's listener; NULL if `[server] enabled` is false or the server cannot listen (logged). `_inheritor`
/// is its `dap_http_server_t`. Both stay the same until the process ends; the caller frees neither. Any thread.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_server_get_default() -> *mut dap_server {
    guard("dap_server_get_default", std::ptr::null_mut(), || {
        if !config::current().get_bool("server", "enabled", true) || listener::ensure_started().is_err() {
            return std::ptr::null_mut();
        }
        let server = (&raw const SERVER.0).cast_mut();
        SERVER.0._inheritor.set(http_server().cast());
        server
    })
}

/// Registers `callback` for the requests to `url_path`, replacing any previous one. It is called on threads of the HTTP
/// server, several at once, with the reply and a `http_status_code_t *` (an int) that starts at 200. A reply has at
/// most `reply_size_max` bytes. Returns NULL and logs the reason if an argument is NULL or the path does not start with
/// `/`, else a pointer that identifies the path, which the caller must neither free nor follow. Any thread.
///
/// # Safety
/// `url_path` is NULL or a NUL-terminated string; `callback` stays callable until it is removed and has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_http_simple_proc_add(
    server: *mut dap_http_server,
    url_path: *const c_char,
    reply_size_max: usize,
    callback: dap_http_simple_callback_t,
) -> *mut dap_http_url_proc {
    // SAFETY: the caller's promise; the text is copied.
    let path = unsafe { text(url_path) };
    guard("dap_http_simple_proc_add", std::ptr::null_mut(), || {
        let path = path.filter(|path| path.starts_with('/') && path.len() <= http::URL_PART_MAX);
        let (Some(path), Some(callback), true) = (path, callback, server == http_server()) else {
            log::error!(
                "dap_http_simple_proc_add: expected the _inheritor of dap_server_get_default(), a path like /name and \
                 a callback"
            );
            return std::ptr::null_mut();
        };
        http::register(path, Box::new(move |request| answer(callback, request, reply_size_max)));
        // One address for all paths: it only says that the path was added.
        http_server().cast()
    })
}

/// Unregisters the callback of `url_path`; false if none is registered. A running call continues to its end. Never
/// starts the listener: `server` may be an `_inheritor` from before the node stopped listening. Any thread.
///
/// # Safety
/// `url_path` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_http_simple_proc_remove(server: *mut dap_http_server, url_path: *const c_char) -> bool {
    // SAFETY: the caller's promise; the text is not kept.
    let path = unsafe { text(url_path) };
    guard("dap_http_simple_proc_remove", false, || {
        if server != http_server() || path.is_none() {
            log::error!("dap_http_simple_proc_remove: expected the _inheritor of dap_server_get_default() and a path");
            return false;
        }
        path.is_some_and(http::unregister)
    })
}

/// Appends `data` to the reply as far as its maximum allows; returns the number of bytes appended, 0 for NULL. To be
/// called on the thread that runs the callback, with the callback's own reply; another reply is left unchanged.
///
/// # Safety
/// `data` is NULL or has `size` readable bytes. `simple` is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_http_simple_reply(simple: *mut dap_http_simple, data: *mut c_void, size: usize) -> usize {
    guard("dap_http_simple_reply", 0, || {
        REPLY.with_borrow_mut(|reply| {
            let reply = reply.as_mut().filter(|reply| reply.simple == simple);
            let Some(reply) = reply.filter(|_| !data.is_null()) else {
                log::error!("dap_http_simple_reply: expected the reply that the callback was called with, and data");
                return 0;
            };
            let size = size.min(reply.size_max - reply.body.len());
            // SAFETY: not NULL, and the caller promises at least as many bytes; the maximum keeps it below isize::MAX.
            reply.body.extend_from_slice(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) });
            size
        })
    })
}

struct Server(dap_server);

// SAFETY: dap_server_get_default alone writes the one field, always with the same value; C programs that read it got
// the pointer from a call that had already written it.
unsafe impl Sync for Server {}

static SERVER: Server = Server(dap_server { _inheritor: Cell::new(std::ptr::null_mut()) });
/// Its address is the `dap_http_server_t *`.
static HTTP_SERVER: u8 = 0;

fn http_server() -> *mut dap_http_server {
    (&raw const HTTP_SERVER).cast::<dap_http_server>().cast_mut()
}

/// The reply that the callback running on this thread is writing.
struct Reply {
    simple: *mut dap_http_simple,
    body: Vec<u8>,
    size_max: usize,
}

thread_local! {
    static REPLY: RefCell<Option<Reply>> = const { RefCell::new(None) };
}

fn answer(
    callback: unsafe extern "C" fn(*mut dap_http_simple, *mut c_void),
    request: &Request,
    reply_size_max: usize,
) -> Response {
    let mut client = Box::new(dap_http_client {
        url_path: [0; 1024],
        in_query_string: [0; 1024],
        url_path_len: 0,
        in_query_string_len: 0,
    });
    client.url_path_len = put(&mut client.url_path, &request.path);
    client.in_query_string_len = put(&mut client.in_query_string, &request.query);
    let mut simple =
        Box::new(dap_http_simple { http_client: &raw mut *client, reply_mime: [0; 256], _pvt: std::ptr::null_mut() });
    let mut status: c_int = 200;
    let pointer = &raw mut *simple;
    let size_max = reply_size_max.min(isize::MAX.cast_unsigned());
    REPLY.set(Some(Reply { simple: pointer, body: Vec::new(), size_max }));
    // SAFETY: the structs and the status live, unshared, until the call returns; the callback's owner promised that it
    // stays callable.
    unsafe { callback(pointer, (&raw mut status).cast()) };
    let body = REPLY.take().map(|reply| reply.body).unwrap_or_default();
    let mime = mime(&simple.reply_mime);
    Response { status: status.try_into().unwrap_or(500), mime, body }
}

/// Fills the array and returns the text's length, which the HTTP server keeps below the array's.
fn put(array: &mut [c_char; 1024], text: &str) -> u32 {
    fill_c_array(array, text.as_bytes());
    text.len().min(array.len() - 1) as u32
}

/// The text that the callback left in `reply_mime`; the default if the array has no NUL or no text.
fn mime(array: &[c_char]) -> String {
    let bytes: Vec<u8> = array.iter().map(|byte| byte.cast_unsigned()).collect();
    let text = CStr::from_bytes_until_nul(&bytes).ok().and_then(|text| text.to_str().ok());
    text.filter(|text| !text.is_empty()).unwrap_or(DEFAULT_MIME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Request {
        Request { path: "/path".into(), query: query.into() }
    }

    unsafe extern "C" fn echo(simple: *mut dap_http_simple, status: *mut c_void) {
        // SAFETY: the arguments that the callback was called with.
        let client = unsafe { &*simple }.http_client;
        // SAFETY: the client lives as long as the call.
        let client = unsafe { &*client };
        let (query, size) = (client.in_query_string.as_ptr().cast_mut(), client.in_query_string_len as usize);
        // SAFETY: the query's bytes.
        assert_eq!(unsafe { dap_http_simple_reply(simple, query.cast(), size) }, size.min(5));
        // SAFETY: as above.
        assert_eq!(unsafe { dap_http_simple_reply(simple, query.cast(), size) }, size.min(5 - size.min(5)));
        let other = std::ptr::dangling_mut();
        // SAFETY: the pointer is only compared.
        assert_eq!(unsafe { dap_http_simple_reply(other, query.cast(), size) }, 0);
        // SAFETY: an int, by the callback's contract.
        unsafe { status.cast::<c_int>().write(403) };
    }

    unsafe extern "C" fn named(simple: *mut dap_http_simple, _status: *mut c_void) {
        // SAFETY: the arguments that the callback was called with.
        let mime = unsafe { &mut (*simple).reply_mime };
        fill_c_array(mime, b"text/plain");
    }

    #[test]
    fn a_callback_answers_within_its_maximum() {
        let expected = |body: &str| Response { status: 403, mime: DEFAULT_MIME.into(), body: body.into() };
        assert_eq!(answer(echo, &request("abc"), 5), expected("abcab"));
        assert_eq!(answer(echo, &request("abcdefgh"), 5), expected("abcde"));
        let long = "q".repeat(http::URL_PART_MAX);
        assert_eq!(answer(echo, &request(&long), 5), expected("qqqqq"));
        assert_eq!(answer(named, &request(""), 5), Response { status: 200, mime: "text/plain".into(), body: vec![] });
        assert_eq!(mime(&[1; 256]), DEFAULT_MIME);
    }

    #[test]
    fn null_is_answered() {
        let (null, path) = (std::ptr::null(), c"/path".as_ptr());
        // SAFETY: NULL is allowed, here and below.
        assert!(unsafe { dap_http_simple_proc_add(std::ptr::null_mut(), path, 5, Some(echo)) }.is_null());
        // SAFETY: as above.
        assert!(unsafe { dap_http_simple_proc_add(http_server(), null, 5, Some(echo)) }.is_null());
        // SAFETY: as above.
        assert!(unsafe { dap_http_simple_proc_add(http_server(), path, 5, None) }.is_null());
        // SAFETY: a string constant.
        assert!(unsafe { dap_http_simple_proc_add(http_server(), c"path".as_ptr(), 5, Some(echo)) }.is_null());
        // SAFETY: as above.
        assert!(!unsafe { dap_http_simple_proc_remove(std::ptr::null_mut(), path) });
        // SAFETY: as above.
        assert!(!unsafe { dap_http_simple_proc_remove(http_server(), null) });
        // SAFETY: as above.
        assert_eq!(unsafe { dap_http_simple_reply(std::ptr::null_mut(), std::ptr::null_mut(), 5) }, 0);
    }

    #[test]
    fn a_path_comes_and_goes() {
        let path = c"/c_path".as_ptr();
        // SAFETY: a string constant and a function of this module.
        assert!(!unsafe { dap_http_simple_proc_add(http_server(), path, 5, Some(echo)) }.is_null());
        // SAFETY: a string constant.
        assert!(unsafe { dap_http_simple_proc_remove(http_server(), path) });
        // SAFETY: a string constant.
        assert!(!unsafe { dap_http_simple_proc_remove(http_server(), path) });
    }
}
