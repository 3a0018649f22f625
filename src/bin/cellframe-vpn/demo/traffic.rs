//! The demo's traffic: TCP, one direction at a time, with every received byte compared.
//!
//! The server's end listens on its address *in the tunnel*, so data can arrive there only through the tunnel. The
//! client connects and sends the direction and the length; the receiver compares the data with the known [`Pattern`].

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::ping::ECHO_PORT;
use crate::exit::Failure;

const PORT: u16 = 5001;
const CHUNK: usize = 128 * 1024;
/// A connection without progress for so long counts as broken.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The direction of a transfer, as seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Upload,
    Download,
}

impl Direction {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "upload" => Some(Self::Upload),
            "download" => Some(Self::Download),
            _ => None,
        }
    }
}

/// The bytes that arrived, all verified, and the time that they took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transferred {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// Starts the TCP service and the UDP echo of the server's end on `gateway`. They run as long as the process.
pub(super) fn serve(gateway: Ipv4Addr) -> Result<(), Failure> {
    let failed = |error| Failure::general(format!("cannot serve traffic on {gateway} in the tunnel: {error}"));
    let listener = TcpListener::bind((gateway, PORT)).map_err(failed)?;
    let echo = UdpSocket::bind((gateway, ECHO_PORT)).map_err(failed)?;
    let accept = move || {
        for connection in listener.incoming().flatten() {
            if let Err(error) = answer(connection) {
                log::warn!("demo traffic failed: {error}");
            }
            store_traffic_cpu();
        }
    };
    let reflect = move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], from);
        }
    };
    thread::Builder::new().name("demo-traffic".into()).spawn(accept).map_err(failed)?;
    thread::Builder::new().name("demo-echo".into()).spawn(reflect).map_err(failed)?;
    Ok(())
}

/// Transfers data for `length` from the client's end. Calls `on_progress` with the byte count ten times a second.
pub(super) fn transfer(
    direction: Direction,
    gateway: Ipv4Addr,
    length: Duration,
    on_progress: impl FnMut(u64),
) -> Result<Transferred, Failure> {
    let result = request(direction, SocketAddrV4::new(gateway, PORT), length, on_progress);
    store_traffic_cpu();
    let transferred = result.map_err(|error| {
        let reason = match error.kind() {
            // A socket reports a timeout by this error (socket(7), SO_RCVTIMEO).
            io::ErrorKind::WouldBlock => format!("no data moved for {} s", STALL_TIMEOUT.as_secs()),
            _ => error.to_string(),
        };
        Failure::general(format!("{direction:?} through the tunnel: {reason}"))
    })?;
    if transferred.bytes == 0 {
        return Err(Failure::general(format!("{direction:?} through the tunnel: no data arrived")));
    }
    Ok(transferred)
}

/// Returns the processor time of this process, in seconds.
pub(super) fn process_cpu() -> f64 {
    cpu_seconds(ClockId::ProcessCPUTime)
}

/// Returns the processor time, in seconds, of the threads that send, receive and compare this end's traffic.
pub(super) fn traffic_cpu() -> f64 {
    Duration::from_nanos(TRAFFIC_CPU_NANOSECONDS.load(Ordering::Relaxed)).as_secs_f64()
}

static TRAFFIC_CPU_NANOSECONDS: AtomicU64 = AtomicU64::new(0);

/// Stores this thread's processor time. Each end moves traffic on one thread, so its clock is the sum.
fn store_traffic_cpu() {
    let time = Duration::from_secs_f64(cpu_seconds(ClockId::ThreadCPUTime));
    TRAFFIC_CPU_NANOSECONDS.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn cpu_seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn request(
    direction: Direction,
    server: SocketAddrV4,
    length: Duration,
    mut on_progress: impl FnMut(u64),
) -> io::Result<Transferred> {
    let mut connection = TcpStream::connect_timeout(&server.into(), STALL_TIMEOUT)?;
    prepare(&connection)?;
    let milliseconds = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
    let started = Instant::now();
    match direction {
        Direction::Upload => {
            connection.write_all(&hello(b'U', milliseconds))?;
            let sent = send(&mut connection, length, &mut on_progress)?;
            let mut arrived = [0; 8];
            connection.read_exact(&mut arrived)?;
            let (bytes, time) = (u64::from_le_bytes(arrived), started.elapsed());
            if bytes != sent {
                return Err(io::Error::other(format!("sent {sent} bytes, but {bytes} arrived")));
            }
            Ok(Transferred { bytes, time })
        }
        Direction::Download => {
            connection.write_all(&hello(b'D', milliseconds))?;
            let bytes = receive(&mut connection, &mut on_progress)?;
            Ok(Transferred { bytes, time: started.elapsed() })
        }
    }
}

fn answer(mut connection: TcpStream) -> io::Result<()> {
    prepare(&connection)?;
    let mut hello = [0; 5];
    connection.read_exact(&mut hello)?;
    let [direction, length @ ..] = hello;
    match direction {
        b'U' => {
            let bytes = receive(&mut connection, &mut |_| {})?;
            connection.write_all(&bytes.to_le_bytes())
        }
        b'D' => {
            let length = Duration::from_millis(u32::from_le_bytes(length).into());
            send(&mut connection, length, &mut |_| {}).map(drop)
        }
        other => Err(io::Error::other(format!("unknown direction {other:#x}"))),
    }
}

fn prepare(connection: &TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(STALL_TIMEOUT))?;
    connection.set_write_timeout(Some(STALL_TIMEOUT))
}

