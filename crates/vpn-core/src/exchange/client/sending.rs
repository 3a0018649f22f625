//! The packets that the client sends.

use std::time::Duration;

use super::super::action::{Action, Notice};
use super::Exchange;
use crate::wire::{Capabilities, MAX_BUNDLE, encode_addr_request, encode_control};

impl Exchange {
    pub(super) fn send_request(&mut self, now: Duration) {
        self.last_sent = now;
        self.actions.push_back(Action::SendRequest(self.settings.request.encode().to_vec()));
    }

    pub(super) fn request_address(&mut self, now: Duration) {
        self.last_sent = now;
        let caps = Capabilities {
            bundle: self.settings.bundles.then_some(MAX_BUNDLE as u16),
            mtu: Some(self.settings.mtu),
            keep_alive: Some(self.settings.keep_alive.as_secs() as u16),
            resume: self.settings.resume,
            ..Capabilities::default()
        };
        self.actions.push_back(Action::SendPacket(encode_addr_request(self.usage_id, Some(&caps))));
    }

    pub(super) fn send_control(&mut self, op: u32) {
        self.actions.push_back(Action::SendPacket(encode_control(op, self.usage_id, 0).to_vec()));
    }

    pub(super) fn report(&mut self, notice: Notice) {
        self.actions.push_back(Action::Report(notice));
    }
}
