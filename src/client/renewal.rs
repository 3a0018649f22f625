//! The change to another transaction while the tunnel is up.
//!
//! A server of today's SDK cannot take another transaction within a session, so the client comes back with it. The new
//! stream is established first, with its REQUEST held back. Then the client leaves, so that the server stores the units
//! that are left, and requests the service anew; the server gives those units before it asks for the next receipt. The
//! device stays meanwhile, and the host's packets wait in its queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::error::ClientError;
use super::payment::Means;
use super::{CHANGE, CLIENT, State};

/// How long the server gets to notice that the client has left.
const LEAVE: Duration = Duration::from_millis(200);
/// How often the service is requested anew, and after which pause.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Continues a connection that is up with other means. Returns false if the server cannot be reached anew; the
/// connection then goes on. Blocks; not on a worker.
pub(super) fn switch(old: &Arc<Connection>, means: Box<Means>) -> bool {
    let _change = CHANGE.lock();
    if !is_current(old) || old.state() != State::Up {
        // The user has stopped it, or it is lost.
        return true;
    }
    let Some(mut new) = old.continued(means.clone()) else { return false };
    if let Err(error) = prepare(&new) {
        log::warn!("cannot continue with another transaction yet: {error}");
        return false;
    }
    let began = Instant::now();
    let mut last = Arc::clone(old);
    for attempt in 1..=ATTEMPTS {
        if !replace(&last, &new) {
            new.end();
            return true;
        }
        last.hand_over();
        if !new.began().pause(if attempt == 1 { LEAVE } else { PAUSE }) {
            new.end();
            return true;
        }
        let result = new.proceed();
        match result {
            Ok(()) => {
                log::info!("the tunnel continues with another transaction, after {} ms", began.elapsed().as_millis());
                return true;
            }
            Err(ClientError::Refused { .. } | ClientError::Busy { .. }) if attempt < ATTEMPTS => {}
            Err(error) => {
                log::error!("the tunnel cannot continue with another transaction: {error}");
                // It stays the client's connection, which is lost, until the user stops or starts anew.
                new.end();
                return true;
            }
        }
        last = new;
        let Some(next) = last.continued(means.clone()) else { return true };
        if let Err(error) = prepare(&next) {
            log::error!("the tunnel cannot continue with another transaction: {error}");
            last.end();
            return true;
        }
        new = next;
    }
    true
}

/// Brings the stream of a connection up, which is to continue the client's. A stop ends that early.
fn prepare(new: &Arc<Connection>) -> Result<(), ClientError> {
    CLIENT.lock().next = Some(Arc::clone(new));
    let result = new.prepare();
    if result.is_err() {
        new.end();
    }
    let next = CLIENT.lock().next.take();
    drop(next);
    result
}

fn is_current(connection: &Arc<Connection>) -> bool {
    CLIENT.lock().connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
}

/// Makes `new` the client's connection in place of `old`; false if the user has stopped the client meanwhile.
fn replace(old: &Arc<Connection>, new: &Arc<Connection>) -> bool {
    let mut client = CLIENT.lock();
    let goes_on =
        !new.began().is_stopped() && client.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, old));
    if goes_on {
        client.connection = Some(Arc::clone(new));
    }
    goes_on
}
