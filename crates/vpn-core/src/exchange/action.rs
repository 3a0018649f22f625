//! The inputs and outputs of the client's [`Exchange`](super::Exchange).

use super::Offer;
use super::payment::{Refusal, TxHash};
use crate::lease::Token;
use crate::wire::{AddrReply, ReceiptInfo, WireError};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The state of a connection. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The stream is being established.
    Connecting,
    /// The client sends REQUEST until the server answers.
    Requesting,
    /// The service is granted; the client requests an address.
    AwaitingAddress,
    /// The client has an address; the device is being created.
    MakingTunnel,
    /// The tunnel is up.
    Up,
    /// The connection is lost.
    Lost,
    /// The connection is being closed.
    Stopping,
}

/// An input of the state machine.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The stream is being established: the start's time limit begins.
    Dialled,
    /// The stream is up, and channel 'S' belongs to this connection.
    Connected,
    /// The stream is up, but another part of the program serves channel 'S'.
    ChannelTaken,
    /// The stream cannot be established: an errno.
    ConnectFailed(i32),
    /// The stream is closed.
    Disconnected,
    /// A packet arrived on channel 'R'.
    ServicePacket {
        /// Its type, one of [`pkt`](crate::wire::pkt).
        kind: u8,
        /// Its body.
        data: &'a [u8],
    },
    /// A connection that holds its REQUEST back may send it.
    Proceed,
    /// The answer to [`Action::AskLedger`]: the last transaction of the chain of payments that the ledger has.
    LastPayment(TxHash),
    /// The answer to [`Action::Sign`].
    Signed {
        /// The signed bytes.
        signed: [u8; ReceiptInfo::LEN],
        /// The signature, with its header.
        signature: &'a [u8],
    },
    /// The wallet cannot sign: the reason.
    CannotSign(String),
    /// ADDR_REPLY arrived on channel 'S'.
    AddrReply {
        /// The parsed reply.
        reply: &'a AddrReply,
        /// The whole packet.
        packet: &'a [u8],
        /// The server's outer address, if known.
        outer: Option<IpAddr>,
    },
    /// PROBLEM arrived on channel 'S': its code.
    Problem(u32),
    /// PING arrived on channel 'S'.
    Ping,
    /// [`TICK`](super::TICK), or [`REQUEST_TICK`](super::REQUEST_TICK), has passed since the last tick.
    Tick {
        /// When the last packet of any kind arrived. The state machine does not see data packets; the driver records
        /// them.
        heard: Duration,
        /// The bytes that wait in the stream to the server.
        pending: usize,
    },
    /// This process was stopped, or the machine suspended, for this long: the start's time limit moves.
    Paused(Duration),
    /// The start's time limit has passed.
    Timeout,
    /// The device of [`Action::MakeDevice`] is up.
    DeviceMade,
    /// The offered subnet collides with what this host uses: the reason.
    OfferCollides(String),
    /// The device cannot be created: the reason.
    DeviceFailed(String),
    /// A connection that is up carries nothing any more, as the driver knows: why.
    Broken(&'static str),
    /// A connection that is up may carry nothing any more: the host's way to the server has changed.
    Doubted,
    /// The user stops a pending start.
    Cancel,
    /// The connection ends. The driver closes the stream itself.
    Stop,
}

/// An action that the driver performs, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends this REQUEST on channel 'R'.
    SendRequest(Vec<u8>),
    /// Sends this signed receipt on channel 'R', as SIGN_RESPONSE.
    SendReceipt(Vec<u8>),
    /// Asks the ledger for the last transaction of the chain of payments, and answers with [`Event::LastPayment`], or
    /// not at all if the ledger does not know the chain.
    AskLedger,
    /// Signs the bytes with the wallet's key, and answers with [`Event::Signed`] or [`Event::CannotSign`].
    Sign([u8; ReceiptInfo::LEN]),
    /// The transaction cannot pay another receipt: continue with another one, on a new connection.
    Renew,
    /// Sends this VPN packet on channel 'S'.
    SendPacket(Vec<u8>),
    /// Starts to pass in [`Event::Tick`].
    StartTicks,
    /// Creates the device, and answers with [`Event::DeviceMade`], [`Event::DeviceFailed`] or [`Event::OfferCollides`].
    MakeDevice(Grant),
    /// Closes the stream.
    CloseStream,
    /// Logs the notice.
    Report(Notice),
}

