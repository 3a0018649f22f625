//! When a channel that is ready to write is told that there is room.

use crate::support::*;
use embedded::abi::stream;
use embedded::ctypes::*;
use libc::{IPPROTO_TCP, RUSAGE_SELF, TCP_NOTSENT_LOWAT};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The limit of what the kernel takes and cannot send yet.
const LIMIT: u32 = 64 * 1024;
const LOOK: Duration = Duration::from_millis(400);

/// The calls of the client's end, and what they do: how much they write, and what they return.
static CALLS: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicUsize = AtomicUsize::new(0);
static ANSWER: AtomicBool = AtomicBool::new(false);
/// The most output that waited at the begin of a call: in the stream, and unsent in the kernel.
static MOST_WAITING: AtomicU64 = AtomicU64::new(0);
static MOST_UNSENT: AtomicU64 = AtomicU64::new(0);
/// What has arrived at the server's end, and its channel.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static SERVERS_END: AtomicPtr<dap_stream_ch> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" fn opened(ch: *mut dap_stream_ch, _arg: *mut c_void) {
    if unsafe { !(*(*ch).stream).is_client_to_uplink } {
        SERVERS_END.store(ch, Ordering::SeqCst);
    }
}

unsafe extern "C" fn arrived(_ch: *mut dap_stream_ch, packet: *mut c_void) -> bool {
    let header = unsafe { packet.cast::<dap_stream_ch_pkt_hdr>().read() };
    ARRIVED.fetch_add(u64::from(header.data_size), Ordering::SeqCst);
    true
}

unsafe extern "C" fn has_room(ch: *mut dap_stream_ch, _arg: *mut c_void) -> bool {
    CALLS.fetch_add(1, Ordering::SeqCst);
    let es = unsafe { &*(*(*ch).stream).esocket };
    MOST_WAITING.fetch_max(es.buf_out_size.get() as u64, Ordering::SeqCst);
    MOST_UNSENT.fetch_max(unsent(es.fd.get()), Ordering::SeqCst);
    let data = [7; 4096];
    for _ in 0..WRITES.load(Ordering::SeqCst) {
        let accepted = unsafe { stream::dap_stream_ch_pkt_write_unsafe(ch, 1, data.as_ptr().cast(), data.len()) };
        assert_eq!(accepted, data.len());
    }
    ANSWER.load(Ordering::SeqCst)
}

fn unsent(fd: i32) -> u64 {
    /// Of linux/sockios.h: what the kernel has not sent.
    const SIOCOUTQNSD: libc::c_ulong = 0x894b;
    let mut bytes: libc::c_int = -1;
    assert_eq!(unsafe { libc::ioctl(fd, SIOCOUTQNSD, &raw mut bytes) }, 0);
    u64::try_from(bytes).unwrap()
}

/// The time that this process has run on a CPU.
fn cpu() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    assert_eq!(unsafe { libc::getrusage(RUSAGE_SELF, usage.as_mut_ptr()) }, 0);
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// A stream whose callbacks write `writes` packets of 4 KiB each and return `answer`.
fn connected(writes: usize, answer: bool) -> (Sdk, Client) {
    let sdk = Sdk::start(2);
    unsafe { stream::dap_stream_ch_proc_add(b'W', Some(opened), None, Some(arrived), Some(has_room)) };
    for counter in [&CALLS, &MOST_WAITING, &MOST_UNSENT, &ARRIVED] {
        counter.store(0, Ordering::SeqCst);
    }
    WRITES.store(writes, Ordering::SeqCst);
    ANSWER.store(answer, Ordering::SeqCst);
    let client = sdk.connected("W");
    client.on_channel(b'W', |ch| {
        let fd = unsafe { (*(*(*ch).stream).esocket).fd.get() };
        let (limit, size) = (LIMIT, size_of_val(&LIMIT) as libc::socklen_t);
        assert_eq!(unsafe { libc::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (&raw const limit).cast(), size) }, 0);
    });
    (sdk, client)
}

fn set_ready(client: &Client, is_ready: bool) {
    client.on_channel(b'W', move |ch| unsafe { stream::dap_stream_ch_set_ready_to_write_unsafe(ch, is_ready) });
}

