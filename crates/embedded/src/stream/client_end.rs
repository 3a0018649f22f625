//! What a connection that this process opened reports to its owner.

use crate::ctypes::dap_stream_ch;
use crate::cview::packets::Packet;
use crate::cview::stream::StreamView;
use std::net::SocketAddr;

/// The owner of a connection that this process opened. The stream's worker calls it, with nothing borrowed.
pub(crate) trait ClientEnd: Send + Sync {
    /// "host:port", as the owner requested it.
    fn address(&self) -> String;

    /// The letters of the channels to open, in order.
    fn channels(&self) -> &[u8];

    /// The owner no longer wants the connection.
    fn is_closed(&self) -> bool;

    /// The stream with this uuid is open, to the server at this address.
    fn up(&self, stream: u64, peer: SocketAddr, view: &StreamView);

    /// The stream is gone; `errno` gives the reason if it was never up.
    fn lost(&self, errno: i32);

    /// A packet on channel 'R'.
    fn service_packet(&self, ch: *mut dap_stream_ch, packet: &Packet<'_>);
}
