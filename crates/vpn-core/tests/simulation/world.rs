//! A run: hosts, network and server together, and the invariants that must hold after each event.

use std::net::{IpAddr, Ipv4Addr};

use vpn_core::exchange::{Action, Event, State, TICK};
use vpn_core::wire::{self, FromServer, pkt};

use crate::coverage::Coverage;
use crate::fault::{Fault, fault};
use crate::hosts::{Connection, Host, START_ENDS};
use crate::network::{Message, Network, Outcome, SimEvent, Stream};
use crate::plan::{LAST_STEP, Pause, Plan, StepKind};
use crate::server::{Effects, Server};

/// The server's outer address.
const OUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// When all users stop, in milliseconds; and how long the remaining sessions may then take to end: three times the
/// server's keep-alive, and the messages that are still on their way.
const ALL_STOP: u64 = LAST_STEP + 15_000;
const ALL_GONE: u64 = 40_000;

pub(crate) struct World {
    plan: Plan,
    network: Network,
    server: Server,
    hosts: Vec<Host>,
    connections: Vec<Connection>,
    pub(crate) coverage: Coverage,
}

impl World {
    /// Runs a plan to its end. Checks every invariant after each event.
    pub(crate) fn run(plan: &Plan) -> Result<World, Fault> {
        let mut world = World {
            network: Network::new(&plan.network, plan.seed),
            server: Server::new(plan),
            hosts: plan.hosts.iter().map(Host::new).collect(),
            connections: Vec::new(),
            coverage: Coverage::default(),
            plan: plan.clone(),
        };
        for (number, step) in plan.steps.iter().enumerate() {
            world.network.at(step.at, SimEvent::Step(number));
        }
        world.network.at(1000, SimEvent::ServerTick);
        world.run_until(ALL_STOP).and_then(|()| world.wind_down()).map_err(|fault| {
            let now = world.network.now_ms();
            Fault(format!("at {now} ms: {fault}"))
        })?;
        Ok(world)
    }

    /// Returns the number of starts that led to a tunnel.
    pub(crate) fn starts_up(&self) -> usize {
        self.coverage.up as usize
    }

    /// Returns whether a client took the server for silent.
    pub(crate) fn has_silent_server(&self) -> bool {
        self.connections.iter().any(|connection| connection.exchange.loss() == Some("the server is silent"))
    }

    fn run_until(&mut self, limit: u64) -> Result<(), Fault> {
        while let Some(event) = self.network.next(limit) {
            self.process(event)?;
            self.check()?;
        }
        Ok(())
    }

    /// Stops all clients. The server detects each end, by itself if the client cannot report it: no lease remains.
    fn wind_down(&mut self) -> Result<(), Fault> {
        self.network.is_calm = true;
        for host in 0..self.hosts.len() {
            self.stop(host)?;
        }
        self.run_until(ALL_STOP + ALL_GONE)?;
        if let Some(unsettled) = self.connections.iter().position(|connection| !connection.is_settled) {
            return fault(format!("start {unsettled} never ended"));
        }
        if self.server.leased() > 0 {
            return fault(format!("{} leases remain", self.server.leased()));
        }
        Ok(())
    }

    /// Keeps an event for a process that does not run until it does.
    fn wait_for_its_process(&mut self, event: SimEvent) -> Option<SimEvent> {
        let (host, is_timer) = match &event {
            SimEvent::ToServer(..) | SimEvent::ServerSeesEnd(_) => (None, false),
            SimEvent::ServerTick => (None, true),
            SimEvent::ToClient(stream, _) | SimEvent::ClientSeesEnd(stream) | SimEvent::Dialled(stream, _) => {
                (Some(self.connections[*stream].host), false)
            }
            SimEvent::ClientTick(stream) | SimEvent::ClientTimeout(stream) => {
                (Some(self.connections[*stream].host), true)
            }
            SimEvent::Device(_) | SimEvent::StartEnds(_) | SimEvent::Step(_) => return Some(event),
        };
        let now = self.network.now_ms();
        let stops = |pause: &&Pause| pause.host == host && (pause.from..pause.to).contains(&now);
        let Some(pause) = self.plan.pauses.iter().filter(stops).max_by_key(|pause| pause.to) else {
            return Some(event);
        };
        self.coverage.paused += 1;
        // One of both waits a moment longer. What is repeated keeps its order.
        let later = u64::from(is_timer != pause.timers_first);
        self.network.at(pause.to + later, event);
        None
    }

