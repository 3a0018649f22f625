//! Next receipts, late and bad signatures, and chains that are slow.

use super::*;
use vpn_core::wire::error_code;

#[test]
fn receipts_follow_one_another_until_the_transaction_is_empty() {
    let paid = Paid::start();
    let payer = paid.payer(2 * PRICE + 1);
    payer.begin();
    ask_next(true);
    let receipt = payer.expect_receipt();
    let first = Receipt::parse(&receipt).unwrap().info.prev_tx;
    assert!(ledger::means(NET, &first).is_some_and(|means| means.is_payment && means.first == payer.tx));
    payer.answer(&receipt);
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!((ledger::earned(NET), step()), (2 * PRICE, 7));
    switch();
    calls();
    payer.pay_next();
    payer.expect_refusal(error_code::TX_COND_NOT_ENOUGH);
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!(step(), 4);
    payer.expect_code(error_code::NEW_TX_COND_NOT_ENOUGH);
    assert_eq!(calls(), ["error 2/4 0x402", "error 2/8 0x408"]);
    payer.leave();
    assert_eq!((ledger::earned(NET), money::faults(), money::usages()), (2 * PRICE, vec![], 0));
}

#[test]
fn a_next_receipt_that_is_never_signed_is_sent_three_times() {
    let paid = Paid::start();
    let payer = paid.payer(2 * PRICE);
    payer.begin();
    calls();
    ask_next(true);
    for _ in 0..3 {
        payer.expect_receipt();
    }
    payer.expect_code(error_code::RECEIPT_NO_SIGN);
    assert_eq!((calls(), step()), (vec!["error 2/8 0x501".to_owned()], 8));
    // Signed too late.
    payer.send(pkt::SIGN_RESPONSE, &[0; 6725]);
    payer.expect_nothing(WAIT);
    payer.leave();
    assert_eq!((ledger::earned(NET), money::faults()), (PRICE, vec![]));
}

#[test]
fn a_next_receipt_that_is_signed_late_is_paid() {
    let paid = Paid::start();
    let payer = paid.payer(2 * PRICE);
    payer.begin();
    calls();
    ask_next(true);
    payer.expect_receipt();
    payer.answer(&payer.expect_receipt());
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!(calls(), ["next 2/2 6725"]);
    payer.leave();
    assert_eq!((ledger::earned(NET), money::faults()), (2 * PRICE, vec![]));
}

#[test]
fn a_next_receipt_that_the_service_refuses() {
    let paid = Paid::start();
    let payer = paid.payer(2 * PRICE);
    payer.begin();
    NEXT_RESULT.store(-1, Ordering::SeqCst);
    calls();
    payer.pay_next();
    payer.expect_code(error_code::SERVICE_INTERNAL_ERROR);
    // The step is normal all the same, so SUCCESS follows.
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!((calls(), step()), (vec!["next 2/2 6725".to_owned(), "error 2/8 0x105".to_owned()], 7));
    payer.leave();
}

#[test]
fn the_clients_signature_is_not_verified_but_by_the_ledger() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.request();
    let mut broken = payer.key.add_to(&payer.expect_receipt()).unwrap();
    broken[Receipt::LEN + SIGNATURE_LEN + 14 + 91] ^= 1;
    payer.send(pkt::SIGN_RESPONSE, &broken);
    payer.expect(pkt::SUCCESS, 87);
    payer.leave();
    let payer = paid.payer(PRICE);
    payer.request();
    let strangers = Key::generate().unwrap().add_to(&payer.expect_receipt()).unwrap();
    payer.send(pkt::SIGN_RESPONSE, &strangers);
    payer.expect(pkt::SUCCESS, 87);
    payer.leave();
    assert_eq!((ledger::earned(NET), ledger::refused(NET).len()), (0, 2));
    assert_eq!(money::faults(), []);
}

