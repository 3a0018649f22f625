//! The C functions for networks, the node's certificate, and the hash.

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};

use super::boundary::{fill_c_array, guard, malloc_copy, text};
use crate::config::{self, Config};
use crate::ctypes::dap_chain_node_role_enum::NODE_ROLE_LIGHT;
use crate::ctypes::{
    DAP_CHAIN_HASH_FAST_SIZE, DAP_CHAIN_NET_NAME_MAX, dap_cert, dap_chain_net, dap_chain_net_id, dap_chain_net_pub,
    dap_chain_node_role, dap_enc_key, dap_hash_fast,
};
use crate::net::{self, NetRef};

/// The C view of a network, at an address that does not change while this lives.
pub(crate) struct CNet {
    net: Box<UnsafeCell<dap_chain_net>>,
    /// What the view's pointers point to.
    _strings: [CString; 2],
}

// SAFETY: Rust never reads the struct after it was made; its pointers are to strings that this owns. Whether C threads
// may write its fields is theirs to agree on, as it is with the SDK's own struct.
unsafe impl Send for CNet {}
// SAFETY: as above.
unsafe impl Sync for CNet {}

impl CNet {
    /// None when a string contains a NUL. A name longer than the struct's field is cut.
    pub(crate) fn new(id: u64, name: &str, gdb_groups_prefix: &str, native_ticker: &str) -> Option<Self> {
        let strings = [CString::new(gdb_groups_prefix).ok()?, CString::new(native_ticker).ok()?];
        let mut c_name = [0; DAP_CHAIN_NET_NAME_MAX + 1];
        fill_c_array(&mut c_name, CString::new(name).ok()?.as_bytes());
        let net = dap_chain_net {
            r#pub: dap_chain_net_pub {
                id: dap_chain_net_id { uint64: id },
                name: c_name,
                gdb_groups_prefix: strings[0].as_ptr(),
                native_ticker: strings[1].as_ptr(),
                // NULL is `g_config` to every dap_config function: a network has a section there, no file of its own.
                config: std::ptr::null_mut(),
            },
        };
        Some(Self { net: Box::new(UnsafeCell::new(net)), _strings: strings })
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_chain_net {
        self.net.get()
    }
}

/// The network with this name; NULL when the configuration names none such. The pointer stays valid until the process
/// ends. Any thread.
///
/// # Safety
/// `name` is NULL (the result is NULL) or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_by_name(name: *const c_char) -> *mut dap_chain_net {
    guard("dap_chain_net_by_name", std::ptr::null_mut(), || {
        // SAFETY: the caller's promise; the string is not kept.
        let Some(name) = (unsafe { text(name) }) else {
            log::error!("dap_chain_net_by_name: expected a network's name, not NULL");
            return std::ptr::null_mut();
        };
        net_ptr(net::find_by_name(name))
    })
}

/// The network with this id; NULL when the configuration names none such. Any thread.
///
/// # Safety
/// No condition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_by_id(id: dap_chain_net_id) -> *mut dap_chain_net {
    guard("dap_chain_net_by_id", std::ptr::null_mut(), || net_ptr(net::find_by_id(id.uint64)))
}

/// This node's role in a network; NODE_ROLE_LIGHT, the least, for NULL and what is no network. Any thread.
///
/// # Safety
/// No condition: the pointer is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_get_role(net: *const dap_chain_net) -> dap_chain_node_role {
    let failure = dap_chain_node_role { enums: NODE_ROLE_LIGHT };
    guard("dap_chain_net_get_role", failure, || {
        let Some(known) = net::find_by_ptr(net) else {
            log::error!("dap_chain_net_get_role: expected a network from dap_chain_net_by_name, got {net:p}");
            return failure;
        };
        // The pointer may be older than the configuration.
        dap_chain_node_role { enums: net::find_by_id(known.id()).unwrap_or(known).role() }
    })
}

/// The node's own certificate under the name `[srv_vpn] receipt_sign_cert` (default "node"); NULL for every other name
/// and when the identity cannot be read. The pointer stays valid until the process ends. Any thread.
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

/// The public key of a certificate as SubjectPublicKeyInfo (DER, RFC 5280), `malloc`ed, its length in `*size`; NULL
/// (and 0) for NULL and what is no key. Any thread.
///
/// # Safety
/// `size` is NULL or may be written. `key` is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_enc_key_serialize_pub_key(key: *mut dap_enc_key, size: *mut usize) -> *mut u8 {
    guard("dap_enc_key_serialize_pub_key", std::ptr::null_mut(), || {
        let certs = CERTS.lock();
        let spki = certs.iter().find(|cert| cert.key_ptr() == key).map(|cert| cert.spki.as_slice());
        if spki.is_none() {
            log::error!("dap_enc_key_serialize_pub_key: expected the key of a dap_cert_t, got {key:p}");
        }
        if !size.is_null() {
            // SAFETY: not NULL, and the caller promises that it may be written.
            unsafe { size.write(spki.map_or(0, <[u8]>::len)) };
        }
        spki.map_or(std::ptr::null_mut(), malloc_copy)
    })
}

