//! A path between two hosts with a bottleneck, delay and loss, for kernels without netem.
//!
//! Each host has a TUN device as its outer interface; a thread reads both devices and writes what it has read into the
//! other one, when and if [`link`] says so. A TUN device without offload gets packets of at most the MTU with whole
//! checksums, so that the host's segmentation does not change what a packet is.

pub mod link;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use host::lab::Namespace;
use host::tun::{Device, DeviceConfig, Queue, TunError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::link::{Conditions, Counts, Link};

/// The MTU of every path.
pub const MTU: u16 = 1500;

/// The capacity of a device in packets: more than a TCP sender writes at once, so that only the path drops packets.
const DEVICE_QUEUE: u32 = 10_000;

/// The most packets that are read from one device before those that are due are sent.
const BATCH: usize = 64;

/// The longest wait, after which the thread looks whether it should end.
const WAIT: Duration = Duration::from_millis(50);

/// One end of a path.
#[derive(Clone, Debug)]
pub struct End {
    /// The host.
    pub namespace: Namespace,
    /// The name of its outer interface, at most 15 bytes.
    pub device: String,
    /// The address of the interface.
    pub address: Ipv4Addr,
    /// The prefix length of the network, the same at both ends.
    pub prefix: u8,
}

/// A running path, the same in both directions. Dropping it removes both devices.
#[derive(Debug)]
pub struct Path {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<[Counts; 2]>>,
    _devices: [Device; 2],
}

impl Path {
    /// Lays a path between two hosts. Both devices are up when it returns.
    ///
    /// # Errors
    /// As [`Device::create`]: without `/dev/net/tun` or the right to make devices.
    pub fn lay(near: &End, far: &End, conditions: &Conditions) -> Result<Path, TunError> {
        let (near_device, near_queue) = device(near)?;
        let (far_device, far_queue) = device(far)?;
        let opposite = Conditions { seed: conditions.seed.wrapping_add(1), ..conditions.clone() };
        let links = [Link::new(conditions), Link::new(&opposite)];
        let ends = Arc::new(AtomicBool::new(false));
        let until = ends.clone();
        let thread = thread::Builder::new()
            .name("path".into())
            .spawn(move || forward(&[near_queue, far_queue], links, &until))
            .map_err(TunError::Open)?;
        Ok(Path { ends, thread: Some(thread), _devices: [near_device, far_device] })
    }

    /// Ends the path, and returns what became of the packets from the near end, and of those from the far end.
    pub fn end(mut self) -> [Counts; 2] {
        self.stop()
    }

    fn stop(&mut self) -> [Counts; 2] {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.stop();
    }
}

fn device(end: &End) -> Result<(Device, Queue), TunError> {
    let config = DeviceConfig {
        name: Some(end.device.clone()),
        queues: 1,
        addr: end.address,
        prefix: end.prefix,
        mtu: MTU,
        txqlen: Some(DEVICE_QUEUE),
        offload: false,
    };
    let (device, mut queues) = end.namespace.run(move || Device::create(&config))?;
    Ok((device, queues.remove(0)))
}

/// A packet in memory that is used again.
struct Packet {
    bytes: Box<[u8; MTU as usize]>,
    length: usize,
}

/// Passes packets until it should end or a device is gone.
fn forward(queues: &[Queue; 2], mut links: [Link<Packet>; 2], until: &AtomicBool) -> [Counts; 2] {
    // The hosts' programs share the processors with the path, and would be slow at its expense. Without the right to
    // it, the path is less exact.
    let _ = rustix::process::nice(-20);
    let begin = Instant::now();
    let mut spare: Vec<Packet> = Vec::new();
    while !until.load(Ordering::Relaxed) {
        let mut is_busy = false;
        for (direction, link) in links.iter_mut().enumerate() {
            let (from, to) = (&queues[direction], &queues[1 - direction]);
            for _ in 0..BATCH {
                let mut packet =
                    spare.pop().unwrap_or_else(|| Packet { bytes: Box::new([0; MTU as usize]), length: 0 });
                match rustix::io::read(from, &mut packet.bytes[..]) {
                    Ok(length) => packet.length = length,
                    Err(Errno::AGAIN | Errno::INTR) => {
                        spare.push(packet);
                        break;
                    }
                    Err(_) => return links.map(|link| link.counts()),
                }
                is_busy = true;
                if let Err(packet) = link.offer(begin.elapsed(), packet.length, packet) {
                    spare.push(packet);
                }
            }
            while let Some(packet) = link.take_due(begin.elapsed()) {
                // A packet that the host refuses is lost, as on any link.
                let _ = rustix::io::write(to, &packet.bytes[..packet.length]);
                spare.push(packet);
            }
        }
        if !is_busy {
            let due = links.iter().filter_map(Link::next_due).min();
            let wait = due.map_or(WAIT, |due| due.saturating_sub(begin.elapsed()).min(WAIT));
            let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
            let mut ready = [PollFd::new(&queues[0], PollFlags::IN), PollFd::new(&queues[1], PollFlags::IN)];
            // Whatever it returns, the next round reads both.
            let _ = poll(&mut ready, Some(&timeout));
        }
    }
    links.map(|link| link.counts())
}