/// Makes the server's end read, or stop to.
fn set_reading(reads: bool) {
    let ch = SERVERS_END.load(Ordering::SeqCst).expose_provenance();
    let owner = unsafe { (*(*ptr::with_exposed_provenance::<dap_stream_ch>(ch)).stream_worker.get()).worker };
    on_worker(owner, move || unsafe {
        stream::dap_stream_ch_set_ready_to_read_unsafe(ptr::with_exposed_provenance_mut(ch), reads);
    });
}

fn calls() -> u64 {
    CALLS.load(Ordering::SeqCst)
}

/// Waits until no more calls come; returns their number.
fn until_calls_end() -> u64 {
    let ended = || {
        let before = calls();
        std::thread::sleep(Duration::from_millis(200));
        before == calls()
    };
    eventually(ended, || format!("{} calls, and more", calls()));
    calls()
}

#[test]
fn a_slow_reader_brings_a_call_each_time_there_is_room() {
    let (_sdk, client) = connected(4, true);
    set_reading(false);
    set_ready(&client, true);
    let mut before = 0;
    for round in 0..3 {
        let full = until_calls_end();
        assert!(full > before + 1, "round {round}: {full} calls, {before} before");
        // Ready to write, and nothing to do but wait.
        let begin = cpu();
        std::thread::sleep(LOOK);
        let used = cpu() - begin;
        assert!(used < LOOK / 8, "{used:?} of CPU in {LOOK:?}");
        // The kernel's probes of the full window may find room for a little more.
        assert!(calls() <= full + 4, "{} calls, {full} before", calls());
        before = calls();
        let arrived = ARRIVED.load(Ordering::SeqCst);
        set_reading(true);
        eventually(|| calls() > full + 100, || format!("{} calls, {full} before", calls()));
        assert!(ARRIVED.load(Ordering::SeqCst) > arrived);
        set_reading(false);
    }
    // A call comes when all that was written before is in the kernel, and less than half of the limit is unsent.
    let (waiting, unsent) = (MOST_WAITING.load(Ordering::SeqCst), MOST_UNSENT.load(Ordering::SeqCst));
    assert_eq!(waiting, 0);
    assert!(unsent < u64::from(LIMIT) / 2, "{unsent} bytes unsent");
    set_ready(&client, false);
    let last = calls();
    set_reading(true);
    std::thread::sleep(LOOK);
    assert_eq!(calls(), last, "called while not ready");
}

#[test]
fn room_is_told_at_once_and_again_after_output() {
    let (_sdk, client) = connected(0, false);
    std::thread::sleep(LOOK / 4);
    assert_eq!(calls(), 0, "not ready yet");
    set_ready(&client, true);
    eventually(|| calls() == 1, || format!("{} calls", calls()));
    // It has written nothing, and asks for nothing.
    std::thread::sleep(LOOK / 4);
    assert_eq!(calls(), 1);
    client.send(b'W', 1, vec![1; 100]);
    eventually(|| calls() >= 2, || "no call after output".into());
    let after_output = until_calls_end();
    assert!(after_output <= 3, "{after_output} calls");
    set_ready(&client, true);
    eventually(|| calls() == after_output + 1, || format!("{} calls, {after_output} before", calls()));
}

#[test]
fn a_callback_that_only_asks_does_not_keep_the_loop_busy() {
    let (_sdk, client) = connected(0, true);
    set_ready(&client, true);
    eventually(|| calls() >= 8, || format!("{} calls", calls()));
    let (before, begin) = (calls(), cpu());
    std::thread::sleep(LOOK);
    let (called, used) = (calls() - before, cpu() - begin);
    // One in 5 ms, on a machine that may be slow.
    assert!((4..=2 * 400 / 5).contains(&called), "{called} calls in {LOOK:?}");
    assert!(used < LOOK / 4, "{used:?} of CPU in {LOOK:?}");
    // Neither a repeated request nor other output makes it more.
    let before = calls();
    for _ in 0..40 {
        set_ready(&client, true);
        client.send(b'W', 1, vec![1; 100]);
        std::thread::sleep(LOOK / 40);
    }
    let called = calls() - before;
    assert!(called <= 2 * 400 / 5 + 40, "{called} calls in {LOOK:?}");
}
