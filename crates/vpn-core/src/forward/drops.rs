//! The causes of a drop: each has a counter, named in the statistics and in the docs.

use crate::wire::{PacketError, WireError};

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DropCause {
    /// The bytes are not one whole packet: a length or a field is invalid.
    Malformed,
    /// The packet is not IPv4.
    NotIpv4,
    /// The sending session has no address.
    NoLease,
    /// The source is not the address of the sending session.
    SpoofedSource,
    /// The destination is another client, and client isolation is on.
    PeerIsolated,
    /// No session has the destination address.
    NoRoute,
    /// The session ended while the packet was on its way.
    SessionGone,
    /// The queue to the session's worker is full.
    QueueFull,
    /// The session's send queue is full: the peer reads too slowly.
    OutputFull,
    /// The TUN device refused the packet.
    TunWrite,
    /// This side does not accept the op code.
    UnexpectedOp,
    /// The size in the VPN packet's header differs from the bytes present.
    SizeMismatch,
    /// The session may not use the service.
    NotAllowed,
    /// The server sent the packet to another address than the leased one.
    WrongDestination,
    /// The packet, a super-packet or one whose checksum is to be completed, does not fit its header's description.
    BadOffload,
    /// The packet exceeds the session's inner MTU and must not be fragmented.
    TooBig,
    /// The packet's IPv4 options are malformed, or prescribe its route.
    BadOptions,
    /// The segments of a peer's super-packet have many more bytes than it: most are headers.
    Amplifies,
    /// Clients must not reach the destination, or packets of the source do not pass a tunnel.
    Denied,
    /// The server sent the packet from an address outside the tunnel's networks.
    WrongSource,
    /// The client, or its source, asks for an address too often.
    TooOften,
    /// The session's queue is full; its fattest flow loses its oldest packet.
    QueueOverflow,
    /// The memory that the queues of a worker share is full.
    QueueMemory,
    /// The packet waited too long behind others of its flow: CoDel tells the sender to slow down.
    Codel,
}

impl DropCause {
    /// The number of causes.
    pub const COUNT: usize = Self::ALL.len();

    /// All causes, each at the index that is its number.
    pub const ALL: [DropCause; 24] = [
        DropCause::Malformed,
        DropCause::NotIpv4,
        DropCause::NoLease,
        DropCause::SpoofedSource,
        DropCause::PeerIsolated,
        DropCause::NoRoute,
        DropCause::SessionGone,
        DropCause::QueueFull,
        DropCause::OutputFull,
        DropCause::TunWrite,
        DropCause::UnexpectedOp,
        DropCause::SizeMismatch,
        DropCause::NotAllowed,
        DropCause::WrongDestination,
        DropCause::BadOffload,
        DropCause::TooBig,
        DropCause::BadOptions,
        DropCause::Amplifies,
        DropCause::Denied,
        DropCause::WrongSource,
        DropCause::TooOften,
        DropCause::QueueOverflow,
        DropCause::QueueMemory,
        DropCause::Codel,
    ];

