//! The places that strangers take, and an honest client that comes nevertheless.

use crate::peer::{Peer, from, opened_over, packet, tls_over};
use crate::server::Server;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Threads that keep connections open until they are dropped, and replace those that the server closes.
struct Attackers {
    stop: Arc<AtomicBool>,
    /// How often a connection was replaced.
    again: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    /// `count` connections of each of these hosts, which `open` makes and `keep` keeps; it returns false when the server
    /// has closed the connection.
    fn start<C: 'static>(
        hosts: std::ops::RangeInclusive<u8>,
        count: usize,
        open: impl Fn(u8) -> Option<C> + Send + Clone + 'static,
        keep: impl Fn(&mut C) -> bool + Send + Clone + 'static,
    ) -> Attackers {
        let (stop, again) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = hosts.map(|host| {
            let (stop, again, open, keep) = (Arc::clone(&stop), Arc::clone(&again), open.clone(), keep.clone());
            thread::spawn(move || {
                let mut held: Vec<C> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let before = held.len();
                    held.retain_mut(&keep);
                    again.fetch_add((before - held.len()) as u64, Ordering::Relaxed);
                    while held.len() < count && !stop.load(Ordering::Relaxed) {
                        let Some(connection) = open(host) else { break };
                        held.push(connection);
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            })
        });
        Attackers { threads: threads.collect(), stop, again }
    }

    fn replaced(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn is_open(mut io: &TcpStream) -> bool {
    match io.read(&mut [0; 64]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn silent(host: u8, port: u16) -> Option<TcpStream> {
    let io = from(host, port);
    io.set_nonblocking(true).ok()?;
    Some(io)
}

/// Ten streams of an honest client, one after the other; returns the longest time until one was up.
fn honest(port: u16, channels: &str) -> Duration {
    let times = (0..10).map(|number| {
        let begin = Instant::now();
        let opened = opened_over(from(1, port), channels);
        let taken = begin.elapsed();
        assert!(opened.is_ok(), "try {number}: {:?} after {taken:?}", opened.err());
        assert!(taken < Duration::from_secs(2), "try {number}: {taken:?}");
        thread::sleep(Duration::from_millis(200));
        taken
    });
    times.max().unwrap()
}

#[test]
fn silent_connections_of_many_addresses_keep_nobody_out() {
    let server = Server::start("");
    let port = server.port;
    let attackers = Attackers::start(2..=13, 128, move |host| silent(host, port), |io| is_open(io));
    // All that they can take is taken, and they come again.
    thread::sleep(Duration::from_secs(2));
    let longest = honest(port, "RS");
    println!("12 sources of silent connections: 10 of 10, at most {longest:?}, {} replaced", attackers.replaced());
    assert!(attackers.replaced() > 100, "{} replaced", attackers.replaced());
}

/// Each place that they lose costs the server half a handshake.
#[test]
fn handshakes_of_many_addresses_keep_nobody_out() {
    let server = Server::start("");
    let port = server.port;
    let mut hello = Vec::new();
    tls_over(from(1, port), &[b"cellframe-vpn/1"]).conn.write_tls(&mut hello).unwrap();
    let open = move |host| {
        let mut io = from(host, port);
        io.write_all(&hello).ok()?;
        io.set_nonblocking(true).ok()?;
        Some(io)
    };
    // The server's answer is read; then there is none, or the end.
    let attackers = Attackers::start(2..=13, 128, open, |io| is_open(io));
    thread::sleep(Duration::from_secs(2));
    let longest = honest(port, "RS");
    println!("12 sources of ClientHellos: 10 of 10, at most {longest:?}, {} replaced", attackers.replaced());
    assert!(attackers.replaced() > 100, "{} replaced", attackers.replaced());
}

#[test]
fn streams_that_speak_without_a_service_keep_nobody_out() {
    const LIFE: u64 = 4;
    let server = Server::start(&format!("max_streams=120\nmax_streams_per_address=60\nidle_timeout={LIFE}\n"));
    let port = server.port;
    let open = move |host| {
        let stream = opened_over(from(host, port), "S").ok()?;
        stream.sock.set_nonblocking(true).ok()?;
        Some((stream, Instant::now()))
    };
    let keep = |held: &mut (Peer, Instant)| {
        let sent = held.0.write_all(&packet(b'S', 0, 4, b"ping")).is_ok();
        let age = held.1.elapsed();
        assert!(age < Duration::from_secs(3 * LIFE), "a stream without a service is {age:?} old");
        sent && is_open(&held.0.sock)
    };
    let attackers = Attackers::start(2..=4, 60, open, keep);
    thread::sleep(Duration::from_secs(2));
    let longest = honest(port, "RS");
    // Longer than a life: nobody has stayed.
    thread::sleep(Duration::from_secs(LIFE + 2));
    println!("3 sources of streams that ping: 10 of 10, at most {longest:?}, {} replaced", attackers.replaced());
    assert!(attackers.replaced() >= 120, "{} replaced", attackers.replaced());
}

/// Requests whose heads come in pieces and whose bodies never come.
fn slow_posts(port: u16, sources: std::ops::RangeInclusive<u8>, each: usize) -> Attackers {
    let open = move |host| {
        let mut io = from(host, port);
        io.write_all(b"POST /limits HTTP/1.1\r\n").ok()?;
        io.set_nonblocking(true).ok()?;
        Some((io, 0_u32))
    };
    let keep = |(io, pieces): &mut (TcpStream, u32)| {
        *pieces += 1;
        let piece = match *pieces {
            90 => "Content-Length: 60000\r\n\r\n".to_owned(),
            number if number < 90 && number % 10 == 0 => format!("X-{number}: y\r\n"),
            _ => String::new(),
        };
        io.write_all(piece.as_bytes()).is_ok() && is_open(io)
    };
    Attackers::start(sources, each, open, keep)
}

fn get(port: u16) -> String {
    let mut io = from(1, port);
    io.write_all(b"GET /limits HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn slow_requests_keep_nobody_out() {
    // The first ones come to their deadlines meanwhile.
    for (sources, each, pause) in [(2..=2, 24, 60), (2..=7, 4, 20), (2..=13, 4, 20)] {
        let server = Server::start("");
        let attackers = slow_posts(server.port, sources.clone(), each);
        thread::sleep(Duration::from_millis(500));
        let good = (0..98).filter(|_| {
            thread::sleep(Duration::from_millis(pause));
            get(server.port).starts_with("HTTP/1.1 200")
        });
        assert_eq!(good.count(), 98, "{each} slow POSTs of each of {} addresses", sources.count());
        drop(attackers);
    }
}
