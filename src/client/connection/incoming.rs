//! What arrives: events of the link, packets of channel 'S'.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Connection, tunnel};
use crate::sdk::link::{self, Link};
use vpn_core::exchange::Event;
use vpn_core::forward::DropCause;
use vpn_core::wire::{self, FromServer, pkt};

impl Connection {
    pub(super) fn link_event(self: &Arc<Self>, event: link::Event<'_>) {
        let event = match event {
            link::Event::Connected(link) => return self.connected(link),
            link::Event::Failed(errno) => Event::ConnectFailed(errno),
            link::Event::Disconnected => Event::Disconnected,
            link::Event::ServicePacket { kind, data } => {
                self.heard.store(self.now_ms(), Ordering::Relaxed);
                Event::ServicePacket { kind, data }
            }
        };
        self.handle(event);
    }

    /// Handles a connected link, on the stream's worker, possibly before the thread in `dial` has received the link.
    fn connected(self: &Arc<Self>, link: &Arc<Link>) {
        {
            let mut shared = self.shared.lock();
            if !shared.exchange.awaits_stream() {
                return;
            }
            shared.link = Some(Arc::clone(link));
        }
        let event = if self.bind(link) { Event::Connected } else { Event::ChannelTaken };
        self.handle(event);
    }

    /// Handles a packet on channel 'S', on its worker.
    pub(in crate::client) fn packet(&self, kind: u8, data: &[u8]) {
        self.heard.store(self.now_ms(), Ordering::Relaxed);
        // The C module reports the end of a paid service here. Its other packets have several types (PONG has 0x64), which
        // its own client does not look at either.
        if kind == pkt::NOTIFY_STOPPED {
            self.handle(Event::ServicePacket { kind, data });
            return;
        }
        match wire::parse_from_server(data) {
            // A connection that has ended must not reach the next one's device.
            Ok((_, FromServer::Recv(_) | FromServer::Bundle(_))) if self.is_over.load(Ordering::Acquire) => {
                tunnel::dropped(DropCause::SessionGone)
            }
            Ok((_, FromServer::Recv(packet))) => tunnel::deliver(packet),
            Ok((_, FromServer::Bundle(data))) if self.bundles.load(Ordering::Relaxed) => {
                tunnel::deliver_all(wire::records(data))
            }
            Ok((_, FromServer::Bundle(_))) => tunnel::dropped(DropCause::UnexpectedOp),
            Ok((_, FromServer::Pong)) => {}
            Ok((_, message)) => self.control(&message, data),
            Err(error) => tunnel::dropped(error.into()),
        }
    }

    fn control(&self, message: &FromServer<'_>, packet: &[u8]) {
        let event = match message {
            FromServer::AddrReply(reply) => Event::AddrReply { reply, packet, outer: self.outer_address() },
            FromServer::Problem(code) => Event::Problem(*code),
            FromServer::Ping => Event::Ping,
            FromServer::Recv(_) | FromServer::Bundle(_) | FromServer::Pong => return,
        };
        self.handle(event);
    }

    /// Returns the address at which the client reaches the server.
    fn outer_address(&self) -> Option<IpAddr> {
        self.server_address().or_else(|| self.host.parse().ok())
    }
}
