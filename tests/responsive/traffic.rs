//! What crosses the tunnel: transfers at full speed, and small flows whose answers are timed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::lab::Namespace;
use rustix::net::sockopt::set_socket_linger;
use testkit::sockets::{self, udp};
use testkit::{TEST_TIMEOUT, median};

/// How long a blocked thread waits before it looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// TCP connections from one host to another, each at full speed. They end when this is dropped.
pub(crate) struct Bulk {
    arrived: Vec<Arc<AtomicU64>>,
    ended: Arc<AtomicBool>,
}

impl Bulk {
    /// Starts `flows` connections to this address, which the receiver's host has.
    pub(crate) fn start((from, to, address): &(Namespace, Namespace, Ipv4Addr), flows: usize) -> Bulk {
        let address = *address;
        let mut bulk = Bulk { arrived: Vec::new(), ended: Arc::default() };
        for _ in 0..flows {
            let listener = to.run(move || TcpListener::bind((address, 0)).unwrap());
            let target = listener.local_addr().unwrap();
            let mut sender = from.run(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap());
            let (mut receiver, _) = listener.accept().unwrap();
            // What the sockets hold at the end is dropped with them, so that nothing of it comes later.
            set_socket_linger(&sender, Some(Duration::ZERO)).unwrap();
            sender.set_write_timeout(Some(LOOK)).unwrap();
            receiver.set_read_timeout(Some(LOOK)).unwrap();
            let ended = Arc::clone(&bulk.ended);
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let _ = sender.write(&[7; 16_384]);
                }
            });
            let (arrived, ended) = (Arc::<AtomicU64>::default(), Arc::clone(&bulk.ended));
            bulk.arrived.push(Arc::clone(&arrived));
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !ended.load(Ordering::Relaxed) {
                    arrived.fetch_add(receiver.read(&mut buffer).unwrap_or(0) as u64, Ordering::Relaxed);
                }
            });
        }
        bulk
    }

    /// Runs a job, and returns its result and the rate of each connection meanwhile, in bit/s.
    pub(crate) fn during<T>(&self, job: impl FnOnce() -> T) -> (T, Vec<f64>) {
        let arrived = || self.arrived.iter().map(|one| one.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let (before, began) = (arrived(), Instant::now());
        let result = job();
        let seconds = began.elapsed().as_secs_f64();
        let rates = arrived().into_iter().zip(before).map(|(after, before)| (after - before) as f64 * 8.0 / seconds);
        (result, rates.collect())
    }

    /// Returns the rate of each connection during this time, in bit/s.
    pub(crate) fn rates(&self, time: Duration) -> Vec<f64> {
        self.during(|| thread::sleep(time)).1
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Both threads of each connection have ended then.
        thread::sleep(2 * LOOK);
    }
}

/// Returns the median of `count` pings from this host, in ms.
pub(crate) fn pings(host: &Namespace, target: Ipv4Addr, count: u32) -> f64 {
    let times = host.run(move || {
        let ping = |_| {
            let began = Instant::now();
            assert!(sockets::ping(target), "no answer of {target}");
            let time = began.elapsed();
            // Out of step with any sawtooth.
            thread::sleep(Duration::from_millis(37));
            time.as_secs_f64() * 1e3
        };
        (0..count).map(ping).collect()
    });
    median(times).unwrap()
}

/// What became of a small flow.
#[derive(Debug)]
pub(crate) struct Sparse {
    /// The median of the round trips in ms.
    pub(crate) median: f64,
    /// The answered share of its datagrams.
    pub(crate) answered: f64,
}

/// Sends datagrams of 100 bytes at this interval from one host to another, which answers each.
pub(crate) fn sparse((from, to, address): &(Namespace, Namespace, Ipv4Addr), count: u32, interval: Duration) -> Sparse {
    let address = *address;
    let answering = to.run(move || udp(address));
    answering.set_read_timeout(Some(LOOK)).unwrap();
    let target = answering.local_addr().unwrap();
    let asking = from.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    asking.connect(target).unwrap();
    asking.set_read_timeout(Some(LOOK)).unwrap();
    let (began, ended) = (Instant::now(), AtomicBool::new(false));
    let times = thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 200];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((size, from)) = answering.recv_from(&mut bytes) {
                    answering.send_to(&bytes[..size], from).unwrap();
                }
            }
        });
        scope.spawn(|| {
            for number in 0..count {
                thread::sleep((interval * number).saturating_sub(began.elapsed()));
                let mut bytes = [0; 100];
                bytes[..8].copy_from_slice(&(began.elapsed().as_nanos() as u64).to_le_bytes());
                asking.send(&bytes).unwrap();
            }
        });
        let mut times = Vec::new();
        let deadline = interval * count + Duration::from_secs(1);
        while times.len() < count as usize && began.elapsed() < deadline {
            let mut bytes = [0; 200];
            if asking.recv(&mut bytes).is_ok_and(|size| size == 100) {
                let sent = Duration::from_nanos(u64::from_le_bytes(*bytes.first_chunk().unwrap()));
                times.push((began.elapsed() - sent).as_secs_f64() * 1e3);
            }
        }
        ended.store(true, Ordering::Relaxed);
        times
    });
    Sparse { answered: times.len() as f64 / f64::from(count), median: median(times).unwrap() }
}
