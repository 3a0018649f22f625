//! The connections of the calling worker, by uuid and by the addresses that C holds.

use super::Conn;
use crate::ctypes::dap_stream_ch;
use crate::cview::stream::Channel;
use crate::reactor::{self, Worker};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    static CONNS: RefCell<FxHashMap<u64, Rc<Conn>>> = const { RefCell::new(FxHashMap::with_hasher(FxBuildHasher)) };
}

pub(super) fn add(conn: &Rc<Conn>) {
    CONNS.with_borrow_mut(|conns| conns.insert(conn.uuid, Rc::clone(conn)));
}

pub(super) fn remove(uuid: u64) {
    // The connection is dropped after the borrow has ended.
    let conn = CONNS.with_borrow_mut(|conns| conns.remove(&uuid));
    drop(conn);
}

/// The connection with this uuid, if the calling worker has it.
pub(crate) fn find(uuid: u64) -> Option<Rc<Conn>> {
    CONNS.with_borrow(|conns| conns.get(&uuid).cloned())
}

/// The connection of the stream or channel at an address, which is compared, never followed.
pub(crate) fn at(worker: &Worker, address: usize) -> Option<Rc<Conn>> {
    find(worker.uuid_at(address)?)
}

/// All connections of the calling worker.
pub(super) fn all() -> Vec<Rc<Conn>> {
    CONNS.with_borrow(|conns| conns.values().cloned().collect())
}

/// Calls `body` with the channel at an address, if the calling worker owns it.
pub(crate) fn on_channel<R>(
    ch: *mut dap_stream_ch,
    body: impl FnOnce(&Rc<Worker>, &Rc<Conn>, &Channel) -> R,
) -> Option<R> {
    on_channel_index(ch, |worker, conn, index| Some(body(worker, conn, conn.view()?.channels.get(index)?))).flatten()
}

/// Like [`on_channel`], with the channel's index among those of its stream.
pub(crate) fn on_channel_index<R>(
    ch: *mut dap_stream_ch,
    body: impl FnOnce(&Rc<Worker>, &Rc<Conn>, usize) -> R,
) -> Option<R> {
    reactor::with_current(|worker| {
        let conn = at(worker, ch.addr())?;
        let index = conn.view()?.channels.iter().position(|channel| channel.view.addr() == ch.addr())?;
        Some(body(worker, &conn, index))
    })
    .flatten()
}
