//! What the seam offers of the TCP connection below channel 'S': the path, the unsent bytes and their limit, room for
//! output, and the congestion control.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use dap_chain_net_srv_vpn::sdk::channel::{self, Channel, ChannelHandler, PathInfo, Role, TYPE_DATA};
use dap_chain_net_srv_vpn::sdk::link::{Event, Link};
use dap_chain_net_srv_vpn::sdk::net::Net;
use dap_chain_net_srv_vpn::sdk::{Running, start_logging, worker};
use embedded::abi::stream::dap_stream_ch_set_ready_to_read_unsafe;
use embedded::config::{self, Config};
use embedded::listener;
use parking_lot::Mutex;
use testkit::{TEST_TIMEOUT, eventually};

const LIMIT: u32 = 32 * 1024;
const PACKET: usize = 1400;

/// One end of a stream.
#[derive(Default)]
struct End {
    channel: Mutex<Option<Arc<Channel>>>,
    received: AtomicUsize,
    /// What `drained` has found.
    calls: AtomicUsize,
    most_unsent: AtomicUsize,
    most_waiting: AtomicUsize,
    /// Whether `drained` writes, as much as the kernel takes.
    writes: AtomicBool,
}

struct Handler(Arc<End>);

impl ChannelHandler for Handler {
    fn opened(&self, channel: &Arc<Channel>) {
        *self.0.channel.lock() = Some(Arc::clone(channel));
    }

    fn closed(&self, _channel: &Arc<Channel>) {
        self.0.channel.lock().take();
    }

    fn packet(&self, _channel: &Arc<Channel>, _kind: u8, data: &[u8]) {
        self.0.received.fetch_add(data.len(), Ordering::Relaxed);
    }

    fn drained(&self, channel: &Arc<Channel>) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.0.most_unsent.fetch_max(channel.unsent().unwrap(), Ordering::Relaxed);
        self.0.most_waiting.fetch_max(channel.pending().unwrap(), Ordering::Relaxed);
        if self.0.writes.load(Ordering::Relaxed) {
            (0..8).for_each(|_| assert!(channel.send(TYPE_DATA, &[7; PACKET])));
        } else {
            channel.wake_on_drain(false);
        }
    }
}

impl End {
    fn on_channel<R: Send + 'static>(&self, work: impl FnOnce(&Channel) -> R + Send + 'static) -> R {
        let channel = self.channel.lock().clone().unwrap();
        let (done, wait) = sync_channel(1);
        assert!(worker::exec(channel.worker().unwrap(), move || done.send(work(&channel)).unwrap()));
        wait.recv_timeout(TEST_TIMEOUT).unwrap()
    }

    fn set_reading(&self, reads: bool) {
        self.on_channel(move |channel| {
            // SAFETY: the channel is open, and this is its worker.
            unsafe { dap_stream_ch_set_ready_to_read_unsafe(channel.raw().cast(), reads) };
        });
    }

    fn path(&self) -> PathInfo {
        self.on_channel(|channel| channel.path().unwrap())
    }
}