/// SHA3-256 of `size` bytes at `data` into `hash`; false (logged) when a pointer is NULL or `size` is 0. Any thread.
///
/// # Safety
/// `data` is NULL or has `size` readable bytes; `hash` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_hash_fast(data: *const c_void, size: usize, hash: *mut dap_hash_fast) -> bool {
    guard("dap_hash_fast", false, || {
        if data.is_null() || size == 0 || size > isize::MAX.cast_unsigned() || hash.is_null() {
            log::error!("dap_hash_fast: expected data, its size, and a place for the hash");
            return false;
        }
        // SAFETY: not NULL, and the caller promises `size` bytes, which fit a slice.
        let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) };
        let raw: [u8; DAP_CHAIN_HASH_FAST_SIZE] = Sha3_256::digest(data).into();
        // SAFETY: not NULL, and the caller promises that it may be written.
        unsafe { hash.write(dap_hash_fast { raw }) };
        true
    })
}

fn net_ptr(net: Option<NetRef>) -> *mut dap_chain_net {
    net.map_or(std::ptr::null_mut(), |net| net.as_ptr())
}

/// Every certificate ever handed out; a key that changes adds one.
static CERTS: Mutex<Vec<Cert>> = Mutex::new(Vec::new());

struct Cert {
    c: Box<UnsafeCell<dap_cert>>,
    name: String,
    /// The address of this vector's heap block is the key's identity to C, which never follows it.
    spki: Arc<Vec<u8>>,
}

// SAFETY: Rust never reads the C struct after it was made, and its one pointer is never followed.
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
        .inspect_err(|error| log::error!("dap_cert_find_by_name: the node's identity: {error}"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn backbone_is_found_by_name_and_by_id() {
        // SAFETY: a string constant.
        let net = unsafe { dap_chain_net_by_name(c"backbone".as_ptr()) };
        assert!(!net.is_null());
        // SAFETY: networks stay valid, and nobody writes this one.
        let view = unsafe { &*net };
        // SAFETY: the name is NUL-terminated.
        assert_eq!(unsafe { CStr::from_ptr(view.r#pub.name.as_ptr()) }, c"backbone");
        // SAFETY: the ticker is a string that the network owns.
        assert_eq!(unsafe { CStr::from_ptr(view.r#pub.native_ticker) }, c"CELL");
        // SAFETY: no condition.
        assert_eq!(unsafe { dap_chain_net_by_id(view.r#pub.id) }, net);
        // SAFETY: no condition.
        assert_eq!(unsafe { dap_chain_net_get_role(net) }.enums as u32, 0x20);
        // SAFETY: a string constant.
        assert!(unsafe { dap_chain_net_by_name(c"nowhere".as_ptr()) }.is_null());
        // SAFETY: no condition.
        assert!(unsafe { dap_chain_net_by_id(dap_chain_net_id { uint64: 1 }) }.is_null());
    }

    #[test]
    fn null_is_answered() {
        let null = std::ptr::null_mut();
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_chain_net_by_name(std::ptr::null()) }.is_null());
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { dap_chain_net_get_role(std::ptr::null()) }.enums, NODE_ROLE_LIGHT);
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_cert_find_by_name(std::ptr::null()) }.is_null());
        // SAFETY: a string constant.
        assert!(unsafe { dap_cert_find_by_name(c"somebody else".as_ptr()) }.is_null());
        let mut size = 7;
        // SAFETY: NULL is allowed, `size` is this test's own.
        assert!(unsafe { dap_enc_key_serialize_pub_key(std::ptr::null_mut(), &mut size) }.is_null());
        assert_eq!(size, 0);
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_hash_fast(b"a".as_ptr().cast(), 1, std::ptr::null_mut()) });
        let mut hash = dap_hash_fast { raw: [0; 32] };
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_hash_fast(null, 1, &mut hash) });
        // SAFETY: the pointers are valid.
        assert!(!unsafe { dap_hash_fast(b"a".as_ptr().cast(), 0, &mut hash) });
    }

    #[test]
    fn the_hash_is_sha3_256() {
        let mut hash = dap_hash_fast { raw: [0; 32] };
        // SAFETY: three bytes and a hash of this test's own.
        assert!(unsafe { dap_hash_fast(b"abc".as_ptr().cast(), 3, &mut hash) });
        // FIPS 202, example "abc".
        assert_eq!(hash.raw[..4], [0x3a, 0x98, 0x5d, 0xa7]);
    }
}
