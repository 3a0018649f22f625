//! Paid service without a gate in front: as the Cellframe SDK provides it, faults included, and as this SDK does
//! (`sells`, `hostile`).

mod faults;
mod hostile;
mod means;
mod scenarios;
mod sells;
mod starts;

use crate::support::*;
use embedded::abi::service::*;
use embedded::abi::stream::dap_stream_ch_pkt_write_unsafe;
use embedded::ctypes::*;
use embedded::ledger::{self, Hash, Order, Transaction};
use embedded::money;
use embedded::receipt::{Key, SIGNATURE_LEN};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;
use vpn_core::wire::{Receipt, Request, ServiceError, error_code, pkt, unit};

pub(crate) const NET: u64 = 0x0404_2022_0000_0000;
const VPN: dap_chain_net_srv_uid = dap_chain_net_srv_uid { uint64: 1 };
/// How long the SDK waits for a signature in these tests, and how long grace takes.
const WAIT: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_secs(1);
/// The value of one receipt.
const PRICE: u128 = 10;

static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static SUCCESS_RESULT: AtomicI32 = AtomicI32::new(0);
static NEXT_RESULT: AtomicI32 = AtomicI32::new(0);
static REST: Mutex<Option<(i64, i64)>> = Mutex::new(None);
/// response_error takes the usage away from the session, as the gate does.
static DETACH: AtomicI32 = AtomicI32::new(0);
/// The server's channel 'R' of the latest callback with a client.
static CHANNEL: AtomicUsize = AtomicUsize::new(0);

/// The callback's name with the state and the step at its entry.
fn note(name: &str, remote: *mut dap_chain_net_srv_client_remote, rest: &str) {
    let at = match unsafe { remote.as_ref() } {
        None => "-".into(),
        Some(remote) => {
            CHANNEL.store(remote.ch.expose_provenance(), Ordering::SeqCst);
            match unsafe { usage_of(remote.ch).as_ref() } {
                Some(usage) => format!("{}/{}", usage.service_state.get() as i32, usage.service_substate.get() as i32),
                None => "none".into(),
            }
        }
    };
    CALLS.lock().unwrap().push(format!("{name} {at}{rest}"));
}

fn session_of(ch: *mut dap_stream_ch) -> *mut dap_chain_net_srv_stream_session {
    unsafe { (*(*(*ch).stream).session)._inheritor.get().cast() }
}

fn usage_of(ch: *mut dap_stream_ch) -> *mut dap_chain_net_srv_usage {
    unsafe { (*session_of(ch)).usage_active.get() }
}

unsafe extern "C" fn requested(
    _srv: *mut dap_chain_net_srv,
    _id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
    _data: *const c_void,
    _size: usize,
) -> c_int {
    note("requested", remote, "");
    0
}

unsafe extern "C" fn success(
    _srv: *mut dap_chain_net_srv,
    _id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
    data: *const c_void,
    size: usize,
) -> c_int {
    note("success", remote, &format!(" {size}"));
    assert_eq!(data.is_null(), size == 0);
    unsafe { (*usage_of((*remote).ch)).is_active.set(true) };
    SUCCESS_RESULT.load(Ordering::SeqCst)
}

unsafe extern "C" fn error(
    _srv: *mut dap_chain_net_srv,
    id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
    data: *const c_void,
    size: usize,
) -> c_int {
    assert_eq!((size, id == 0), (24, remote.is_null()));
    let code = ServiceError::parse(unsafe { std::slice::from_raw_parts(data.cast(), size) }).unwrap().code;
    note("error", remote, &format!(" {code:#x}"));
    if DETACH.load(Ordering::SeqCst) != 0 && !remote.is_null() {
        unsafe { (*session_of((*remote).ch)).usage_active.set(ptr::null_mut()) };
    }
    0
}

unsafe extern "C" fn next(
    _srv: *mut dap_chain_net_srv,
    _id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
    _data: *const c_void,
    size: usize,
) -> c_int {
    note("next", remote, &format!(" {size}"));
    NEXT_RESULT.load(Ordering::SeqCst)
}

unsafe extern "C" fn get_rest(
    _srv: *mut dap_chain_net_srv,
    _id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
) -> *mut dap_stream_ch_chain_net_srv_remain_service_store {
    note("rest", remote, "");
    let Some((limits_bytes, limits_ts)) = *REST.lock().unwrap() else { return ptr::null_mut() };
    // The SDK never frees it.
    Box::into_raw(Box::new(dap_stream_ch_chain_net_srv_remain_service_store { limits_bytes, limits_ts }))
}

unsafe extern "C" fn save_rest(
    _srv: *mut dap_chain_net_srv,
    _id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
) -> c_int {
    note("save", remote, "");
    0
}

