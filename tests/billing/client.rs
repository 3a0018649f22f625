//! A client that pays, or does not, as a test tells it to.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use dap_chain_net_srv_vpn::sdk::channel::{self, Channel, ChannelHandler, Role, TYPE_DATA};
use dap_chain_net_srv_vpn::sdk::link::{Event, Link};
use dap_chain_net_srv_vpn::sdk::net::Net;
use dap_chain_net_srv_vpn::sdk::worker;
use embedded::ledger::Hash;
use embedded::receipt::{Key, SIGNATURE_LEN};
use parking_lot::Mutex;
use testkit::TEST_TIMEOUT;
use testkit::inner::{Ip, Sum};
use testkit::wire::{ADDR_REPLY, ADDR_REQUEST, PING, PONG, VPN_RECV, VPN_SEND, op, vpn};
use vpn_core::wire::{Receipt, Request, ServiceError, pkt};

use crate::inbox::{Got, Inbox};
use crate::server::{GATEWAY, NET};

/// What the client does with a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Signs it at once.
    Good,
    /// Signs it after this time.
    Late(Duration),
    /// Does not answer.
    Never,
    /// Signs it, and breaks the signature.
    Broken,
    /// Has another key sign it.
    Stranger,
    /// Signs it for other units.
    OtherUnits,
    /// Returns it as it came.
    Unsigned,
    /// Returns this many bytes of it.
    Cut(usize),
}

/// A client with a stream, channels 'R' and 'S', a key, and a transaction.
pub(crate) struct PayingClient {
    link: Arc<Link>,
    channel: Arc<Channel>,
    payer: Arc<Payer>,
    pub(crate) order: Hash,
    pub(crate) tx: Hash,
}

/// The part that the stream's events reach.
struct Payer {
    inbox: Inbox,
    key: Key,
    channel: Mutex<Option<Arc<Channel>>>,
    /// What to do with the next receipts; the last entry stays.
    signs: Mutex<VecDeque<Sign>>,
    /// The receipt that was answered last.
    answered: Mutex<Vec<u8>>,
    usage: AtomicU32,
    address: Mutex<Option<Ipv4Addr>>,
}

