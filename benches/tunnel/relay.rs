//! The upper limit: a tunnel that only moves packets. It connects TUN with offload, one TCP connection and TUN, and
//! passes whole super-packets with their virtio header, without cryptography and sessions. A tunnel over one TCP
//! connection can hardly be faster.
//!
//! On the connection each packet is its length (u32, little-endian, of the rest), the virtio header and the packet in
//! the TUN device's format, so that the relay copies nothing and inspects only the length.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

use clap::Args;
use host::tun::{Device, DeviceConfig, Queue};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vpn_core::wire::VNET_LEN;

use crate::common::PREFIX;
use crate::common::failure::Failure;

/// Printed on stdout once packets can pass.
pub(crate) const READY: &str = "ready";

const LENGTH: usize = 4;
const MAX_FRAME: usize = LENGTH + VNET_LEN + 65535;

/// The most that is read before it is written. A quarter and four times as much give the same results.
const BATCH: usize = 4 * MAX_FRAME;

/// One end of the relay: it listens or connects.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(long, required_unless_present = "connect", conflicts_with = "connect")]
    listen: Option<SocketAddrV4>,
    #[arg(long)]
    connect: Option<SocketAddrV4>,
    /// This host's address in the tunnel
    #[arg(long)]
    inner: Ipv4Addr,
    #[arg(long)]
    mtu: u16,
}

/// Relays packets until the connection ends.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let config = DeviceConfig {
        name: None,
        queues: 1,
        addr: options.inner,
        prefix: PREFIX,
        mtu: options.mtu,
        txqlen: None,
        offload: true,
    };
    let (_device, queues) = Device::create(&config).map_err(Failure::during("the relay's device"))?;
    let queue = &queues[0];
    if !queue.has_offload() {
        return Err(Failure::Missing(
            "this kernel's TUN driver has no offload: there is no limit to compare with".into(),
        ));
    }
    // Connects only after the device exists: the other end sends as soon as it is connected.
    let stream = connect(options).map_err(Failure::during("the relay's connection"))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // If this direction fails, the other is useless.
            let result = tun_to_tcp(queue, &stream);
            eprintln!("TUN to TCP: {result:?}");
            let _ = stream.shutdown(std::net::Shutdown::Both);
        });
        let result = tcp_to_tun(queue, &stream);
        eprintln!("TCP to TUN: {result:?}");
        std::process::exit(0)
    })
}

fn connect(options: &Options) -> io::Result<TcpStream> {
    let stream = match (options.listen, options.connect) {
        (Some(address), _) => {
            let listener = TcpListener::bind(address)?;
            println!("{READY}");
            listener.accept()?.0
        }
        (_, Some(address)) => {
            let stream = TcpStream::connect(address)?;
            println!("{READY}");
            stream
        }
        (None, None) => unreachable!("clap requires one of the two"),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends all waiting packets in one write.
fn tun_to_tcp(queue: &Queue, mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BATCH];
    let mut filled = 0;
    loop {
        // An EAGAIN costs a system call, which one more packet in the batch saves.
        let fits = buffer.len() - filled >= MAX_FRAME;
        let received = if fits { queue.recv(&mut buffer[filled + LENGTH..])? } else { None };
        match received {
            Some(length) => {
                buffer[filled..filled + LENGTH].copy_from_slice(&(length as u32).to_le_bytes());
                filled += LENGTH + length;
            }
            None if filled > 0 => {
                stream.write_all(&buffer[..filled])?;
                filled = 0;
            }
            None => match poll(&mut [PollFd::new(queue, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
}

/// Receives with one read, and passes the whole packets on.
fn tcp_to_tun(queue: &Queue, mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BATCH];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut used = 0;
        while let Some((length, rest)) = buffer[used..filled].split_first_chunk::<LENGTH>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some(packet) = rest.get(..length) else { break };
            // A packet that the host refuses is lost, as on any link.
            let _ = rustix::io::write(queue, packet);
            used += LENGTH + length;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}
