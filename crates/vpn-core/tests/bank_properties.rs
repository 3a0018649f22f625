//! Properties of the messages on channel 'B': a message that is written is read back, has one encoding, and no bytes make
//! a parser panic or return what the bytes do not say.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use vpn_core::money::Token;
use vpn_core::money::bank::{
    Ask, BankAnswer, BankRequest, ChainState, Left, MAX_OFFERS, MAX_REASON, MAX_TRANSACTION, MessageError, Offer,
    Prices, kind, refusal,
};

fn tokens() -> impl Strategy<Value = Token> {
    "[A-Za-z0-9.-]{1,9}".prop_map(|text| Token::new(&text).unwrap())
}

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(Ask::Prices),
        (any::<[u8; 32]>(), tokens()).prop_map(|(key_hash, token)| Ask::Balance { key_hash, token }),
        vec(any::<u8>(), 1..400).prop_map(Ask::Submit),
        any::<[u8; 32]>().prop_map(Ask::Chain),
    ]
}

fn offers() -> impl Strategy<Value = Offer> {
    (any::<[u8; 32]>(), any::<u32>(), any::<u64>(), any::<u128>(), tokens())
        .prop_map(|(hash, unit, units, value, token)| Offer { hash, unit, units, value, token })
}

fn chains() -> impl Strategy<Value = ChainState> {
    let left = (any::<[[u8; 32]; 2]>(), any::<[u128; 3]>(), any::<u32>(), tokens()).prop_map(
        |([last, key_hash], [value, fee, max_unit_price], unit, token)| {
            ChainState::Open(Left { last, key_hash, value, fee, max_unit_price, unit, token })
        },
    );
    prop_oneof![Just(ChainState::Unknown), Just(ChainState::Spent), left]
}

fn answers() -> impl Strategy<Value = BankAnswer> {
    let prices = (any::<bool>(), any::<u128>(), vec(offers(), 0..=MAX_OFFERS))
        .prop_map(|(gives_free, payment_fee, offers)| BankAnswer::Prices(Prices { gives_free, payment_fee, offers }));
    prop_oneof![
        prices,
        (any::<u128>(), any::<u128>(), any::<u64>()).prop_map(|(value, locked, counter)| BankAnswer::Balance {
            value,
            locked,
            counter
        }),
        any::<[u8; 32]>().prop_map(BankAnswer::Submitted),
        chains().prop_map(BankAnswer::Chain),
        (any::<u8>(), "[ -~]{0,400}").prop_map(|(code, reason)| BankAnswer::Refused { code, reason }),
    ]
}

proptest! {
    #[test]
    fn requests_round_trip_whole_and_only_whole(net_id: u64, ask in asks(), cut in any::<prop::sample::Index>()) {
        let request = BankRequest { net_id, ask };
        let (kind, data) = request.encode();
        prop_assert_eq!(BankRequest::parse(kind, &data), Ok(request.clone()));
        let part = &data[..cut.index(data.len())];
        match &request.ask {
            // A transaction has no length of its own: the ledger reads it.
            Ask::Submit(transaction) if part.len() > data.len() - transaction.len() => {}
            _ => prop_assert_eq!(BankRequest::parse(kind, part), Err(MessageError::TooShort { len: part.len() })),
        }
        if kind != kind::SUBMIT {
            let longer = [data.as_slice(), &[0]].concat();
            let error = MessageError::TooLong { len: longer.len(), most: data.len() };
            prop_assert_eq!(BankRequest::parse(kind, &longer), Err(error));
        }
    }

    #[test]
    fn answers_round_trip_whole_and_only_whole(answer in answers(), cut in any::<prop::sample::Index>()) {
        let (kind, data) = answer.encode();
        prop_assert_eq!(BankAnswer::parse(kind, &data), Ok(answer));
        if kind != kind::REFUSED {
            prop_assert!(BankAnswer::parse(kind, &data[..cut.index(data.len())]).is_err());
            prop_assert!(BankAnswer::parse(kind, &[data.as_slice(), &[0]].concat()).is_err());
        }
    }

    /// Bytes of a peer are refused, or they are the one encoding of what was read.
    #[test]
    fn any_bytes_are_a_message_or_refused(kind: u8, is_ours: bool, mut data in vec(any::<u8>(), 0..300)) {
        if let (true, Some(first)) = (is_ours, data.first_mut()) {
            *first = 1;
        }
        if let Ok(request) = BankRequest::parse(kind, &data) {
            prop_assert_eq!(request.encode(), (kind, data.clone()));
        }
        match BankAnswer::parse(kind, &data) {
            // What cannot be printed does not come back.
            Ok(BankAnswer::Refused { reason, .. }) => prop_assert!(reason.bytes().all(|byte| (b' '..=b'~').contains(&byte))),
            Ok(answer) => prop_assert_eq!(answer.encode(), (kind, data)),
            Err(_) => {}
        }
    }

    /// As above, from messages that are nearly right.
    #[test]
    fn a_changed_byte_is_another_message_or_refused(answer in answers(), at in any::<prop::sample::Index>(), change in 1..=u8::MAX) {
        let (kind, mut data) = answer.encode();
        let at = at.index(data.len());
        data[at] ^= change;
        if let Ok(changed) = BankAnswer::parse(kind, &data) {
            let is_text = kind == kind::REFUSED;
            prop_assert!(is_text || changed != answer);
        }
    }
}

#[test]
fn bounds() {
    let submit = |size| {
        let (kind, data) = BankRequest { net_id: 1, ask: Ask::Submit(vec![7; size]) }.encode();
        BankRequest::parse(kind, &data)
    };
    assert!(submit(MAX_TRANSACTION).is_ok());
    assert_eq!(
        submit(MAX_TRANSACTION + 1),
        Err(MessageError::TooLong { len: MAX_TRANSACTION + 1, most: MAX_TRANSACTION })
    );
    assert_eq!(submit(0), Err(MessageError::TooShort { len: 9 }));
    let offer = Offer { hash: [1; 32], unit: 2, units: 3, value: 4, token: Token::new("CELL").unwrap() };
    let (kind, data) = BankAnswer::Prices(Prices { offers: vec![offer; 300], ..Prices::default() }).encode();
    let Ok(BankAnswer::Prices(prices)) = BankAnswer::parse(kind, &data) else { panic!("not a list of prices") };
    assert_eq!(prices.offers.len(), MAX_OFFERS);
    let (kind, data) = BankAnswer::Refused { code: refusal::BUSY, reason: "x\u{1b}[2J\n".repeat(200) }.encode();
    let Ok(BankAnswer::Refused { reason, .. }) = BankAnswer::parse(kind, &data) else { panic!("not a refusal") };
    assert!(reason.len() == MAX_REASON && reason.starts_with("x?[2J?x"), "{reason}");
}

#[test]
fn the_other_version_and_the_other_side_are_named() {
    let (kind, mut data) = BankRequest { net_id: 1, ask: Ask::Prices }.encode();
    assert_eq!(data, [1, 1, 0, 0, 0, 0, 0, 0, 0]);
    data[0] = 2;
    let error = BankRequest::parse(kind, &data).unwrap_err();
    assert_eq!(error.to_string(), "the version is 2, which is not known here");
    assert_eq!(BankRequest::parse(kind::REFUSED, &[1; 9]), Err(MessageError::Kind(kind::REFUSED)));
    assert_eq!(BankAnswer::parse(kind::PRICES, &[1; 9]), Err(MessageError::Kind(kind::PRICES)));
}
