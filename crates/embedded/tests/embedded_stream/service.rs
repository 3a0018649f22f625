//! Channel 'R': requests for a service and checks of a server.

use crate::support::*;
use embedded::abi::net::dap_chain_net_by_id;
use embedded::abi::service::*;
use embedded::ctypes::*;
use embedded::service::free_order;
use embedded::stream::COUNTERS;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;
use vpn_core::wire::{Check, Request, ServiceError, Success, error_code, pkt};

const BACKBONE: u64 = 0x0404_2022_0000_0000;
const VPN: dap_chain_net_srv_uid = dap_chain_net_srv_uid { uint64: 1 };

static REFUSAL: AtomicI32 = AtomicI32::new(0);
static SUCCESS_RESULT: AtomicI32 = AtomicI32::new(0);
static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static SESSION: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn requested(
    srv: *mut dap_chain_net_srv,
    id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
    data: *const c_void,
    size: usize,
) -> c_int {
    // SAFETY: all arguments live during the callback, on the stream's worker.
    unsafe {
        assert_eq!(srv, dap_chain_net_srv_get(VPN));
        assert!(size >= Request::LEN && !data.is_null());
        let session = (*(*(*(*remote).ch).stream).session)._inheritor.get().cast::<dap_chain_net_srv_stream_session>();
        SESSION.store(session.expose_provenance(), Ordering::SeqCst);
        let usage = dap_chain_net_srv_usage_find_unsafe(session, id);
        assert_eq!((*usage).id, id);
        assert_eq!((*usage).client, remote);
        assert_eq!((*usage).service, srv);
        assert_eq!((*(*usage).net).r#pub.id.uint64, BACKBONE);
        assert!(!(*usage).is_active.get());
        assert!(dap_chain_net_srv_usage_find_unsafe(session, id + 1000).is_null());
    }
    CALLS.lock().unwrap().push("requested".into());
    REFUSAL.load(Ordering::SeqCst)
}

unsafe extern "C" fn response_success(
    _srv: *mut dap_chain_net_srv,
    id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
    _data: *const c_void,
    _size: usize,
) -> c_int {
    // SAFETY: as in `requested`.
    unsafe {
        let session = (*(*(*(*remote).ch).stream).session)._inheritor.get().cast::<dap_chain_net_srv_stream_session>();
        let usage = (*session).usage_active.get();
        assert_eq!((*usage).id, id);
        let free = dap_chain_net_srv_usage_service_state::DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_FREE;
        assert_eq!((*usage).service_state.get(), free);
    }
    CALLS.lock().unwrap().push("success".into());
    SUCCESS_RESULT.load(Ordering::SeqCst)
}

unsafe extern "C" fn response_error(
    _srv: *mut dap_chain_net_srv,
    _id: u32,
    _remote: *mut dap_chain_net_srv_client_remote,
    data: *const c_void,
    size: usize,
) -> c_int {
    // SAFETY: the packet is alive during the callback.
    let packet = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) };
    assert_eq!(size, 24);
    CALLS.lock().unwrap().push(format!("error {:#x}", ServiceError::parse(packet).unwrap().code));
    0
}

pub(crate) fn add_service() -> *mut dap_chain_net_srv {
    CALLS.lock().unwrap().clear();
    REFUSAL.store(0, Ordering::SeqCst);
    SUCCESS_RESULT.store(0, Ordering::SeqCst);
    let mut callbacks = dap_chain_net_srv_callbacks {
        requested: Some(requested),
        response_success: Some(response_success),
        response_error: Some(response_error),
        ..dap_chain_net_srv_callbacks::default()
    };
    // SAFETY: the section is a string, the callbacks are functions of this program.
    unsafe { dap_chain_net_srv_add(VPN, c"srv_vpn".as_ptr(), &raw mut callbacks) }
}

pub(crate) fn request() -> Request {
    Request { net_id: BACKBONE, tx_cond: [1; 32], srv_uid: 1, order_hash: free_order(BACKBONE), ..Request::default() }
}

pub(crate) fn ask(client: &Client, kind: u8, message: &[u8]) -> (u8, Vec<u8>) {
    assert_eq!(client.send(b'R', kind, message.to_vec()), message.len());
    client.wait_packets(1).remove(0)
}

fn code_of(reply: (u8, Vec<u8>)) -> u32 {
    assert_eq!((reply.0, reply.1.len()), (pkt::ERROR, ServiceError::LEN));
    ServiceError::parse(&reply.1).unwrap().code
}