    fn process(&mut self, event: SimEvent) -> Result<(), Fault> {
        let Some(event) = self.wait_for_its_process(event) else { return Ok(()) };
        match event {
            SimEvent::Step(number) => {
                let (host, kind) = (self.plan.steps[number].host, self.plan.steps[number].kind);
                self.step(host, kind)
            }
            SimEvent::Dialled(stream, outcome) => self.dialled(stream, outcome),
            SimEvent::ToServer(stream, message) => {
                if self.connections[stream].is_cut || !self.connections[stream].server_end {
                    return Ok(());
                }
                let (now, token) = (self.network.now(), self.network.token());
                let effects = self.server.message(now, stream, &message, token, &mut self.coverage)?;
                self.perform(effects)
            }
            SimEvent::ToClient(stream, message) => self.message_for_client(stream, &message),
            SimEvent::ClientSeesEnd(stream) => {
                self.connections[stream].client_end = false;
                self.client(stream, Event::Disconnected)
            }
            SimEvent::ServerSeesEnd(stream) => self.server_end(stream),
            SimEvent::ClientTick(stream) => {
                let tick = self.connections[stream].tick();
                self.client(stream, tick)?;
                if self.connections[stream].exchange.is_alive() {
                    self.network.timer(TICK.as_millis() as u64, SimEvent::ClientTick(stream));
                }
                Ok(())
            }
            SimEvent::ClientTimeout(stream) => self.client(stream, Event::Timeout),
            SimEvent::ServerTick => {
                let effects = self.server.tick(self.network.now());
                self.coverage.closed_silent += effects.close.len() as u32;
                self.network.timer(1000, SimEvent::ServerTick);
                self.perform(effects)
            }
            SimEvent::Device(stream) => self.device(stream),
            SimEvent::StartEnds(stream) => match self.connections[stream].is_settled {
                true => Ok(()),
                false => {
                    self.hosts[self.connections[stream].host].device = None;
                    self.end(stream)
                }
            },
        }
    }

    fn step(&mut self, host: usize, kind: StepKind) -> Result<(), Fault> {
        let now = self.network.now();
        let current = self.hosts[host].current;
        match (kind, current) {
            (StepKind::Start, _) => self.start(host),
            (StepKind::Stop, _) => self.stop(host),
            (StepKind::CopyToken, _) => {
                self.hosts[host].token = self.hosts[(host + 1) % self.hosts.len()].token;
                Ok(())
            }
            (_, None) => Ok(()),
            (StepKind::Break, Some(stream)) => self.client_end(stream).and_then(|()| self.server_end(stream)),
            (StepKind::BreakForClient, Some(stream)) => {
                self.connections[stream].is_cut = true;
                self.client_end(stream)
            }
            (StepKind::BreakForServer, Some(stream)) => {
                self.connections[stream].is_cut = true;
                self.server_end(stream)
            }
            (StepKind::Cut, Some(stream)) => {
                self.connections[stream].is_cut = true;
                Ok(())
            }
            (StepKind::EndService | StepKind::GrantService, Some(stream)) => {
                let effects = self.server.set_granted(now, stream, matches!(kind, StepKind::GrantService));
                self.perform(effects)
            }
            (StepKind::Move, Some(stream)) => {
                self.server.moves(now, stream);
                Ok(())
            }
            (StepKind::Tick, Some(stream)) => self.client(stream, self.connections[stream].tick()),
            (StepKind::Timeout, Some(stream)) => self.client(stream, Event::Timeout),
            (StepKind::StrayProblem(code), Some(stream)) => self.client(stream, Event::Problem(code.into())),
            (StepKind::Kill, Some(stream)) => {
                self.connections[stream].is_cut = true;
                self.stop(host)
            }
        }
    }

