//! Why the client is not connected.

use std::time::Duration;

use super::payment::PaymentError;
use crate::sdk::config::BadValue;
use crate::sdk::wallet::OpenError;
use vpn_core::exchange::Failure;

/// Why a connection, or a check of a server, failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// An argument is invalid.
    #[error("{0}")]
    Argument(&'static str),
    /// A security key of the configuration cannot be read.
    #[error(transparent)]
    Config(#[from] BadValue),
    /// The SDK's workers are not running.
    #[error("the SDK's workers could not be started; the log says why")]
    NotRunning,
    /// The client is connected to another server, which is host:port here.
    #[error("already connected to {0}; stop the client before it connects to another server")]
    Elsewhere(String),
    /// The client cannot connect.
    #[error("cannot connect to {server}: {}", connect_text(*.errno))]
    Connect {
        /// host:port.
        server: String,
        /// The reason, as an errno.
        errno: i32,
    },
    /// The server refused.
    #[error("{server} refused: {reason}")]
    Refused {
        /// host:port.
        server: String,
        /// Its reason.
        reason: String,
    },
    /// The server cannot serve this client at present: no free address, its tunnel is down, its network is offline.
    #[error("{server} refused: {reason}")]
    Busy {
        /// host:port.
        server: String,
        /// Its reason.
        reason: String,
    },
    /// The tunnel cannot be created.
    #[error("the tunnel cannot be made: {0}")]
    Tunnel(String),
    /// The server did not answer in time.
    #[error("no answer from {server} ({waiting_for}) within {} ms", .after.as_millis())]
    NoAnswer {
        /// host:port.
        server: String,
        /// The missing answer.
        waiting_for: &'static str,
        /// The time limit.
        after: Duration,
    },
    /// The order costs something, and cannot be paid.
    #[error("{0}")]
    Payment(String),
    /// The network has not confirmed the transaction that pays the order yet.
    #[error("{0}")]
    Unconfirmed(String),
    /// The connection was up, and was lost.
    #[error("{server}: connection lost: {reason}")]
    Lost {
        /// host:port.
        server: String,
        /// Why.
        reason: String,
    },
    /// The caller is a worker, which must not wait.
    #[error("it was called on one of the SDK's workers, which it would block; any other thread may call it")]
    OnWorker,
    /// The user stopped the start.
    #[error("stopped while connecting")]
    Stopped,
}

fn connect_text(errno: i32) -> String {
    match errno {
        libc::EKEYREJECTED => "the server's identity is not the pinned one".into(),
        libc::ENOENT => "the host name is not known".into(),
        libc::EPROTO => {
            "what answers does not speak this protocol, or another version of it; in a network that wants a sign-in first (a \
             captive portal) its page answers in place of every server"
                .into()
        }
        libc::EIO => "this host cannot keep or read the connection's state; the log says why".into(),
        // The node's SDK reports every failure with this errno.
        libc::EINVAL => "it cannot be reached, or does not answer as a node; the log says why".into(),
        libc::EMSGSIZE => "it accepts connections, and does not answer: the path may lose full packets".into(),
        0 => "the connection was closed".into(),
        errno => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

impl From<PaymentError> for ClientError {
    fn from(error: PaymentError) -> ClientError {
        match error {
            PaymentError::Stopped => ClientError::Stopped,
            error @ (PaymentError::Unconfirmed(..) | PaymentError::Unavailable(_)) => {
                ClientError::Unconfirmed(error.to_string())
            }
            PaymentError::Open { server, why: OpenError::Connect(errno) } => ClientError::Connect { server, errno },
            PaymentError::Open { server, why: OpenError::Refused(reason) } => ClientError::Refused { server, reason },
            PaymentError::Open { server, why: OpenError::Busy(reason) } => ClientError::Busy { server, reason },
            error => ClientError::Payment(error.to_string()),
        }
    }
}

impl ClientError {
    /// Returns whether the same start may succeed later, without a change of configuration, order or identity: the
    /// server does not answer, cannot be reached, or has no room at present. A program that starts again and again stops
    /// when this is false.
    pub fn heals(&self) -> bool {
        match self {
            ClientError::Connect { errno, .. } => !matches!(*errno, libc::EKEYREJECTED | libc::EPROTO | libc::EIO),
            ClientError::NoAnswer { .. }
            | ClientError::Busy { .. }
            | ClientError::Unconfirmed(_)
            | ClientError::Lost { .. } => true,
            _ => false,
        }
    }

    /// Returns whether what answered may have been the sign-in page of a network, a captive portal, in the place of the
    /// server: a client that has been connected to the server tries again.
    pub fn may_be_portal(&self) -> bool {
        matches!(self, ClientError::Connect { errno: libc::EPROTO, .. })
    }

    /// Returns the error of a failed start. Without a failure the connection was up and has ended.
    pub(super) fn from_failure(failure: Option<&Failure>, server: &str, start_timeout: Duration) -> ClientError {
        let server = server.to_owned();
        match failure {
            None => ClientError::Connect { server, errno: 0 },
            Some(&Failure::Connect(errno)) => ClientError::Connect { server, errno },
            Some(Failure::ChannelTaken) => {
                ClientError::Tunnel("channel 'S' of the stream is served by another part of the node".into())
            }
            Some(Failure::Refused(reason)) => ClientError::Refused { server, reason: reason.clone() },
            Some(Failure::Busy(reason)) => ClientError::Busy { server, reason: reason.clone() },
            Some(Failure::Device(error)) => ClientError::Tunnel(error.clone()),
            Some(&Failure::NoAnswer(waiting_for)) => {
                ClientError::NoAnswer { server, waiting_for, after: start_timeout }
            }
            Some(Failure::Stopped) => ClientError::Stopped,
        }
    }
}