    /// Returns the counter's name in statistics: lower case, words joined by underscores; stable.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// Returns a description of one line for the operator.
    pub fn description(self) -> &'static str {
        self.texts().1
    }

    /// Returns what the drops mean for the operator of a server, and what to do, in a sentence or two.
    pub fn advice(self) -> &'static str {
        match self {
            DropCause::Malformed | DropCause::SizeMismatch | DropCause::BadOffload | DropCause::UnexpectedOp => {
                "A client's software is faulty or hostile. Nothing of it has passed."
            }
            DropCause::NotIpv4 => {
                "The tunnel carries IPv4 alone. A few at the start of a client are normal: its host tries IPv6."
            }
            DropCause::NoLease => "A client sends before it has an address. A few are normal when one connects.",
            DropCause::SpoofedSource => {
                "A client sends for other hosts, by odd routes or on purpose. It must translate their addresses (NAT)."
            }
            DropCause::PeerIsolated => {
                "Clients try to reach each other. To let them: [srv_vpn] client_isolation=false."
            }
            DropCause::NoRoute => {
                "Packets for clients that have left. A few are normal; many tell of a scan of the network."
            }
            DropCause::SessionGone => "Normal: the last packets to a client that has left.",
            DropCause::QueueFull => "The worker of these clients is overloaded: look at this machine's processors.",
            DropCause::OutputFull => {
                "Clients on slow paths. TCP slows down by such drops; they do no harm while they are few."
            }
            DropCause::TunWrite => {
                "The kernel refused packets: look at the state of the tunnel's device and the memory of this host."
            }
            DropCause::NotAllowed => {
                "Clients without a paid or free service send all the same. Nothing of it has passed."
            }
            DropCause::WrongDestination | DropCause::WrongSource => {
                "The server sends what is not this client's. If it goes on, do not trust the server."
            }
            DropCause::TooBig => {
                "Normal: the sender is told to send smaller packets. If pages hang, lower [srv_vpn] mtu."
            }
            DropCause::BadOptions => "A client sends packets that prescribe their route; these never pass.",
            DropCause::Amplifies => "A client sends super-packets that no kernel makes: it is faulty or hostile.",
            DropCause::Denied => {
                "Clients try addresses that [srv_vpn] deny or deny_host forbids, or that no router carries. As it should be."
            }
            DropCause::TooOften => {
                "A client, or many at one address, asks again and again for an address: it is faulty or a flood."
            }
            DropCause::QueueOverflow => {
                "A client's path is slower than what comes for it. Normal for bursts; [srv_vpn] session_queue is the bound."
            }
            DropCause::QueueMemory => {
                "Many clients on slow paths at once. If this machine has memory to spare, raise [srv_vpn] queue_memory."
            }
            DropCause::Codel => {
                "Normal on a slow path: it tells the sender to slow down, and so keeps the delay short."
            }
        }
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            DropCause::Malformed => ("malformed", "not one whole packet"),
            DropCause::NotIpv4 => ("not_ipv4", "not IPv4"),
            DropCause::NoLease => ("no_lease", "sent by a session without an address"),
            DropCause::SpoofedSource => ("spoofed_source", "the source is not the sender's leased address"),
            DropCause::PeerIsolated => ("peer_isolated", "sent to another client while clients are kept apart"),
            DropCause::NoRoute => ("no_route", "no session has the destination address"),
            DropCause::SessionGone => ("session_gone", "the session ended while the packet was on its way"),
            DropCause::QueueFull => ("queue_full", "the queue between two workers is full"),
            DropCause::OutputFull => ("output_full", "the session's output is full: the peer reads too slowly"),
            DropCause::TunWrite => ("tun_write", "the TUN device did not take the packet"),
            DropCause::UnexpectedOp => ("unexpected_op", "an op code that is not accepted from this side"),
            DropCause::SizeMismatch => ("size_mismatch", "the size in the header is not what is present"),
            DropCause::NotAllowed => ("not_allowed", "the session may not use the service"),
            DropCause::WrongDestination => {
                ("wrong_destination", "sent by the server to another than the leased address")
            }
            DropCause::BadOffload => ("bad_offload", "a super-packet that does not fit its description"),
            DropCause::TooBig => ("too_big", "larger than the client's MTU, and not to be fragmented"),
            DropCause::BadOptions => ("bad_options", "IPv4 options that are malformed or prescribe a route"),
            DropCause::Amplifies => ("amplifies", "a super-packet that would become many more bytes than it has"),
            DropCause::Denied => ("denied", "an address that clients must not reach, or that is never routed"),
            DropCause::WrongSource => ("wrong_source", "sent by the server from outside the tunnel's networks"),
            DropCause::TooOften => ("too_often", "an address was asked for too often"),
            DropCause::QueueOverflow => ("queue_overflow", "the session's queue is full: its fattest flow loses"),
            DropCause::QueueMemory => ("queue_memory", "the memory of the sessions' queues is full"),
            DropCause::Codel => ("codel", "waited too long behind packets of its own flow"),
        }
    }
}

impl From<PacketError> for DropCause {
    fn from(error: PacketError) -> DropCause {
        match error {
            PacketError::NotIpv4(_) => DropCause::NotIpv4,
            PacketError::BadOptions => DropCause::BadOptions,
            PacketError::Empty | PacketError::BadHeaderLen { .. } | PacketError::LengthMismatch { .. } => {
                DropCause::Malformed
            }
        }
    }
}

impl From<WireError> for DropCause {
    fn from(error: WireError) -> DropCause {
        match error {
            WireError::UnexpectedOp(_) => DropCause::UnexpectedOp,
            WireError::SizeMismatch { .. } => DropCause::SizeMismatch,
            WireError::TooShort { .. }
            | WireError::BadTlv { .. }
            | WireError::BadRecord
            | WireError::ReceiptVersion(_)
            | WireError::BadNetmask(_) => DropCause::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    #[test]
    fn each_cause_stands_at_its_number_with_a_name_of_its_own() {
        let mut names = HashSet::new();
        let mut descriptions = HashSet::new();
        for (index, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
            // The name is the variant's, in snake case.
            let mut snake = String::new();
            for letter in format!("{cause:?}").chars() {
                if letter.is_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            assert_eq!(cause.name(), snake);
            names.insert(cause.name());
            descriptions.insert(cause.description());
            let advice = cause.advice();
            assert!(advice.ends_with('.') && advice.len() < 120, "{cause:?}: a line or two: {advice}");
        }
        assert_eq!((names.len(), descriptions.len()), (DropCause::COUNT, DropCause::COUNT));
    }

    #[test]
    fn parse_errors_have_their_causes() {
        assert_eq!(DropCause::from(PacketError::NotIpv4(6)), DropCause::NotIpv4);
        assert_eq!(DropCause::from(PacketError::BadOptions), DropCause::BadOptions);
        assert_eq!(DropCause::from(PacketError::Empty), DropCause::Malformed);
        assert_eq!(DropCause::from(PacketError::BadHeaderLen { header_len: 8, len: 40 }), DropCause::Malformed);
        assert_eq!(DropCause::from(PacketError::LengthMismatch { total_len: 8, len: 40 }), DropCause::Malformed);
        assert_eq!(DropCause::from(WireError::UnexpectedOp(0xb3)), DropCause::UnexpectedOp);
        assert_eq!(DropCause::from(WireError::SizeMismatch { declared: 1, present: 2 }), DropCause::SizeMismatch);
        assert_eq!(DropCause::from(WireError::TooShort { len: 3 }), DropCause::Malformed);
        assert_eq!(DropCause::from(WireError::BadTlv { kind: 1 }), DropCause::Malformed);
        assert_eq!(DropCause::from(WireError::BadRecord), DropCause::Malformed);
        assert_eq!(DropCause::from(WireError::BadNetmask(Ipv4Addr::LOCALHOST)), DropCause::Malformed);
    }
}
