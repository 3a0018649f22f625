//! The speed of one stream: `cargo test --release --test embedded_stream speed -- --ignored --nocapture`.

use crate::support::*;
use embedded::abi::stream;
use embedded::ctypes::*;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static SIZE: AtomicUsize = AtomicUsize::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);
/// A producer that keeps this much pending does not reach the limit.
const ENOUGH: usize = 512 * 1024;

/// The server's end counts; the client's end sends until this much is pending, and again when it has drained.
unsafe extern "C" fn sink(_ch: *mut dap_stream_ch, packet: *mut c_void) -> bool {
    // SAFETY: a packet begins with its header.
    let header = unsafe { packet.cast::<dap_stream_ch_pkt_hdr>().read() };
    RECEIVED.fetch_add(u64::from(header.data_size), Ordering::Relaxed);
    true
}

unsafe extern "C" fn source(ch: *mut dap_stream_ch, _arg: *mut c_void) -> bool {
    let data = [7u8; 65536];
    let size = SIZE.load(Ordering::Relaxed);
    // SAFETY: on the channel's worker.
    unsafe {
        while size > 0 && (*(*(*ch).stream).esocket).buf_out_size.get() < ENOUGH {
            if stream::dap_stream_ch_pkt_write_unsafe(ch, 1, data.as_ptr().cast(), size) == 0 {
                break;
            }
        }
    }
    false
}

#[test]
#[ignore = "a measurement"]
fn one_stream() {
    let sdk = Sdk::start(2);
    // SAFETY: functions of this program.
    unsafe { stream::dap_stream_ch_proc_add(b'F', None, None, Some(sink), Some(source)) };
    for size in [100, 1400, 16_000, 65_000] {
        let client = sdk.connected("F");
        SIZE.store(size, Ordering::Relaxed);
        client.on_channel(b'F', |ch| {
            // SAFETY: on the channel's worker.
            unsafe {
                stream::dap_stream_ch_set_ready_to_write_unsafe(ch, true);
                source(ch, std::ptr::null_mut());
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        let (before, begin) = (RECEIVED.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(Duration::from_secs(3));
        let bytes = RECEIVED.load(Ordering::Relaxed) - before;
        let seconds = begin.elapsed().as_secs_f64();
        SIZE.store(0, Ordering::Relaxed);
        let megabits = bytes as f64 * 8e-6 / seconds;
        println!(
            "{size:6} bytes a packet: {megabits:7.0} Mbit/s, {:.0} kpps",
            bytes as f64 / size as f64 / seconds / 1e3
        );
        assert!(size < 1400 || megabits > 1500.0);
    }
}
