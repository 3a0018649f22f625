//! One connection's TLS: bytes from the peer in, plain text out, and back.

use crate::embedded::stream::outgoing::Cipher;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, ServerConfig};
use std::sync::Arc;

/// Most received bytes that may wait for the rest of a record or of a handshake message.
const PENDING_MAX: usize = 128 * 1024;
/// What a record adds to its plain text: header 5, content type 1, tag 16 (RFC 8446, 5.2).
const RECORD_OVERHEAD: usize = 22;
const RECORD_PLAIN: usize = 16 * 1024;
/// Room for a key update in front of the records.
const CONTROL_ROOM: usize = 512;

/// What is wrong with a connection's TLS.
#[derive(thiserror::Error, Debug)]
pub(crate) enum TlsError {
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    #[error("TLS: a message of more than {PENDING_MAX} bytes")]
    TooLong,
    #[error("TLS: the keys are used up")]
    Exhausted,
    #[error("TLS: the record layer is not in a state to send")]
    NotReady,
}

/// Where a call to [`TlsSession::receive`] got to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The peer has ended its side.
    pub(crate) closed: bool,
}

/// One end of one connection.
pub(crate) struct TlsSession {
    end: End,
    /// Received bytes that do not make a whole record yet.
    pending: Vec<u8>,
    established: bool,
}

enum End {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What the record layer wants next.
enum Step {
    Again,
    Wait,
    Established,
    Closed,
}

impl TlsSession {
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(End::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    pub(crate) fn client(config: Arc<ClientConfig>) -> Result<Self, rustls::Error> {
        // The name is not sent and not checked: the identity is the key (see tls::pin).
        let name = ServerName::try_from("cellframe-vpn").map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self::new(End::Client(Box::new(UnbufferedClientConnection::new(config, name)?))))
    }

    fn new(end: End) -> Self {
        TlsSession { end, pending: Vec::new(), established: false }
    }

    /// Both sides have proven what they must, and application data may flow.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    pub(crate) fn common(&self) -> &CommonState {
        match &self.end {
            End::Server(server) => server,
            End::Client(client) => client,
        }
    }

    /// Puts the bytes that wait for their record's rest at the begin of `block`, which is at least `PENDING_MAX`
    /// long, and returns how many there are: received bytes go behind them.
    pub(crate) fn begin(&self, block: &mut [u8]) -> usize {
        match block.get_mut(..self.pending.len()) {
            Some(front) => {
                front.copy_from_slice(&self.pending);
                self.pending.len()
            }
            None => 0,
        }
    }

