//! Where the SDK fails, one test for each way.

use super::*;
use money::Fault;
use vpn_core::wire::{Check, error_code};

#[test]
fn an_unknown_order_leaves_a_freed_usage() {
    let paid = Paid::start();
    let payer = Payer { order: [9; 32], ..paid.payer(PRICE) };
    payer.request();
    payer.expect_refusal(error_code::PRICE_ERROR);
    wait_for("error - 0x600");
    calls();
    assert_eq!(money::faults(), []);
    payer.leave();
    eventually(|| money::faults() == [Fault::FreedUsage], || format!("{:?}", money::faults()));
    assert_eq!(calls(), [""; 0]);
}

#[test]
fn a_foreign_order_as_well() {
    let paid = Paid::start();
    let foreign = Order { unit: unit::SECONDS, units: 20, value: PRICE, token: "CELL".into(), is_ours: false };
    let payer = Payer { order: ledger::add_order(NET, foreign), ..paid.payer(PRICE) };
    payer.request();
    payer.expect_refusal(error_code::PRICE_ERROR);
    payer.leave();
    // Channel 'R' ends after 'S', whose end the payer has waited for.
    eventually(|| money::faults() == [Fault::FreedUsage], || format!("{:?}", money::faults()));
}

#[test]
fn a_usage_that_is_taken_away_in_time_is_reported_twice_and_not_freed() {
    let paid = Paid::start();
    DETACH.store(1, Ordering::SeqCst);
    let payer = paid.payer_of(Transaction { unit: unit::BYTES, value: PRICE, ..Transaction::default() });
    payer.request();
    let taken = on_usage(&payer);
    payer.answer(&payer.expect_receipt());
    payer.expect_code(error_code::TX_COND_UNIT_TYPE_ERROR);
    payer.expect_code(error_code::TX_COND_UNIT_TYPE_ERROR);
    assert_eq!(calls(), ["rest 0/0", "error 0/1 0x410", "error none 0x410"]);
    assert_eq!((money::faults(), money::usages()), (vec![], 1));
    free(taken);
    assert_eq!((money::faults(), money::usages()), (vec![], 0));
    free(taken);
    assert_eq!(money::faults(), [Fault::DoubleFree]);
    payer.leave();
}

/// The address of the session's usage, once its first receipt waits.
fn on_usage(payer: &Payer) -> usize {
    eventually(|| !payer.client.log.packets.lock().unwrap().is_empty(), || "no receipt".into());
    on_server(|ch| usage_of(ch).expose_provenance())
}

/// Frees a usage as the gate does.
fn free(usage: usize) {
    on_worker(worker(0), move || {
        let mut session: dap_chain_net_srv_stream_session = unsafe { std::mem::zeroed() };
        session.usage_active = std::cell::Cell::new(ptr::with_exposed_provenance_mut(usage));
        unsafe { dap_chain_net_srv_usage_delete(&raw mut session) };
        assert!(session.usage_active.get().is_null());
    });
}

#[test]
fn a_client_leaves_while_a_receipt_waits() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.request();
    payer.expect_receipt();
    payer.leave();
    assert_eq!(money::faults(), []);
    eventually(|| money::faults() == [Fault::TimerOutlivesUsage], || format!("{:?}", money::faults()));
}

#[test]
fn a_timer_that_is_stopped_in_time_does_no_harm() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.request();
    on_usage(&payer);
    let stop = || {
        on_server(|ch| unsafe {
            embedded::abi::events::dap_timerfd_delete_unsafe((*usage_of(ch)).receipts_timeout_timer.get());
        });
    };
    stop();
    assert_eq!(money::faults(), []);
    // The address is stale now.
    stop();
    assert_eq!(money::faults(), [Fault::StaleTimer]);
    payer.leave();
    std::thread::sleep(2 * WAIT);
    assert_eq!(money::faults(), [Fault::StaleTimer]);
}

#[test]
fn a_repeated_request_loses_a_usage_with_its_timer() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.request();
    payer.expect_receipt();
    payer.request();
    payer.expect_receipt();
    assert_eq!(money::faults(), [Fault::LostUsage]);
    payer.leave();
    let expected = [Fault::LostUsage, Fault::FreedChannel, Fault::TimerOutlivesUsage];
    eventually(|| money::faults() == expected, || format!("{:?}", money::faults()));
    assert_eq!(money::usages(), 1, "lost");
}

