//! Grace, bans, and new transactions in the middle of a service (0x41).

use super::*;
use money::Fault;
use vpn_core::wire::error_code;

#[test]
fn grace_ends_with_a_ban_of_the_named_key() {
    let paid = Paid::start();
    let payer = paid.pauper();
    payer.request();
    payer.expect(pkt::SUCCESS, 20);
    wait_for("success 1/3 0");
    calls();
    payer.expect_code(error_code::TX_COND_NOT_FOUND);
    wait_for("error 1/3 0x400");
    calls();
    // The same key is banned; another one, made up, is not.
    payer.request();
    payer.expect_refusal(error_code::RECEIPT_BANNED_PKEY_HASH);
    let Payer { client, key, order, .. } = payer;
    drop(client);
    let other = paid.pauper();
    other.request();
    other.expect(pkt::SUCCESS, 20);
    other.leave();
    // A transaction in the ledger ends the ban.
    let tx = ledger::add_transaction(
        NET,
        Transaction { client_key: key.hash(), unit: unit::SECONDS, value: PRICE, ..Transaction::default() },
    );
    let payer = Payer { client: paid.sdk.connected("RS"), key, order, tx };
    payer.request();
    payer.expect_receipt();
    payer.leave();
    // The usage that was banned was replaced, which nobody frees.
    assert_eq!(money::faults(), [Fault::LostUsage]);
}

#[test]
fn a_transaction_that_comes_in_grace_is_paid_from() {
    let paid = Paid::start();
    ledger::set_by_hand(NET, true);
    let payer = paid.payer(2 * PRICE);
    payer.request();
    payer.expect(pkt::SUCCESS, 20);
    wait_for("success 1/3 0");
    calls();
    ledger::set_by_hand(NET, false);
    ledger::process(NET);
    payer.answer(&payer.expect_receipt());
    payer.expect(pkt::SUCCESS, 87);
    payer.expect_nothing(GRACE);
    assert_eq!(calls(), ["rest 1/3", "success 2/1 6725"]);
    assert_eq!((ledger::earned(NET), step()), (PRICE, 7));
    payer.leave();
    assert_eq!((money::faults(), money::usages()), (vec![], 0));
}

#[test]
fn grace_without_the_services_consent_is_a_ban() {
    let paid = Paid::start();
    SUCCESS_RESULT.store(-1, Ordering::SeqCst);
    let payer = paid.pauper();
    payer.request();
    payer.expect(pkt::SUCCESS, 20);
    payer.expect_code(error_code::SERVICE_INTERNAL_ERROR);
    payer.request();
    payer.expect_refusal(error_code::RECEIPT_BANNED_PKEY_HASH);
    payer.leave();
}

/// A client whose transaction is used up, at the moment when the SDK wants a new one.
fn out_of_money(paid: &Paid) -> Payer {
    let payer = paid.payer(PRICE + 1);
    payer.begin();
    payer.pay_next();
    payer.expect_refusal(error_code::TX_COND_NOT_ENOUGH);
    payer.expect(pkt::SUCCESS, 87);
    payer
}

fn another_transaction(payer: &Payer, value: u128) -> Hash {
    let client_key = payer.key.hash();
    ledger::add_transaction(NET, Transaction { client_key, unit: unit::SECONDS, value, ..Transaction::default() })
}

#[test]
fn no_new_transaction() {
    let paid = Paid::start();
    let payer = out_of_money(&paid);
    payer.new_transaction([0; 32]);
    payer.expect_code(error_code::TX_COND_NO_NEW_COND);
    payer.expect_nothing(2 * GRACE);
    assert_eq!(step(), 8);
    payer.leave();
    assert_eq!(money::faults(), []);
}

#[test]
fn a_new_transaction_that_never_comes() {
    let paid = Paid::start();
    let payer = out_of_money(&paid);
    payer.new_transaction([0x33; 32]);
    payer.expect(pkt::SUCCESS, 20);
    assert_eq!(step(), 6);
    payer.expect_code(error_code::TX_COND_NOT_FOUND);
    payer.leave();
    assert_eq!(money::faults(), []);
}

