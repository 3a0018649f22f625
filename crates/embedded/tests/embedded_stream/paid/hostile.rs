//! Strangers against a node that sells: whatever they send, nothing is freed twice or lost, and the ledger's sums are
//! those of what was signed.

use super::*;
use testkit::Noise;

/// One packet of a stranger, who knows the protocol and keeps to none of it.
fn packet(dice: &mut Noise, payer: &Payer, receipt: &[u8]) -> (u8, Vec<u8>) {
    let ask = payer.ask();
    let signed = |key: &Key| key.add_to(receipt).unwrap_or_default();
    let any = |dice: &mut Noise, kinds: &[u8]| kinds[dice.below(kinds.len())];
    match dice.below(12) {
        0 | 1 => (pkt::REQUEST, ask.encode().to_vec()),
        2 => (pkt::REQUEST, Request { order_hash: [dice.below(3) as u8; 32], ..ask }.encode().to_vec()),
        3 => (pkt::REQUEST, Request { tx_cond: [dice.below(3) as u8; 32], ..ask }.encode().to_vec()),
        4 => (
            pkt::REQUEST,
            Request { client_pkey_hash: [1; 32], srv_uid: dice.below(3) as u64, ..ask }.encode().to_vec(),
        ),
        5 | 6 => (pkt::SIGN_RESPONSE, signed(&payer.key)),
        7 => (pkt::SIGN_RESPONSE, signed(&Key::generate().unwrap())),
        8 => {
            let mut answer = signed(&payer.key);
            answer.truncate(dice.below(7000));
            if !answer.is_empty() {
                let at = dice.below(answer.len());
                answer[at] ^= 1 << dice.below(8);
            }
            (pkt::SIGN_RESPONSE, answer)
        }
        9 => (pkt::NEW_TX_COND_RESPONSE, Request { tx_cond: payer.tx, ..ask }.encode().to_vec()),
        10 => (pkt::NEW_TX_COND_RESPONSE, Request { tx_cond: [dice.below(2) as u8; 32], ..ask }.encode().to_vec()),
        _ => {
            let kind =
                any(dice, &[pkt::REQUEST, pkt::SIGN_RESPONSE, pkt::NEW_TX_COND_RESPONSE, pkt::CHECK_REQUEST, 0x77]);
            (kind, {
                let size = dice.below(800);
                dice.bytes(size)
            })
        }
    }
}

#[test]
fn any_order_of_packets_leaves_nothing_behind() {
    let paid = Paid::sell(1);
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut dice = Noise::new(seed);
    let mut budget = 0;
    for round in 0..60 {
        ledger::set_by_hand(NET, round % 5 == 4);
        let money = dice.below(4) as u128 * PRICE;
        budget += money;
        let payer = if dice.below(4) == 0 { paid.pauper() } else { paid.payer(money.max(1)) };
        let mut receipt = vec![0; 113];
        for _ in 0..dice.below(14) {
            let (kind, data) = packet(&mut dice, &payer, &receipt);
            payer.send(kind, &data);
            std::thread::sleep(Duration::from_millis(dice.number() >> 8 & 3));
            let mut packets = payer.client.log.packets.lock().unwrap();
            for (kind, data) in packets.drain(..) {
                if kind == pkt::SIGN_REQUEST {
                    receipt = data;
                }
            }
        }
        payer.leave();
        ledger::set_by_hand(NET, false);
        ledger::process(NET);
    }
    eventually(|| money::usages() == 0, || format!("{} usages are left", money::usages()));
    std::thread::sleep(GRACE + WAIT);
    assert_eq!(money::faults(), []);
    let served = calls().iter().filter(|call| call.starts_with("success 2/1") || call.starts_with("next")).count();
    assert!(served > 0, "no round has paid");
    // Each service that was reported is one payment in the ledger, and no more than there was money for.
    assert_eq!((ledger::earned(NET), ledger::refused(NET)), (served as u128 * PRICE, vec![]));
    assert!(ledger::earned(NET) <= budget);
}
