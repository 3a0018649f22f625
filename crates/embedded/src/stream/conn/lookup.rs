//! What C means with the address of a channel or a stream.

use super::Conn;
use crate::ctypes::dap_stream_ch;
use crate::cview::stream::Channel;
use crate::reactor::{self, Source, Worker};
use std::rc::Rc;

/// Calls `body` with the channel at an address, if it is one of the calling worker.
pub(crate) fn on_channel<R>(
    ch: *mut dap_stream_ch,
    body: impl FnOnce(&Rc<Worker>, &Rc<Conn>, &Channel) -> R,
) -> Option<R> {
    reactor::with_current(|worker| {
        let conn = conn_at(worker, ch.addr())?;
        let channel = conn.view()?.channels.iter().find(|channel| channel.view.addr() == ch.addr())?;
        Some(body(worker, &conn, channel))
    })
    .flatten()
}

pub(crate) fn on_channel_index(ch: *mut dap_stream_ch, body: impl FnOnce(&Rc<Worker>, &Rc<Conn>, usize)) {
    let found = reactor::with_current(|worker| {
        let conn = conn_at(worker, ch.addr())?;
        let index = conn.view()?.channels.iter().position(|channel| channel.view.addr() == ch.addr())?;
        body(worker, &conn, index);
        Some(())
    });
    if found.flatten().is_none() {
        log::error!("dap_stream_ch_set_ready_to_read_unsafe: not a channel of this worker");
    }
}

pub(crate) fn conn_at(worker: &Worker, address: usize) -> Option<Rc<Conn>> {
    match worker.source_at(address) {
        Some(Source::Conn(conn)) => Some(conn),
        _ => None,
    }
}
