//! A session whose stream moves from worker to worker all the time is metered like any other.

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use embedded::abi::events::{dap_events_socket_reassign_between_workers_mt, dap_events_worker_get};
use embedded::abi::stream::{dap_stream_ch_proc_add, dap_stream_ch_proc_find};
use embedded::ctypes::{dap_stream_ch, dap_stream_ch_callback_t};
use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::unit;

use crate::server::{NET, PRICE, Server};

/// The address of the server's socket.
static SOCKET: AtomicUsize = AtomicUsize::new(0);
/// What the gate does with a new channel 'R'.
static OPENED: OnceLock<dap_stream_ch_callback_t> = OnceLock::new();

/// Notes the socket of a stream that a client opens, and goes on as without the test.
unsafe extern "C" fn note(ch: *mut dap_stream_ch, argument: *mut c_void) {
    // SAFETY: a new channel, on its worker; the field never changes.
    let stream = unsafe { (*ch).stream };
    // SAFETY: the stream of an open channel; the fields read never change.
    let stream = unsafe { &*stream };
    if !stream.is_client_to_uplink {
        SOCKET.store(stream.esocket.expose_provenance(), Ordering::SeqCst);
    }
    if let Some(Some(opened)) = OPENED.get() {
        // SAFETY: the registered function, with the arguments that it would have got.
        unsafe { opened(ch, argument) };
    }
}

#[test]
fn a_stream_that_moves_is_metered() {
    in_namespace("moving::a_stream_that_moves_is_metered", || {
        let server = Server::start("");
        // SAFETY: any thread.
        let gate = unsafe { dap_stream_ch_proc_find(b'R') };
        // SAFETY: a registration of this process, which never ends.
        let gate = unsafe { &*gate };
        let _ = OPENED.set(gate.new_callback);
        let (deleted, read, written) = (gate.delete_callback, gate.packet_in_callback, gate.packet_out_callback);
        // SAFETY: functions of this program.
        unsafe { dap_stream_ch_proc_add(b'R', Some(note), deleted, read, written) };
        let order = server.order(unit::SECONDS, 2);
        let client = server.payer(order, unit::SECONDS, 3 * PRICE);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    for (from, to) in [(0, 1), (1, 0)] {
                        let es = std::ptr::with_exposed_provenance_mut(SOCKET.load(Ordering::SeqCst));
                        // SAFETY: numbers of workers.
                        let [from, to] = [from, to].map(|worker| unsafe { dap_events_worker_get(worker) });
                        // SAFETY: any thread; the stream is open until the scope's end.
                        unsafe { dap_events_socket_reassign_between_workers_mt(from, es, to) };
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
            client.request();
            client.success();
            let begin = client.now();
            client.lease();
            client.send_datagrams(10, 100, server.socket.local_addr().unwrap().port());
            let served = client.stopped() - begin;
            stop.store(true, Ordering::SeqCst);
            assert_ne!(SOCKET.load(Ordering::SeqCst), 0, "nothing has moved");
            assert!((5900..7000).contains(&served.as_millis()), "{served:?} for 6 s");
            assert_eq!((client.receipts().len(), ledger::earned(NET)), (3, 3 * PRICE));
        });
    });
}
