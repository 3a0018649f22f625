//! A session whose stream moves from worker to worker all the time is metered like any other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::unit;

use crate::moves;
use crate::server::{NET, PRICE, Server};

#[test]
fn a_stream_that_moves_is_metered() {
    in_namespace("moving::a_stream_that_moves_is_metered", || {
        let server = Server::start("");
        moves::note_sockets();
        let order = server.order(unit::SECONDS, 2);
        let client = server.payer(order, unit::SECONDS, 3 * PRICE);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    for worker in [1, 0] {
                        moves::move_to(worker);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
            client.request();
            client.success();
            let begin = client.now();
            client.lease();
            client.send_datagrams(10, 100, server.socket.local_addr().unwrap().port());
            let served = client.stopped() - begin;
            stop.store(true, Ordering::SeqCst);
            assert!(moves::has_stream(), "nothing has moved");
            assert!((5900..7000).contains(&served.as_millis()), "{served:?} for 6 s");
            assert_eq!((client.receipts().len(), ledger::earned(NET)), (3, 3 * PRICE));
        });
    });
}