#[test]
fn a_free_request_is_granted_and_again() {
    let sdk = Sdk::start(2);
    let srv = add_service();
    // SAFETY: the service is alive.
    assert_eq!(unsafe { ((*srv).uid.uint64, (*srv).allow_free_srv.get(), (*srv).grace_period.get()) }, (1, true, 60));
    assert!(add_service().is_null(), "a second one under the same uid");
    let client = sdk.connected("RS");
    let first = ask(&client, pkt::REQUEST, &request().encode());
    assert_eq!((first.0, first.1.len()), (pkt::SUCCESS, 20));
    let success = Success::parse(&first.1).unwrap();
    assert_eq!((success.net_id, success.srv_uid), (BACKBONE, 1));
    assert_ne!(success.usage_id, 0);
    assert_eq!(*CALLS.lock().unwrap(), ["requested", "success"]);
    assert_eq!(ask(&client, pkt::REQUEST, &request().encode()), first, "the same answer to a repetition");
    assert_eq!(CALLS.lock().unwrap().len(), 2);
    // With the service's own data behind it; another stream gets another usage.
    let other = sdk.connected("SR");
    let mut longer = request().encode().to_vec();
    longer.extend_from_slice(b"more");
    let second = Success::parse(&ask(&other, pkt::REQUEST, &longer).1).unwrap();
    assert_ne!(second.usage_id, success.usage_id);
    // SAFETY: any thread.
    unsafe { dap_chain_net_srv_del(srv) };
    let third = sdk.connected("R");
    assert_eq!(code_of(ask(&third, pkt::REQUEST, &request().encode())), error_code::SERVICE_NOT_FOUND);
}

#[test]
fn refusals_have_their_codes() {
    let sdk = Sdk::start(1);
    assert!(!add_service().is_null());
    let blank = [0; 32];
    for (request, code) in [
        (Request { net_id: 77, ..request() }, error_code::NETWORK_NOT_FOUND),
        (Request { srv_uid: 2, ..request() }, error_code::SERVICE_NOT_FOUND),
        (Request { order_hash: blank, ..request() }, error_code::PRICE_NO_ORDER_HASH),
        (Request { tx_cond: blank, ..request() }, error_code::PRICE_NO_TX_HASH),
        (Request { order_hash: [9; 32], ..request() }, error_code::PRICE_ERROR),
    ] {
        let client = sdk.connected("R");
        CALLS.lock().unwrap().clear();
        let reply = ask(&client, pkt::REQUEST, &request.encode());
        let error = ServiceError::parse(&reply.1).unwrap();
        assert_eq!((error.net_id, error.srv_uid), (request.net_id, request.srv_uid));
        assert_eq!(code_of(reply), code);
        let told = if code == error_code::SERVICE_NOT_FOUND { vec![] } else { vec![format!("error {code:#x}")] };
        assert_eq!(*CALLS.lock().unwrap(), told);
    }
    for size in [0, 1, 121] {
        let client = sdk.connected("R");
        assert_eq!(code_of(ask(&client, pkt::REQUEST, &request().encode()[..size])), error_code::WRONG_SIZE, "{size}");
    }
    // The service's own code.
    let client = sdk.connected("RS");
    CALLS.lock().unwrap().clear();
    REFUSAL.store(0x123, Ordering::SeqCst);
    assert_eq!(code_of(ask(&client, pkt::REQUEST, &request().encode())), 0x123);
    REFUSAL.store(0, Ordering::SeqCst);
    SUCCESS_RESULT.store(-1, Ordering::SeqCst);
    assert_eq!(code_of(ask(&client, pkt::REQUEST, &request().encode())), error_code::SERVICE_CH_NOT_FOUND);
    assert_eq!(*CALLS.lock().unwrap(), ["requested", "error 0x123", "requested", "success", "error 0x101"]);
    // After the usage is dropped, the session has none, and the next request may succeed.
    let session: *mut dap_chain_net_srv_stream_session =
        ptr::with_exposed_provenance_mut(SESSION.load(Ordering::SeqCst));
    // SAFETY: the client's stream, and so its session, is alive.
    assert!(unsafe { (*session).usage_active.get() }.is_null());
    SUCCESS_RESULT.store(0, Ordering::SeqCst);
    assert_eq!(ask(&client, pkt::REQUEST, &request().encode()).0, pkt::SUCCESS);
}

#[test]
fn role_and_configuration_are_kept_to() {
    for (more, code) in [
        ("[srv_vpn]\nallow_free_srv=false\n", error_code::FREE_IS_NOT_ALLOWED),
        ("[network_backbone]\nrole=full\n", error_code::SERVICE_NODE_ROLE_ERROR),
        ("[network_backbone]\nrole=light\n", error_code::SERVICE_NODE_ROLE_ERROR),
    ] {
        let sdk = Sdk::start_with(1, more);
        assert!(!add_service().is_null());
        let client = sdk.connected("R");
        assert_eq!(code_of(ask(&client, pkt::REQUEST, &request().encode())), code, "{more}");
    }
    let sdk = Sdk::start_with(1, "[network_backbone]\nrole=root\n");
    assert!(!add_service().is_null());
    let client = sdk.connected("R");
    assert_eq!(ask(&client, pkt::REQUEST, &request().encode()).0, pkt::SUCCESS);
}

