//! A client: the driver around `Exchange`, as the real client implements it.

use std::net::Ipv4Addr;
use std::time::Duration;

use vpn_core::exchange::{Action, Event, Exchange, Failure, Grant, Settings, State};
use vpn_core::lease::Token;
use vpn_core::wire::Request;

use crate::fault::{Fault, fault};
use crate::network::Stream;
use crate::plan::HostPlan;

/// How long the thread in `start` takes to notice that the start has failed, in milliseconds.
pub(crate) const START_ENDS: u64 = 100;

/// A machine with a client.
pub(crate) struct Host {
    pub(crate) plan: HostPlan,
    /// The token in the client's state directory.
    pub(crate) token: Option<Token>,
    /// The address of its TUN device.
    pub(crate) device: Option<Ipv4Addr>,
    /// The connection that the user has started and not stopped.
    pub(crate) current: Option<Stream>,
}

/// A connection, even one that has ended: late events still reach it.
pub(crate) struct Connection {
    pub(crate) host: usize,
    pub(crate) exchange: Exchange,
    /// When the user started it, in milliseconds.
    pub(crate) began: u64,
    pub(crate) grant: Option<Grant>,
    /// When its device is due, in milliseconds.
    pub(crate) device_due: Option<u64>,
    /// Its start has ended, successfully or not.
    pub(crate) is_settled: bool,
    /// Whether its ends are open.
    pub(crate) client_end: bool,
    pub(crate) server_end: bool,
    /// The cable is cut: no message arrives.
    pub(crate) is_cut: bool,
    heard: Duration,
}

impl Host {
    pub(crate) fn new(plan: &HostPlan) -> Host {
        Host { plan: plan.clone(), token: None, device: None, current: None }
    }

    pub(crate) fn dial(&self, host: usize, began: u64) -> Connection {
        let exchange = Exchange::new(Settings {
            request: Request { net_id: 7, srv_uid: 1, ..Request::default() },
            start_timeout: Duration::from_secs(self.plan.start_timeout),
            keep_alive: Duration::from_secs(self.plan.keep_alive),
            mtu: 1390,
            bundles: true,
            resume: self.token,
            agreement: None,
            allow: Vec::new(),
            is_held: false,
        });
        Connection {
            host,
            exchange,
            began,
            grant: None,
            device_due: None,
            is_settled: false,
            client_end: true,
            server_end: true,
            is_cut: false,
            heard: Duration::ZERO,
        }
    }
}

impl Connection {
    /// Passes an event to the state machine; returns the actions without reports.
    pub(crate) fn handle(&mut self, now: Duration, event: Event<'_>) -> Result<Vec<Action>, Fault> {
        let (was_alive, before) = (self.exchange.is_alive(), self.exchange.state());
        self.exchange.handle(now, event.clone());
        let named = || format!("{event:?} in {before:?}");
        let actions = std::iter::from_fn(|| self.exchange.next_action());
        let actions: Vec<_> = actions.filter(|action| !matches!(action, Action::Report(_))).collect();
        if !was_alive && !actions.is_empty() {
            return fault(format!("after the end, {} causes {actions:?}", named()));
        }
        if !self.exchange.is_alive() && actions.iter().any(|action| *action != Action::CloseStream) {
            return fault(format!("{} ends the connection, and causes {actions:?}", named()));
        }
        if !was_alive && ![before, State::Stopping].contains(&self.exchange.state()) {
            return fault(format!("after the end, {} leads to {:?}", named(), self.exchange.state()));
        }
        if self.exchange.state() < before {
            return fault(format!("{} leads back to {:?}", named(), self.exchange.state()));
        }
        Ok(actions)
    }

    pub(crate) fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    pub(crate) fn tick(&self) -> Event<'static> {
        Event::Tick { heard: self.heard, pending: 0 }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.exchange.state() == State::Up
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.exchange.failure()
    }

    /// Checks that a pending start is within its time limit, including a timer's delay.
    pub(crate) fn check_time(&self, now: u64, plan: &HostPlan, latest: u64) -> Result<(), Fault> {
        let limit = match self.device_due {
            Some(due) => due,
            None => self.began + plan.start_timeout * 1000 + latest,
        };
        if !self.is_settled && now > limit + START_ENDS + latest {
            return fault(format!("the start at {} ms hangs in {:?} at {now}", self.began, self.exchange.state()));
        }
        Ok(())
    }
}
