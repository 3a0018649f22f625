//! One client's session: from the opening of its channel to its end.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::forward::{DropCause, Route, check_upstream};
use crate::sdk::channel::{Channel, ChannelHandler, SessionStats, TYPE_DATA, UsageState};
use crate::sdk::service::ServiceHandler;
use crate::wire::{self, AddrReply, Capabilities, FromClient, op, problem};

use super::Server;

/// What the server keeps with a channel. Written on the channel's worker.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The billing side lets this client use the service.
    allowed: AtomicBool,
    usage_id: AtomicU32,
    /// Leased inner address as a number, host order; 0 without a lease.
    address: AtomicU32,
    /// Where the forwarding table leads; None without a lease, and while the stream moves.
    route: Mutex<Option<Route>>,
    /// Milliseconds on the server's clock when the client was last heard.
    heard: AtomicU64,
    /// The client said that it answers pings.
    answers_pings: AtomicBool,
}

impl Session {
    pub(super) fn leased(&self) -> Option<Ipv4Addr> {
        let address = self.address.load(Ordering::Relaxed);
        (address != 0).then(|| Ipv4Addr::from(address))
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.allowed.load(Ordering::Relaxed)
    }

    pub(super) fn usage_id(&self) -> u32 {
        self.usage_id.load(Ordering::Relaxed)
    }
}

impl ChannelHandler for Server {
    fn opened(&self, channel: &Arc<Channel>) {
        let session = Session::default();
        session.heard.store(self.now_ms(), Ordering::Relaxed);
        channel.set_data(Arc::new(session));
        channel.show_service(self.service_raw(), self.tun_visible(channel.worker()));
        self.open_channels.lock().push(Arc::clone(channel));
        // A peer may have been accepted on 'R' before it opened 'S'.
        self.refresh(channel);
        if self.is_closing() {
            channel.close();
        }
    }

    fn closed(&self, channel: &Arc<Channel>) {
        self.end_lease(channel);
        self.open_channels.lock().retain(|other| !Arc::ptr_eq(other, channel));
    }

    fn packet(&self, channel: &Arc<Channel>, kind: u8, data: &[u8]) {
        let (Some(session), Some(worker)) = (channel.data::<Session>(), channel.worker()) else { return };
        session.heard.store(self.now_ms(), Ordering::Relaxed);
        let result = match kind {
            TYPE_DATA => self.vpn_packet(channel, session, worker, data),
            _ => Err(DropCause::UnexpectedOp),
        };
        if let Err(cause) = result {
            self.counters.dropped(worker as usize, cause);
            channel.add_stats(&SessionStats {
                bytes_sent_lost: data.len() as u64,
                packets_sent_lost: 1,
                ..SessionStats::default()
            });
        }
    }

    fn drained(&self, _channel: &Arc<Channel>) {}

    fn leaving(&self, channel: &Arc<Channel>) {
        self.withdraw_route(channel);
    }

    fn arrived(&self, channel: &Arc<Channel>, worker: u32) {
        channel.show_service(self.service_raw(), self.tun_visible(Some(worker)));
        if let Some(address) = channel.data::<Session>().and_then(Session::leased) {
            self.announce_route(channel, address);
        }
    }
}

impl ServiceHandler for Server {
    fn requested(&self, _usage_id: u32) -> i32 {
        if self.is_closing() { -1 } else { 0 }
    }

    fn accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32 {
        let Some(channel) = channel else {
            log::warn!("usage {usage_id}: the client asks for the VPN without a channel 'S', refused");
            return -2;
        };
        channel.activate_usage();
        channel.enable();
        self.refresh(channel);
        log::info!("usage {usage_id}: VPN service begins for {}", channel.peer());
        0
    }

    fn refused(&self, usage_id: u32, code: u32) {
        log::info!("usage {usage_id}: refused with code {code:#x} ({})", wire::error_text(code));
    }
}

impl Server {
    fn vpn_packet(&self, channel: &Arc<Channel>, session: &Session, worker: u32, data: &[u8]) -> Result<(), DropCause> {
        let (header, message) = wire::parse_from_client(data)?;
        match message {
            FromClient::Send(packet) => self.upstream(channel, session, worker, packet),
            FromClient::AddrRequest(caps) => self.address_request(channel, session, header.sock_id, &caps),
            FromClient::Ping => {
                channel.touch();
                channel.send(TYPE_DATA, &wire::encode_control(op::PONG, session.usage_id(), 0));
                Ok(())
            }
            FromClient::Pong => {
                channel.touch();
                Ok(())
            }
            // Bundles were not announced, so nobody may send one.
            FromClient::Bundle(_) => Err(DropCause::UnexpectedOp),
        }
    }

    /// A packet from a client into the host's network.
    fn upstream(&self, channel: &Channel, session: &Session, worker: u32, packet: &[u8]) -> Result<(), DropCause> {
        if !session.is_allowed() {
            return Err(DropCause::NotAllowed);
        }
        check_upstream(packet, session.leased(), &self.settings.subnet, self.settings.client_isolation)?;
        self.write_tun(worker, packet)?;
        self.counters.up(worker as usize, packet.len());
        channel.add_stats(&SessionStats {
            bytes_sent: packet.len() as u64,
            packets_sent: 1,
            ..SessionStats::default()
        });
        Ok(())
    }

