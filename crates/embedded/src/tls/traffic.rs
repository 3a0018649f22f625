//! A connection with a complete handshake: records both ways, key updates, and the close.

use super::error::{TlsError, alert_for};
use super::records::{Batch, Key};
use super::window::Window;
use rustls::kernel::KernelConnection;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage,
    PeerMisbehaved,
};

/// Key updates that a peer may make at once, and the bytes of data that it must send before one more. An honest peer
/// needs one in 256 GiB.
const KEY_UPDATES_MAX: u32 = 32;
const KEY_UPDATE_DATA: usize = 1024 * 1024;
/// While this many bytes of TLS's own output wait, requests for a new key get no answer: one answer serves all of them
/// (RFC 8446, 4.6.3).
const CONTROL_MAX: usize = 512;
const LEVEL_FATAL: u8 = 2;
const LEVEL_WARNING: u8 = 1;

/// What rustls keeps of a connection, client's or server's: the secrets from which it makes the next keys.
trait Secrets: Send {
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
}

impl<D: Send> Secrets for KernelConnection<D> {
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_tx_secret()
    }

    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_rx_secret()
    }
}

/// One end of an established connection.
pub(crate) struct Traffic {
    secrets: Box<dyn Secrets>,
    pub(super) sending: Key,
    receiving: Key,
    /// Most records that one key may seal.
    limit: u64,
    /// The key updates counted against the peer, and the bytes it has sent towards one that no longer counts.
    key_updates: u32,
    data: usize,
}

impl Traffic {
    /// Takes what rustls returns at the end of a handshake.
    pub(super) fn new<D: Send + 'static>(
        (first, secrets): (ExtractedSecrets, KernelConnection<D>),
    ) -> Result<Traffic, TlsError> {
        let suite = secrets.negotiated_cipher_suite();
        Ok(Traffic {
            sending: Key::new(first.tx.0, &first.tx.1)?,
            receiving: Key::new(first.rx.0, &first.rx.1)?,
            limit: suite.tls13().map_or(0, |suite| suite.common.confidentiality_limit),
            secrets: Box::new(secrets),
            key_updates: 0,
            data: 0,
        })
    }

    /// Opens all complete records of the window. After an error `out` may end with the alert for the peer.
    pub(super) fn receive(&mut self, window: &mut Window, out: &mut Vec<u8>) -> Result<bool, TlsError> {
        let opened = self.open_all(window, out);
        if let Err(error) = &opened
            && !matches!(error, TlsError::Protocol(Error::AlertReceived(_)))
        {
            let message = [LEVEL_FATAL, u8::from(alert_for(error))];
            self.sending.append(ContentType::Alert, &message, out)?;
        }
        opened
    }

    fn open_all(&mut self, window: &mut Window, out: &mut Vec<u8>) -> Result<bool, TlsError> {
        while let Some(record) = self.receiving.open(window.bytes, window.plain_end, window.cipher_begin)? {
            window.cipher_begin += record.record;
            if record.kind == ContentType::ApplicationData {
                window.plain_end += record.plain;
                self.data += record.plain;
                if self.data >= KEY_UPDATE_DATA {
                    self.data -= KEY_UPDATE_DATA;
                    self.key_updates = self.key_updates.saturating_sub(1);
                }
                continue;
            }
            let message = window.bytes.get(window.plain_end..window.plain_end + record.plain).unwrap_or_default();
            match (record.kind, message) {
                (ContentType::Alert, [_, description]) => match AlertDescription::from(*description) {
                    AlertDescription::CloseNotify => return Ok(true),
                    AlertDescription::UserCanceled => {}
                    // All other alerts end the connection, whatever level they claim (RFC 8446, 6.2).
                    description => return Err(Error::AlertReceived(description).into()),
                },
                (ContentType::Alert, [_, _, _, ..]) => {
                    return Err(Error::InvalidMessage(InvalidMessage::TrailingData("Alert")).into());
                }
                // Of the messages after a handshake this protocol uses one (docs/stream.md), which must be alone in its
                // record: a key does not change within a record.
                (ContentType::Handshake, [kind, 0, 0, 1, request])
                    if HandshakeType::from(*kind) == HandshakeType::KeyUpdate =>
                {
                    match request {
                        0 | 1 => self.follow_key_update(*request == 1, out)?,
                        _ => return Err(Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate).into()),
                    }
                }
                (got_type, _) => {
                    let expect_types = vec![ContentType::ApplicationData, ContentType::Alert];
                    return Err(Error::InappropriateMessage { expect_types, got_type }.into());
                }
            }
        }
        Ok(false)
    }

    fn follow_key_update(&mut self, answer_wanted: bool, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_MAX {
            return Err(PeerMisbehaved::TooManyKeyUpdateRequests.into());
        }
        let (sequence, secrets) = self.secrets.next_receiving()?;
        self.receiving = Key::new(sequence, &secrets)?;
        if answer_wanted && out.len() < CONTROL_MAX {
            self.update_key(out)?;
        }
        Ok(())
    }

    /// Announces a new key to the peer, and then uses it.
    fn update_key(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let message = [u8::from(HandshakeType::KeyUpdate), 0, 0, 1, 0];
        self.sending.append(ContentType::Handshake, &message, out)?;
        self.renew_sending()
    }

    pub(super) fn renew_sending(&mut self) -> Result<(), TlsError> {
        let (sequence, secrets) = self.secrets.next_sending()?;
        self.sending = Key::new(sequence, &secrets)?;
        Ok(())
    }

    /// Encrypts application data. Bytes that `control` contains on return go out before it.
    pub(super) fn seal(&mut self, batch: Batch, control: &mut Vec<u8>) -> Result<Vec<u8>, TlsError> {
        // One record more, for an alert.
        if self.sending.used() + batch.records() >= self.limit {
            self.update_key(control)?;
        }
        batch.seal(&mut self.sending)
    }

    pub(super) fn send_close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let message = [LEVEL_WARNING, u8::from(AlertDescription::CloseNotify)];
        self.sending.append(ContentType::Alert, &message, out)
    }

    /// Changes the key after this many records, so that a test need not send 2^24.
    #[cfg(test)]
    pub(crate) fn limit(&mut self, records: u64) {
        self.limit = records;
    }
}
