//! What wallets may do, and what strangers may not.

use super::support::*;
use crate::ledger::Error;
use crate::ledger::operation::{Operation, What};
use crate::ledger::rules::OPEN_MAX;
use crate::receipt::Key;
use vpn_core::money::{Amount, Instruction, InstructionError, Token};

fn wallet() -> Key {
    Key::generate_wallet().unwrap()
}

#[test]
fn a_wallet_locks_pays_and_takes_back() {
    let server = Server::new();
    let (book, _disk) = server.new_book();
    let alice = wallet();
    fund(&book, &alice, 100).unwrap();
    let bytes = server.open_bytes(&alice, 1, 60);
    let first = book.submit(&bytes).unwrap();
    assert_eq!((balance(&book, &alice), locked(&book, &alice), earned(&book)), (40, 60, 0));
    // Again the same bytes: again the same answer, and nothing happens.
    assert_eq!(book.submit(&bytes), Ok(first));
    let one = book.execute(&server.payment(&alice, 25, first)).unwrap();
    let two = book.execute(&server.payment(&alice, 25, one)).unwrap();
    assert_eq!((balance(&book, &alice), locked(&book, &alice), earned(&book)), (40, 10, 50));
    assert_eq!(book.with(|inner| inner.state.last(&first)), Some(two));
    let close = server.close_bytes(&alice, 2, first);
    let closed = book.submit(&close).unwrap();
    assert_eq!((balance(&book, &alice), locked(&book, &alice), earned(&book)), (50, 0, 50));
    assert_eq!(book.submit(&close), Ok(closed));
    // The receipt that comes too late pays nothing.
    let late = book.execute(&server.payment(&alice, 5, two));
    assert_eq!(late, Err(Error::Payment("it spends what its owner has taken back")));
    assert_eq!(book.with(|inner| (inner.state.last(&first), inner.state.means(&two).unwrap().output)), (None, None));
    audit(&book);
}

#[test]
fn instructions_of_strangers_are_refused_with_the_reason() {
    let server = Server::new();
    let (book, disk) = server.new_book();
    let (alice, mallory) = (wallet(), wallet());
    fund(&book, &alice, 100).unwrap();
    let first = book.submit(&server.open_bytes(&alice, 5, 10)).unwrap();
    let before = disk.seen().len();
    let good = server.opening(&alice, 6, 10);
    let with = |change: &dyn Fn(&mut vpn_core::money::Opening)| {
        let mut opening = good.clone();
        change(&mut opening);
        signed(&Instruction::Open(opening), &alice)
    };
    let poor = |has, needs| Error::NotEnough { token: cell(), has: Amount(has), needs: Amount(needs) };
    let mut broken = server.open_bytes(&alice, 6, 10);
    *broken.last_mut().unwrap() ^= 1;
    let mut changed = server.open_bytes(&alice, 6, 10);
    changed[99] ^= 1;
    let unsigned = Instruction::Open(good.clone()).encode();
    // The hash of Alice's key in the key's place, and a signature of nobody.
    let mut forged = unsigned.clone();
    forged.extend_from_slice(&[0x25, 0xed, 0, 0, 0x80, 0, 64, 0, 0, 0, 32, 0, 0, 0]);
    forged.extend_from_slice(&alice.hash());
    forged.extend_from_slice(&[0; 64]);
    let table = [
        (
            "replayed counter",
            with(&|opening| (opening.counter, opening.value) = (5, 11)),
            Error::Counter { got: 5, last: 5 },
        ),
        ("old counter", with(&|opening| opening.counter = 0), Error::Counter { got: 0, last: 5 }),
        ("another network", with(&|opening| opening.net = 9), Error::Net { got: 9, expected: NET }),
        ("another server", with(&|opening| opening.authority = [1; 32]), Error::Authority),
        (
            "another token",
            with(&|opening| opening.token = Token::new("mCELL").unwrap()),
            Error::NotEnough { token: Token::new("mCELL").unwrap(), has: Amount(0), needs: Amount(10) },
        ),
        ("nothing", with(&|opening| opening.value = 0), Error::Zero),
        ("more than there is", with(&|opening| opening.value = 91), poor(90, 91)),
        ("more than can be", with(&|opening| opening.value = u128::MAX), poor(90, u128::MAX)),
        ("a stranger's own", server.open_bytes(&mallory, 1, 10), poor(0, 10)),
        ("another's money", signed(&Instruction::Open(good.clone()), &mallory), Error::Signer),
        ("a broken signature", broken, Error::Signature),
        ("a changed value", changed, Error::Signature),
        ("no signature", unsigned.clone(), Error::Signature),
        ("a hash in the key's place", forged, Error::Signature),
        (
            "a signature of a receipt",
            {
                let info = server.info(10, first);
                [unsigned.clone(), alice.add_to(&vpn_core::wire::Receipt::unsigned(&info)).unwrap()[113..].to_vec()]
                    .concat()
            },
            Error::Signature,
        ),
        ("cut off", unsigned[..100].to_vec(), Error::Malformed(InstructionError::TooShort(100))),
        ("empty", vec![], Error::Malformed(InstructionError::TooShort(0))),
        ("a closing of another's", server.close_bytes(&mallory, 1, first), Error::NotYours),
        ("a closing of nothing", server.close_bytes(&alice, 6, [9; 32]), Error::Unknown),
        ("an old closing", server.close_bytes(&alice, 5, first), Error::Counter { got: 5, last: 5 }),
    ];
    for (name, bytes, expected) in table {
        assert_eq!(book.submit(&bytes), Err(expected), "{name}");
    }
    // None of it has left anything.
    assert_eq!((balance(&book, &alice), locked(&book, &alice), disk.seen().len()), (90, 10, before));
    assert_eq!(book.with(|inner| inner.state.operations()), 2);
    audit(&book);
}

