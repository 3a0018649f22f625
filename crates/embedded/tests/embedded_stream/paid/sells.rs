//! The embedded SDK sells: what a client gets for its money, without the Cellframe SDK's faults.

use super::*;
use embedded::abi::events::dap_events_socket_reassign_between_workers_mt;
use vpn_core::wire::error_code;

/// Nothing has failed, and every usage is freed.
fn is_clean() {
    assert_eq!(money::faults(), []);
    eventually(|| money::usages() == 0, || format!("{} usages are left", money::usages()));
    std::thread::sleep(2 * WAIT);
    assert_eq!(money::faults(), [], "a timer has outlived its usage");
}

fn seconds(client_key: Hash, value: u128) -> Transaction {
    Transaction { client_key, unit: unit::SECONDS, value, ..Transaction::default() }
}

#[test]
fn receipts_are_paid_until_the_transaction_is_empty() {
    let paid = Paid::sell(1);
    let payer = paid.payer(2 * PRICE);
    let receipt = payer.first_receipt();
    payer.answer(&receipt);
    let success = payer.expect(pkt::SUCCESS, 87);
    assert_eq!((&success[4..12], &success[20..]), (NET.to_le_bytes().as_slice(), [0; 67].as_slice()));
    assert_eq!(calls(), ["requested 0/0", "rest 0/0", "success 2/1 6725"]);
    assert_eq!((ledger::earned(NET), step()), (PRICE, 7));
    ask_next(true);
    payer.answer(&payer.expect_receipt());
    payer.expect(pkt::SUCCESS, 87);
    assert_eq!((calls(), step()), (vec!["next 2/2 6725".to_owned()], 7));
    switch();
    payer.pay_next();
    payer.expect_refusal(error_code::TX_COND_NOT_ENOUGH);
    payer.expect(pkt::SUCCESS, 87);
    payer.expect_code(error_code::NEW_TX_COND_NOT_ENOUGH);
    assert_eq!(calls(), ["error 2/4 0x402", "error 2/8 0x408"]);
    payer.leave();
    wait_for("save 2/8");
    assert_eq!((ledger::earned(NET), ledger::refused(NET)), (2 * PRICE, vec![]));
    is_clean();
}

#[test]
fn an_order_that_is_not_sold_begins_nothing() {
    let paid = Paid::sell(1);
    let foreign = Order { unit: unit::SECONDS, units: 20, value: PRICE, token: "CELL".into(), is_ours: false };
    let empty = Order { units: 0, is_ours: true, ..foreign.clone() };
    for (order, code) in [
        ([9; 32], error_code::PRICE_ERROR),
        (ledger::add_order(NET, foreign), error_code::PRICE_ERROR),
        (ledger::add_order(NET, empty), error_code::RECEIPT_UNITS_ERROR),
    ] {
        let payer = Payer { order, ..paid.payer(PRICE) };
        payer.request();
        payer.expect_refusal(code);
        assert_eq!((calls(), money::usages()), (vec![format!("error - {code:#x}")], 0));
        payer.leave();
    }
    assert_eq!(calls(), [""; 0]);
    is_clean();
}

#[test]
fn a_first_receipt_is_asked_for_three_times_and_a_client_may_leave_meanwhile() {
    let paid = Paid::sell(1);
    let (silent, leaving) = (paid.payer(PRICE), paid.payer(PRICE));
    silent.request();
    for _ in 0..3 {
        silent.expect_receipt();
    }
    silent.expect_code(error_code::RECEIPT_NO_SIGN);
    assert_eq!(money::usages(), 0);
    leaving.request();
    leaving.expect_receipt();
    leaving.leave();
    // The channel is free for another try.
    silent.begin();
    silent.leave();
    assert_eq!(ledger::earned(NET), PRICE);
    is_clean();
}