#[test]
fn receipts_that_are_not_the_issued_one() {
    let paid = Paid::start();
    let another_units = |receipt: &[u8], key: &Key| {
        let mut receipt = receipt.to_vec();
        receipt[25] ^= 1;
        key.add_to(&receipt).unwrap()
    };
    let another_version = |receipt: &[u8], key: &Key| {
        let mut receipt = receipt.to_vec();
        receipt[21] = 1;
        key.add_to(&receipt).unwrap()
    };
    type Sign<'a> = &'a dyn Fn(&[u8], &Key) -> Vec<u8>;
    for (sign, code) in [
        (&another_units as Sign<'_>, error_code::RECEIPT_CANT_FIND),
        (&another_version, error_code::RECEIPT_WRONG_VERSION),
        (&|receipt, _| receipt.to_vec(), error_code::RECEIPT_NO_SIGN),
    ] {
        let payer = paid.payer(PRICE);
        payer.request();
        payer.send(pkt::SIGN_RESPONSE, &sign(&payer.expect_receipt(), &payer.key));
        payer.expect_code(code);
        payer.expect_nothing(WAIT);
        assert_eq!(money::usages(), 0);
        payer.leave();
    }
    // Another key than the transaction's is named.
    let payer = paid.payer(PRICE);
    payer.expect_refused_key();
    payer.leave();
    assert_eq!((ledger::earned(NET), money::faults()), (0, vec![]));
}

#[test]
fn coming_back_needs_the_last_transaction() {
    let paid = Paid::start();
    let mut payer = paid.payer(3 * PRICE);
    payer.begin();
    let (key, tx) = (payer.key, payer.tx);
    drop(payer.client);
    payer = Payer { client: paid.sdk.connected("RS"), key, order: paid.order, tx };
    payer.request();
    payer.answer(&payer.expect_receipt());
    payer.expect_code(error_code::TX_CREATION_ERROR);
    assert_eq!(ledger::earned(NET), PRICE);
    payer.tx = ledger::means(NET, &tx).unwrap().last.unwrap();
    payer.begin();
    payer.leave();
    assert_eq!(ledger::earned(NET), 2 * PRICE);
    assert_eq!(money::faults(), [money::Fault::UsageFreedInPayment]);
}

#[test]
fn a_slow_chain_stops_after_the_first_receipt() {
    let paid = Paid::start();
    let payer = paid.payer(3 * PRICE);
    ledger::set_by_hand(NET, true);
    payer.begin();
    assert_eq!((ledger::earned(NET), ledger::waiting(NET)), (0, 1));
    payer.pay_next();
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!(step(), 3);
    payer.expect_code(error_code::TX_COND_NOT_FOUND);
    assert_eq!(step(), 8);
    payer.leave();
    assert_eq!(money::faults(), []);
}

#[test]
fn a_slow_chain_that_comes_in_time_goes_on() {
    let paid = Paid::start();
    let payer = paid.payer(3 * PRICE);
    ledger::set_by_hand(NET, true);
    payer.begin();
    payer.pay_next();
    payer.expect(pkt::SUCCESS, 87);
    calls();
    ledger::process(NET);
    wait_for("next 2/3 6725");
    ledger::process(NET);
    payer.expect_nothing(GRACE);
    assert_eq!((ledger::earned(NET), step()), (2 * PRICE, 7));
    payer.leave();
    assert_eq!(money::faults(), []);
}

#[test]
fn two_sessions_are_served_for_one_payment() {
    let paid = Paid::start();
    let one = paid.payer(PRICE);
    let two = Payer { client: paid.sdk.connected("RS"), key: Key::generate().unwrap(), order: paid.order, tx: one.tx };
    ledger::set_by_hand(NET, true);
    one.begin();
    two.send(pkt::REQUEST, &one.ask().encode());
    two.send(pkt::SIGN_RESPONSE, &one.key.add_to(&two.expect_receipt()).unwrap());
    two.expect(pkt::SUCCESS, 87);
    ledger::process(NET);
    assert_eq!((ledger::earned(NET), ledger::refused(NET).len()), (PRICE, 1));
    one.leave();
    two.leave();
}

#[test]
fn pieces_are_sold_as_well() {
    let paid = Paid::start();
    let order = order(unit::PIECES, 5);
    let mut payer = paid.payer_of(Transaction { unit: unit::PIECES, value: PRICE, ..Transaction::default() });
    payer.order = order;
    payer.begin();
    payer.leave();
    assert_eq!(ledger::earned(NET), PRICE);
}
