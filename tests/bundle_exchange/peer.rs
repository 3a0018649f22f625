//! A client that sends what a test tells it to, and keeps what it receives.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::sdk::channel::{self, Channel, ChannelHandler, Role, TYPE_DATA};
use dap_chain_net_srv_vpn::sdk::link::{Event, Link};
use dap_chain_net_srv_vpn::sdk::net::Net;
use dap_chain_net_srv_vpn::sdk::worker;
use parking_lot::{Condvar, Mutex};
use testkit::TEST_TIMEOUT;
use testkit::wire::{ADDR_REPLY, ADDR_REQUEST, PING, PONG, op, vpn};
use vpn_core::wire::{Request, pkt};

pub(crate) struct Peer {
    link: Arc<Link>,
    channel: Arc<Channel>,
    inbox: Arc<Inbox>,
    pub(crate) usage: u32,
    /// The key hash that [`Peer::request`] names: another one for each peer, unless a test sets it.
    pub(crate) key: [u8; 32],
}

#[derive(Default)]
struct Inbox {
    got: Mutex<Got>,
    changed: Condvar,
}

#[derive(Default)]
struct Got {
    channel: Option<Arc<Channel>>,
    service: Vec<(u8, Vec<u8>)>,
    packets: VecDeque<Vec<u8>>,
    end: Option<String>,
}

impl Peer {
    /// Opens a stream with the channels 'R' and 'S'; nothing is sent on it yet.
    pub(crate) fn connect(port: u16) -> Peer {
        Peer::connect_to("127.0.0.1", port)
    }

    pub(crate) fn connect_to(host: &str, port: u16) -> Peer {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        channel::set_handler(Role::Client, Some(Arc::new(Channels)));
        let inbox = Arc::<Inbox>::default();
        let handled = Arc::clone(&inbox);
        let net = Net::by_name("backbone").unwrap();
        let link = Link::connect(&net, host, port, "RS", Arc::new(move |event| handled.event(event))).unwrap();
        let channel = inbox.wait("a stream with channels", |got| got.channel.take());
        Peer { link, channel, inbox, usage: 0, key: [COUNT.fetch_add(1, Ordering::Relaxed) + 1; 32] }
    }

    /// Requests the service and waits until it is granted.
    pub(crate) fn request(&mut self) {
        self.request_as([0; 10], b"");
    }

    /// Like [`Peer::request`], with this token and these bytes behind the request.
    pub(crate) fn request_as(&mut self, token: [u8; 10], behind: &[u8]) {
        let net = Net::by_name("backbone").unwrap();
        let request = Request {
            net_id: net.id(),
            tx_cond: [7; 32],
            srv_uid: 1,
            token,
            client_pkey_hash: self.key,
            order_hash: net.free_order().unwrap(),
        };
        let link = Arc::clone(&self.link);
        let message = [request.encode().as_slice(), behind].concat();
        self.on_worker(move || assert!(link.send(b'R', pkt::REQUEST, &message)));
        let success = self.inbox.wait("an answer to REQUEST", |got| got.service.pop());
        assert_eq!((success.0, success.1.len()), (pkt::SUCCESS, 20), "{success:02x?}");
        self.usage = u32::from_le_bytes(*success.1.first_chunk().unwrap());
    }

    /// Requests an address, with this data behind the header; returns the whole reply.
    pub(crate) fn ask(&self, data: &[u8]) -> Vec<u8> {
        self.send(&vpn(ADDR_REQUEST, self.usage, data));
        let reply = self.next("an answer to ADDR_REQUEST");
        assert_eq!(op(&reply), ADDR_REPLY, "{reply:02x?}");
        reply
    }

    /// Returns a client with service and an address, which it requests with this data.
    pub(crate) fn leased(port: u16, data: &[u8]) -> (Peer, Ipv4Addr) {
        let mut peer = Peer::connect(port);
        peer.request();
        let reply = peer.ask(data);
        let address = Ipv4Addr::from(*reply[20..].first_chunk::<4>().unwrap());
        (peer, address)
    }

    /// Sends one packet on channel 'S'.
    pub(crate) fn send(&self, packet: &[u8]) {
        self.send_all(vec![packet.to_vec()]);
    }