#[test]
fn a_repeated_request_is_answered_from_the_same_usage() {
    let paid = Paid::sell(1);
    let payer = paid.payer(PRICE);
    payer.request();
    let receipt = payer.expect_receipt();
    payer.request();
    assert_eq!(payer.expect_receipt(), receipt);
    payer.answer(&receipt);
    let success = payer.expect(pkt::SUCCESS, 87);
    payer.request();
    assert_eq!(payer.expect(pkt::SUCCESS, 20), success[..20]);
    // Another key cannot take the place of one that pays.
    payer.send(pkt::REQUEST, &Request { client_pkey_hash: [5; 32], ..payer.ask() }.encode());
    payer.expect_refusal(error_code::CANT_ADD_USAGE);
    assert_eq!((ledger::earned(NET), money::usages()), (PRICE, 1));
    payer.leave();
    is_clean();
}

#[test]
fn a_receipt_that_is_not_the_issued_one_pays_nothing() {
    let paid = Paid::sell(1);
    let changed = |at: usize| {
        move |receipt: &[u8], key: &Key| {
            let mut receipt = receipt.to_vec();
            receipt[at] ^= 1;
            key.add_to(&receipt).unwrap()
        }
    };
    let (units, version, provider) = (changed(25), changed(21), changed(Receipt::LEN + SIGNATURE_LEN - 1));
    type Sign<'a> = &'a dyn Fn(&[u8], &Key) -> Vec<u8>;
    let cases: [(Sign<'_>, u32); 7] = [
        (&units, error_code::RECEIPT_CANT_FIND),
        (&version, error_code::RECEIPT_WRONG_VERSION),
        (&provider, error_code::RECEIPT_CANT_FIND),
        (&|receipt, _| receipt.to_vec(), error_code::RECEIPT_NO_SIGN),
        (&|receipt, _| receipt[..95].to_vec(), error_code::RECEIPT_NO_SIGN),
        (&|receipt, _| Key::generate().unwrap().add_to(receipt).unwrap(), error_code::RECEIPT_WRONG_PKEY_HASH),
        (
            &|receipt, key| {
                let mut signed = key.add_to(receipt).unwrap();
                signed[Receipt::LEN + SIGNATURE_LEN + 14 + 91] ^= 1;
                signed
            },
            error_code::RECEIPT_WRONG_PKEY_HASH,
        ),
    ];
    for (number, (sign, code)) in cases.into_iter().enumerate() {
        let payer = paid.payer(PRICE);
        payer.request();
        payer.send(pkt::SIGN_RESPONSE, &sign(&payer.expect_receipt(), &payer.key));
        let (kind, data) = payer.packet();
        assert_eq!((kind, &data[..]), (pkt::ERROR, code.to_le_bytes().as_slice()), "case {number}");
        payer.expect_nothing(WAIT);
        assert_eq!(money::usages(), 0);
        payer.leave();
    }
    // Another key than the transaction's is named.
    let payer = paid.payer(PRICE);
    payer.expect_refused_key();
    payer.leave();
    assert_eq!((ledger::earned(NET), ledger::refused(NET)), (0, vec![]));
    is_clean();
}

#[test]
fn a_next_receipt_with_a_bad_signature_ends_with_the_paid_one() {
    let paid = Paid::sell(1);
    let payer = paid.payer(2 * PRICE);
    payer.begin();
    calls();
    ask_next(true);
    let receipt = payer.expect_receipt();
    payer.send(pkt::SIGN_RESPONSE, &Key::generate().unwrap().add_to(&receipt).unwrap());
    payer.expect_code(error_code::RECEIPT_WRONG_PKEY_HASH);
    assert_eq!((calls(), step()), (vec!["error 2/8 0x502".to_owned()], 8));
    // Signed properly, and too late.
    payer.answer(&receipt);
    payer.expect_nothing(2 * WAIT);
    assert_eq!(ledger::earned(NET), PRICE);
    payer.leave();
    is_clean();
}

#[test]
fn transactions_that_do_not_fit_the_order_are_refused_once() {
    let paid = Paid::sell(1);
    let fits = Transaction { unit: unit::SECONDS, value: 5 * PRICE, ..Transaction::default() };
    for (transaction, code) in [
        (Transaction { token: "OTHER".into(), ..fits.clone() }, error_code::TX_COND_NOT_ACCEPT_TOKEN),
        (Transaction { unit: unit::BYTES, ..fits.clone() }, error_code::TX_COND_UNIT_TYPE_ERROR),
        (Transaction { srv_uid: 7, ..fits }, error_code::TX_COND_WRONG_SRV_UID),
    ] {
        let payer = paid.payer_of(transaction);
        payer.request();
        payer.answer(&payer.expect_receipt());
        payer.expect_code(code);
        let told = format!("error 0/1 {code:#x}");
        assert_eq!((calls(), money::usages()), (vec!["requested 0/0".into(), "rest 0/0".into(), told], 0));
        payer.leave();
    }
    is_clean();
}

/// A client whose transaction is used up, when it is asked for another one.
fn out_of_money(paid: &Paid) -> Payer {
    let payer = paid.payer(PRICE);
    payer.begin();
    payer.pay_next();
    payer.expect_refusal(error_code::TX_COND_NOT_ENOUGH);
    payer.expect(pkt::SUCCESS, 87);
    calls();
    payer
}

#[test]
fn a_new_transaction_pays_the_next_receipts() {
    let paid = Paid::sell(1);
    // Known at once, and later.
    for is_late in [false, true] {
        ledger::reset();
        let order = order(unit::SECONDS, 20);
        let payer = Payer { order, ..out_of_money(&paid) };
        ledger::set_by_hand(NET, is_late);
        let transaction = ledger::add_transaction(NET, seconds(payer.key.hash(), 2 * PRICE));
        payer.new_transaction(transaction);
        let receipt = if is_late {
            payer.expect(pkt::SUCCESS, 20);
            ledger::set_by_hand(NET, false);
            ledger::process(NET);
            payer.expect_receipt()
        } else {
            let receipt = payer.expect_receipt();
            payer.expect(pkt::SUCCESS, 20);
            receipt
        };
        assert_eq!(Receipt::parse(&receipt).unwrap().info.prev_tx, transaction);
        payer.answer(&receipt);
        payer.expect(pkt::SUCCESS, 87);
        assert_eq!((calls(), step(), ledger::earned(NET)), (vec!["next 2/5 6725".to_owned()], 7, 2 * PRICE));
        payer.expect_nothing(GRACE);
        switch();
        payer.pay_next();
        payer.expect(pkt::SUCCESS, 87);
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (3 * PRICE, vec![]));
        payer.leave();
    }
    is_clean();
}

