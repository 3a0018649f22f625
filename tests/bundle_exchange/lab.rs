//! A server, a client with bundles, a socket at the server's inner address, and the server's counters.

use std::fmt;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use dap_chain_net_srv_vpn::{app, sdk};
use embedded::config::{self, Config};
use embedded::listener;
use host::lab::set_loopback_up;
use testkit::inner::{Ip, Sum};
use testkit::logged::{capture_log, log_lines};
use testkit::records::{Vnet, record};
use testkit::sockets::{large_buffer, received};
use testkit::wire::{BUNDLE_SEND, VPN_SEND, vpn};
use testkit::{TEST_TIMEOUT, eventually};
use vpn_core::forward::{DropCause, Totals};

use crate::peer::Peer;

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// "CFV1" and TLV 1: 65535.
pub(crate) const BUNDLES: [u8; 8] = *b"CFV1\x01\x02\xff\xff";

/// The service in this process. Dropping it stops the service.
pub(crate) struct Server {
    pub(crate) port: u16,
    directory: tempfile::TempDir,
    may_log_errors: bool,
}

impl Server {
    /// Starts the service with these keys of `[srv_vpn]`, and without address translation: hosts outside see the clients'
    /// addresses.
    pub(crate) fn start(keys: &str) -> Server {
        capture_log();
        sdk::start_logging();
        set_loopback_up().unwrap();
        let directory = tempfile::tempdir().unwrap();
        config::set_current(configuration(directory.path(), keys));
        app::server_start().unwrap();
        Server { port: listener::addresses()[0].port(), directory, may_log_errors: false }
    }

    /// Has the service take these keys instead of those before, while it runs.
    pub(crate) fn reload(&self, keys: &str) {
        app::server_reload(configuration(self.directory(), keys)).unwrap();
    }

    /// Returns the state directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops a server that has logged errors, as the test wanted.
    pub(crate) fn stop_with_errors(mut self) {
        self.may_log_errors = true;
    }
}

fn configuration(directory: &Path, keys: &str) -> Config {
    let text = format!(
        "[general]\nstate_dir={}\n[resources]\nthreads_cnt=2\n[cli-server]\nenabled=false\n\
         [server]\nlisten_address=[0.0.0.0:0]\n\
         [srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\nnat=off\ndns=[]\n{keys}",
        directory.display()
    );
    Config::parse(&text, "test").0
}

impl Drop for Server {
    fn drop(&mut self) {
        app::server_stop();
        if !std::thread::panicking() && !self.may_log_errors {
            // Above all, no panic was caught.
            assert_eq!(log_lines("ERROR"), [""; 0], "the library has logged errors");
        }
    }
}

pub(crate) struct Lab {
    pub(crate) peer: Peer,
    /// The client's address.
    pub(crate) address: Ipv4Addr,
    /// A socket on the server's host, at the server's inner address.
    pub(crate) socket: UdpSocket,
    pub(crate) server: Server,
}

impl Lab {
    /// Starts a lab whose client sends this in its ADDR_REQUEST.
    pub(crate) fn start(keys: &str, capabilities: &[u8]) -> Lab {
        let server = Server::start(keys);
        let (peer, address) = Peer::leased(server.port, capabilities);
        Lab { peer, address, socket: socket(), server }
    }

    pub(crate) fn ip(&self) -> Ip {
        Ip::new(self.address, GATEWAY)
    }

    /// Returns the ports of the client's packets to the socket.
    pub(crate) fn ports(&self) -> (u16, u16) {
        (4242, self.socket.local_addr().unwrap().port())
    }

    /// Returns a complete datagram to the socket.
    pub(crate) fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        self.ip().udp(self.ports(), payload, Sum::Right)
    }

    /// Returns the same datagram as a record.
    pub(crate) fn good(&self, payload: &[u8]) -> Vec<u8> {
        record(Vnet::default(), &self.datagram(payload))
    }

    /// Sends a bundle with this data. The socket must receive exactly these payloads, and the server must count exactly
    /// these drops.
    pub(crate) fn check(&self, what: &str, data: &[u8], payloads: &[&[u8]], drops: &[(DropCause, u64)]) {
        self.check_packets(what, vec![vpn(BUNDLE_SEND, self.peer.usage, data)], payloads, drops);
    }

    /// Like [`Lab::check`], with whole VPN packets.
    pub(crate) fn check_packets(
        &self,
        what: &str,
        mut packets: Vec<Vec<u8>>,
        payloads: &[&[u8]],
        drops: &[(DropCause, u64)],
    ) {
        const MARK: &[u8] = b"the end of what is checked";
        let before = app::server_totals().unwrap();
        packets.push(vpn(VPN_SEND, self.peer.usage, &self.datagram(MARK)));
        self.peer.send_all(packets);
        let mut got = Vec::new();
        loop {
            let (payload, from) = received(&self.socket, what);
            assert_eq!(from.ip(), self.address, "{what}");
            if payload == MARK {
                break;
            }
            got.push(payload);
        }
        if got != payloads {
            let short = |payload: &[u8]| format!("{} {:02x?}", payload.len(), &payload[..payload.len().min(16)]);
            let got: Vec<_> = got.iter().map(|payload| short(payload)).collect();
            let payloads: Vec<_> = payloads.iter().map(|payload| short(payload)).collect();
            let counted = drops_since(&before);
            panic!("{what}: got {got:?}\n  expected {payloads:?}\n  counted {counted:?}");
        }
        let counted = fmt::from_fn(|f| write!(f, "{what}: counted {:?}, expected {drops:?}", drops_since(&before)));
        eventually(counted, || drops_since(&before) == drops);
    }
}

/// Returns the drops since then, except of packets that the host itself sends into the tunnel's network.
pub(crate) fn drops_since(before: &Totals) -> Vec<(DropCause, u64)> {
    let now = app::server_totals().unwrap();
    let causes = DropCause::ALL.into_iter().filter(|cause| *cause != DropCause::NoRoute);
    causes.map(|cause| (cause, now.dropped(cause) - before.dropped(cause))).filter(|(_, count)| *count > 0).collect()
}

/// Opens a socket at the server's inner address that can buffer large bursts.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((GATEWAY, 0)).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    large_buffer(&socket);
    socket
}