#[test]
fn a_new_transaction_in_the_ledger_ends_the_node() {
    let paid = Paid::start();
    let payer = out_of_money(&paid);
    payer.new_transaction(another_transaction(&payer, 3 * PRICE));
    // The SDK sends the old receipt, with both signatures, and wants another one back.
    let old = payer.expect(pkt::SIGN_REQUEST, 6725);
    payer.expect(pkt::SUCCESS, 20);
    payer.send(pkt::SIGN_RESPONSE, &old);
    payer.expect_code(error_code::RECEIPT_CANT_FIND);
    payer.expect_nothing(2 * GRACE);
    payer.leave();
    assert_eq!((money::faults(), ledger::earned(NET)), (vec![Fault::TimerOutlivesGrace], PRICE));
}

#[test]
fn a_new_transaction_that_comes_later_is_never_paid_from() {
    let paid = Paid::start();
    let payer = out_of_money(&paid);
    ledger::set_by_hand(NET, true);
    payer.new_transaction(another_transaction(&payer, 3 * PRICE));
    payer.expect(pkt::SUCCESS, 20);
    calls();
    ledger::set_by_hand(NET, false);
    ledger::process(NET);
    payer.answer(&payer.expect_receipt());
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!((calls(), step()), (vec!["next 2/5 6725".to_owned()], 7));
    payer.expect_nothing(GRACE);
    payer.leave();
    let reasons: Vec<_> = ledger::refused(NET).into_iter().map(|refusal| refusal.reason).collect();
    assert_eq!(reasons, ["its receipt has not two signatures"]);
    assert_eq!((money::faults(), ledger::earned(NET)), (vec![], PRICE));
}

#[test]
fn a_new_transaction_that_nobody_asked_for() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.begin();
    payer.new_transaction([0x44; 32]);
    payer.expect_nothing(WAIT);
    payer.leave();
    assert_eq!(money::faults(), []);
}

#[test]
fn transactions_that_do_not_fit_the_order() {
    let paid = Paid::start();
    let fits = Transaction { unit: unit::SECONDS, value: 5 * PRICE, ..Transaction::default() };
    // 10 for 20 units is 0 for one, which no limit excludes.
    let dear = ledger::add_order(
        NET,
        Order { unit: unit::SECONDS, units: 2, value: PRICE, token: "CELL".into(), is_ours: true },
    );
    for (transaction, order, code) in [
        (Transaction { token: "OTHER".into(), ..fits.clone() }, paid.order, error_code::TX_COND_NOT_ACCEPT_TOKEN),
        (Transaction { unit: unit::BYTES, ..fits.clone() }, paid.order, error_code::TX_COND_UNIT_TYPE_ERROR),
        (Transaction { srv_uid: 7, ..fits.clone() }, paid.order, error_code::TX_COND_WRONG_SRV_UID),
        (Transaction { max_unit_price: 4, ..fits.clone() }, dear, error_code::RECEIPT_UNITS_ERROR),
    ] {
        let mut payer = paid.payer_of(transaction);
        payer.order = order;
        payer.request();
        payer.answer(&payer.expect_receipt());
        payer.expect_code(code);
        assert_eq!(calls(), ["rest 0/0".to_owned(), format!("error 0/1 {code:#x}")]);
        assert_eq!(money::usages(), 0);
        payer.leave();
    }
    // The node would have died four times: each payment used a freed usage, and then the packet's handler did.
    assert_eq!(money::faults(), [Fault::UsageFreedInPayment; 8]);
    let within = paid.payer_of(Transaction { max_unit_price: 5, ..fits });
    within.begin();
    within.leave();
    assert_eq!(ledger::earned(NET), PRICE);
}

#[test]
fn a_first_transaction_that_holds_too_little_is_served_in_grace() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE - 1);
    payer.request();
    payer.answer(&payer.expect_receipt());
    payer.expect_refusal(error_code::TX_COND_NOT_ENOUGH);
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!(calls(), ["rest 0/0", "error 1/4 0x402", "success 1/4 0"]);
    payer.expect_code(error_code::NEW_TX_COND_NOT_ENOUGH);
    payer.leave();
    assert_eq!(ledger::earned(NET), 0);
}
