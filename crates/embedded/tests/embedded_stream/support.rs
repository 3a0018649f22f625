//! A running embedded SDK for one test at a time, and C-level clients that record their events.

use embedded::abi::{client, events, stream};
use embedded::config::{self, Config};
use embedded::ctypes::*;
use embedded::timeouts::{self, Timeouts};
use embedded::{lifecycle, listener};
use std::ffi::{CString, c_int, c_void};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) use testkit::TEST_TIMEOUT;
/// Bytes that differ by position and by seed.
pub(crate) use testkit::noise as pattern;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The embedded SDK, retained once, with a server on a loopback port if requested.
pub(crate) struct Sdk {
    pub(crate) directory: TempDir,
    pub(crate) server: Option<SocketAddr>,
    _alone: MutexGuard<'static, ()>,
}

impl Sdk {
    pub(crate) fn start(workers: usize) -> Sdk {
        Self::start_with(workers, "")
    }

    pub(crate) fn start_with(workers: usize, more: &str) -> Sdk {
        let mut sdk = Self::configured(workers, more);
        assert!(lifecycle::retain(lifecycle::User::Program).is_ok());
        sdk.register_channels();
        listener::ensure_started().unwrap();
        sdk.server = listener::addresses().first().copied();
        sdk
    }

    /// Sets the configuration without starting the SDK.
    pub(crate) fn configured(workers: usize, more: &str) -> Sdk {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // A failed test may have left the SDK running.
        // SAFETY: any thread may call it.
        while unsafe { events::dap_events_thread_get_count() } > 0 {
            lifecycle::release(lifecycle::User::Program);
        }
        let directory = tempfile::tempdir().unwrap();
        configure(directory.path(), workers, more);
        timeouts::set(Timeouts::DEFAULT);
        OPENED.store(0, Ordering::SeqCst);
        CLOSED.store(0, Ordering::SeqCst);
        FLOOD.store(false, Ordering::SeqCst);
        SERVE.store(true, Ordering::SeqCst);
        SERVED_NO_MORE.store(false, Ordering::SeqCst);
        Sdk { directory, server: None, _alone: alone }
    }

    /// Has the SDK take these keys instead of those before, while it runs.
    pub(crate) fn reload(&self, workers: usize, more: &str) {
        lifecycle::reload(configuration(self.directory.path(), workers, more)).unwrap();
    }