#[test]
fn a_new_transaction_that_is_blank_unknown_or_for_another_service() {
    let paid = Paid::sell(1);
    let payer = out_of_money(&paid);
    payer.send(pkt::NEW_TX_COND_RESPONSE, &Request { srv_uid: 99, ..payer.ask() }.encode());
    payer.send(pkt::NEW_TX_COND_RESPONSE, &payer.ask().encode()[..121]);
    payer.new_transaction([0; 32]);
    payer.expect_code(error_code::TX_COND_NO_NEW_COND);
    payer.expect_nothing(2 * GRACE);
    assert_eq!(step(), 8);
    payer.leave();
    let payer = out_of_money(&paid);
    payer.new_transaction([0x33; 32]);
    payer.expect(pkt::SUCCESS, 20);
    payer.expect_code(error_code::TX_COND_NOT_FOUND);
    payer.leave();
    // Nobody asked for one, and there is no usage.
    let payer = paid.payer(PRICE);
    payer.new_transaction([0x44; 32]);
    payer.begin();
    payer.leave();
    is_clean();
}

#[test]
fn a_payment_that_is_not_in_the_ledger_yet_is_waited_for() {
    let paid = Paid::sell(1);
    for comes in [true, false] {
        ledger::reset();
        let payer = Payer { order: order(unit::SECONDS, 20), ..paid.payer(3 * PRICE) };
        ledger::set_by_hand(NET, true);
        payer.begin();
        calls();
        payer.pay_next();
        payer.expect(pkt::SUCCESS, 87);
        assert_eq!((ledger::waiting(NET), step()), (1, 3));
        if comes {
            ledger::process(NET);
            wait_for("next 2/3 6725");
            ledger::process(NET);
            payer.expect_nothing(GRACE);
            assert_eq!((ledger::earned(NET), step()), (2 * PRICE, 7));
        } else {
            payer.expect_code(error_code::TX_COND_NOT_FOUND);
            assert_eq!((calls(), step()), (vec!["error 2/8 0x400".to_owned()], 8));
        }
        payer.leave();
    }
    is_clean();
}