#[test]
fn a_channel_knows_its_path_and_keeps_the_kernels_queue_short() {
    start_logging();
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[general]\nstate_dir={}\n[resources]\nthreads_cnt=2\n[cli-server]\nenabled=false\n\
         [server]\nlisten_address=[127.0.0.1:0]\n",
        directory.path().display()
    );
    config::set_current(Config::parse(&text, "test").0);
    let _running = Running::retain().unwrap();
    let [server, client] = [Arc::<End>::default(), Arc::default()];
    channel::set_handler(Role::Server, Some(Arc::new(Handler(Arc::clone(&server)))));
    channel::set_handler(Role::Client, Some(Arc::new(Handler(Arc::clone(&client)))));
    listener::ensure_started().unwrap();
    let (up, is_up) = sync_channel(1);
    let handler = move |event: Event<'_>| {
        if let Event::Connected(_) = event {
            up.send(()).unwrap();
        }
    };
    let net = Net::by_name("backbone").unwrap();
    let port = listener::addresses()[0].port();
    let _link = Link::connect(&net, "127.0.0.1", port, "S", Arc::new(handler)).unwrap();
    is_up.recv_timeout(TEST_TIMEOUT).unwrap();
    let off_worker = client.channel.lock().clone().unwrap();
    assert_eq!((off_worker.path(), off_worker.unsent(), off_worker.congestion()), (None, None, None));
    assert_eq!(off_worker.bbr(), None);
    assert!(!off_worker.set_unsent_limit(LIMIT));
    assert_eq!(off_worker.set_congestion(c"reno").unwrap_err().kind(), ErrorKind::NotConnected);

    congestion_is_set_on_this_stream_alone(&client, &server);
    room_is_told_while_the_peer_reads_slowly(&client, &server);
    channel::set_handler(Role::Client, None);
    channel::set_handler(Role::Server, None);
}

fn congestion_is_set_on_this_stream_alone(client: &End, server: &End) {
    let others = server.on_channel(|channel| channel.congestion().unwrap());
    // Every kernel has reno, and lets every process choose it.
    let (unknown, known, is_now) = client.on_channel(|channel| {
        (channel.set_congestion(c"none-such"), channel.set_congestion(c"reno"), channel.congestion())
    });
    assert_eq!(client.on_channel(Channel::bbr), None);
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
    known.unwrap();
    assert_eq!(is_now.as_deref(), Some("reno"));
    assert_eq!(server.on_channel(|channel| channel.congestion().unwrap()), others);
}

fn room_is_told_while_the_peer_reads_slowly(client: &End, server: &End) {
    assert!(client.on_channel(|channel| channel.set_unsent_limit(LIMIT)));
    server.set_reading(false);
    client.writes.store(true, Ordering::Relaxed);
    client.on_channel(|channel| channel.wake_on_drain(true));
    let stands_still = || {
        let before = client.calls.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(200));
        before > 0 && before == client.calls.load(Ordering::Relaxed)
    };
    eventually("a full window", stands_still);
    let full = client.path();
    let (unsent, waiting) = client.on_channel(|channel| (channel.unsent().unwrap(), channel.pending().unwrap()));
    assert!(unsent + waiting > 0 && full.unsent as usize == unsent, "{unsent} and {waiting}: {full:?}");
    // The kernel takes whole buffers beyond the limit.
    assert!(unsent < LIMIT as usize * 4, "{full:?}");
    assert!(full.rtt > 0 && full.min_rtt <= full.rtt && full.mss > 500 && full.cwnd >= u64::from(full.mss), "{full:?}");
    assert!(full.pacing_rate > 0 && full.ca_state <= 4, "{full:?}");

    let calls = client.calls.load(Ordering::Relaxed);
    server.set_reading(true);
    eventually("more calls", || client.calls.load(Ordering::Relaxed) > calls + 100);
    assert!(client.path().delivery_rate > 0);
    assert!(client.most_unsent.load(Ordering::Relaxed) < LIMIT as usize / 2);
    assert_eq!(client.most_waiting.load(Ordering::Relaxed), 0);

    client.writes.store(false, Ordering::Relaxed);
    eventually("the end of the calls", || {
        let before = client.calls.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
        before == client.calls.load(Ordering::Relaxed)
    });
    eventually("an empty kernel", || {
        let path = client.path();
        (path.unsent, path.unacked) == (0, 0)
    });
    // Enabled with room: told at once, and once, as the handler disables it.
    let calls = client.calls.load(Ordering::Relaxed);
    client.on_channel(|channel| channel.wake_on_drain(true));
    eventually("a call", || client.calls.load(Ordering::Relaxed) == calls + 1);
    client.on_channel(|channel| assert!(channel.send(TYPE_DATA, &[7; PACKET])));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.calls.load(Ordering::Relaxed), calls + 1);
}
