//! The C functions for ledger tags and conditional outputs: what a service registers with the ledger and looks up
//! there.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};

use parking_lot::Mutex;

use crate::ctypes::{
    DAP_CHAIN_HASH_FAST_SIZE, dap_chain_datum_tx, dap_chain_datum_tx_item_groups, dap_chain_net_srv_uid,
    dap_chain_tx_in_cond, dap_chain_tx_out_cond, dap_chain_tx_out_cond_header, dap_chain_tx_tag_action_type_t,
    dap_hash_fast, dap_ledger, dap_ledger_tag_check_callback_t,
};
use crate::cview::strings::bytes;
use crate::panics::guard;

/// Registers the check that recognises a service's transactions, under a tag (which is copied). Returns 0; -1 if the
/// service is already registered with another check or tag, or `tag` or `callback` is NULL. Repeating a registration
/// returns 0. Any thread.
///
/// # Safety
/// `tag` is NULL or a NUL-terminated string; `callback` stays callable until the process ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_ledger_service_add(
    uid: dap_chain_net_srv_uid,
    tag: *mut c_char,
    callback: dap_ledger_tag_check_callback_t,
) -> c_int {
    // SAFETY: the caller's promise; the text is copied.
    let tag = unsafe { bytes(tag) };
    guard("dap_ledger_service_add", -1, || {
        let (Some(tag), Some(callback)) = (tag, callback) else {
            log::error!("dap_ledger_service_add: expected a tag and a callback");
            return -1;
        };
        let mut services = SERVICES.lock();
        let service = services.entry(uid.uint64).or_insert_with(|| Service { tag: tag.to_owned(), callback });
        if service.tag == tag && std::ptr::fn_addr_eq(service.callback, callback) {
            return 0;
        }
        log::error!(
            "dap_ledger_service_add: service {:#018x} is already registered, as {:?} with another check or tag",
            uid.uint64,
            String::from_utf8_lossy(&service.tag)
        );
        -1
    })
}

/// Runs the check that a service registered, which sets `*action`, and returns its result. False if the service is not
/// registered. Any thread; the check is called with the pointers as they are.
///
/// # Safety
/// The pointers are valid for the registered check.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_ledger_service_tag(
    ledger: *mut dap_ledger,
    tx: *mut dap_chain_datum_tx,
    items: *mut dap_chain_datum_tx_item_groups,
    uid: dap_chain_net_srv_uid,
    action: *mut dap_chain_tx_tag_action_type_t,
) -> bool {
    guard("dap_ledger_service_tag", false, || {
        let callback = SERVICES.lock().get(&uid.uint64).map(|service| service.callback);
        let Some(callback) = callback else { return false };
        // SAFETY: the check's owner promised that it stays callable, the caller that the pointers are valid for it.
        unsafe { callback(ledger, tx, items, action) }
    })
}

/// Returns the conditional output that an input spends; NULL if `in_cond` is NULL or `dap_ledger_tx_out_cond_add` has
/// not registered the output. It belongs to the ledger and stays valid until the process ends. `ledger` is not used:
/// there is one. Any thread.
///
/// # Safety
/// `in_cond` is NULL or points to an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(
    ledger: *mut dap_ledger,
    in_cond: *mut dap_chain_tx_in_cond,
) -> *mut dap_chain_tx_out_cond {
    let _ = ledger;
    if in_cond.is_null() {
        log::error!("dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond: expected an input, not NULL");
        return std::ptr::null_mut();
    }
    // SAFETY: not NULL, and the caller promises an input.
    let in_cond = unsafe { &*in_cond };
    guard("dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond", std::ptr::null_mut(), || {
        let outputs = OUTPUTS.lock();
        let output = outputs.get(&(in_cond.tx_prev_hash.raw, in_cond.tx_out_prev_idx));
        output.map_or(std::ptr::null_mut(), |output| output.0)
    })
}

/// Registers a conditional output (which is copied) with the ledger: number `idx` of the transaction with this hash.
/// Returns 0; -1 for NULL, or if another output is registered for this hash and number: a transaction never changes.
/// Any thread.
///
/// # Safety
/// `tx_hash` is NULL or points to a hash, `out_cond` is NULL or points to an output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_ledger_tx_out_cond_add(
    tx_hash: *const dap_hash_fast,
    idx: u32,
    out_cond: *mut dap_chain_tx_out_cond,
) -> c_int {
    if tx_hash.is_null() || out_cond.is_null() {
        log::error!("dap_ledger_tx_out_cond_add: expected a hash and an output");
        return -1;
    }
    // SAFETY: not NULL, and the caller promises a hash.
    let output_id = (unsafe { *tx_hash }.raw, idx);
    // SAFETY: not NULL, and the caller promises an output.
    let header = unsafe { &*out_cond }.header.content();
    guard("dap_ledger_tx_out_cond_add", -1, || {
        let mut outputs = OUTPUTS.lock();
        let known = outputs.entry(output_id).or_insert_with(|| Output::new(header));
        if known.1 == header {
            return 0;
        }
        log::error!("dap_ledger_tx_out_cond_add: another output is already registered for this hash and index");
        -1
    })
}

