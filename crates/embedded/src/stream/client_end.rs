//! What a connection that this process opened tells the one who opened it.

use crate::ctypes::dap_stream_ch;
use crate::cview::packets::Packet;
use crate::cview::stream::StreamView;

/// Who opened a connection. The stream's worker calls it, with nothing borrowed.
pub(crate) trait ClientEnd: Send + Sync {
    /// "host:port", as the connection was asked for.
    fn address(&self) -> String;

    /// The letters of the channels to open, in order.
    fn channels(&self) -> &[u8];

    /// The connection is no longer wanted.
    fn is_closed(&self) -> bool;

    /// The stream with this uuid is open.
    fn up(&self, stream: u64, view: &StreamView);

    /// The stream is gone; `errno` says why, for a connection that was never up.
    fn lost(&self, errno: i32);

    /// A packet on channel 'R'.
    fn service_packet(&self, ch: *mut dap_stream_ch, packet: &Packet<'_>);
}
