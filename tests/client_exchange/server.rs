//! A server that answers as a test demands, and the client's side of the process.

use std::ffi::CString;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use dap_chain_net_srv_vpn::abi::client::dap_chain_net_vpn_client_start;
use dap_chain_net_srv_vpn::sdk;
use dap_chain_net_srv_vpn::sdk::channel::{self, Channel, ChannelHandler, Role, TYPE_DATA};
use dap_chain_net_srv_vpn::sdk::service::{Service, ServiceHandler};
use dap_chain_net_srv_vpn::sdk::usage::Rest;
use dap_chain_net_srv_vpn::sdk::{Running, worker};
use embedded::abi::net::dap_chain_net_by_name;
use embedded::abi::stream;
use embedded::config::{self, Config};
use embedded::ctypes::dap_stream_ch;
use embedded::listener;
use host::lab::plug_in;
use parking_lot::Mutex;
use testkit::TEST_TIMEOUT;
use testkit::logged::capture_log;
use vpn_core::wire::{self, AddrReply, Capabilities, FromClient};

/// The address of the server's host. It is outside of loopback's network, because a lease must be so too.
pub(crate) const OUTER: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 1);
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// Returns a reply with the usual address and these capabilities.
pub(crate) fn reply(caps: Option<Capabilities>) -> AddrReply {
    let netmask = caps.as_ref().map(|_| Ipv4Addr::new(255, 255, 255, 0));
    AddrReply { addr: ADDRESS, gateway: GATEWAY, netmask, caps }
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) shared: Arc<Shared>,
    _service: Service,
    _running: Running,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) struct Shared {
    /// The answers to an ADDR_REQUEST: whole VPN packets.
    pub(crate) answers: Mutex<Vec<Vec<u8>>>,
    /// The received VPN packets of clients.
    pub(crate) got: Mutex<Vec<Vec<u8>>>,
    channel: Mutex<Option<Arc<Channel>>>,
    /// The next stream reports here that it is being opened, and waits for permission to continue.
    pub(crate) gate: Mutex<Option<(SyncSender<u32>, Receiver<()>)>>,
}

