//! One connection's TLS: rustls makes the handshake, then [`Traffic`] takes over the keys.

use super::ALPN;
use super::error::TlsError;
use super::records::{self, Batch};
use super::sizes::{HEADER_LEN, PENDING_MAX};
use super::traffic::Traffic;
use super::window::Window;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;

/// One end of one connection.
pub(crate) struct TlsSession {
    phase: Phase,
    /// Both ends have agreed on [`ALPN`]: known once the handshake is complete, or has failed.
    has_agreed_protocol: bool,
}

enum Phase {
    /// The number of bytes that rustls has seen and not consumed.
    Handshake(End, usize),
    Traffic(Box<Traffic>),
    /// After an error: nothing is sent or accepted any more.
    Failed,
}

enum End {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// The next step of the handshake.
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
        // The name is neither sent nor checked: the identity is the key (see tls::pin).
        let name = ServerName::try_from("cellframe-vpn").map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self::new(End::Client(Box::new(UnbufferedClientConnection::new(config, name)?))))
    }

    fn new(end: End) -> Self {
        TlsSession { phase: Phase::Handshake(end, 0), has_agreed_protocol: false }
    }

    /// The handshake is complete, and application data may flow.
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Traffic(_))
    }

    /// Both ends have agreed on [`ALPN`]; also of a handshake that has failed later, such as by the server's identity.
    pub(crate) fn has_agreed_protocol(&self) -> bool {
        self.has_agreed_protocol
    }

    /// Decrypts all complete records of the window; appends handshake and alert output to `out`. Returns whether the
    /// peer has closed its side. After an error `out` may end with the alert for the peer.
    pub(crate) fn receive(&mut self, window: &mut Window, out: &mut Vec<u8>) -> Result<bool, TlsError> {
        let mut closed = false;
        if let Phase::Handshake(..) = self.phase {
            closed = self.handshake(window, out)?;
        }
        match &mut self.phase {
            Phase::Handshake(..) => Ok(closed),
            Phase::Traffic(traffic) => traffic.receive(window, out).inspect_err(|_| self.phase = Phase::Failed),
            Phase::Failed => Err(TlsError::NotEstablished),
        }
    }

    /// Shows rustls one more record at a time, so that it never sees the records behind the handshake, which belong to
    /// [`Traffic`].
    fn handshake(&mut self, window: &mut Window, out: &mut Vec<u8>) -> Result<bool, TlsError> {
        let Phase::Handshake(end, seen) = &mut self.phase else { return Ok(false) };
        let received = window.bytes.len();
        // Shows rustls the header of an incomplete record: it consumes none of it, but detects an error at once and
        // tells the peer.
        let mut header = 0;
        let result = loop {
            let shown = window.cipher_begin + *seen + header;
            let (discard, step) =
                end.advance(window.bytes.get_mut(window.cipher_begin..shown).unwrap_or_default(), out);
            window.cipher_begin += discard;
            *seen -= discard.min(*seen);
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Wait) => match records::whole_record(window.bytes.get(shown - header..).unwrap_or_default()) {
                    Ok(Some(length)) => *seen += length,
                    _ if header == 0 && shown < received => header = HEADER_LEN.min(received - shown),
                    Ok(None) if received - window.cipher_begin > PENDING_MAX => break Err(TlsError::TooLong),
                    Ok(None) => return Ok(false),
                    Err(error) => break Err(error),
                },
                Ok(Step::Established) => return self.establish().map(|()| false),
                Ok(Step::Closed) => return Ok(true),
                Err(error) => {
                    // Once more, to get the alert.
                    let rest = window.bytes.get_mut(window.cipher_begin..shown).unwrap_or_default();
                    if end.advance(rest, out).1.is_err() {
                        log::trace!("no alert to send");
                    }
                    break Err(error);
                }
            }
        };
        self.has_agreed_protocol = end.has_agreed_protocol();
        self.phase = Phase::Failed;
        result
    }

    /// Takes the keys over from rustls.
    fn establish(&mut self) -> Result<(), TlsError> {
        let Phase::Handshake(end, _) = std::mem::replace(&mut self.phase, Phase::Failed) else {
            return Err(TlsError::Internal);
        };
        self.has_agreed_protocol = end.has_agreed_protocol();
        let traffic = match end {
            End::Server(connection) => Traffic::new(connection.dangerous_into_kernel_connection()?)?,
            End::Client(connection) => Traffic::new(connection.dangerous_into_kernel_connection()?)?,
        };
        self.phase = Phase::Traffic(Box::new(traffic));
        Ok(())
    }

    /// Encrypts application data. Bytes that `control` contains on return go out before it.
    pub(crate) fn seal(&mut self, batch: Batch, control: &mut Vec<u8>) -> Result<Vec<u8>, TlsError> {
        let Phase::Traffic(traffic) = &mut self.phase else { return Err(TlsError::NotEstablished) };
        traffic.seal(batch, control).inspect_err(|_| self.phase = Phase::Failed)
    }

    /// Appends the "close_notify" alert to `out` if possible.
    pub(crate) fn send_close_notify(&mut self, out: &mut Vec<u8>) {
        if let Phase::Traffic(traffic) = &mut self.phase
            && let Err(error) = traffic.send_close_notify(out)
        {
            log::trace!("a stream ends without close_notify: {error}");
        }
    }

    #[cfg(test)]
    pub(crate) fn traffic(&mut self) -> Option<&mut Traffic> {
        match &mut self.phase {
            Phase::Traffic(traffic) => Some(traffic),
            _ => None,
        }
    }
}

impl End {
    fn has_agreed_protocol(&self) -> bool {
        let agreed = match self {
            End::Server(server) => server.alpn_protocol(),
            End::Client(client) => client.alpn_protocol(),
        };
        agreed == Some(ALPN)
    }

    fn advance(&mut self, received: &mut [u8], out: &mut Vec<u8>) -> (usize, Result<Step, TlsError>) {
        match self {
            End::Server(server) => advance(server.process_tls_records(received), out),
            End::Client(client) => advance(client.process_tls_records(received), out),
        }
    }
}

fn advance<D>(status: UnbufferedStatus<'_, '_, D>, out: &mut Vec<u8>) -> (usize, Result<Step, TlsError>) {
    let step = match status.state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let begin = out.len();
            let mut encoded = data.encode(&mut []);
            if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encoded {
                out.resize(begin + required_size, 0);
                encoded = data.encode(out.get_mut(begin..).unwrap_or_default());
            }
            out.truncate(begin + encoded.as_ref().map_or(0, |written| *written));
            encoded.map(|_| Step::Again).map_err(|_| TlsError::Internal)
        }
        // Output is a queue: its contents count as transmitted.
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Wait),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Established),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Closed),
        // Data cannot arrive before the handshake is complete, early data is not enabled, and later versions of rustls
        // may add states.
        Ok(_) => Err(TlsError::Internal),
    };
    (status.discard, step)
}