static SERVICES: Mutex<BTreeMap<u64, Service>> = Mutex::new(BTreeMap::new());
static OUTPUTS: Mutex<BTreeMap<OutputId, Output>> = Mutex::new(BTreeMap::new());

/// A transaction's hash and the number of one of its outputs.
type OutputId = ([u8; DAP_CHAIN_HASH_FAST_SIZE], u32);

struct Service {
    tag: Vec<u8>,
    callback: unsafe extern "C" fn(
        *mut dap_ledger,
        *mut dap_chain_datum_tx,
        *mut dap_chain_datum_tx_item_groups,
        *mut dap_chain_tx_tag_action_type_t,
    ) -> bool,
}

/// The header of an output: subtype and service.
type Content = (u8, u64);

/// An output on the heap, never freed, and the header it was made from.
struct Output(*mut dap_chain_tx_out_cond, Content);

// SAFETY: Rust never reads through the pointer; it is for C, and valid on every thread until the process ends.
unsafe impl Send for Output {}

impl Output {
    fn new(content: Content) -> Self {
        let (subtype, srv_uid) = content;
        let header = dap_chain_tx_out_cond_header { subtype, srv_uid: dap_chain_net_srv_uid { uint64: srv_uid } };
        Self(Box::into_raw(Box::new(dap_chain_tx_out_cond { header })), content)
    }
}

impl dap_chain_tx_out_cond_header {
    fn content(&self) -> Content {
        (self.subtype, self.srv_uid.uint64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn says_use(
        _ledger: *mut dap_ledger,
        _tx: *mut dap_chain_datum_tx,
        _items: *mut dap_chain_datum_tx_item_groups,
        action: *mut dap_chain_tx_tag_action_type_t,
    ) -> bool {
        // SAFETY: the test passes an action of its own.
        unsafe { action.write(128) };
        true
    }

    unsafe extern "C" fn says_no(
        _ledger: *mut dap_ledger,
        _tx: *mut dap_chain_datum_tx,
        _items: *mut dap_chain_datum_tx_item_groups,
        action: *mut dap_chain_tx_tag_action_type_t,
    ) -> bool {
        // SAFETY: the test passes an action of its own.
        unsafe { action.write(0) };
        false
    }

    const UID: dap_chain_net_srv_uid = dap_chain_net_srv_uid { uint64: 0x7e57 };

    fn add(tag: Option<&std::ffi::CStr>, callback: dap_ledger_tag_check_callback_t) -> c_int {
        let tag = tag.map_or(std::ptr::null_mut(), |tag| tag.as_ptr().cast_mut());
        // SAFETY: NULL or a string, which is only read; the callbacks are functions of this module.
        unsafe { dap_ledger_service_add(UID, tag, callback) }
    }

    fn tag(uid: dap_chain_net_srv_uid) -> (bool, u32) {
        let mut action = 7;
        let (ledger, tx, items) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the checks of this module write the action and read nothing.
        let said = unsafe { dap_ledger_service_tag(ledger, tx, items, uid, &mut action) };
        (said, action)
    }

    #[test]
    fn a_service_is_registered_once() {
        assert_eq!((add(None, Some(says_use)), add(Some(c"t"), None)), (-1, -1));
        assert_eq!(tag(UID), (false, 7));
        assert_eq!(add(Some(c"t"), Some(says_use)), 0);
        assert_eq!(add(Some(c"t"), Some(says_use)), 0);
        assert_eq!(add(Some(c"t"), Some(says_no)), -1);
        assert_eq!(add(Some(c"other"), Some(says_use)), -1);
        assert_eq!(tag(UID), (true, 128));
        assert_eq!(tag(dap_chain_net_srv_uid { uint64: 0x7e58 }), (false, 7));
    }

    #[test]
    fn outputs_are_found_by_what_spends_them() {
        let hash = dap_hash_fast { raw: [0x5e; 32] };
        let out = |srv_uid| {
            let srv_uid = dap_chain_net_srv_uid { uint64: srv_uid };
            dap_chain_tx_out_cond { header: dap_chain_tx_out_cond_header { subtype: 1, srv_uid } }
        };
        let add = |idx, srv_uid| {
            // SAFETY: both are this test's own.
            unsafe { dap_ledger_tx_out_cond_add(&hash, idx, &mut out(srv_uid)) }
        };
        let find = |idx| {
            let mut spends = dap_chain_tx_in_cond { tx_prev_hash: hash, tx_out_prev_idx: idx };
            // SAFETY: the input is this test's own.
            unsafe { dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(std::ptr::null_mut(), &mut spends) }
        };
        assert!(find(0).is_null());
        assert_eq!((add(0, 1), add(0, 1), add(0, 2), add(1, 2)), (0, 0, -1, 0));
        // SAFETY: outputs stay valid.
        let found = unsafe { &*find(1) };
        assert_eq!(found.header.content(), (1, 2));
        assert!(find(2).is_null());
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { dap_ledger_tx_out_cond_add(std::ptr::null(), 0, std::ptr::null_mut()) }, -1);
        let null = std::ptr::null_mut();
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(null, std::ptr::null_mut()) }.is_null());
    }
}
