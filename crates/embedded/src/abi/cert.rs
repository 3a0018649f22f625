//! The node's certificate: the exported C functions.

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::{self, Config};
use crate::ctypes::{dap_cert, dap_enc_key};
use crate::cview::strings::{fill_c_array, malloc_copy, text};
use crate::panics::guard;

/// Returns the node's own certificate under the name `[srv_vpn] receipt_sign_cert` (default "node"); NULL for any other
/// name and when the identity cannot be read. The pointer stays valid until the process ends. Any thread.
///
/// # Safety
/// `name` is NULL (the result is NULL) or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_cert_find_by_name(name: *const c_char) -> *mut dap_cert {
    guard("dap_cert_find_by_name", std::ptr::null_mut(), || {
        // SAFETY: the caller's promise; the string is not kept.
        let Some(name) = (unsafe { text(name) }) else {
            log::error!("dap_cert_find_by_name: expected a certificate's name, not NULL");
            return std::ptr::null_mut();
        };
        find_cert(name).unwrap_or(std::ptr::null_mut())
    })
}

/// Returns the public key of a certificate as SubjectPublicKeyInfo (DER, RFC 5280), `malloc`ed, its length in `*size`;
/// NULL (and 0) if `key` is NULL or not a certificate's key. Any thread.
///
/// # Safety
/// `size` is NULL or writable. `key` is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_enc_key_serialize_pub_key(key: *mut dap_enc_key, size: *mut usize) -> *mut u8 {
    guard("dap_enc_key_serialize_pub_key", std::ptr::null_mut(), || {
        let certs = CERTS.lock();
        let spki = certs.iter().find(|cert| cert.key_ptr() == key).map(|cert| cert.spki.as_slice());
        if spki.is_none() {
            log::error!("dap_enc_key_serialize_pub_key: expected the key of a dap_cert_t, got {key:p}");
        }
        if !size.is_null() {
            // SAFETY: not NULL, and the caller promises that it is writable.
            unsafe { size.write(spki.map_or(0, <[u8]>::len)) };
        }
        spki.map_or(std::ptr::null_mut(), malloc_copy)
    })
}

/// Every certificate ever passed to C; a key that changes adds one.
static CERTS: Mutex<Vec<Cert>> = Mutex::new(Vec::new());

struct Cert {
    c: Box<UnsafeCell<dap_cert>>,
    name: String,
    /// C knows the key by the address of this vector's heap block, and never follows it.
    spki: Arc<Vec<u8>>,
}

// SAFETY: Rust never reads the C struct after construction, and nothing follows its one pointer.
unsafe impl Send for Cert {}

impl Cert {
    fn key_ptr(&self) -> *mut dap_enc_key {
        Arc::as_ptr(&self.spki).cast::<dap_enc_key>().cast_mut()
    }
}

fn find_cert(name: &str) -> Option<*mut dap_cert> {
    let config = config::current();
    let own_name = config.get_str("srv_vpn", "receipt_sign_cert").unwrap_or_else(|| "node".into());
    if name != own_name || name.is_empty() {
        return None;
    }
    let spki = identity_spki(&config)?;
    let mut certs = CERTS.lock();
    if let Some(cert) = certs.iter().find(|cert| cert.name == name && *cert.spki == spki) {
        return Some(cert.c.get());
    }
    let spki = Arc::new(spki);
    let mut cert = dap_cert { enc_key: Arc::as_ptr(&spki).cast::<dap_enc_key>().cast_mut(), name: [0; 40] };
    fill_c_array(&mut cert.name, name.as_bytes());
    let cert = Cert { c: Box::new(UnsafeCell::new(cert)), name: name.to_owned(), spki };
    let pointer = cert.c.get();
    certs.push(cert);
    Some(pointer)
}

fn identity_spki(config: &Config) -> Option<Vec<u8>> {
    crate::tls::identity_spki(config)
        .inspect_err(|error| host::log_bounded!(Error, "dap_cert_find_by_name: the node's identity: {error}"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_answered() {
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_cert_find_by_name(std::ptr::null()) }.is_null());
        // SAFETY: a string constant.
        assert!(unsafe { dap_cert_find_by_name(c"somebody else".as_ptr()) }.is_null());
        let mut size = 7;
        // SAFETY: NULL is allowed, `size` is this test's own.
        assert!(unsafe { dap_enc_key_serialize_pub_key(std::ptr::null_mut(), &mut size) }.is_null());
        assert_eq!(size, 0);
    }
}