    fn address_request(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        sock_id: i32,
        caps: &Capabilities,
    ) -> Result<(), DropCause> {
        if !session.is_allowed() {
            return Err(DropCause::NotAllowed);
        }
        let usage_id = session.usage_id();
        if session.leased().is_some() {
            channel.send(TYPE_DATA, &wire::encode_control(op::PROBLEM, usage_id, problem::ALREADY_ASSIGNED_ADDR));
            return Ok(());
        }
        let lease = match self.lease(caps.resume.as_ref()) {
            Ok(lease) => lease,
            Err(error) => {
                log::warn!("no address for {}: {error}", channel.peer());
                channel.send(TYPE_DATA, &wire::encode_control(op::PROBLEM, usage_id, problem::NO_FREE_ADDR));
                return Ok(());
            }
        };
        session.address.store(u32::from(lease.addr), Ordering::Relaxed);
        session.answers_pings.store(caps.keep_alive.is_some(), Ordering::Relaxed);
        self.announce_route(channel, lease.addr);
        channel.set_inner_address(Some(lease.addr));
        self.show_lease(channel);
        log::info!("usage {usage_id}: lease given ({} in use)", self.leased());
        log::debug!("usage {usage_id}: {} {}", lease.addr, if lease.resumed { "again" } else { "is new to it" });
        channel.send(TYPE_DATA, &self.address_reply(&lease, caps).encode(usage_id, sock_id));
        Ok(())
    }

    /// The reply to a client that announced nothing is the one of old, to the byte.
    fn address_reply(&self, lease: &crate::lease::Lease, asked: &Capabilities) -> AddrReply {
        let gateway = self.settings.subnet.gateway();
        if *asked == Capabilities::default() {
            return AddrReply { addr: lease.addr, gateway, netmask: None, caps: None };
        }
        let accepted = Capabilities {
            bundle: None,
            mtu: asked.mtu.map(|theirs| theirs.min(self.settings.mtu)),
            dns: self.settings.dns.clone(),
            keep_alive: asked.keep_alive.map(|_| self.settings.keep_alive.as_secs() as u16),
            resume: Some(lease.token),
        };
        AddrReply { addr: lease.addr, gateway, netmask: Some(self.settings.subnet.mask()), caps: Some(accepted) }
    }

    /// Takes the billing side's word anew: whether this client may use the service.
    pub(super) fn refresh(&self, channel: &Channel) {
        let Some(session) = channel.data::<Session>() else { return };
        let usage = channel.usage();
        let allowed = usage.is_some_and(|usage| {
            usage.is_active
                && usage.role_serves
                && matches!(usage.state, UsageState::Free | UsageState::Grace | UsageState::Normal)
        });
        let usage_id = usage.map_or(0, |usage| usage.id);
        session.usage_id.store(usage_id, Ordering::Relaxed);
        if session.allowed.swap(allowed, Ordering::Relaxed) != allowed {
            channel.show_usage(usage_id, allowed);
            if !allowed {
                log::info!("usage {usage_id}: VPN service ends");
            }
        }
    }

    /// The periodic look at a session, on its worker.
    pub(super) fn look_after(&self, channel: &Channel) {
        self.refresh(channel);
        let Some(session) = channel.data::<Session>() else { return };
        let silent = self.now_ms().saturating_sub(session.heard.load(Ordering::Relaxed));
        let period = self.settings.keep_alive.as_millis() as u64;
        if !session.answers_pings.load(Ordering::Relaxed) || silent < period {
            return;
        }
        if silent >= period * 3 {
            log::info!("usage {}: {} is silent for {} s, dropped", session.usage_id(), channel.peer(), silent / 1000);
            channel.close();
        } else {
            channel.send(TYPE_DATA, &wire::encode_control(op::PING, session.usage_id(), 0));
        }
    }

    fn announce_route(&self, channel: &Arc<Channel>, address: Ipv4Addr) {
        let Some(session) = channel.data::<Session>() else { return };
        let Some(route) = self.adopt(channel) else { return };
        *session.route.lock() = Some(route);
        self.table.set(address, route);
    }

    fn withdraw_route(&self, channel: &Arc<Channel>) {
        let Some(session) = channel.data::<Session>() else { return };
        let Some(route) = session.route.lock().take() else { return };
        if let Some(address) = session.leased() {
            self.table.clear(address, route);
        }
        self.disown(route);
    }

    fn end_lease(&self, channel: &Arc<Channel>) {
        self.withdraw_route(channel);
        let Some(session) = channel.data::<Session>() else { return };
        session.allowed.store(false, Ordering::Relaxed);
        let address = session.address.swap(0, Ordering::Relaxed);
        if address != 0 {
            self.release(Ipv4Addr::from(address), channel);
            channel.set_inner_address(None);
        }
    }
}