#[test]
fn a_new_transaction_before_any_request() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.new_transaction([1; 32]);
    eventually(|| money::faults() == [Fault::NoUsage], || format!("{:?}", money::faults()));
    payer.leave();
}

#[test]
fn a_new_transaction_for_a_service_that_does_not_exist() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE - 1);
    payer.request();
    payer.answer(&payer.expect_receipt());
    payer.expect_refusal(error_code::TX_COND_NOT_ENOUGH);
    let request = Request { srv_uid: 99, ..payer.ask() };
    payer.send(pkt::NEW_TX_COND_RESPONSE, &request.encode());
    eventually(|| money::faults() == [Fault::NoService], || format!("{:?}", money::faults()));
    payer.leave();
}

#[test]
fn receipts_are_mixed_up_after_a_new_transaction() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE - 1);
    payer.request();
    payer.answer(&payer.expect_receipt());
    payer.expect_refusal(error_code::TX_COND_NOT_ENOUGH);
    payer.expect(pkt::SUCCESS, 87);
    let client_key = payer.key.hash();
    ledger::set_by_hand(NET, true);
    let more = Transaction { client_key, unit: unit::SECONDS, value: PRICE, ..Transaction::default() };
    payer.new_transaction(ledger::add_transaction(NET, more));
    payer.expect(pkt::SUCCESS, 20);
    ledger::process(NET);
    payer.expect_receipt();
    // There is no next receipt, and the timer reads its size.
    eventually(|| money::faults().first() == Some(&Fault::NoReceipt), || format!("{:?}", money::faults()));
    payer.leave();
}

#[test]
fn a_short_answer_deletes_the_receipt() {
    let paid = Paid::start();
    let payer = paid.payer(PRICE);
    payer.request();
    let receipt = payer.expect_receipt();
    payer.send(pkt::SIGN_RESPONSE, &receipt[..95]);
    payer.expect_nothing(WAIT);
    assert_eq!(money::faults(), []);
    payer.answer(&receipt);
    eventually(|| money::faults() == [Fault::DeletedReceipt], || format!("{:?}", money::faults()));
    payer.leave();
}

#[test]
fn another_service_has_no_callbacks() {
    let paid = Paid::start();
    let payer = Payer { order: ledger::free_order(NET), ..paid.pauper() };
    payer.send(pkt::REQUEST, &Request { srv_uid: 2, ..payer.ask() }.encode());
    payer.expect(pkt::SUCCESS, 20);
    payer.leave();
    // Channel 'R' ends after 'S', whose end the payer has waited for.
    eventually(|| money::faults() == [Fault::NullCallback], || format!("{:?}", money::faults()));
    let payer = Payer { order: [9; 32], ..paid.pauper() };
    payer.send(pkt::REQUEST, &Request { srv_uid: 2, ..payer.ask() }.encode());
    payer.expect_refusal(error_code::PRICE_ERROR);
    payer.leave();
    assert_eq!(money::faults(), [Fault::NullCallback, Fault::FreedUsage]);
    assert_eq!(calls(), Vec::<String>::new(), "never ours");
}

#[test]
fn a_check_that_lies_about_its_sizes() {
    let paid = Paid::start();
    let payer = paid.pauper();
    let check = Check { srv_uid: 1, data_size_send: 1, data_size_recv: 10_000, ..Check::default() };
    payer.send(pkt::CHECK_REQUEST, &check.encode(&[]));
    payer.expect(pkt::CHECK_RESPONSE, Check::LEN + 10_000);
    assert_eq!(money::faults(), [Fault::CheckOverrun]);
    payer.leave();
}

#[test]
fn two_graces_with_one_transaction() {
    let paid = Paid::start();
    let (one, two) = (paid.pauper(), paid.pauper());
    one.request();
    one.expect(pkt::SUCCESS, 20);
    two.request();
    two.expect(pkt::SUCCESS, 20);
    // Its end takes the other's item away, and its own timer fires.
    one.leave();
    eventually(|| money::faults() == [Fault::GraceOutlivesUsage], || format!("{:?}", money::faults()));
    two.leave();
}