/// A node with a service that writes down what it is called for.
pub(crate) struct Paid {
    pub(crate) sdk: Sdk,
    pub(crate) order: Hash,
}

impl Paid {
    pub(crate) fn start() -> Paid {
        Self::start_with("")
    }

    pub(crate) fn start_with(more: &str) -> Paid {
        Self::start_as(true, 1, more)
    }

    /// A node that sells by itself, with this number of workers.
    pub(crate) fn sell(workers: usize) -> Paid {
        Self::start_as(false, workers, "")
    }

    fn start_as(plays_the_sdk: bool, workers: usize, more: &str) -> Paid {
        let sdk = Sdk::start_with(workers, &format!("[srv_vpn]\ngrace_period={}\n{more}", GRACE.as_secs()));
        ledger::reset();
        money::play_the_sdk(plays_the_sdk);
        money::set_signature_wait(WAIT);
        CALLS.lock().unwrap().clear();
        SUCCESS_RESULT.store(0, Ordering::SeqCst);
        NEXT_RESULT.store(0, Ordering::SeqCst);
        DETACH.store(0, Ordering::SeqCst);
        *REST.lock().unwrap() = None;
        let mut callbacks = dap_chain_net_srv_callbacks {
            requested: Some(requested),
            response_success: Some(success),
            response_error: Some(error),
            receipt_next_success: Some(next),
            get_remain_service: Some(get_rest),
            save_remain_service: Some(save_rest),
        };
        assert!(!unsafe { dap_chain_net_srv_add(VPN, c"srv_vpn".as_ptr(), &raw mut callbacks) }.is_null());
        Paid { sdk, order: order(unit::SECONDS, 20) }
    }

    /// A client that may spend this much.
    pub(crate) fn payer(&self, value: u128) -> Payer {
        self.payer_of(Transaction { unit: unit::SECONDS, value, ..Transaction::default() })
    }

    pub(crate) fn payer_of(&self, transaction: Transaction) -> Payer {
        let key = Key::generate().unwrap();
        let tx = ledger::add_transaction(NET, Transaction { client_key: key.hash(), ..transaction });
        Payer { client: self.sdk.connected("RS"), key, order: self.order, tx }
    }

    /// A client without a transaction.
    pub(crate) fn pauper(&self) -> Payer {
        let key = Key::generate().unwrap();
        Payer { client: self.sdk.connected("RS"), key, order: self.order, tx: [0x77; 32] }
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What a fault left behind must not reach the next test.
            eventually(|| CLOSED.load(Ordering::SeqCst) == OPENED.load(Ordering::SeqCst), || "streams are open".into());
        }
        money::play_the_sdk(false);
    }
}

pub(crate) fn order(unit: u32, units: u64) -> Hash {
    ledger::add_order(NET, Order { unit, units, value: PRICE, token: "CELL".into(), is_ours: true })
}

/// A client with a key and a transaction.
pub(crate) struct Payer {
    pub(crate) client: Client,
    pub(crate) key: Key,
    pub(crate) order: Hash,
    pub(crate) tx: Hash,
}

impl Payer {
    pub(crate) fn ask(&self) -> Request {
        let (tx_cond, order_hash) = (self.tx, self.order);
        Request { net_id: NET, tx_cond, srv_uid: 1, client_pkey_hash: self.key.hash(), order_hash, token: [0; 10] }
    }

    pub(crate) fn request(&self) {
        self.send(pkt::REQUEST, &self.ask().encode());
    }

    /// Answers with a new transaction.
    pub(crate) fn new_transaction(&self, tx_cond: Hash) {
        self.send(pkt::NEW_TX_COND_RESPONSE, &Request { tx_cond, ..self.ask() }.encode());
    }

    pub(crate) fn send(&self, kind: u8, data: &[u8]) {
        assert_eq!(self.client.send(b'R', kind, data.to_vec()), data.len());
    }

    /// The next packet on 'R' must be of this kind and size.
    pub(crate) fn expect(&self, kind: u8, size: usize) -> Vec<u8> {
        let (got, data) = self.packet();
        assert_eq!((got, data.len()), (kind, size), "{data:02x?}");
        data
    }

    fn packet(&self) -> (u8, Vec<u8>) {
        eventually(|| !self.client.log.packets.lock().unwrap().is_empty(), || format!("no packet; {:?}", calls()));
        self.client.log.packets.lock().unwrap().remove(0)
    }

    /// The next packet on 'R' must be the code alone.
    pub(crate) fn expect_code(&self, code: u32) {
        assert_eq!(self.expect(pkt::ERROR, 4), code.to_le_bytes(), "{code:#x}");
    }

