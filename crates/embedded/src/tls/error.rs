//! The failures of a connection's TLS, and the alert for the peer.

use super::sizes::PENDING_MAX;
use rustls::{AlertDescription, Error, InvalidMessage};

/// Why a connection's TLS failed.
#[derive(thiserror::Error, Debug)]
pub(crate) enum TlsError {
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    #[error("TLS: a handshake message of more than {PENDING_MAX} bytes")]
    TooLong,
    #[error("TLS: the keys have reached their record limit")]
    Exhausted,
    #[error("TLS: the negotiated cipher is not supported")]
    UnknownCipher,
    #[error("TLS: the connection has already failed, or its handshake is not complete")]
    NotEstablished,
    #[error("TLS: internal error: an impossible state or record")]
    Internal,
}

impl From<rustls::PeerMisbehaved> for TlsError {
    fn from(error: rustls::PeerMisbehaved) -> Self {
        TlsError::Protocol(error.into())
    }
}

/// The alert for an error that the peer made.
pub(super) fn alert_for(error: &TlsError) -> AlertDescription {
    match error {
        TlsError::Protocol(Error::DecryptError) => AlertDescription::BadRecordMac,
        TlsError::Protocol(Error::PeerSentOversizedRecord) => AlertDescription::RecordOverflow,
        TlsError::Protocol(Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate)) => {
            AlertDescription::IllegalParameter
        }
        TlsError::Protocol(Error::InvalidMessage(_)) => AlertDescription::DecodeError,
        TlsError::Protocol(Error::InappropriateMessage { .. } | Error::PeerMisbehaved(_)) => {
            AlertDescription::UnexpectedMessage
        }
        _ => AlertDescription::InternalError,
    }
}
