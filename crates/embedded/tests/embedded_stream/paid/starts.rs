//! From REQUEST to the first receipt.

use super::*;
use vpn_core::wire::{Check, error_code};

#[test]
fn the_first_receipt_is_paid() {
    let paid = Paid::start();
    let payer = paid.payer(3 * PRICE);
    let receipt = payer.first_receipt();
    payer.answer(&receipt);
    let success = payer.expect(pkt::SUCCESS, 87);
    assert_eq!(success[4..12], NET.to_le_bytes());
    assert_eq!(calls(), ["rest 0/0", "success 2/1 6725"], "`requested` is never called");
    assert_eq!((ledger::earned(NET), step()), (PRICE, 7));
    payer.leave();
    assert_eq!(calls(), ["save 2/7"]);
    assert_eq!((money::faults(), money::usages()), (vec![], 0));
}

#[test]
fn a_first_receipt_that_is_never_signed_is_sent_three_times() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.request();
    for _ in 0..3 {
        payer.expect_receipt();
    }
    payer.expect_code(error_code::RECEIPT_NO_SIGN);
    assert_eq!(calls(), ["rest 0/0", "error 0/1 0x501"]);
    assert_eq!(money::usages(), 0, "freed at once, without save");
    payer.leave();
    assert_eq!((calls(), money::faults()), (Vec::<String>::new(), vec![]));
}

#[test]
fn a_free_order() {
    let paid = Paid::start();
    let payer = Payer { order: ledger::free_order(NET), ..paid.pauper() };
    payer.request();
    payer.expect(pkt::SUCCESS, 20);
    wait_for("success 4/7 0");
    calls();
    payer.leave();
    assert_eq!((calls(), money::faults()), (vec!["save 4/7".to_owned()], vec![]));
}

#[test]
fn a_refusal_names_no_client() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    let ask = payer.ask();
    for (request, code) in [
        (Request { order_hash: [0; 32], ..ask.clone() }, error_code::PRICE_NO_ORDER_HASH),
        (Request { tx_cond: [0; 32], ..ask.clone() }, error_code::PRICE_NO_TX_HASH),
        (Request { net_id: 77, ..ask.clone() }, error_code::NETWORK_NOT_FOUND),
    ] {
        payer.send(pkt::REQUEST, &request.encode());
        payer.expect_refusal(code);
        wait_for(&format!("error - {code:#x}"));
    }
    payer.send(pkt::REQUEST, &Request { srv_uid: 99, ..ask.clone() }.encode());
    payer.expect_refusal(error_code::SERVICE_NODE_ROLE_ERROR);
    // Too short: not even an answer.
    payer.send(pkt::REQUEST, &ask.encode()[..121]);
    ledger::set_offline(NET, true);
    payer.request();
    payer.expect_refusal(error_code::NETWORK_IS_OFFLINE);
    ledger::set_offline(NET, false);
    assert_eq!((money::faults(), money::usages()), (vec![], 0));
    payer.leave();
}

#[test]
fn a_rest_is_given_first() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    // Bytes alone are none in an order of seconds.
    *REST.lock().unwrap() = Some((500, 0));
    payer.request();
    payer.expect_receipt();
    payer.leave();
    *REST.lock().unwrap() = Some((500, 18));
    calls();
    let payer = paid.payer(PRICE);
    payer.request();
    payer.expect(pkt::SUCCESS, 20);
    wait_for("success 2/0 113");
    let limits = on_server(|ch| unsafe { ((*session_of(ch)).limits_ts.get(), (*session_of(ch)).limits_bytes.get()) });
    assert_eq!((limits, ledger::earned(NET), step()), ((18, 0), 0, 7));
    payer.leave();
}

#[test]
fn the_service_refuses_after_the_payment() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    SUCCESS_RESULT.store(-2, Ordering::SeqCst);
    payer.request();
    payer.answer(&payer.expect_receipt());
    payer.expect_code(error_code::SERVICE_INTERNAL_ERROR);
    payer.expect_nothing(WAIT);
    assert_eq!(calls(), ["rest 0/0", "success 2/1 6725", "error 2/8 0x105"]);
    assert_eq!(ledger::earned(NET), PRICE);
    payer.leave();
}

#[test]
fn checks() {
    let paid = Paid::start();
    let payer = paid.pauper();
    let data = pattern(3, 1000);
    let check = Check { srv_uid: 1, data_size_recv: 500, data_hash: Check::hash(&data), ..Check::default() };
    payer.send(pkt::CHECK_REQUEST, &check.encode(&data));
    let reply = payer.expect(pkt::CHECK_RESPONSE, Check::LEN + 500);
    let (answer, bytes) = Check::parse(&reply).unwrap();
    assert_eq!(answer.data_hash, Check::hash(bytes));
    for (check, data, code) in [
        (Check { srv_uid: 9, ..check.clone() }, &data[..], error_code::SERVICE_NOT_FOUND),
        (Check { data_size_recv: 10_241, ..check.clone() }, &data[..], error_code::BIG_SIZE),
        (check.clone(), &data[..999], error_code::WRONG_HASH),
    ] {
        payer.send(pkt::CHECK_REQUEST, &check.encode(data));
        payer.expect_refusal(code);
    }
    let mut lying = check.encode(&data);
    lying.pop();
    payer.send(pkt::CHECK_REQUEST, &lying);
    payer.expect_refusal(error_code::WRONG_SIZE);
    payer.leave();
    assert_eq!(money::faults(), []);
}