#[test]
fn grace_is_each_clients_own() {
    let paid = Paid::sell(1);
    ledger::set_by_hand(NET, true);
    let one = paid.payer(2 * PRICE);
    let other_key = Key::generate().unwrap();
    let other = Payer { client: paid.sdk.connected("RS"), key: other_key, order: one.order, tx: one.tx };
    let third = Payer { client: paid.sdk.connected("RS"), key: one.key.clone(), order: one.order, tx: one.tx };
    for payer in [&one, &other, &third] {
        payer.request();
        payer.expect(pkt::SUCCESS, 20);
    }
    // Its end leaves the others alone, and both are asked when their transaction comes.
    other.leave();
    ledger::set_by_hand(NET, false);
    ledger::process(NET);
    let (receipt, same) = (one.expect_receipt(), third.expect_receipt());
    one.answer(&receipt);
    one.expect(pkt::SUCCESS, 87);
    // What is spent is not paid from again.
    third.answer(&same);
    third.expect_code(error_code::TX_CREATION_ERROR);
    one.expect_nothing(GRACE);
    assert_eq!((ledger::earned(NET), ledger::refused(NET)), (PRICE, vec![]));
    one.leave();
    third.leave();
    is_clean();
}

#[test]
fn grace_without_a_transaction_ends_and_the_channel_is_free_again() {
    let paid = Paid::sell(1);
    let pauper = paid.pauper();
    pauper.request();
    pauper.expect(pkt::SUCCESS, 20);
    pauper.expect_code(error_code::TX_COND_NOT_FOUND);
    wait_for("error 1/3 0x400");
    pauper.request();
    pauper.expect_refusal(error_code::RECEIPT_BANNED_PKEY_HASH);
    let tx = ledger::add_transaction(NET, seconds(pauper.key.hash(), PRICE));
    let payer = Payer { tx, ..pauper };
    payer.begin();
    payer.leave();
    // The service does not agree to a grace.
    SUCCESS_RESULT.store(-1, Ordering::SeqCst);
    let refused = paid.pauper();
    refused.request();
    refused.expect(pkt::SUCCESS, 20);
    refused.expect_code(error_code::SERVICE_INTERNAL_ERROR);
    refused.expect_nothing(2 * GRACE);
    refused.leave();
    is_clean();
}

#[test]
fn a_client_comes_back_by_any_transaction_of_its_chain_and_with_its_rest() {
    let paid = Paid::sell(1);
    let mut payer = paid.payer(2 * PRICE);
    payer.begin();
    let (key, tx) = (payer.key, payer.tx);
    drop(payer.client);
    payer = Payer { client: paid.sdk.connected("RS"), key, order: paid.order, tx };
    payer.begin();
    assert_eq!((ledger::earned(NET), ledger::means(NET, &tx).unwrap().last), (2 * PRICE, None));
    // Nothing is left in the ledger, but a rest of what was paid.
    *REST.lock().unwrap() = Some((500, 18));
    let Payer { client, key, .. } = payer;
    drop(client);
    calls();
    let payer = Payer { client: paid.sdk.connected("RS"), key, order: paid.order, tx };
    payer.request();
    payer.expect(pkt::SUCCESS, 20);
    wait_for("success 2/0 113");
    let limits = on_server(|ch| unsafe { ((*session_of(ch)).limits_ts.get(), (*session_of(ch)).limits_bytes.get()) });
    assert_eq!((limits, step()), ((18, 0), 7));
    payer.leave();
    is_clean();
}