    /// Takes `received`, which begins with what [`TlsSession::begin`] put there. Plain text is appended to `plain`,
    /// what TLS itself has to say to `out`. After an error `out` may hold the alert that tells the peer.
    pub(crate) fn receive(
        &mut self,
        received: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Cipher,
    ) -> Result<Progress, TlsError> {
        let mut at = 0;
        let mut progress = Progress::default();
        loop {
            let input = received.get_mut(at..).unwrap_or_default();
            let (discard, step) = match &mut self.end {
                End::Server(server) => advance(server.process_tls_records(input), plain, out),
                End::Client(client) => advance(client.process_tls_records(input), plain, out),
            };
            at += discard;
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    self.collect_alert(received.get_mut(at..).unwrap_or_default(), out);
                    return Err(error);
                }
            };
            match step {
                Step::Again => {}
                Step::Wait => break,
                Step::Established => {
                    self.established = true;
                    break;
                }
                Step::Closed => {
                    progress.closed = true;
                    break;
                }
            }
        }
        let rest = received.get(at..).unwrap_or_default();
        if rest.len() > PENDING_MAX {
            return Err(TlsError::TooLong);
        }
        self.pending.clear();
        // A stream that stands still should not keep a super-packet's worth of memory.
        if rest.is_empty() && self.pending.capacity() > RECORD_PLAIN * 2 {
            self.pending = Vec::new();
        }
        self.pending.extend_from_slice(rest);
        Ok(progress)
    }

    /// Keeps no more memory than what waits takes.
    pub(crate) fn trim(&mut self) {
        self.pending.shrink_to_fit();
    }

    /// After an error: the alert for the peer, if there is one. `rest` is what the record layer has not consumed; it
    /// keeps offsets into those bytes.
    fn collect_alert(&mut self, rest: &mut [u8], out: &mut Cipher) {
        let mut nothing = Vec::new();
        let status = match &mut self.end {
            End::Server(server) => advance(server.process_tls_records(rest), &mut nothing, out),
            End::Client(client) => advance(client.process_tls_records(rest), &mut nothing, out),
        };
        if status.1.is_err() {
            log::trace!("no alert to send");
        }
    }

    /// Appends `data` to `out` as TLS records.
    pub(crate) fn encrypt(&mut self, data: &[u8], out: &mut Cipher) -> Result<(), TlsError> {
        let mut room = data.len() + (data.len() / RECORD_PLAIN + 1) * RECORD_OVERHEAD + CONTROL_ROOM;
        // What is pending is shown to the record layer each time: its own book-keeping refers to those bytes.
        loop {
            let (status, required) = match &mut self.end {
                End::Server(server) => send(server.process_tls_records(&mut self.pending), data, room, out),
                End::Client(client) => send(client.process_tls_records(&mut self.pending), data, room, out),
            };
            match (status?, required) {
                (Sent::All, _) => return Ok(()),
                (Sent::Again, Some(required)) => room = required + CONTROL_ROOM,
                (Sent::Again, None) => {}
            }
        }
    }

    /// Appends the "close_notify" alert to `out`, as well as it can be done.
    pub(crate) fn say_goodbye(&mut self, out: &mut Cipher) {
        let room = CONTROL_ROOM;
        let said = match &mut self.end {
            End::Server(server) => goodbye(server.process_tls_records(&mut self.pending), room, out),
            End::Client(client) => goodbye(client.process_tls_records(&mut self.pending), room, out),
        };
        if said.is_none() {
            log::trace!("a stream ends without close_notify");
        }
    }
}

fn advance<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &mut Vec<u8>,
    out: &mut Cipher,
) -> (usize, Result<Step, TlsError>) {
    let mut discard = status.discard;
    let step = match status.state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let mut encoded = data.encode(out.room(0));
            if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encoded {
                encoded = data.encode(out.room(required_size));
            }
            match encoded {
                Ok(written) => {
                    out.end += written;
                    Ok(Step::Again)
                }
                Err(_) => Err(TlsError::NotReady),
            }
        }
        // Our output is a queue: what is in it counts as transmitted.
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Wait),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Established),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Closed),
        // Early data is not enabled, and later versions of rustls may know more states.
        Ok(_) => Err(TlsError::NotReady),
    };
    (discard, step)
}

enum Sent {
    All,
    Again,
}

fn send<D>(
    status: UnbufferedStatus<'_, '_, D>,
    data: &[u8],
    room: usize,
    out: &mut Cipher,
) -> (Result<Sent, TlsError>, Option<usize>) {
    match status.state {
        Err(error) => (Err(error.into()), None),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match traffic.encrypt(data, out.room(room)) {
            Ok(written) => {
                out.end += written;
                (Ok(Sent::All), None)
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                (Ok(Sent::Again), Some(required_size))
            }
            Err(EncryptError::EncryptExhausted) => (Err(TlsError::Exhausted), None),
        },
        Ok(ConnectionState::EncodeTlsData(mut message)) => match message.encode(out.room(room)) {
            Ok(written) => {
                out.end += written;
                (Ok(Sent::Again), None)
            }
            Err(_) => (Err(TlsError::NotReady), None),
        },
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            (Ok(Sent::Again), None)
        }
        // The edge-triggered news of the peer's end: it may still read.
        Ok(ConnectionState::PeerClosed) => (Ok(Sent::Again), None),
        Ok(_) => (Err(TlsError::NotReady), None),
    }
}

fn goodbye<D>(status: UnbufferedStatus<'_, '_, D>, room: usize, out: &mut Cipher) -> Option<()> {
    let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else { return None };
    out.end += traffic.queue_close_notify(out.room(room)).ok()?;
    Some(())
}
