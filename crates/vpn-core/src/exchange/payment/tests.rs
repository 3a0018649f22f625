use super::*;

pub(in crate::exchange) const FIRST: TxHash = [1; 32];
pub(in crate::exchange) const PAYMENT: TxHash = [2; 32];

pub(in crate::exchange) fn agreement() -> Agreement {
    Agreement { unit: unit::SECONDS, units: 20, value: 1000, receipts: 3 }
}

/// What an honest server asks for.
pub(in crate::exchange) fn info(prev_tx: TxHash) -> ReceiptInfo {
    let value = ReceiptInfo::value_of(1000);
    ReceiptInfo { srv_uid: 1, units_type: unit::SECONDS, version: 2, units: 20, value, prev_tx }
}

/// A signature of 44 bytes, with its header.
pub(in crate::exchange) fn signature(fill: u8) -> Vec<u8> {
    let mut bytes = vec![2, 1, 0, 0, 1, 0, 10, 0, 0, 0, 20, 0, 0, 0];
    bytes.resize(44, fill);
    bytes
}

/// A receipt with the server's signature.
pub(in crate::exchange) fn message(info: &ReceiptInfo) -> Vec<u8> {
    Receipt::append_signature(&Receipt::unsigned(info), &signature(7))
}

fn signed_bytes(message: &[u8]) -> [u8; ReceiptInfo::LEN] {
    *Receipt::parse(message).unwrap().signed
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn payment() -> Payment {
    Payment::new(1, agreement(), FIRST)
}

/// Asks for a receipt `at` milliseconds after the service was granted.
fn ask(payment: &mut Payment, at: u64, info: &ReceiptInfo) -> Verdict {
    payment.requested(ms(at), ms(at), &message(info))
}

/// A payment after its first receipt, signed at 0.
fn after_first() -> Payment {
    let mut payment = payment();
    let first = message(&info(FIRST));
    assert_eq!(ask(&mut payment, 0, &info(FIRST)), Verdict::Sign(signed_bytes(&first)));
    assert!(payment.signed_by_wallet(ms(0), &signed_bytes(&first), &signature(8)).is_some());
    payment
}

#[test]
fn the_answer_is_the_receipt_with_a_second_signature() {
    let mut payment = payment();
    let request = message(&info(FIRST));
    ask(&mut payment, 0, &info(FIRST));
    let answer = payment.signed_by_wallet(ms(0), &signed_bytes(&request), &signature(8)).unwrap();
    let receipt = Receipt::parse(&answer).unwrap();
    assert_eq!((receipt.info, receipt.signatures), (info(FIRST), vec![&signature(7)[..], &signature(8)[..]]));
    assert_eq!((payment.signed(), payment.is_used_up()), (1, false));
}

#[test]
fn every_field_is_compared_with_the_agreement() {
    let good = info(FIRST);
    let wrong = [
        ("service", ReceiptInfo { srv_uid: 2, ..good.clone() }),
        ("unit", ReceiptInfo { units_type: unit::BYTES, ..good.clone() }),
        ("number of units", ReceiptInfo { units: 19, ..good.clone() }),
        ("number of units", ReceiptInfo { units: 21, ..good.clone() }),
        ("number of units", ReceiptInfo { units: 0, ..good.clone() }),
        ("value in datoshi", ReceiptInfo { value: ReceiptInfo::value_of(1001), ..good.clone() }),
        ("value in datoshi", ReceiptInfo { value: [1; 32], ..good.clone() }),
        ("transaction", ReceiptInfo { prev_tx: PAYMENT, ..good.clone() }),
    ];
    for (name, info) in wrong {
        let mut payment = payment();
        let verdict = ask(&mut payment, 0, &info);
        assert!(matches!(&verdict, Verdict::Refuse(Refusal::Differs { field, .. }) if *field == name), "{verdict:?}");
        assert_eq!(payment.signed_by_wallet(ms(0), &signed_bytes(&message(&info)), &signature(8)), None, "{name}");
        assert!(matches!(ask(&mut payment, 1, &good), Verdict::Sign(_)), "a good receipt after a bad one, {name}");
    }
    let cheaper = ReceiptInfo { value: ReceiptInfo::value_of(999), ..good };
    assert!(matches!(ask(&mut payment(), 0, &cheaper), Verdict::Sign(_)));
}

#[test]
fn a_receipt_has_the_signature_of_the_server_alone() {
    let unsigned = Receipt::unsigned(&info(FIRST));
    let twice = Receipt::append_signature(&message(&info(FIRST)), &signature(9));
    for (message, got) in [(unsigned, "0"), (twice, "2")] {
        let verdict = payment().requested(ms(0), ms(0), &message);
        let Verdict::Refuse(Refusal::Differs { field: "number of signatures", got: found, .. }) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(found, got);
    }
    assert!(matches!(payment().requested(ms(0), ms(0), &[0; 50]), Verdict::Refuse(Refusal::Malformed(_))));
}

#[test]
fn a_repeated_receipt_gets_the_same_answer() {
    let mut payment = payment();
    let request = message(&info(FIRST));
    ask(&mut payment, 0, &info(FIRST));
    assert_eq!(ask(&mut payment, 10, &info(FIRST)), Verdict::Nothing, "it is being signed");
    let answer = payment.signed_by_wallet(ms(20), &signed_bytes(&request), &signature(8)).unwrap();
    assert_eq!(ask(&mut payment, 500, &info(FIRST)), Verdict::Nothing, "it was answered a moment ago");
    assert_eq!(ask(&mut payment, 10_000, &info(FIRST)), Verdict::Repeat(answer));
    assert_eq!(payment.signed(), 1);
    assert_eq!(payment.signed_by_wallet(ms(10_000), &signed_bytes(&request), &signature(8)), None);
}

#[test]
fn the_units_of_a_receipt_are_paid_once() {
    let mut payment = after_first();
    // The same transaction at another price is another receipt, but its units were paid already.
    let cheaper = ReceiptInfo { value: ReceiptInfo::value_of(999), ..info(FIRST) };
    let verdict = ask(&mut payment, 10_000, &cheaper);
    assert!(matches!(verdict, Verdict::Refuse(Refusal::Differs { field: "transaction", .. })), "{verdict:?}");
}

#[test]
fn a_later_receipt_waits_for_the_ledger() {
    let mut payment = after_first();
    let next = signed_bytes(&message(&info(PAYMENT)));
    assert_eq!(ask(&mut payment, 10_000, &info(PAYMENT)), Verdict::AskLedger);
    assert_eq!(payment.ledger_says(&FIRST), Verdict::Nothing, "the ledger lags behind");
    assert_eq!(payment.tick(ms(10_250), ms(10_250)), Verdict::Nothing);
    assert_eq!(ask(&mut payment, 10_500, &info(PAYMENT)), Verdict::Nothing, "a repetition");
    assert_eq!(payment.tick(ms(11_000), ms(11_000)), Verdict::AskLedger);
    assert_eq!(payment.ledger_says(&PAYMENT), Verdict::Sign(next));
    assert_eq!(payment.ledger_says(&PAYMENT), Verdict::Nothing);
    assert!(payment.signed_by_wallet(ms(11_100), &next, &signature(8)).is_some());
    assert_eq!(payment.signed(), 2);
    // A transaction that is not the last of the chain is never signed for.
    assert_eq!(ask(&mut payment, 30_000, &info([9; 32])), Verdict::AskLedger);
    assert_eq!(payment.ledger_says(&[3; 32]), Verdict::Nothing);
}

/// A server that asks for one receipt after the other would get the whole transaction for nothing.
#[test]
fn no_receipt_is_signed_long_before_it_is_due() {
    let mut payment = after_first();
    let third: TxHash = [3; 32];
    ask(&mut payment, 100, &info(PAYMENT));
    payment.ledger_says(&PAYMENT);
    payment.signed_by_wallet(ms(200), &signed_bytes(&message(&info(PAYMENT))), &signature(8)).unwrap();
    // 40 s are paid.
    assert_eq!(ask(&mut payment, 300, &info(third)), Verdict::Nothing);
    assert_eq!(payment.tick(ms(19_900), ms(19_900)), Verdict::Nothing);
    assert_eq!(payment.tick(ms(20_000), ms(20_000)), Verdict::AskLedger);
}

#[test]
fn a_used_up_transaction_pays_no_receipt() {
    let mut payment = Payment::new(1, Agreement { receipts: 1, ..agreement() }, FIRST);
    ask(&mut payment, 0, &info(FIRST));
    assert!(!payment.is_used_up());
    payment.signed_by_wallet(ms(0), &signed_bytes(&message(&info(FIRST))), &signature(8)).unwrap();
    assert!(payment.is_used_up());
    assert_eq!(ask(&mut payment, 10_000, &info(PAYMENT)), Verdict::UsedUp);
}

#[test]
fn a_proof_of_the_key_is_given_before_the_first_receipt_only() {
    let proof = |prev_tx| ReceiptInfo { units: 0, value: [0; 32], ..info(prev_tx) };
    let mut asked = payment();
    // With or without the server's signature.
    let unsigned = Receipt::unsigned(&proof([9; 32]));
    assert!(matches!(asked.requested(ms(0), ms(0), &unsigned), Verdict::Sign(_)));
    assert!(asked.signed_by_wallet(ms(0), &signed_bytes(&unsigned), &signature(8)).is_some());
    assert_eq!((asked.signed(), asked.is_used_up()), (0, false));
    assert!(matches!(ask(&mut asked, 0, &info(FIRST)), Verdict::Sign(_)));

    // A payment of value 0 would cost the fees.
    assert!(matches!(ask(&mut payment(), 0, &proof(FIRST)), Verdict::Refuse(_)));
    assert!(matches!(ask(&mut after_first(), 10_000, &proof([9; 32])), Verdict::Refuse(_)));
    let other_service = ReceiptInfo { srv_uid: 2, ..proof([9; 32]) };
    assert!(matches!(ask(&mut payment(), 0, &other_service), Verdict::Refuse(_)));

    let mut many = payment();
    for number in 10..10 + PROOFS_MAX as u8 {
        let request = message(&proof([number; 32]));
        assert_eq!(many.requested(ms(0), ms(0), &request), Verdict::Sign(signed_bytes(&request)));
        many.signed_by_wallet(ms(0), &signed_bytes(&request), &signature(8)).unwrap();
    }
    assert!(matches!(ask(&mut many, 0, &proof([50; 32])), Verdict::Refuse(_)));
}

#[test]
fn a_receipt_that_cannot_be_signed_is_tried_again() {
    let mut payment = payment();
    ask(&mut payment, 0, &info(FIRST));
    payment.cannot_sign();
    assert_eq!(payment.signed(), 0);
    assert!(matches!(ask(&mut payment, 10_000, &info(FIRST)), Verdict::Sign(_)));
}