#[test]
fn nine_requests_a_second_are_one_too_many() {
    let sdk = Sdk::start(1);
    assert!(!add_service().is_null());
    let client = sdk.connected("R");
    let before = COUNTERS.service_dropped.load(Ordering::SeqCst);
    client.on_channel(b'R', |ch| {
        for _ in 0..20 {
            let message = request().encode();
            // SAFETY: on the channel's worker.
            let written = unsafe {
                embedded::abi::stream::dap_stream_ch_pkt_write_unsafe(
                    ch,
                    pkt::REQUEST,
                    message.as_ptr().cast(),
                    message.len(),
                )
            };
            assert_eq!(written, message.len());
        }
    });
    eventually(
        || COUNTERS.service_dropped.load(Ordering::SeqCst) == before + 12,
        || format!("{} dropped", COUNTERS.service_dropped.load(Ordering::SeqCst) - before),
    );
    assert_eq!(client.wait_packets(8).len(), 8);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(ask(&client, pkt::REQUEST, &request().encode()).0, pkt::SUCCESS);
}

#[test]
fn checks_are_answered() {
    let sdk = Sdk::start(1);
    let mut host_send = [0; 256];
    host_send[..5].copy_from_slice(b"there");
    for (send, wanted) in [(0usize, 0usize), (10, 1000), (65536, 65536)] {
        let client = sdk.connected("R");
        let data = pattern(1, send);
        let check = Check {
            net_id: BACKBONE,
            srv_uid: 1,
            send_time1: 42,
            host_send,
            data_size_send: send as u64,
            data_size_recv: wanted as u64,
            data_hash: Check::hash(&data),
            ..Check::default()
        };
        let reply = ask(&client, pkt::CHECK_REQUEST, &check.encode(&data));
        assert_eq!(reply.0, pkt::CHECK_RESPONSE);
        let (answer, bytes) = Check::parse(&reply.1).unwrap();
        assert_eq!(bytes.len(), wanted);
        assert_eq!(answer.data_hash, Check::hash(bytes));
        assert_eq!((answer.err_code, answer.send_time1, answer.host_send), (0, 42, host_send));
        assert!(answer.recv_time2 > 1_700_000_000_000_000_000 && answer.send_time2 >= answer.recv_time2);
        if wanted > 0 {
            assert!(bytes.iter().any(|byte| *byte != bytes[0]));
        }
    }
    let good = Check { data_hash: Check::hash(b"x"), ..Check::default() };
    for (message, code) in [
        (vec![], error_code::WRONG_SIZE),
        (good.encode(b"x")[..628].to_vec(), error_code::WRONG_SIZE),
        (Check { data_size_recv: 65537, ..good.clone() }.encode(b"x"), error_code::BIG_SIZE),
        (Check { data_size_recv: u64::MAX, ..good.clone() }.encode(b"x"), error_code::BIG_SIZE),
        (good.encode(&[0; 65537]), error_code::BIG_SIZE),
        (good.encode(b"y"), error_code::WRONG_HASH),
    ] {
        let client = sdk.connected("R");
        assert_eq!(code_of(ask(&client, pkt::CHECK_REQUEST, &message)), code);
    }
    // Messages that only a server may send are dropped.
    let client = sdk.connected("R");
    let before = COUNTERS.service_dropped.load(Ordering::SeqCst);
    for kind in [pkt::SUCCESS, pkt::ERROR, pkt::CHECK_RESPONSE, 0x10, 0x77] {
        assert_eq!(client.send(b'R', kind, vec![0; 700]), 700);
    }
    eventually(|| COUNTERS.service_dropped.load(Ordering::SeqCst) == before + 5, || "not counted".into());
}

#[test]
fn c_learns_the_free_order() {
    let _sdk = Sdk::start(1);
    // SAFETY: pointers of this function's own.
    unsafe {
        let net = dap_chain_net_by_id(dap_chain_net_id { uint64: BACKBONE });
        let mut hash = dap_hash_fast { raw: [0; 32] };
        assert!(dap_embedded_free_order(net, &raw mut hash));
        assert_eq!(hash.raw, free_order(BACKBONE));
        assert!(!dap_embedded_free_order(net, ptr::null_mut()));
        assert!(!dap_embedded_free_order(ptr::without_provenance(8), &raw mut hash));
    }
}