    pub(crate) fn register_channels(&self) {
        for letter in [b'S', b'E'] {
            // SAFETY: the callbacks are functions of this program.
            unsafe {
                stream::dap_stream_ch_proc_add(
                    letter,
                    Some(channel_new),
                    Some(channel_delete),
                    Some(channel_packet),
                    Some(channel_drained),
                );
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.unwrap().port()
    }

    pub(crate) fn connect(&self, channels: &str) -> Client {
        Client::connect("127.0.0.1", self.port(), channels)
    }

    /// A client that is up.
    pub(crate) fn connected(&self, channels: &str) -> Client {
        let client = self.connect(channels);
        client.wait("connected");
        client
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        // SAFETY: any thread may call it.
        if unsafe { events::dap_events_thread_get_count() } > 0 {
            lifecycle::release(lifecycle::User::Program);
        }
        // SAFETY: as above.
        let left = unsafe { events::dap_events_thread_get_count() };
        if !std::thread::panicking() {
            assert_eq!(left, 0, "not stopped by the last release");
        }
    }
}

pub(crate) fn configure(directory: &Path, workers: usize, more: &str) {
    config::set_current(configuration(directory, workers, more));
}

fn configuration(directory: &Path, workers: usize, more: &str) -> Config {
    let text = format!(
        "[general]\nstate_dir={}\n[resources]\nthreads_cnt={workers}\n[cli-server]\nenabled=false\n\
         [server]\nlisten_address=[127.0.0.1:0]\n{more}",
        directory.display()
    );
    Config::parse(&text, "test").0
}

/// Channels whose new and delete callbacks have run, both ends together.
pub(crate) static OPENED: AtomicI64 = AtomicI64::new(0);
pub(crate) static CLOSED: AtomicI64 = AtomicI64::new(0);
/// The server's end says that it serves the clients of new channels.
pub(crate) static SERVE: AtomicBool = AtomicBool::new(true);
/// The server's end says with the next packet that it serves its client no more.
pub(crate) static SERVED_NO_MORE: AtomicBool = AtomicBool::new(false);
/// The server's end of 'S' sends as much as the stream accepts, again whenever it has drained.
pub(crate) static FLOOD: AtomicBool = AtomicBool::new(false);
/// Bytes that flooding streams accepted.
pub(crate) static FLOODED: AtomicU64 = AtomicU64::new(0);
/// The most output that was pending on a flooding stream.
pub(crate) static PENDING_MAX: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn channel_new(ch: *mut dap_stream_ch, _arg: *mut c_void) {
    // SAFETY: a new channel on its worker.
    unsafe {
        if !(*(*ch).stream).is_client_to_uplink && SERVE.load(Ordering::SeqCst) {
            stream::dap_embedded_stream_ch_serve(ch, true);
        }
    }
    OPENED.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn channel_delete(ch: *mut dap_stream_ch, _arg: *mut c_void) {
    CLOSED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the channel is alive in its delete callback; `watch` stored a client's `internal`.
    unsafe {
        let internal = (*ch).internal.replace(ptr::null_mut());
        if !internal.is_null() {
            drop(Arc::from_raw(internal.cast::<Log>()));
        }
    }
}

/// The server echoes (or floods); a client's end records arriving packets.
unsafe extern "C" fn channel_packet(ch: *mut dap_stream_ch, packet: *mut c_void) -> bool {
    // SAFETY: a packet on a live channel: its data follows its header.
    let (header, data, is_client) = unsafe {
        let header = packet.cast::<dap_stream_ch_pkt_hdr>().read();
        let data = packet.cast::<u8>().add(size_of::<dap_stream_ch_pkt_hdr>());
        let data = std::slice::from_raw_parts(data, header.data_size as usize);
        (header, data, (*(*ch).stream).is_client_to_uplink)
    };
    if is_client {
        // SAFETY: `internal` is NULL or a Log that the channel holds.
        if let Some(log) = unsafe { (*ch).internal.get().cast::<Log>().as_ref() } {
            log.received(header.r#type, data);
        }
    } else if SERVED_NO_MORE.load(Ordering::SeqCst) {
        // SAFETY: on the channel's worker.
        unsafe { stream::dap_embedded_stream_ch_serve(ch, false) };
    } else if FLOOD.load(Ordering::SeqCst) {
        // SAFETY: on the channel's worker.
        unsafe {
            stream::dap_stream_ch_set_ready_to_write_unsafe(ch, true);
            channel_drained(ch, ptr::null_mut());
        }
    } else {
        // SAFETY: on the channel's worker.
        let accepted =
            unsafe { stream::dap_stream_ch_pkt_write_unsafe(ch, header.r#type, data.as_ptr().cast(), data.len()) };
        assert_eq!(accepted, data.len());
    }
    true
}

unsafe extern "C" fn channel_drained(ch: *mut dap_stream_ch, _arg: *mut c_void) -> bool {
    let data: Vec<u8> = (0..4096u32).flat_map(u32::to_le_bytes).collect();
    while FLOOD.load(Ordering::SeqCst) {
        // SAFETY: on the channel's worker.
        let accepted = unsafe { stream::dap_stream_ch_pkt_write_unsafe(ch, 7, data.as_ptr().cast(), data.len()) };
        // SAFETY: as above.
        let pending = unsafe { (*(*(*ch).stream).esocket).buf_out_size.get() };
        PENDING_MAX.fetch_max(pending as u64, Ordering::SeqCst);
        if accepted == 0 {
            break;
        }
        FLOODED.fetch_add(accepted as u64, Ordering::SeqCst);
    }
    false
}

/// The events of a client.
#[derive(Default)]
pub(crate) struct Log {
    events: Mutex<Vec<String>>,
    pub(crate) packets: Mutex<Vec<(u8, Vec<u8>)>>,
    pub(crate) bytes: AtomicU64,
    /// Count the bytes, keep no packets.
    pub(crate) count_only: AtomicBool,
    changed: Condvar,
    close_when_connected: AtomicBool,
}

impl Log {
    fn event(&self, event: String) {
        self.events.lock().unwrap().push(event);
        self.changed.notify_all();
    }

    pub(crate) fn received(&self, kind: u8, data: &[u8]) {
        self.bytes.fetch_add(data.len() as u64, Ordering::SeqCst);
        if !self.count_only.load(Ordering::SeqCst) {
            self.packets.lock().unwrap().push((kind, data.to_vec()));
        }
    }
}

/// A node client of C's. Dropping it closes it.
pub(crate) struct Client {
    pub(crate) pointer: *mut dap_chain_node_client,
    pub(crate) log: Arc<Log>,
}

impl Client {
    pub(crate) fn connect(host: &str, port: u16, channels: &str) -> Client {
        Self::connect_with(host, port, channels, Arc::default())
    }

    /// A client that closes itself in its `connected` callback.
    pub(crate) fn fleeting(port: u16, channels: &str) -> Client {
        let log = Log { close_when_connected: AtomicBool::new(true), ..Log::default() };
        Self::connect_with("127.0.0.1", port, channels, Arc::new(log))
    }

    fn connect_with(host: &str, port: u16, channels: &str, log: Arc<Log>) -> Client {
        let pointer = create(host, port, channels, Arc::into_raw(Arc::clone(&log)).cast_mut().cast());
        assert!(!pointer.is_null());
        // SAFETY: the client lives until its delete callback, which only `close` causes; a fleeting client may be gone,
        // and gets no packets.
        if !log.close_when_connected.load(Ordering::SeqCst) {
            unsafe { (*pointer).notify_callbacks.srv_pkt_in.set(Some(service_packet)) };
        }
        Client { pointer, log }
    }

    /// Waits until an event has happened; on a timeout panics with all events.
    pub(crate) fn wait(&self, event: &str) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut events = self.log.events.lock().unwrap();
        while !events.iter().any(|known| known == event) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {event:?} in {events:?}");
            events = self.log.changed.wait_timeout(events, left).unwrap().0;
        }
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.log.events.lock().unwrap().clone()
    }

    pub(crate) fn channel(&self, letter: u8) -> *mut dap_stream_ch {
        // SAFETY: the client is alive; any thread may call it.
        unsafe { client::dap_client_get_stream_ch_unsafe((*self.pointer).client, letter) }
    }

    pub(crate) fn stream_worker(&self) -> *mut dap_stream_worker {
        // SAFETY: as in `channel`.
        unsafe { client::dap_client_get_stream_worker((*self.pointer).client) }
    }

    pub(crate) fn worker(&self) -> *mut dap_worker {
        // SAFETY: the stream worker lives until the last release.
        unsafe { self.stream_worker().as_ref() }.map_or(ptr::null_mut(), |worker| worker.worker)
    }

    /// Runs `body` with a channel on its worker and waits for the result.
    pub(crate) fn on_channel<R: Send + 'static>(
        &self,
        letter: u8,
        body: impl FnOnce(*mut dap_stream_ch) -> R + Send + 'static,
    ) -> R {
        let channel = self.channel(letter).expose_provenance();
        assert_ne!(channel, 0, "no channel");
        on_worker(self.worker(), move || body(ptr::with_exposed_provenance_mut(channel)))
    }

    /// Records the packets that arrive on a channel.
    pub(crate) fn watch(&self, letter: u8) {
        let log = Arc::into_raw(Arc::clone(&self.log)).expose_provenance();
        self.on_channel(letter, move |ch| {
            // SAFETY: on the channel's worker; the channel's delete callback drops the reference.
            let before = unsafe { (*ch).internal.replace(ptr::with_exposed_provenance_mut(log)) };
            assert!(before.is_null());
        });
    }

    /// Sends on the channel's worker; returns the bytes accepted.
    pub(crate) fn send(&self, letter: u8, kind: u8, data: Vec<u8>) -> usize {
        self.on_channel(letter, move |ch| {
            // SAFETY: on the channel's worker.
            unsafe { stream::dap_stream_ch_pkt_write_unsafe(ch, kind, data.as_ptr().cast(), data.len()) }
        })
    }

    pub(crate) fn wait_packets(&self, count: usize) -> Vec<(u8, Vec<u8>)> {
        eventually(
            || self.log.packets.lock().unwrap().len() >= count,
            || format!("{} of {count} packets", self.log.packets.lock().unwrap().len()),
        );
        std::mem::take(&mut *self.log.packets.lock().unwrap())
    }

    pub(crate) fn close(&self) {
        // SAFETY: any thread; a deleted client is not followed.
        unsafe { client::dap_chain_node_client_close_mt(self.pointer) };
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.events().iter().any(|event| event == "delete") {
            if Instant::now() > deadline {
                if !std::thread::panicking() {
                    panic!("not deleted: {:?}", self.events());
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(crate) fn create(host: &str, port: u16, channels: &str, arg: *mut c_void) -> *mut dap_chain_node_client {
    let callbacks = dap_chain_node_client_callbacks {
        connected: Some(connected),
        disconnected: Some(disconnected),
        r#delete: Some(deleted),
        error: Some(failed),
    };
    let channels = CString::new(channels).unwrap();
    let mut info = node_info(host, port);
    // SAFETY: all arguments live during the call, which copies them.
    unsafe {
        client::dap_chain_node_client_create_n_connect(
            ptr::null_mut(),
            info.as_mut_ptr().cast(),
            channels.as_ptr(),
            &raw const callbacks,
            arg,
        )
    }
}

/// A `dap_chain_node_info_t` with its host, aligned as a u64 is.
pub(crate) fn node_info(host: &str, port: u16) -> Vec<u64> {
    let size = std::mem::offset_of!(dap_chain_node_info, ext_host) + host.len() + 1;
    let mut memory = vec![0u64; size.max(size_of::<dap_chain_node_info>()).div_ceil(8)];
    let info = memory.as_mut_ptr().cast::<dap_chain_node_info>();
    // SAFETY: the memory is large and aligned enough for the struct with the host behind it.
    unsafe {
        (*info).ext_port = port;
        (*info).ext_host_len = u8::try_from(host.len()).unwrap();
        let text = (&raw mut (*info).ext_host).cast::<u8>();
        ptr::copy_nonoverlapping(host.as_ptr(), text, host.len());
    }
    memory
}

unsafe extern "C" fn connected(client: *mut dap_chain_node_client, arg: *mut c_void) {
    // SAFETY: `arg` is the Log that `deleted` drops.
    let log = unsafe { &*arg.cast::<Log>() };
    log.event("connected".into());
    if log.close_when_connected.load(Ordering::SeqCst) {
        // SAFETY: any thread.
        unsafe { client::dap_chain_node_client_close_mt(client) };
    }
}

unsafe extern "C" fn disconnected(_client: *mut dap_chain_node_client, arg: *mut c_void) {
    // SAFETY: as in `connected`.
    unsafe { &*arg.cast::<Log>() }.event("disconnected".into());
}

unsafe extern "C" fn failed(_client: *mut dap_chain_node_client, errno: c_int, arg: *mut c_void) {
    // SAFETY: as in `connected`.
    unsafe { &*arg.cast::<Log>() }.event(format!("error {errno}"));
}

unsafe extern "C" fn deleted(_client: *mut dap_chain_node_client, arg: *mut c_void) {
    // SAFETY: the last callback takes over the reference that `connect_with` gave away.
    unsafe { Arc::from_raw(arg.cast::<Log>()) }.event("delete".into());
}

unsafe extern "C" fn service_packet(_ch: *mut c_void, kind: u8, packet: *mut dap_stream_ch_pkt, arg: *mut c_void) {
    // SAFETY: as in `connected`; a packet's data follows its header.
    unsafe {
        let header = packet.cast::<dap_stream_ch_pkt_hdr>().read();
        let data = packet.cast::<u8>().add(size_of::<dap_stream_ch_pkt_hdr>());
        let data = std::slice::from_raw_parts(data, header.data_size as usize);
        (*arg.cast::<Log>()).received(kind, data);
    }
}

pub(crate) fn worker(index: u8) -> *mut dap_worker {
    // SAFETY: any thread may call it.
    unsafe { events::dap_events_worker_get(index) }
}

/// Runs `body` on a worker and waits for its result.
pub(crate) fn on_worker<R: Send + 'static>(worker: *mut dap_worker, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (send, receive) = std::sync::mpsc::channel();
    let body: Box<dyn FnOnce() + Send> = Box::new(move || drop(send.send(body())));
    // SAFETY: any thread; `run_boxed` takes over the box.
    unsafe { events::dap_worker_exec_callback_on(worker, Some(run_boxed), Box::into_raw(Box::new(body)).cast()) };
    receive.recv_timeout(TEST_TIMEOUT).unwrap()
}

unsafe extern "C" fn run_boxed(body: *mut c_void) {
    // SAFETY: `on_worker` leaked the box for this call.
    let body = unsafe { Box::from_raw(body.cast::<Box<dyn FnOnce() + Send>>()) };
    body();
}

/// Waits until `is_so`; on a timeout panics with the text of `otherwise`.
pub(crate) fn eventually(is_so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    testkit::eventually(fmt::from_fn(|f| f.write_str(&otherwise())), is_so);
}

pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// A loopback port without a listener.
pub(crate) fn dead_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