fn hello(direction: u8, milliseconds: u32) -> [u8; 5] {
    let [a, b, c, d] = milliseconds.to_le_bytes();
    [direction, a, b, c, d]
}

/// Sends the pattern for `length`, then shuts this direction of the connection down.
fn send(connection: &mut TcpStream, length: Duration, on_progress: &mut dyn FnMut(u64)) -> io::Result<u64> {
    let pattern = Pattern::new();
    let (mut bytes, mut report) = (0, Report::new(on_progress));
    let started = Instant::now();
    while started.elapsed() < length {
        let written = connection.write(pattern.at(bytes, CHUNK))?;
        bytes += written as u64;
        report.update(bytes);
    }
    connection.shutdown(Shutdown::Write)?;
    Ok(bytes)
}

/// Reads to the end and compares. The error for a byte that differs names its position.
fn receive(connection: &mut TcpStream, on_progress: &mut dyn FnMut(u64)) -> io::Result<u64> {
    let pattern = Pattern::new();
    let mut buffer = vec![0; CHUNK];
    let (mut bytes, mut report) = (0, Report::new(on_progress));
    loop {
        let length = connection.read(&mut buffer)?;
        if length == 0 {
            return Ok(bytes);
        }
        pattern.verify(bytes, &buffer[..length])?;
        bytes += length as u64;
        report.update(bytes);
    }
}

/// Reports the byte count ten times a second.
struct Report<'a> {
    to: &'a mut dyn FnMut(u64),
    last: Instant,
}

impl<'a> Report<'a> {
    fn new(to: &'a mut dyn FnMut(u64)) -> Self {
        Self { to, last: Instant::now() }
    }

    fn update(&mut self, bytes: u64) {
        if self.last.elapsed() >= PROGRESS_INTERVAL {
            self.last = Instant::now();
            (self.to)(bytes);
        }
    }
}

/// An endless pattern that both ends know. Its period is a prime and no multiple of any packet's or buffer's size, so
/// data that was lost, repeated or swapped does not match.
struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// The largest prime below 2^20.
    const PERIOD: usize = 1_048_573;

    fn new() -> Self {
        // xorshift64 (Marsaglia 2003)
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        Self { bytes: std::iter::repeat_with(next).take(Self::PERIOD).collect() }
    }

    /// Returns the bytes from `offset` of the stream, at least one and at most `length`.
    fn at(&self, offset: u64, length: usize) -> &[u8] {
        let start = (offset % Self::PERIOD as u64) as usize;
        &self.bytes[start..Self::PERIOD.min(start + length)]
    }

    fn verify(&self, offset: u64, mut received: &[u8]) -> io::Result<()> {
        let mut offset = offset;
        while !received.is_empty() {
            let expected = self.at(offset, received.len());
            let (now, rest) = received.split_at(expected.len());
            if now != expected {
                let good = now.iter().zip(expected).take_while(|(one, other)| one == other).count();
                let message = format!("data arrived corrupted, at byte {}", offset + good as u64);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            offset += now.len() as u64;
            received = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_verifies_itself_and_nothing_else() {
        let pattern = Pattern::new();
        let mut stream = Vec::new();
        while stream.len() < 2 * Pattern::PERIOD + 1000 {
            stream.extend_from_slice(pattern.at(stream.len() as u64, 77_777));
        }
        for cut in [1, 1460, 65_536, Pattern::PERIOD + 1] {
            let mut offset = 0;
            for chunk in stream.chunks(cut) {
                pattern.verify(offset, chunk).expect("unchanged data");
                offset += chunk.len() as u64;
            }
        }
        let mut changed = stream.clone();
        changed[Pattern::PERIOD + 5] ^= 0x80;
        let error = pattern.verify(0, &changed).expect_err("a changed byte");
        assert!(error.to_string().ends_with(&format!("at byte {}", Pattern::PERIOD + 5)), "{error}");
        assert!(pattern.verify(1460, &stream[..1460]).is_err(), "a packet that was left out");
    }

    #[test]
    fn both_directions_over_loopback() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let worker = thread::spawn(move || {
            for connection in listener.incoming().take(2) {
                answer(connection.expect("accept")).expect("answer");
            }
        });
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        for direction in [Direction::Upload, Direction::Download] {
            let mut reported = 0;
            let result = request(direction, server, Duration::from_millis(350), |bytes| reported = bytes);
            let transferred = result.expect("transfer");
            assert!(reported > 0 && transferred.bytes >= reported, "{transferred:?}, {reported}");
            assert!(transferred.time >= Duration::from_millis(300), "{transferred:?}");
        }
        worker.join().expect("join");
    }

    #[test]
    fn a_sender_that_lies_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let server = listener.local_addr().expect("address");
        let worker = thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("accept");
            connection.write_all(&[0; 5000]).expect("write");
        });
        let mut connection = TcpStream::connect(server).expect("connect");
        let error = receive(&mut connection, &mut |_| {}).expect_err("not the pattern");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        worker.join().expect("join");
    }
}