#[test]
fn receipts_of_strangers_pay_nothing() {
    let server = Server::new();
    let (book, _disk) = server.new_book();
    let (alice, mallory) = (wallet(), wallet());
    fund(&book, &alice, 1000).unwrap();
    let mut opening = server.opening(&alice, 1, 100);
    opening.max_unit_price = 2;
    let first = book.submit(&signed(&Instruction::Open(opening), &alice)).unwrap();
    let other = book.submit(&server.open_bytes(&alice, 2, 100)).unwrap();
    let info = server.info(40, first);
    let mut forged = server.payment(&alice, 40, first);
    if let What::Payment(payment) = &mut forged.what {
        let client = payment.receipt.len() - crate::receipt::WALLET_SIGNATURE_LEN;
        payment.receipt.truncate(client);
        payment.receipt.extend_from_slice(&[0x25, 0xed, 0, 0, 0x80, 0, 64, 0, 0, 0, 32, 0, 0, 0]);
        payment.receipt.extend_from_slice(&alice.hash());
        payment.receipt.extend_from_slice(&[0; 64]);
    }
    let with = |change: &dyn Fn(&mut vpn_core::wire::ReceiptInfo)| {
        let mut info = info.clone();
        change(&mut info);
        server.payment_of(&alice, &info, first)
    };
    let foreign = Server::new();
    let issued = server.key.issue(&info).unwrap();
    let table: [(&str, Operation, &str); 13] = [
        ("forged key hash", forged, "a signature of its receipt is wrong"),
        ("another client", server.payment(&mallory, 40, first), "its receipt is signed by another client"),
        ("another server", foreign.payment(&alice, 40, first), "its receipt is not this node's"),
        ("one signature", payment(issued.clone(), first), "its receipt has not two signatures"),
        ("cut off", payment(issued[..100].to_vec(), first), "its receipt is malformed"),
        ("another's transaction", server.payment_of(&alice, &info, other), "its receipt is for another transaction"),
        ("unknown", server.payment(&alice, 40, [9; 32]), "it spends what the ledger does not have"),
        ("too much", server.payment(&alice, 101, first), "its receipt costs more for a unit than its owner allows"),
        ("more than there is", server.payment(&alice, 101, other), "it spends more than there is"),
        ("nothing", server.payment(&alice, 0, first), "its receipt is worth nothing"),
        ("no units", with(&|info| info.units = 0), "its receipt sells no units"),
        ("another unit", with(&|info| info.units_type = 0x11), "its receipt is for another service or unit"),
        ("another service", with(&|info| info.srv_uid = 2), "its receipt is for another service or unit"),
    ];
    for (name, operation, reason) in table {
        assert_eq!(book.execute(&operation), Err(Error::Payment(reason)), "{name}");
    }
    let huge = with(&|info| info.value[0] = 1);
    assert_eq!(book.execute(&huge), Err(Error::Payment("its receipt's value is too large")));
    // Two payments wait for the same output; the second one has nothing left to spend.
    book.with(|inner| inner.mempool = vec![server.payment(&alice, 40, first), server.payment(&alice, 30, first)]);
    assert_eq!(book.process().len(), 1);
    let refused = book.with(|inner| inner.refused.iter().map(|refusal| refusal.reason).collect::<Vec<_>>());
    assert_eq!((earned(&book), refused), (40, vec!["it spends what is spent already"]));
    audit(&book);
}

#[test]
fn a_payment_under_way_is_not_closed() {
    let server = Server::new();
    let (book, _disk) = server.new_book();
    let alice = wallet();
    fund(&book, &alice, 100).unwrap();
    let first = book.submit(&server.open_bytes(&alice, 1, 60)).unwrap();
    let one = book.execute(&server.payment(&alice, 10, first)).unwrap();
    book.with(|inner| inner.mempool.push(server.payment(&alice, 10, one)));
    let close = server.close_bytes(&alice, 2, first);
    assert_eq!(book.submit(&close), Err(Error::InFlight));
    book.process();
    book.submit(&close).unwrap();
    assert_eq!((balance(&book, &alice), earned(&book)), (80, 20));
    assert_eq!(book.submit(&server.close_bytes(&alice, 3, first)), Err(Error::Finished));
}

#[test]
fn an_owner_is_bounded() {
    let server = Server::new();
    let (book, _disk) = server.new_book();
    let (alice, bob) = (wallet(), wallet());
    fund(&book, &alice, u128::MAX - 1000).unwrap();
    fund(&book, &bob, 1000).unwrap();
    // Nobody has more than all there is.
    assert_eq!(fund(&book, &bob, 1), Err(Error::TooLarge));
    assert_eq!(fund(&book, &bob, 0), Err(Error::Zero));
    for counter in 1..=u64::from(OPEN_MAX) {
        book.submit(&server.open_bytes(&alice, counter, 1)).unwrap();
    }
    assert_eq!(book.submit(&server.open_bytes(&alice, 100, 1)), Err(Error::TooManyOpen));
    let first = book.submit(&server.open_bytes(&bob, 1, 1000)).unwrap();
    book.execute(&server.payment(&bob, 1000, first)).unwrap();
    assert_eq!(book.submit(&server.close_bytes(&bob, 2, first)), Err(Error::Finished));
    // Alice has used her instructions up, but nobody else's.
    let alices = book.with(|inner| inner.state.events().nth(2).unwrap().hash);
    assert_eq!(book.submit(&server.close_bytes(&alice, 200, alices)), Err(Error::TooOften));
    fund(&book, &bob, 0).unwrap_err();
    audit(&book);
}