    fn start(&mut self, host: usize) -> Result<(), Fault> {
        if let Some(stream) = self.hosts[host].current {
            let connection = &self.connections[stream];
            if !connection.is_settled || connection.exchange.state() != State::Lost {
                return Ok(());
            }
            self.end(stream)?;
        }
        let stream = self.connections.len();
        let connection = self.hosts[host].dial(host, self.network.now_ms());
        self.connections.push(connection);
        self.hosts[host].current = Some(stream);
        let outcome = self.network.outcome();
        self.network.signal(SimEvent::Dialled(stream, outcome));
        self.client(stream, Event::Dialled)?;
        self.network.timer(self.plan.hosts[host].start_timeout * 1000, SimEvent::ClientTimeout(stream));
        Ok(())
    }

    fn stop(&mut self, host: usize) -> Result<(), Fault> {
        if let Some(stream) = self.hosts[host].current {
            self.client(stream, Event::Cancel)?;
            self.end(stream)?;
        }
        self.hosts[host].device = None;
        Ok(())
    }

    /// The client closes a connection.
    fn end(&mut self, stream: Stream) -> Result<(), Fault> {
        let (now, connection) = (self.network.now(), &mut self.connections[stream]);
        connection.handle(now, Event::Stop)?;
        if !connection.is_settled {
            connection.is_settled = true;
            match connection.failure() {
                Some(failure) => self.coverage.failure(failure),
                None => return fault("a start ended without a result"),
            }
        }
        let host = &mut self.hosts[connection.host];
        if host.current == Some(stream) {
            host.current = None;
        }
        if connection.client_end {
            connection.client_end = false;
            self.tell_server(stream);
        }
        Ok(())
    }

    fn dialled(&mut self, stream: Stream, outcome: Outcome) -> Result<(), Fault> {
        let (now, connection) = (self.network.now(), &mut self.connections[stream]);
        if connection.is_cut {
            return Ok(());
        }
        match outcome {
            // The start was stopped meanwhile: an SDK may still report its late event.
            _ if !connection.client_end => self.client(stream, Event::Connected),
            Outcome::Failed => {
                connection.client_end = false;
                self.client(stream, Event::ConnectFailed(111))
            }
            Outcome::ChannelTaken => self.client(stream, Event::ChannelTaken),
            Outcome::Connected => {
                let host = &self.hosts[self.connections[stream].host].plan;
                self.server.opened(now, stream, host);
                self.client(stream, Event::Connected)
            }
        }
    }

    fn message_for_client(&mut self, stream: Stream, message: &Message) -> Result<(), Fault> {
        let now = self.network.now();
        let connection = &mut self.connections[stream];
        if connection.is_cut {
            return Ok(());
        }
        connection.heard(now);
        match message {
            Message::Service(kind, data) => self.client(stream, Event::ServicePacket { kind: *kind, data }),
            Message::Vpn(packet) => match wire::parse_from_server(packet).map(|(_, message)| message) {
                Ok(FromServer::AddrReply(reply)) => {
                    self.client(stream, Event::AddrReply { reply: &reply, packet, outer: Some(OUTER) })
                }
                Ok(FromServer::Problem(code)) => self.client(stream, Event::Problem(code)),
                Ok(FromServer::Ping) => self.client(stream, Event::Ping),
                Ok(FromServer::Pong) => Ok(()),
                other => fault(format!("the server sent {other:?}")),
            },
        }
    }

    fn device(&mut self, stream: Stream) -> Result<(), Fault> {
        let connection = &mut self.connections[stream];
        let host = &mut self.hosts[connection.host];
        // The start has failed meanwhile: the device is discarded.
        if connection.is_settled {
            return Ok(());
        }
        if host.plan.device_fails {
            return self.client(stream, Event::DeviceFailed("no".into()));
        }
        host.device = connection.grant.as_ref().map(|grant| grant.offer.addr);
        self.client(stream, Event::DeviceMade)
    }