impl Server {
    /// Starts to listen; the client's configuration gets these keys in its section.
    pub(crate) fn start(client: &str) -> Server {
        capture_log();
        sdk::start_logging();
        plug_in("lo", OUTER, 32).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "[general]\nstate_dir={}\n[resources]\nthreads_cnt=2\n[cli-server]\nenabled=false\n\
             [server]\nlisten_address=[0.0.0.0:0]\n[vpn_client]\n{}{client}",
            directory.path().display(),
            // A test that wants the second connection says so.
            if client.contains("reconnect=") { "" } else { "reconnect=false\n" }
        );
        config::set_current(Config::parse(&text, "test").0);
        let running = Running::retain().unwrap();
        let shared = Arc::new(Shared {
            answers: Mutex::new(vec![reply(None).encode(1, 0)]),
            got: Mutex::default(),
            channel: Mutex::default(),
            gate: Mutex::default(),
        });
        channel::set_handler(Role::Server, Some(Arc::clone(&shared) as Arc<_>));
        let service = Service::register(Arc::clone(&shared) as Arc<_>).unwrap();
        listener::ensure_started().unwrap();
        let port = listener::addresses()[0].port();
        Server { port, shared, _service: service, _running: running, directory }
    }

    /// Sets the server's answer from now on.
    pub(crate) fn will_answer(&self, reply: &AddrReply) {
        *self.shared.answers.lock() = vec![reply.encode(1, 0)];
    }

    /// Starts the client through the C API; returns the code.
    pub(crate) fn connect(&self) -> i32 {
        self.connect_by(&OUTER.to_string())
    }

    /// The same, with this name or address of the server.
    pub(crate) fn connect_by(&self, host: &str) -> i32 {
        let host = CString::new(host).unwrap();
        // SAFETY: both texts are NUL-terminated and live through the calls; the network is the SDK's own.
        unsafe {
            let net = dap_chain_net_by_name(c"backbone".as_ptr());
            dap_chain_net_vpn_client_start(net.cast(), host.as_ptr(), self.port)
        }
    }

    /// Sends a VPN packet to the client.
    pub(crate) fn send(&self, packet: &[u8]) {
        self.send_typed(TYPE_DATA, packet);
    }

    /// Sends a packet of any type on channel 'S' to the client.
    pub(crate) fn send_typed(&self, kind: u8, packet: &[u8]) {
        let packet = packet.to_vec();
        self.on_channel(move |channel| assert!(channel.send(kind, &packet)));
    }

    /// Sends a message on channel 'R' to the client.
    pub(crate) fn send_service(&self, kind: u8, message: &[u8]) {
        let message = message.to_vec();
        self.on_channel(move |channel| {
            // SAFETY: the channel is open, and this is its worker.
            let written = unsafe {
                let service = stream::dap_stream_ch_by_id_unsafe(
                    (*channel.raw().cast::<dap_stream_ch>()).stream,
                    b'R'.cast_signed(),
                );
                stream::dap_stream_ch_pkt_write_unsafe(service, kind, message.as_ptr().cast(), message.len())
            };
            assert_eq!(written, message.len());
        });
    }

    /// Closes the client's stream.
    pub(crate) fn close(&self) {
        self.on_channel(Channel::close);
    }

    fn on_channel(&self, work: impl FnOnce(&Channel) + Send + 'static) {
        let channel = self.shared.channel.lock().clone().unwrap();
        let (done, wait) = sync_channel(1);
        assert!(worker::exec(channel.worker().unwrap(), move || {
            work(&channel);
            done.send(()).unwrap();
        }));
        wait.recv_timeout(TEST_TIMEOUT).unwrap();
    }

    /// Returns the number of packets with this op that clients have sent.
    pub(crate) fn got(&self, op: u32) -> usize {
        let got = self.shared.got.lock();
        got.iter().filter(|packet| wire::Header::parse(packet).is_ok_and(|(header, _)| header.op == op)).count()
    }
}

impl ChannelHandler for Shared {
    fn opened(&self, channel: &Arc<Channel>) {
        *self.channel.lock() = Some(Arc::clone(channel));
        let gate = self.gate.lock().take();
        if let Some((opening, may_open)) = gate {
            opening.send(worker::current().unwrap()).unwrap();
            may_open.recv_timeout(TEST_TIMEOUT).unwrap();
        }
    }

    fn closed(&self, channel: &Arc<Channel>) {
        let mut current = self.channel.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, channel)) {
            *current = None;
        }
    }

    fn packet(&self, channel: &Arc<Channel>, _kind: u8, data: &[u8]) {
        self.got.lock().push(data.to_vec());
        if let Ok((_, FromClient::AddrRequest(_))) = wire::parse_from_client(data) {
            for answer in self.answers.lock().iter() {
                assert!(channel.send(TYPE_DATA, answer));
            }
        }
    }

    fn drained(&self, _channel: &Arc<Channel>) {}
}

impl ServiceHandler for Shared {
    fn requested(&self, _usage_id: u32) -> i32 {
        0
    }

    fn accepted(&self, channel: Option<&Arc<Channel>>, _usage_id: u32) -> i32 {
        let channel = channel.unwrap();
        channel.activate_usage();
        channel.enable();
        0
    }

    fn next_accepted(&self, _channel: Option<&Arc<Channel>>, _usage_id: u32) -> i32 {
        -1
    }
    fn refused(&self, _channel: Option<&Arc<Channel>>, _usage_id: u32, _code: u32) {}
    fn rest(&self, _channel: &Arc<Channel>, _usage_id: u32) -> Option<Rest> {
        None
    }
    fn ending(&self, _channel: &Arc<Channel>, _usage_id: u32) {}
}
