//! The clients' end of many sessions: streams with a lease each, opened with the library's own client code in a
//! separate process, which a measurement starts on a client's host.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::sdk::channel::{self as sdk_channel, Channel, ChannelHandler, Role, TYPE_DATA};
use dap_chain_net_srv_vpn::sdk::link::{Event, Link};
use dap_chain_net_srv_vpn::sdk::net::Net;
use dap_chain_net_srv_vpn::sdk::{Running, start_logging, worker};
use embedded::config::{self, Config};
use vpn_core::wire::{
    Capabilities, FromServer, Header, Request, Success, encode_addr_request, encode_control, op, parse_from_server, pkt,
};

/// The number of streams that connect at once: the embedded SDK connects in at most 64 threads.
const AT_ONCE: u32 = 60;
/// The time limit of a stream's lease.
const LEASE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[arg(long)]
    server: Ipv4Addr,
    /// The server's identity
    #[arg(long)]
    pin: String,
    #[arg(long)]
    count: u32,
    #[arg(long)]
    state_dir: String,
}

/// Opens the streams, prints "leases COUNT SECONDS" when each has its lease, and keeps them until it is killed. A line
/// on its standard input makes each of them send some packets.
pub(crate) fn run(options: &Options) -> ! {
    start_logging();
    let text = format!(
        "[general]\nstate_dir={}\n[server]\nenabled=false\n[cli-server]\nenabled=false\n[vpn_client]\nserver_pin={}\n",
        options.state_dir, options.pin
    );
    config::set_current(Config::parse(&text, "streams").0);
    let _running = Running::retain().unwrap();
    let (leased, leases) = channel();
    let channels = Arc::<Mutex<Vec<_>>>::default();
    let handler = Leased { leased, channels: Arc::clone(&channels) };
    sdk_channel::set_handler(Role::Client, Some(Arc::new(handler)));
    let net = Net::by_name("backbone").unwrap();
    let began = Instant::now();
    let links: Vec<_> = (0..options.count)
        .map(|number| {
            if number >= AT_ONCE {
                wait_for_one(&leases);
            }
            open(&net, &options.server.to_string())
        })
        .collect();
    (0..options.count.min(AT_ONCE)).for_each(|_| wait_for_one(&leases));
    println!("leases {} {:.3}", links.len(), began.elapsed().as_secs_f64());
    std::io::stdout().flush().unwrap();
    for line in std::io::stdin().lines() {
        line.unwrap();
        channels.lock().unwrap().iter().for_each(send_some);
    }
    loop {
        thread::park();
    }
}

/// Sends packets without a source, which the server drops: enough for records that the kernel delivers in parts.
fn send_some(channel: &Arc<Channel>) {
    const PACKETS: usize = 40;
    let (Some(owner), channel) = (channel.worker(), Arc::clone(channel)) else { return };
    worker::exec(owner, move || {
        let packet = [0; 1300];
        let header = Header { sock_id: 0, op: op::VPN_SEND, usage_id: 1, value: packet.len() as u32 };
        let message = [header.to_bytes().as_slice(), &packet].concat();
        (0..PACKETS).for_each(|_| assert!(channel.send(TYPE_DATA, &message)));
    });
}

fn wait_for_one(leases: &Receiver<()>) {
    if leases.recv_timeout(LEASE_TIMEOUT).is_err() {
        end(&format!("no lease within {LEASE_TIMEOUT:?}"));
    }
}

/// The process that waits for the leases notices this end.
fn end(why: &str) -> ! {
    eprintln!("streams: {why}");
    std::process::exit(1);
}

/// Opens a stream that requests the service, then an address.
fn open(net: &Net, server: &str) -> Arc<Link> {
    const PORT: u16 = 8079;
    let request = Request {
        net_id: net.id(),
        tx_cond: [7; 32],
        srv_uid: 1,
        token: [0; 10],
        client_pkey_hash: [7; 32],
        order_hash: net.free_order().unwrap_or_default(),
    };
    let own = Arc::new(OnceLock::<std::sync::Weak<Link>>::new());
    let handler = Arc::new(move |event: Event<'_>| match event {
        Event::Connected(link) => {
            let _ = own.set(Arc::downgrade(link));
            link.send(b'R', pkt::REQUEST, &request.encode());
        }
        Event::ServicePacket { kind: pkt::SUCCESS, data } => {
            let usage_id = Success::parse(data).unwrap().usage_id;
            // Like the program's client, so that the server pings.
            let caps = Capabilities {
                bundle: Some(u16::MAX),
                mtu: Some(1390),
                keep_alive: Some(5),
                ..Capabilities::default()
            };
            if let Some(link) = own.get().and_then(std::sync::Weak::upgrade) {
                link.send(b'S', TYPE_DATA, &encode_addr_request(usage_id, Some(&caps)));
            }
        }
        Event::ServicePacket { .. } => {}
        Event::Failed(errno) => end(&format!("a connection failed: {}", std::io::Error::from_raw_os_error(errno))),
        Event::Disconnected => end("a connection was lost"),
    });
    Link::connect(net, server, PORT, "RS", handler).unwrap_or_else(|| end("a connection was refused"))
}

/// The channels 'S': counts leases and answers pings.
struct Leased {
    leased: Sender<()>,
    channels: Arc<Mutex<Vec<Arc<Channel>>>>,
}

impl ChannelHandler for Leased {
    fn opened(&self, _channel: &Arc<Channel>) {}

    fn closed(&self, _channel: &Arc<Channel>) {}

    fn packet(&self, channel: &Arc<Channel>, _kind: u8, data: &[u8]) {
        match parse_from_server(data) {
            Ok((_, FromServer::AddrReply(_))) => {
                self.channels.lock().unwrap().push(Arc::clone(channel));
                let _ = self.leased.send(());
            }
            Ok((header, FromServer::Ping)) => {
                channel.send(TYPE_DATA, &encode_control(op::PONG, header.usage_id, 0));
            }
            Ok((_, FromServer::Problem(code))) => end(&format!("the server sent PROBLEM {code}")),
            _ => {}
        }
    }

    fn drained(&self, _channel: &Arc<Channel>) {}
}