    /// Passes an event to a connection, and performs the resulting actions.
    fn client(&mut self, stream: Stream, event: Event<'_>) -> Result<(), Fault> {
        let connection = &mut self.connections[stream];
        let was_up = connection.is_up();
        for action in connection.handle(self.network.now(), event)? {
            match action {
                Action::SendRequest(body) => self.send_up(stream, Message::Service(pkt::REQUEST, body)),
                Action::SendPacket(packet) => self.send_up(stream, Message::Vpn(packet)),
                Action::StartTicks => self.network.timer(TICK.as_millis() as u64, SimEvent::ClientTick(stream)),
                Action::MakeDevice(grant) => {
                    let connection = &mut self.connections[stream];
                    let due = self.network.now_ms() + self.hosts[connection.host].plan.device;
                    (connection.grant, connection.device_due) = (Some(grant), Some(due));
                    self.network.at(due, SimEvent::Device(stream));
                }
                Action::CloseStream => self.client_end(stream)?,
                Action::Report(_) => {}
                action => return fault(format!("a client of a free order returns {action:?}")),
            }
        }
        let connection = &mut self.connections[stream];
        let host = &mut self.hosts[connection.host];
        if connection.is_up() && !connection.is_settled {
            connection.is_settled = true;
            host.token = connection.grant.as_ref().and_then(|grant| grant.token).or(host.token);
            self.coverage.up += 1;
        } else if connection.failure().is_some() && host.current == Some(stream) {
            self.network.timer(START_ENDS, SimEvent::StartEnds(stream));
        }
        self.coverage.lost += u32::from(was_up && !connection.exchange.is_alive());
        Ok(())
    }

    fn send_up(&mut self, stream: Stream, message: Message) {
        if self.connections[stream].client_end && !self.connections[stream].is_cut {
            self.network.send(SimEvent::ToServer(stream, message));
        }
    }

    /// Closes the client's end of the stream, and tells its program.
    fn client_end(&mut self, stream: Stream) -> Result<(), Fault> {
        if std::mem::take(&mut self.connections[stream].client_end) {
            self.tell_server(stream);
            return self.client(stream, Event::Disconnected);
        }
        Ok(())
    }

    fn tell_server(&mut self, stream: Stream) {
        if !self.connections[stream].is_cut {
            self.network.signal(SimEvent::ServerSeesEnd(stream));
        }
    }

    /// Closes the server's end of the stream.
    fn server_end(&mut self, stream: Stream) -> Result<(), Fault> {
        let connection = &mut self.connections[stream];
        if std::mem::take(&mut connection.server_end) && !connection.is_cut {
            self.network.signal(SimEvent::ClientSeesEnd(stream));
        }
        self.server.closed(self.network.now(), stream)
    }

    fn perform(&mut self, effects: Effects) -> Result<(), Fault> {
        for (stream, message) in effects.send {
            if !self.connections[stream].is_cut {
                self.network.send(SimEvent::ToClient(stream, message));
            }
        }
        effects.close.into_iter().try_for_each(|stream| self.server_end(stream))
    }

    /// Checks the invariants.
    fn check(&self) -> Result<(), Fault> {
        self.server.check()?;
        for host in &self.hosts {
            let Some(stream) = host.current else { continue };
            let connection = &self.connections[stream];
            connection.check_time(self.network.now_ms(), &host.plan, self.network.latest())?;
            // The server may have ended a session without its client's knowledge. Otherwise both must agree on the
            // address.
            if connection.is_up()
                && let Some(served) = self.server.sessions.get(&stream)
                && (host.device.is_none() || served.address != host.device)
            {
                return fault(format!("{stream} is up with {:?}, its session has {:?}", host.device, served.address));
            }
        }
        Ok(())
    }
}