#[test]
fn the_service_refuses_what_is_paid() {
    let paid = Paid::sell(1);
    let payer = paid.payer(2 * PRICE);
    payer.begin();
    NEXT_RESULT.store(-1, Ordering::SeqCst);
    calls();
    payer.pay_next();
    payer.expect_code(error_code::SERVICE_INTERNAL_ERROR);
    payer.expect_nothing(WAIT);
    assert_eq!((calls(), step()), (vec!["next 2/2 6725".to_owned(), "error 2/8 0x105".to_owned()], 8));
    payer.leave();
    is_clean();
}

#[test]
fn a_payment_that_cannot_be_stored_gives_nothing() {
    let paid = Paid::sell(1);
    let payer = paid.payer(PRICE);
    ledger::fail_to_store(true);
    payer.request();
    payer.answer(&payer.expect_receipt());
    payer.expect_code(error_code::TX_CREATION_ERROR);
    ledger::fail_to_store(false);
    payer.begin();
    payer.leave();
    assert_eq!(ledger::earned(NET), PRICE);
    is_clean();
}

#[test]
fn a_service_without_callbacks_is_not_called() {
    let paid = Paid::sell(1);
    let mut none = dap_chain_net_srv_callbacks::default();
    let uid = dap_chain_net_srv_uid { uint64: 9 };
    assert!(!unsafe { dap_chain_net_srv_add(uid, c"srv_other".as_ptr(), &raw mut none) }.is_null());
    let payer = paid.payer_of(Transaction { srv_uid: 9, ..seconds([0; 32], PRICE) });
    payer.send(pkt::REQUEST, &Request { srv_uid: 9, ..payer.ask() }.encode());
    payer.answer(&payer.expect_receipt());
    // Nobody says that it serves.
    payer.expect_code(error_code::SERVICE_INTERNAL_ERROR);
    payer.leave();
    assert_eq!(calls(), [""; 0], "never another service's");
    is_clean();
}

/// The timers of a usage follow its stream to another worker.
#[test]
fn a_stream_moves_while_a_receipt_waits_and_in_grace() {
    let paid = Paid::sell(2);
    let payer = paid.payer(PRICE);
    let pauper = paid.pauper();
    for (client, is_asked) in [(&payer, true), (&pauper, false)] {
        client.request();
        if is_asked {
            client.expect_receipt();
        } else {
            client.expect(pkt::SUCCESS, 20);
        }
        let channel = CHANNEL.load(Ordering::SeqCst);
        let socket = ptr::with_exposed_provenance_mut::<dap_stream_ch>(channel);
        // SAFETY: the channel of an open stream; the fields never change.
        let socket = unsafe { (*(*socket).stream).esocket };
        for to in [0, 1, 0, 1] {
            // SAFETY: any thread; the stream is open.
            unsafe { dap_events_socket_reassign_between_workers_mt(worker(1 - to), socket, worker(to)) };
        }
        std::thread::sleep(Duration::from_millis(50));
        for to in [0, 1, 0] {
            // SAFETY: as above.
            unsafe { dap_events_socket_reassign_between_workers_mt(worker(1 - to), socket, worker(to)) };
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    payer.expect_receipt();
    payer.answer(&payer.expect_receipt());
    payer.expect(pkt::SUCCESS, 87);
    pauper.expect_code(error_code::TX_COND_NOT_FOUND);
    payer.leave();
    pauper.leave();
    is_clean();
}