/// The contents of an ADDR_REPLY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The validated offer.
    pub offer: Offer,
    /// The token to send to this server next time.
    pub token: Option<Token>,
    /// The number of the usage under which packets are sent.
    pub usage_id: u32,
    /// The whole packet, for a legacy part.
    pub packet: Vec<u8>,
}

/// Why a start has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no stream: an errno; 0 if it was closed.
    Connect(i32),
    /// Another part of the program serves channel 'S'.
    ChannelTaken,
    /// The server refused: its reason. Another try meets the same refusal.
    Refused(String),
    /// The server cannot serve this client at present: its reason. It may be able to later.
    Busy(String),
    /// The device cannot be created: the reason.
    Device(String),
    /// The time limit passed: the missing answer.
    NoAnswer(&'static str),
    /// The user stopped the start.
    Stopped,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The connection moved to the next state.
    Moved {
        /// The former state.
        from: State,
        /// The new state.
        to: State,
    },
    /// The server grants the service: the number of the usage.
    Granted(u32),
    /// A connection that was up is lost: the reason.
    Lost(String),
    /// SUCCESS for another service.
    ForeignSuccess(u64),
    /// A SUCCESS that cannot be parsed.
    MalformedSuccess(WireError),
    /// An ERROR that cannot be parsed.
    MalformedError(WireError),
    /// Another packet on channel 'R': its type.
    ServicePacketIgnored(u8),
    /// An ADDR_REPLY that the client did not request.
    UnexpectedAddress,
    /// A PROBLEM that changes nothing: its code.
    Problem(u32),
    /// A receipt was signed: the number of signed receipts, 0 for a proof of the wallet's key.
    Signed(u64),
    /// A receipt is not signed.
    Refused(Refusal),
    /// A receipt is not signed, as others before it: the reason was logged then.
    RefusedAgain(Refusal),
    /// A receipt is not signed, because its transaction cannot pay it.
    UsedUp,
    /// A receipt for a connection that pays nothing.
    Unagreed,
    /// The wallet cannot sign a receipt: the reason.
    CannotSign(String),
    /// The server waits for another transaction: the code.
    AskedToRenew(u32),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Moved { from, to } => write!(f, "{from:?} -> {to:?}"),
            Notice::Granted(usage_id) => write!(f, "service granted, usage {usage_id}"),
            Notice::Lost(why) => write!(f, "connection lost: {why}"),
            Notice::ForeignSuccess(service) => write!(f, "SUCCESS for service {service:#x} ignored"),
            Notice::MalformedSuccess(error) => write!(f, "malformed SUCCESS: {error}"),
            Notice::MalformedError(error) => write!(f, "malformed ERROR: {error}"),
            Notice::ServicePacketIgnored(kind) => write!(f, "service packet {kind:#x} ignored"),
            Notice::UnexpectedAddress => f.write_str("unrequested address ignored"),
            Notice::Signed(0) => f.write_str("the server asked for a proof of the wallet's key; given"),
            Notice::Signed(number) => write!(f, "receipt {number} signed"),
            Notice::Refused(why) | Notice::RefusedAgain(why) => write!(f, "receipt not signed: {why}"),
            Notice::UsedUp => f.write_str("receipt not signed: the conditional transaction cannot pay it"),
            Notice::Unagreed => f.write_str("receipt not signed: the order is not known here, so neither is its price"),
            Notice::CannotSign(why) => write!(f, "receipt not signed: {why}"),
            Notice::AskedToRenew(code) => write!(f, "the server asks for another transaction (code {code:#x})"),
            Notice::Problem(code) => write!(f, "PROBLEM {code} ignored"),
        }
    }
}