    /// The next packet on 'R' must be an error of 24 bytes.
    pub(crate) fn expect_refusal(&self, code: u32) {
        assert_eq!(ServiceError::parse(&self.expect(pkt::ERROR, 24)).unwrap().code, code);
    }

    /// A receipt with the provider's signature alone.
    pub(crate) fn expect_receipt(&self) -> Vec<u8> {
        self.expect(pkt::SIGN_REQUEST, Receipt::LEN + SIGNATURE_LEN)
    }

    /// Requests the service, and looks into the first receipt.
    pub(crate) fn first_receipt(&self) -> Vec<u8> {
        self.request();
        let receipt = self.expect_receipt();
        let info = Receipt::parse(&receipt).unwrap().info;
        assert_eq!((info.units, info.units_type, info.prev_tx), (20, unit::SECONDS, self.tx));
        receipt
    }

    /// Names another key than the transaction's, and is refused for that.
    pub(crate) fn expect_refused_key(&self) {
        self.send(pkt::REQUEST, &Request { client_pkey_hash: [5; 32], ..self.ask() }.encode());
        self.answer(&self.expect_receipt());
        self.expect_code(error_code::RECEIPT_WRONG_PKEY_HASH);
    }

    pub(crate) fn answer(&self, receipt: &[u8]) {
        self.send(pkt::SIGN_RESPONSE, &self.key.add_to(receipt).unwrap());
    }

    /// Requests the service and pays the first receipt.
    pub(crate) fn begin(&self) {
        self.request();
        self.answer(&self.expect_receipt());
        self.expect(pkt::SUCCESS, 87);
    }

    /// Signs the next receipt, which the service asks for.
    pub(crate) fn pay_next(&self) {
        ask_next(false);
        self.answer(&self.expect_receipt());
    }

    /// Nothing comes for a while.
    pub(crate) fn expect_nothing(&self, time: Duration) {
        std::thread::sleep(time);
        let packets = self.client.log.packets.lock().unwrap();
        assert!(packets.is_empty(), "{:?}", packets.iter().map(|(kind, data)| (*kind, data.len())).collect::<Vec<_>>());
    }

    /// Ends the stream, and waits until the server knows.
    pub(crate) fn leave(self) {
        let closed = CLOSED.load(Ordering::SeqCst);
        drop(self);
        // The client's end and the server's end of 'S'.
        eventually(|| CLOSED.load(Ordering::SeqCst) >= closed + 2, || "the server's end stays".into());
    }
}

/// The calls of the service since the last look.
pub(crate) fn calls() -> Vec<String> {
    std::mem::take(&mut *CALLS.lock().unwrap())
}

/// Waits for a call.
pub(crate) fn wait_for(call: &str) {
    eventually(|| CALLS.lock().unwrap().iter().any(|known| known == call), || format!("{:?}", calls()));
}

/// Asks for the next receipt, as the service does at half of the units; with the SDK's timer, or without.
pub(crate) fn ask_next(timer: bool) {
    on_server(move |ch| unsafe {
        let usage = &*usage_of(ch);
        let mut prev = usage.tx_cond_hash.get();
        let issued = embedded::abi::receipt::dap_chain_net_srv_issue_receipt(
            usage.service,
            usage.price,
            ptr::null(),
            0,
            &raw mut prev,
        );
        usage.receipt_next.set(issued);
        usage.service_substate.set(dap_chain_net_srv_usage_service_substate::DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEXT_RECEIPT_SIGN);
        if timer {
            usage.receipt_timeout_timer_start_callback.unwrap()(usage_of(ch));
        }
        let size = (*issued).size as usize;
        assert_eq!(dap_stream_ch_pkt_write_unsafe(ch, pkt::SIGN_REQUEST, issued.cast(), size), size);
    });
}

/// Puts the next receipt in the current one's place, as the service does when the units are used up.
pub(crate) fn switch() {
    on_server(|ch| unsafe {
        let usage = &*usage_of(ch);
        libc::free(usage.receipt.replace(usage.receipt_next.replace(ptr::null_mut())).cast());
    });
}

/// The step of the usage.
pub(crate) fn step() -> i32 {
    on_server(|ch| unsafe { (*usage_of(ch)).service_substate.get() as i32 })
}

/// Runs on the server's worker with its channel.
pub(crate) fn on_server<R: Send + 'static>(body: impl FnOnce(*mut dap_stream_ch) -> R + Send + 'static) -> R {
    let ch = CHANNEL.load(Ordering::SeqCst);
    on_worker(worker(0), move || body(ptr::with_exposed_provenance_mut(ch)))
}