    /// Sends these packets as close together as possible.
    pub(crate) fn send_all(&self, packets: Vec<Vec<u8>>) {
        self.send_typed(TYPE_DATA, packets);
    }

    /// Sends these packets on channel 'S' as packets of this type.
    pub(crate) fn send_typed(&self, kind: u8, packets: Vec<Vec<u8>>) {
        let mut left = VecDeque::from(packets);
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !left.is_empty() {
            let channel = Arc::clone(&self.channel);
            left = self.on_worker(move || {
                while left.front().is_some_and(|packet| channel.send(kind, packet)) {
                    left.pop_front();
                }
                left
            });
            assert!(Instant::now() < deadline, "the stream accepts nothing; its end: {:?}", self.inbox.got.lock().end);
        }
    }

    /// Returns the next VPN packet from the server.
    pub(crate) fn next(&self, what: &str) -> Vec<u8> {
        self.inbox.wait(what, |got| got.packets.pop_front())
    }

    /// Returns the next packet, if it arrives within this time.
    pub(crate) fn next_within(&self, time: Duration) -> Option<Vec<u8>> {
        self.inbox.wait_until(Instant::now() + time, |got| got.packets.pop_front())
    }

    /// Waits until the server has processed everything that was sent. Packets that arrive before its answer are
    /// dropped.
    pub(crate) fn ping(&self) {
        self.send(&vpn(PING, self.usage, &[]));
        while op(&self.next("PONG")) != PONG {}
    }

    fn on_worker<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = sync_channel(1);
        let worker = self.channel.worker().expect("the channel is between two workers");
        assert!(worker::exec(worker, move || done.send(job()).unwrap()));
        result.recv_timeout(TEST_TIMEOUT).expect("the client's worker has not done it")
    }
}

impl Inbox {
    fn event(self: &Arc<Self>, event: Event<'_>) {
        let mut got = self.got.lock();
        match event {
            Event::Connected(link) => {
                let raw = link.channel(b'S');
                let channel = OPEN.lock().iter().find(|channel| channel.raw() == raw).cloned();
                let channel = channel.expect("channel 'S' was not opened");
                assert!(channel.set_data(Arc::clone(self) as Arc<_>));
                channel.enable();
                got.channel = Some(channel);
            }
            Event::Failed(errno) => got.end = Some(format!("failed: {errno}")),
            Event::Disconnected => got.end = Some("disconnected".into()),
            Event::ServicePacket { kind, data } => got.service.push((kind, data.to_vec())),
        }
        self.changed.notify_all();
    }

    fn wait<T>(&self, what: &str, take: impl FnMut(&mut Got) -> Option<T>) -> T {
        let taken = self.wait_until(Instant::now() + TEST_TIMEOUT, take);
        taken.unwrap_or_else(|| {
            panic!("not within {TEST_TIMEOUT:?}: {what}; the stream's end: {:?}", self.got.lock().end)
        })
    }

    fn wait_until<T>(&self, deadline: Instant, mut take: impl FnMut(&mut Got) -> Option<T>) -> Option<T> {
        let mut got = self.got.lock();
        loop {
            if let Some(taken) = take(&mut got) {
                return Some(taken);
            }
            if self.changed.wait_until(&mut got, deadline).timed_out() {
                return take(&mut got);
            }
        }
    }
}

/// The open channels of all clients.
static OPEN: Mutex<Vec<Arc<Channel>>> = Mutex::new(Vec::new());

struct Channels;

impl ChannelHandler for Channels {
    fn opened(&self, channel: &Arc<Channel>) {
        OPEN.lock().push(Arc::clone(channel));
    }

    fn closed(&self, channel: &Arc<Channel>) {
        OPEN.lock().retain(|other| !Arc::ptr_eq(channel, other));
    }

    fn packet(&self, channel: &Arc<Channel>, kind: u8, data: &[u8]) {
        let inbox = channel.data::<Inbox>().expect("a packet before the stream's event `Connected`");
        assert_eq!(kind, TYPE_DATA, "packet type on channel 'S'");
        inbox.got.lock().packets.push_back(data.to_vec());
        inbox.changed.notify_all();
    }

    fn drained(&self, _channel: &Arc<Channel>) {}
}
