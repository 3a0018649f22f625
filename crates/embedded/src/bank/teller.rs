//! A client's connection to a server's bank: a stream with channel 'B' alone, over TLS with the server's pinned identity.
//! Its functions block until an answer or a deadline; they need no worker.

use super::{CHANNEL, PER_SECOND};
use crate::config;
use crate::deadline::Timed;
use crate::dial;
use crate::stream::HEADER_LEN;
use crate::stream::hello::{self, ANSWER_LEN, Parsed};
use crate::tls::pin::{self, PinVerifier};
use crate::tls::{self, ALPN};
use libc::{ECONNRESET, EIO, EKEYREJECTED, EPROTO, ETIMEDOUT};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Stream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use vpn_core::money::bank::{BankAnswer, BankRequest};
use vpn_core::names;
use vpn_core::rate::Budget;

/// How long a server may take for TLS and the hello.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a server may take for an answer, which may wait for its disk.
const ANSWER: Duration = Duration::from_secs(10);
/// After so long without a question the connection is made anew: the server ends a stream without service.
const IDLE: Duration = Duration::from_secs(20);
/// How often a question looks whether it may be asked: the server drops what comes too often.
const PACE: Duration = Duration::from_millis(20);
/// The most bytes of an answer.
const ANSWER_MAX: usize = 16 * 1024;

/// A connection to a bank.
pub(super) struct Teller {
    io: TcpStream,
    tls: ClientConnection,
    sequence: u64,
    began: Instant,
    used: Instant,
    budget: Budget,
}

/// What a server is asked by.
pub(super) struct Opened {
    /// `None` if the server has no bank: it is of an earlier version.
    pub(super) teller: Option<Teller>,
    /// The fingerprint of its key.
    pub(super) identity: [u8; 32],
}

impl Teller {
    /// Connects; fails with an errno, as a stream does.
    pub(super) fn connect(host: &str, port: u16) -> Result<Opened, i32> {
        let address = names::server(host, port);
        let config = config::current();
        let expected = pin::expected(&config, &address).map_err(|error| {
            log::error!("cannot connect to {address}: {error}");
            EIO
        })?;
        let pin = PinVerifier::new(address.clone(), expected);
        let io = dial::reach(host, port)?;
        let prepared = io.set_nonblocking(false).and_then(|()| io.set_nodelay(true));
        prepared.map_err(|error| error.raw_os_error().unwrap_or(EIO))?;
        let config = tls::client_config(tls::provider(), &pin);
        // The name is neither sent nor checked: the identity is the key (see tls::pin).
        let name = ServerName::try_from("cellframe-vpn");
        let tls = match (config, name) {
            (Ok(config), Ok(name)) => ClientConnection::new(config, name).ok(),
            _ => None,
        };
        let mut tls = tls.ok_or_else(|| {
            log::error!("cannot start TLS");
            EPROTO
        })?;
        let mut timed = Timed::new(&io, HANDSHAKE);
        let handshake = complete(&mut tls, &mut timed);
        // The key of anything else, such as a network's sign-in page, is no server's.
        if tls.alpn_protocol() == Some(ALPN) && pin.tells_refusal() {
            return Err(EKEYREJECTED);
        }
        handshake.map_err(|error| errno(&error, &address))?;
        match pin.remember() {
            Ok(true) => {}
            Ok(false) => return Err(EKEYREJECTED),
            Err(error) => {
                log::error!("cannot store the identity of server {address} ({error}); the connection is closed");
                return Err(EIO);
            }
        }
        let (true, Some(identity)) = (tls.alpn_protocol() == Some(ALPN), pin.fingerprint()) else { return Err(EPROTO) };
        let answer = greet(&mut tls, &mut timed).map_err(|error| errno(&error, &address))?;
        let teller = match hello::parse_answer(&answer) {
            Parsed::Complete(hello::Status::Ok, _) => Some(Teller::new(io, tls)),
            Parsed::Complete(hello::Status::NoSuchChannel, _) => None,
            _ => return Err(EPROTO),
        };
        Ok(Opened { teller, identity })
    }

    fn new(io: TcpStream, tls: ClientConnection) -> Teller {
        let (now, budget) = (Instant::now(), Budget::per_second(PER_SECOND / 2));
        Teller { io, tls, sequence: 0, began: now, used: now, budget }
    }

    /// Returns whether the server still waits for questions, as far as can be told.
    pub(super) fn is_fresh(&self) -> bool {
        self.used.elapsed() < IDLE
    }

    /// Returns whether it has answered a question before.
    pub(super) fn has_answered(&self) -> bool {
        self.sequence > 0
    }

    /// Asks, and waits for the answer. After an error the connection is of no use.
    pub(super) fn ask(&mut self, request: &BankRequest) -> io::Result<BankAnswer> {
        while !self.budget.take(self.began.elapsed()) {
            thread::sleep(PACE);
        }
        let (kind, data) = request.encode();
        let mut packet = vec![CHANNEL, 0, kind, 0];
        packet.extend_from_slice(&self.sequence.to_le_bytes());
        // Lossless: a request is far below 4 GiB.
        packet.extend_from_slice(&(data.len() as u32).to_le_bytes());
        packet.extend_from_slice(&data);
        self.sequence += 1;
        let mut timed = Timed::new(&self.io, ANSWER);
        let mut stream = Stream::new(&mut self.tls, &mut timed);
        stream.write_all(&packet)?;
        stream.flush()?;
        let mut header = [0; HEADER_LEN];
        stream.read_exact(&mut header)?;
        let [channel, _, kind, _, .., a, b, c, d] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if channel != CHANNEL || length > ANSWER_MAX {
            return Err(malformed(format_args!("a packet of {length} bytes on channel {channel:#x}")));
        }
        let mut data = vec![0; length];
        stream.read_exact(&mut data)?;
        self.used = Instant::now();
        BankAnswer::parse(kind, &data).map_err(malformed)
    }
}

fn malformed(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the server's bank sent what this version does not know: {what}"))
}

fn complete(tls: &mut ClientConnection, timed: &mut Timed<'_, TcpStream>) -> io::Result<()> {
    while tls.is_handshaking() {
        if tls.complete_io(timed)? == (0, 0) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Sends the hello; returns the server's answer.
fn greet(tls: &mut ClientConnection, timed: &mut Timed<'_, TcpStream>) -> io::Result<[u8; ANSWER_LEN]> {
    let mut stream = Stream::new(tls, timed);
    stream.write_all(&hello::encode(&[CHANNEL]))?;
    stream.flush()?;
    let mut answer = [0; ANSWER_LEN];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The errno of a failed handshake, as a stream has it (docs/stream.md).
fn errno(error: &io::Error, server: &str) -> i32 {
    log::debug!("the bank of {server}: {error}");
    match error.kind() {
        ErrorKind::TimedOut => ETIMEDOUT,
        ErrorKind::InvalidData => EPROTO,
        _ => error.raw_os_error().unwrap_or(ECONNRESET),
    }
}
