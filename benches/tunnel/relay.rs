//! The limit: a tunnel that does nothing but move packets. TUN with offload to one TCP connection to TUN, whole
//! super-packets with their virtio header, no cryptography and no sessions: what a tunnel over one TCP connection
//! cannot be much faster than.
//!
//! On the connection each packet is its length (u32, little-endian, of what follows), the virtio header, the packet:
//! as the TUN device gives and takes them, so that nothing is copied or looked at beside the length.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

use clap::Args;
use host::tun::{Device, DeviceConfig, Queue};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vpn_core::wire::VNET_LEN;

use crate::failure::Failure;
use crate::hosts;

/// Said on stdout once packets can pass.
pub(crate) const READY: &str = "ready";

const LENGTH: usize = 4;
const MAX_FRAME: usize = LENGTH + VNET_LEN + 65535;

/// What is read before it is written, at most. A quarter of it and four times as much measure the same.
const BATCH: usize = 4 * MAX_FRAME;

/// One end: it listens or connects.
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

/// Relays until the connection ends.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let config = DeviceConfig {
        name: None,
        queues: 1,
        addr: options.inner,
        prefix: hosts::PREFIX,
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
    // Not before the device is there: the other end sends as soon as it is connected.
    let stream = connect(options).map_err(Failure::during("the relay's connection"))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Without this direction there is no use in the other.
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

/// All packets that wait become one write.
fn tun_to_tcp(queue: &Queue, mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BATCH];
    let mut filled = 0;
    loop {
        // An EAGAIN costs a system call; a packet more in the batch saves one.
        let room = buffer.len() - filled >= MAX_FRAME;
        let received = if room { queue.recv(&mut buffer[filled + LENGTH..])? } else { None };
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

/// One read brings what has come, of which the whole packets go on.
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
            // What the host refuses is lost, as on any link.
            let _ = rustix::io::write(queue, packet);
            used += LENGTH + length;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}