impl PayingClient {
    /// Opens a stream; nothing is sent on it yet. The client signs every receipt until told otherwise.
    pub(crate) fn connect(port: u16, key: Key, order: Hash, tx: Hash) -> PayingClient {
        channel::set_handler(Role::Client, Some(Arc::new(Channels)));
        let payer = Arc::new(Payer {
            inbox: Inbox::new(),
            key,
            channel: Mutex::default(),
            signs: Mutex::new(VecDeque::from([Sign::Good])),
            answered: Mutex::default(),
            usage: AtomicU32::new(0),
            address: Mutex::default(),
        });
        let handled = Arc::clone(&payer);
        let (up, connected) = sync_channel(1);
        let net = Net::by_name("backbone").unwrap();
        let on_event = Arc::new(move |event: Event<'_>| {
            let is_up = matches!(event, Event::Connected(_));
            handled.event(event);
            if is_up {
                up.send(()).unwrap();
            }
        });
        let link = Link::connect(&net, "127.0.0.1", port, "RS", on_event).unwrap();
        connected.recv_timeout(TEST_TIMEOUT).expect("no stream");
        let channel = payer.channel.lock().clone().unwrap();
        PayingClient { link, channel, payer, order, tx }
    }

    /// Sets what to do with the next receipts; the last entry stays.
    pub(crate) fn signs(&self, signs: &[Sign]) {
        *self.payer.signs.lock() = signs.iter().copied().collect();
    }

    /// The request that the client sends.
    pub(crate) fn ask(&self) -> Request {
        let (tx_cond, order_hash, client_pkey_hash) = (self.tx, self.order, self.payer.key.hash());
        Request { net_id: NET, tx_cond, srv_uid: 1, token: [0; 10], client_pkey_hash, order_hash }
    }

    pub(crate) fn request(&self) {
        self.send_service(pkt::REQUEST, &self.ask().encode());
    }

    /// Sends a packet on channel 'R'.
    pub(crate) fn send_service(&self, kind: u8, data: &[u8]) {
        let (link, data) = (Arc::clone(&self.link), data.to_vec());
        assert!(self.on_worker(move || link.send(b'R', kind, &data)), "the stream accepts nothing");
    }

    /// Waits for SUCCESS, and returns its size.
    pub(crate) fn success(&self) -> usize {
        let (_, data) = self.wait_service(pkt::SUCCESS);
        self.payer.usage.store(u32::from_le_bytes(*data.first_chunk().unwrap()), Ordering::Relaxed);
        data.len()
    }

    /// Waits for an ERROR, and returns when it came and its code.
    pub(crate) fn error(&self) -> (Duration, u32) {
        let (time, data) = self.wait_service(pkt::ERROR);
        (time, ServiceError::parse(&data).unwrap().code)
    }

    /// Waits for a packet of this type on channel 'R', and skips others.
    pub(crate) fn wait_service(&self, kind: u8) -> (Duration, Vec<u8>) {
        let is_wanted = |got: &Got| matches!(got, Got::Service { kind: other, .. } if *other == kind);
        match self.payer.inbox.wait(&format!("a packet of type {kind:#x} on 'R'"), is_wanted) {
            (time, Got::Service { data, .. }) => (time, data),
            other => unreachable!("{other:?}"),
        }
    }

    /// Waits until the server says that the service has stopped, on either channel.
    pub(crate) fn stopped(&self) -> Duration {
        let is_wanted = |got: &Got| match got {
            Got::Service { kind, .. } | Got::Notice { kind, .. } => *kind == pkt::NOTIFY_STOPPED,
            Got::End(_) => false,
        };
        self.payer.inbox.wait("NOTIFY_STOPPED", is_wanted).0
    }

    /// Everything that has come so far, but VPN packets.
    pub(crate) fn received(&self) -> Vec<(Duration, Got)> {
        self.payer.inbox.all()
    }

    /// The receipts that have come so far, with their times.
    pub(crate) fn receipts(&self) -> Vec<(Duration, Vec<u8>)> {
        let receipts = self.received().into_iter().filter_map(|(time, got)| match got {
            Got::Service { kind: pkt::SIGN_REQUEST, data } => Some((time, data)),
            _ => None,
        });
        receipts.collect()
    }

    /// The time since the client began.
    pub(crate) fn now(&self) -> Duration {
        self.payer.inbox.now()
    }

    /// Requests an address, and waits for it.
    pub(crate) fn lease(&self) -> Ipv4Addr {
        self.send(&vpn(ADDR_REQUEST, self.usage(), &[]));
        let reply = self.payer.inbox.wait_packet("an address", |packet| op(packet) == ADDR_REPLY);
        let address = Ipv4Addr::from(*reply[20..].first_chunk::<4>().unwrap());
        *self.payer.address.lock() = Some(address);
        address
    }

    /// Requests an address, which the server refuses with the code that this returns.
    pub(crate) fn problem(&self) -> u32 {
        self.send(&vpn(ADDR_REQUEST, self.usage(), &[]));
        let reply = self.payer.inbox.wait_packet("a problem", |packet| op(packet) == vpn_core::wire::op::PROBLEM);
        u32::from_le_bytes(*reply[12..].first_chunk().unwrap())
    }

    /// Sends `count` datagrams with `payload` bytes each to a port at the server's inner address.
    pub(crate) fn send_datagrams(&self, count: usize, payload: usize, port: u16) {
        let address = self.payer.address.lock().expect("an address");
        let datagram = Ip::new(address, GATEWAY).udp((4242, port), &vec![0x5a; payload], Sum::Right);
        for _ in 0..count {
            self.send(&vpn(VPN_SEND, self.usage(), &datagram));
        }
    }

    /// Waits until the server has handled everything that was sent on 'S'.
    pub(crate) fn ping(&self) {
        self.send(&vpn(PING, self.usage(), &[]));
        self.payer.inbox.wait_packet("PONG", |packet| op(packet) == PONG);
    }

    /// Waits for an inner packet to the client.
    pub(crate) fn next_packet(&self) -> Vec<u8> {
        self.payer.inbox.wait_packet("an inner packet", |packet| op(packet) == VPN_RECV).split_off(20)
    }

    /// When the inner packets to the client that end so came.
    pub(crate) fn packets_with(&self, end: &[u8]) -> Vec<Duration> {
        let packets = self.payer.inbox.packets().into_iter();
        packets.filter(|(_, packet)| packet.ends_with(end)).map(|(time, _)| time).collect()
    }

    /// Sends a packet on channel 'S'.
    pub(crate) fn send(&self, packet: &[u8]) {
        let (channel, packet) = (Arc::clone(&self.channel), packet.to_vec());
        assert!(self.on_worker(move || channel.send(TYPE_DATA, &packet)), "the stream accepts nothing");
    }

    /// The number of the usage.
    pub(crate) fn usage(&self) -> u32 {
        self.payer.usage.load(Ordering::Relaxed)
    }

    /// Reads from the stream, or no more: then the server's output stays with the server.
    pub(crate) fn reads(&self, is_reading: bool) {
        let channel = Arc::clone(&self.channel);
        self.on_worker(move || {
            // SAFETY: on the worker of the channel, which is open.
            unsafe { embedded::abi::stream::dap_stream_ch_set_ready_to_read_unsafe(channel.raw().cast(), is_reading) };
        });
    }

    fn on_worker<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = sync_channel(1);
        let worker = self.channel.worker().expect("the stream has ended");
        assert!(worker::exec(worker, move || done.send(job()).unwrap()));
        result.recv_timeout(TEST_TIMEOUT).expect("the client's worker has not done it")
    }
}

