//! One connection of the monitor, without waiting: it reads a small head, writes the answer, and closes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use vpn_http::{Parsed, parse};

use super::site::{Answer, Site, refusal};

/// The most bytes of a request: a browser's headers with a cookie have less than one KiB.
const HEAD_MAX: usize = 8 << 10;
/// From accept to the end of the head.
const HEAD_TIME: Duration = Duration::from_secs(3);
/// From accept to the last byte of the answer.
const WHOLE_TIME: Duration = Duration::from_secs(10);
/// For the peer to close after the answer, and the bytes that are read meanwhile: closing with unread bytes would reset
/// the connection, and the peer might lose the answer.
const LINGER: (Duration, usize) = (Duration::from_millis(500), 64 << 10);

/// A connection and how far it is.
pub(super) struct Connection {
    stream: TcpStream,
    accepted: Instant,
    deadline: Instant,
    phase: Phase,
}

enum Phase {
    /// The bytes of the head so far.
    Reading(Vec<u8>),
    /// The answer, and the bytes that are written.
    Writing(Answer, usize),
    /// The answer is written; how many more bytes are read.
    Closing(usize),
}

/// What a connection needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Close,
}

impl Connection {
    /// Takes an accepted connection.
    pub(super) fn new(stream: TcpStream, now: Instant) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection { stream, accepted: now, deadline: now + HEAD_TIME, phase: Phase::Reading(Vec::new()) })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What the connection waits for.
    pub(super) fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Writing(..) => PollFlags::OUT,
            Phase::Reading(_) | Phase::Closing(_) => PollFlags::IN,
        }
    }

    /// When the connection ends although its peer does nothing.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How willingly it is closed for a new one, least first: what has its answer, then what is still to ask, then what
    /// is being answered; of each the oldest.
    pub(super) fn worth(&self) -> (u8, Instant) {
        let phase = match self.phase {
            Phase::Closing(_) => 0,
            Phase::Reading(_) => 1,
            Phase::Writing(..) => 2,
        };
        (phase, self.accepted)
    }

    /// The deadline has passed: a peer that was slow to ask is told so.
    pub(super) fn expire(&mut self) {
        if matches!(self.phase, Phase::Reading(_)) {
            let Answer { head, .. } = refusal(408);
            // It fits the empty buffer of the socket; if not, the peer has gone.
            let _ = (&self.stream).write(&head);
        }
    }

    /// Does what can be done now.
    pub(super) fn go_on(&mut self, site: &mut Site, now: Instant) -> Next {
        match self.step(site, now) {
            Ok(next) => next,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Wait,
            Err(error) => {
                log::trace!("monitor: {error}");
                Next::Close
            }
        }
    }

    fn step(&mut self, site: &mut Site, now: Instant) -> io::Result<Next> {
        loop {
            match &mut self.phase {
                Phase::Reading(head) => {
                    let mut chunk = [0; 2048];
                    let count = retry(|| (&self.stream).read(&mut chunk))?;
                    head.extend_from_slice(&chunk[..count]);
                    let answer = match parse(head) {
                        Parsed::Whole(parsed) if parsed.size <= HEAD_MAX => site.answer(&parsed, now),
                        Parsed::Bad(status) => refusal(status),
                        Parsed::Whole(_) => refusal(431),
                        Parsed::Partial if head.len() > HEAD_MAX => refusal(431),
                        Parsed::Partial if count == 0 && head.is_empty() => return Ok(Next::Close),
                        Parsed::Partial if count == 0 => refusal(400),
                        Parsed::Partial => continue,
                    };
                    self.deadline = self.accepted + WHOLE_TIME;
                    self.phase = Phase::Writing(answer, 0);
                }
                Phase::Writing(answer, written) => {
                    let head = answer.head.len();
                    let rest = match written.checked_sub(head) {
                        None => answer.head.get(*written..).unwrap_or_default(),
                        Some(of_body) => answer.body.bytes().get(of_body..).unwrap_or_default(),
                    };
                    if rest.is_empty() {
                        self.stream.shutdown(Shutdown::Write)?;
                        self.deadline = self.deadline.min(now + LINGER.0);
                        self.phase = Phase::Closing(LINGER.1);
                        continue;
                    }
                    match retry(|| (&self.stream).write(rest))? {
                        0 => return Ok(Next::Close),
                        count => *written += count,
                    }
                }
                Phase::Closing(left) => {
                    let mut chunk = [0; 4096];
                    match retry(|| (&self.stream).read(&mut chunk))? {
                        0 => return Ok(Next::Close),
                        count if count >= *left => return Ok(Next::Close),
                        count => *left -= count,
                    }
                }
            }
        }
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
