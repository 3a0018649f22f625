//! A legacy client with a real device of its own: TCP and UDP between its host and a host behind the server that hears
//! no ICMP, for each MTU that clients of today have.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use host::netlink::Netlink;
use host::tun::{Device, DeviceConfig, Queue};
use testkit::hosts::{Host, forwards_packets};
use testkit::netns::in_namespace;
use testkit::sockets::{Fragments, echo, exchange, received, set_fragments, udp_at};
use testkit::wire::{VPN_RECV, VPN_SEND, op, vpn};
use testkit::{TEST_TIMEOUT, noise};
use vpn_core::wire::{VNET_LEN, VnetHeader};

use crate::lab::{Server, drops_since};
use crate::peer::Peer;

/// The network of the clients, and the host outside with its way to it.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 0);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 1);

/// Routes the clients' network to the server's host, on the host outside. That ignores what ICMP says of the path.
pub(crate) fn route_to_clients() {
    Netlink::open().unwrap().add_route_of_locked_mtu(CLIENTS, 24, ROUTER, 1500).unwrap();
}

/// Carries packets between a device and the client's stream until it is dropped.
pub(crate) struct Bridge {
    address: Ipv4Addr,
    is_over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    _device: Device,
}

impl Bridge {
    /// Gives a client that announces nothing, and has this address, a device of this MTU on its host.
    pub(crate) fn start((peer, address): (Peer, Ipv4Addr), host: &Host, mtu: u16) -> Bridge {
        let (device, mut queues) = host.run(move || {
            let (name, prefix, txqlen) = (None, 24, Some(1000));
            let config = DeviceConfig { name, queues: 1, addr: address, prefix, mtu, txqlen, offload: false };
            let (device, queues) = Device::create(&config).unwrap();
            Netlink::open().unwrap().add_route(OUTSIDE, 32, None, Some(device.index())).unwrap();
            (device, queues)
        });
        let (peer, queue) = (Arc::new(peer), Arc::new(queues.pop().unwrap()));
        let is_over = Arc::<AtomicBool>::default();
        let up = {
            let (peer, queue, is_over) = (Arc::clone(&peer), Arc::clone(&queue), Arc::clone(&is_over));
            move || carry_up(&peer, &queue, &is_over)
        };
        let down = {
            let is_over = Arc::clone(&is_over);
            move || carry_down(&peer, &queue, &is_over)
        };
        let threads = vec![thread::spawn(up), thread::spawn(down)];
        Bridge { address, is_over, threads, _device: device }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread of the bridge has panicked");
            }
        }
    }
}

/// Each packet alone, as the C module sends it.
fn carry_up(peer: &Peer, queue: &Queue, is_over: &AtomicBool) {
    let mut buffer = vec![0; VNET_LEN + 65_535];
    while !is_over.load(Ordering::Relaxed) {
        let mut packets = Vec::new();
        while let Some(length) = queue.recv(&mut buffer).unwrap() {
            packets.push(vpn(VPN_SEND, peer.usage, &buffer[VNET_LEN..length]));
        }
        match packets.is_empty() {
            true => thread::sleep(Duration::from_micros(200)),
            // The public GUI's packet type.
            false => peer.send_typed(0x00, packets),
        }
    }
}

fn carry_down(peer: &Peer, queue: &Queue, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        if let Some(packet) = peer.next_within(Duration::from_millis(20))
            && op(&packet) == VPN_RECV
        {
            queue.send(&VnetHeader::default(), &packet[20..]).unwrap();
        }
    }
}

#[test]
fn a_device_of_1500() {
    legacy_client("bridge::a_device_of_1500", 1500);
}

#[test]
fn a_device_of_1380() {
    legacy_client("bridge::a_device_of_1380", 1380);
}

#[test]
fn a_device_of_576() {
    legacy_client("bridge::a_device_of_576", 576);
}

fn legacy_client(test: &str, mtu: u16) {
    in_namespace(test, || {
        if !forwards_packets(test) {
            return;
        }
        let (outside, clients_host) = (Host::new(0), Host::new(1));
        outside.run(route_to_clients);
        let server = Server::start("device_mtu=1500\n");
        let bridge = Bridge::start(Peer::leased(server.port, b""), &clients_host, mtu);
        let before = app::server_totals().unwrap();

        // A connection from each side; the host outside sends segments as large as it may, and never fragments.
        let listener = outside.run(|| {
            let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
            set_fragments(&listener, Fragments::Forbidden);
            listener
        });
        let target = listener.local_addr().unwrap();
        let connecting = clients_host.run(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap());
        exchange(&(connecting, listener.accept().unwrap().0), 1_000_000, 1);
        let address = bridge.address;
        let listener = clients_host.run(move || TcpListener::bind((address, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        let connecting = outside.run(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap());
        exchange(&(connecting, listener.accept().unwrap().0), 1_000_000, 2);

        let (near, far) = (udp_at(&outside, OUTSIDE), udp_at(&clients_host, address));
        // What fills a packet of the client's device, both ways.
        echo(&far, &near, &noise(3, usize::from(mtu) - 28));
        echo(&far, &near, &noise(4, usize::from(mtu) - 27));
        // What fills a packet outside: the client's device accepts it whole even if its own MTU is smaller.
        set_fragments(&near, Fragments::Forbidden);
        near.send_to(&noise(5, 1472), far.local_addr().unwrap()).unwrap();
        assert!(received(&far, "a full packet from outside").0 == noise(5, 1472));
        assert_eq!(drops_since(&before), []);
    });
}