impl Payer {
    fn event(self: &Arc<Self>, event: Event<'_>) {
        match event {
            Event::Connected(link) => {
                let raw = link.channel(b'S');
                let channel = OPEN.lock().iter().find(|channel| channel.raw() == raw).cloned();
                let channel = channel.expect("channel 'S' was not opened");
                assert!(channel.set_data(Arc::clone(self) as Arc<_>));
                channel.enable();
                *self.channel.lock() = Some(channel);
            }
            Event::Failed(errno) => self.inbox.add(Got::End(format!("failed: {errno}"))),
            Event::Disconnected => self.inbox.add(Got::End("disconnected".into())),
            Event::ServicePacket { kind, data } => {
                self.inbox.add(Got::Service { kind, data: data.to_vec() });
                if kind == pkt::SIGN_REQUEST {
                    self.sign(data);
                }
            }
        }
    }

    /// Answers a receipt. One that is sent again gets no second answer.
    fn sign(self: &Arc<Self>, receipt: &[u8]) {
        if std::mem::replace(&mut *self.answered.lock(), receipt.to_vec()) == receipt {
            return;
        }
        let is_proof = Receipt::parse(receipt).is_ok_and(|receipt| receipt.info.units == 0);
        let sign = {
            let mut signs = self.signs.lock();
            let next = signs.front().copied().unwrap_or(Sign::Never);
            if !is_proof && signs.len() > 1 {
                signs.pop_front();
            }
            next
        };
        let good = self.key.add_to(receipt).unwrap();
        let signature_at = good.len() - SIGNATURE_LEN + 14 + 91;
        let answer = match sign {
            Sign::Never => return,
            Sign::Good => good,
            Sign::Late(time) => {
                let payer = Arc::clone(self);
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    payer.answer(good);
                });
                return;
            }
            Sign::Broken => {
                let mut broken = good;
                broken[signature_at] ^= 1;
                broken
            }
            Sign::Stranger => Key::generate().unwrap().add_to(receipt).unwrap(),
            Sign::OtherUnits => {
                let mut other = receipt.to_vec();
                other[25] ^= 1;
                self.key.add_to(&other).unwrap()
            }
            Sign::Unsigned => receipt.to_vec(),
            Sign::Cut(size) => good[..size].to_vec(),
        };
        self.answer(answer);
    }

    /// Sends a SIGN_RESPONSE, on the stream's worker.
    fn answer(&self, signed: Vec<u8>) {
        let Some(channel) = self.channel.lock().clone() else { return };
        if let Some(worker) = channel.worker() {
            worker::exec(worker, move || {
                // False if the stream has ended, which the inbox tells.
                let _ = channel.send_service(pkt::SIGN_RESPONSE, &signed);
            });
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
        let payer = channel.data::<Payer>().expect("a packet before the stream's event `Connected`");
        match kind {
            TYPE_DATA => payer.inbox.add_packet(data),
            kind => payer.inbox.add(Got::Notice { kind, data: data.to_vec() }),
        }
    }

    fn drained(&self, _channel: &Arc<Channel>) {}
}
