//! What goes into the client's [`Exchange`](super::Exchange), and what comes out of it.

use super::Offer;
use crate::lease::Token;
use crate::wire::{AddrReply, WireError};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Where a connection stands. It moves forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The stream is being made.
    Connecting,
    /// REQUEST is sent, until it is answered.
    Requesting,
    /// Service is granted, the address is asked for.
    AwaitingAddress,
    /// The address is there, the device is being made.
    MakingTunnel,
    /// The tunnel is up.
    Up,
    /// The stream is gone.
    Lost,
    /// The connection is being taken down.
    Stopping,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The stream is being made: the time limit of the start runs from now on.
    Dialled,
    /// The stream is up, and channel 'S' is this connection's.
    Connected,
    /// The stream is up, and another part of the program serves channel 'S'.
    ChannelTaken,
    /// The stream could not be made: an errno.
    ConnectFailed(i32),
    /// The stream is gone.
    Disconnected,
    /// A packet on channel 'R'.
    ServicePacket {
        /// Its type, one of [`pkt`](crate::wire::pkt).
        kind: u8,
        /// Its body.
        data: &'a [u8],
    },
    /// ADDR_REPLY on channel 'S'.
    AddrReply {
        /// The parsed reply.
        reply: &'a AddrReply,
        /// The whole packet.
        packet: &'a [u8],
        /// The address that the server is reached at, where it is known.
        outer: Option<IpAddr>,
    },
    /// PROBLEM on channel 'S': its code.
    Problem(u32),
    /// PING on channel 'S'.
    Ping,
    /// [`TICK`](super::TICK) has passed since the last one, or more.
    Tick {
        /// When the last packet of any kind came: the driver counts data packets without the machine.
        heard: Duration,
        /// Bytes that wait in the stream to the server.
        pending: usize,
    },
    /// The time limit of the start has passed.
    Timeout,
    /// The device of [`Action::MakeDevice`] is up.
    DeviceMade,
    /// The device could not be made: why.
    DeviceFailed(String),
    /// The user stops a start that is not done.
    Cancel,
    /// The connection ends. The driver takes the stream down itself.
    Stop,
}

/// What the driver does, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends this REQUEST on channel 'R'.
    SendRequest(Vec<u8>),
    /// Sends this VPN packet on channel 'S'.
    SendPacket(Vec<u8>),
    /// Starts to hand in [`Event::Tick`].
    StartTicks,
    /// Makes the device, and answers with [`Event::DeviceMade`] or [`Event::DeviceFailed`].
    MakeDevice(Grant),
    /// Closes the stream.
    CloseStream,
    /// Tells the operator.
    Report(Notice),
}

/// What came with ADDR_REPLY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The address, judged.
    pub offer: Offer,
    /// To be offered to this server next time.
    pub token: Option<Token>,
    /// The number of the usage that packets are sent under.
    pub usage_id: u32,
    /// The whole packet, for a legacy part.
    pub packet: Vec<u8>,
}

/// Why a start has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no stream: an errno; 0 when it was closed.
    Connect(i32),
    /// Another part of the program serves channel 'S'.
    ChannelTaken,
    /// The server said no: its reason.
    Refused(String),
    /// The device could not be made: why.
    Device(String),
    /// The time limit passed: what did not come.
    NoAnswer(&'static str),
    /// The user stopped it.
    Stopped,
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// One step forward.
    Moved {
        /// From here.
        from: State,
        /// To there.
        to: State,
    },
    /// The server grants the service: the number of the usage.
    Granted(u32),
    /// A connection that was up is lost: why.
    Lost(String),
    /// SUCCESS for another service.
    ForeignSuccess(u64),
    /// A SUCCESS that cannot be parsed.
    MalformedSuccess(WireError),
    /// An ERROR that cannot be parsed.
    MalformedError(WireError),
    /// Another packet on channel 'R': its type.
    ServicePacketIgnored(u8),
    /// An ADDR_REPLY out of turn.
    UnexpectedAddress,
    /// A PROBLEM that changes nothing.
    Problem(u32),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Moved { from, to } => write!(f, "{from:?} -> {to:?}"),
            Notice::Granted(usage_id) => write!(f, "service granted, usage {usage_id}"),
            Notice::Lost(why) => write!(f, "connection lost: {why}"),
            Notice::ForeignSuccess(service) => write!(f, "SUCCESS for service {service:#x}, ignored"),
            Notice::MalformedSuccess(error) => write!(f, "malformed SUCCESS: {error}"),
            Notice::MalformedError(error) => write!(f, "malformed ERROR: {error}"),
            Notice::ServicePacketIgnored(kind) => write!(f, "service packet {kind:#x} ignored"),
            Notice::UnexpectedAddress => f.write_str("an address that was not asked for, ignored"),
            Notice::Problem(code) => write!(f, "problem {code}"),
        }
    }
}
