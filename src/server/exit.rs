//! A process that exits without stopping the service, as a node does on a signal: what clients have left and their leases
//! are saved, and the host is put back.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::{SERVER, Server};
use host::threads;

/// The longest time for all of it.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// Has the process do it when it exits.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| crate::sdk::at_exit(run));
}

/// Other threads may still run, and the exit may have interrupted one that holds a lock for ever: what takes a lock runs
/// on a thread that is not waited for after the deadline.
fn run() {
    let deadline = Instant::now() + EXIT_WAIT;
    let Some(server) = SERVER.try_lock_until(deadline).and_then(|server| server.clone()) else { return };
    let waits = [
        begin(&server, "vpn-leases-exit", |server| server.lease_store.flush()),
        begin(&server, "vpn-nat-exit", |server| server.nat.close_at_exit(&server.tunnel.name())),
    ];
    server.save_rests_until(deadline);
    for finished in waits {
        let _ = finished.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Begins a work on a thread of its own. The receiver hears its end.
fn begin(server: &Arc<Server>, name: &str, work: fn(&Server)) -> Receiver<()> {
    let server = Arc::clone(server);
    threads::spawn_heard(name, move || work(&server))
}
