//! Why the client is not connected.

use std::time::Duration;

use vpn_core::exchange::Failure;

/// Why a connection or a test of one failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// An argument is wrong.
    #[error("{0}")]
    Argument(&'static str),
    /// The SDK's workers do not run.
    #[error("the SDK's workers could not be started; the log says why")]
    NotRunning,
    /// The connection could not be made.
    #[error("cannot connect to {server}: {}", connect_text(*.errno))]
    Connect {
        /// host:port.
        server: String,
        /// Why, as an errno.
        errno: i32,
    },
    /// The server said no.
    #[error("{server} refused: {reason}")]
    Refused {
        /// host:port.
        server: String,
        /// Its reason.
        reason: String,
    },
    /// The tunnel could not be made.
    #[error("the tunnel cannot be made: {0}")]
    Tunnel(String),
    /// Nothing came in time.
    #[error("no answer from {server} ({waiting_for}) within {} ms", .after.as_millis())]
    NoAnswer {
        /// host:port.
        server: String,
        /// What did not come.
        waiting_for: &'static str,
        /// The time that was given.
        after: Duration,
    },
    /// Called where it may not wait.
    #[error("it was called on one of the SDK's workers, which it would block; any other thread may call it")]
    OnWorker,
    /// `stop` came in between.
    #[error("stopped while connecting")]
    Stopped,
}

fn connect_text(errno: i32) -> String {
    match errno {
        libc::EKEYREJECTED => "the server's identity is not the pinned one".into(),
        libc::ENOENT => "the host name is not known".into(),
        libc::EPROTO => "it does not speak this protocol (TLS failed)".into(),
        // The node's SDK says this of every failure.
        libc::EINVAL => "it cannot be reached, or does not answer as a node; the log says why".into(),
        0 => "the connection was closed".into(),
        errno => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

impl ClientError {
    /// Of a start that has failed; None: the connection was up, and is not any more.
    pub(super) fn of_start(failure: Option<&Failure>, server: &str, start_timeout: Duration) -> ClientError {
        let server = server.to_owned();
        match failure {
            None => ClientError::Connect { server, errno: 0 },
            Some(&Failure::Connect(errno)) => ClientError::Connect { server, errno },
            Some(Failure::ChannelTaken) => {
                ClientError::Tunnel("channel 'S' of the stream is served by another part of the node".into())
            }
            Some(Failure::Refused(reason)) => ClientError::Refused { server, reason: reason.clone() },
            Some(Failure::Device(error)) => ClientError::Tunnel(error.clone()),
            Some(&Failure::NoAnswer(waiting_for)) => {
                ClientError::NoAnswer { server, waiting_for, after: start_timeout }
            }
            Some(Failure::Stopped) => ClientError::Stopped,
        }
    }
}
