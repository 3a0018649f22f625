use super::*;
use crate::exchange::payment::TxHash;
use crate::exchange::payment::tests::{FIRST, PAYMENT, agreement, info, message, signature};
use crate::wire::{self, Capabilities, FromClient, FromServer, parse_from_client, parse_from_server};
use std::net::Ipv4Addr;

const ADDR: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn settings() -> Settings {
    Settings {
        request: Request { net_id: 7, srv_uid: 1, ..Request::default() },
        start_timeout: ms(10_000),
        keep_alive: ms(5_000),
        mtu: 1390,
        bundles: true,
        resume: Some([9; 16]),
        agreement: None,
        allow: Vec::new(),
        is_held: false,
    }
}

/// A state machine, and its actions without the reports of its state changes.
struct Driven(Exchange);

impl Driven {
    fn new() -> Driven {
        Driven(Exchange::new(settings()))
    }

    fn up() -> Driven {
        let mut driven = Driven::new();
        driven.at(0, Event::Dialled);
        driven.at(10, Event::Connected);
        driven.success(20);
        driven.reply(30);
        driven.at(40, Event::DeviceMade);
        assert_eq!(driven.0.state(), State::Up);
        driven
    }

    fn at(&mut self, milliseconds: u64, event: Event<'_>) -> Vec<Action> {
        self.0.handle(ms(milliseconds), event);
        std::iter::from_fn(|| self.0.next_action())
            .filter(|action| !matches!(action, Action::Report(Notice::Moved { .. })))
            .collect()
    }

    fn tick(&mut self, milliseconds: u64) -> Vec<Action> {
        self.at(milliseconds, Event::Tick { heard: Duration::ZERO, pending: 0 })
    }

    /// Ticks as the driver does, and returns when which packets were sent.
    fn ticks(&mut self, from: u64, to: u64) -> Vec<(u64, Vec<u32>)> {
        let ticks = (from..=to).step_by(250).map(|now| (now, ops(&self.tick(now))));
        ticks.filter(|(_, ops)| !ops.is_empty()).collect()
    }

    fn success(&mut self, milliseconds: u64) -> Vec<Action> {
        let success = Success { usage_id: 5, net_id: 7, srv_uid: 1 }.encode();
        self.at(milliseconds, Event::ServicePacket { kind: pkt::SUCCESS, data: &success })
    }

    fn reply_from(&mut self, milliseconds: u64, caps: Option<Capabilities>) -> Vec<Action> {
        let reply = AddrReply { addr: ADDR, gateway: Ipv4Addr::new(10, 98, 0, 1), netmask: None, caps };
        let packet = reply.encode(5, 0);
        let Ok((_, FromServer::AddrReply(reply))) = parse_from_server(&packet) else { panic!("no reply") };
        self.at(milliseconds, Event::AddrReply { reply: &reply, packet: &packet, outer: None })
    }

    fn reply(&mut self, milliseconds: u64) -> Vec<Action> {
        self.reply_from(milliseconds, None)
    }
}

fn request() -> Action {
    Action::SendRequest(settings().request.encode().to_vec())
}

/// The op codes of the sent VPN packets.
fn ops(actions: &[Action]) -> Vec<u32> {
    let op = |action: &Action| match action {
        Action::SendPacket(packet) => Some(wire::Header::parse(packet).unwrap().0.op),
        _ => None,
    };
    actions.iter().filter_map(op).collect()
}

#[test]
fn a_start_without_loss_brings_the_tunnel_up() {
    let mut driven = Driven::new();
    assert_eq!(driven.at(0, Event::Dialled), []);
    assert_eq!(driven.at(10, Event::Connected), [request(), Action::StartTicks]);
    let granted = driven.success(20);
    let [Action::Report(Notice::Granted(5)), Action::SendPacket(asked)] = granted.as_slice() else {
        panic!("{granted:?}")
    };
    let (header, FromClient::AddrRequest(caps)) = parse_from_client(asked).unwrap() else { panic!("{asked:?}") };
    assert_eq!((header.usage_id, caps.resume, caps.mtu, caps.keep_alive), (5, Some([9; 16]), Some(1390), Some(5)));
    let given = driven.reply(30);
    let [Action::MakeDevice(grant)] = given.as_slice() else { panic!("{given:?}") };
    assert_eq!((grant.offer.addr, grant.usage_id, grant.token), (ADDR, 5, None));
    assert_eq!(driven.0.deadline(), None, "the start waits only for the device");
    assert_eq!(driven.at(40, Event::DeviceMade), []);
    assert_eq!((driven.0.state(), driven.0.failure()), (State::Up, None));
}

#[test]
fn an_unanswered_request_is_repeated() {
    let mut driven = Driven::new();
    driven.at(0, Event::Dialled);
    driven.at(1000, Event::Connected);
    let sent = |driven: &mut Driven, from: u64, to: u64| {
        let ticks = (from..to).step_by(50);
        ticks.filter(|at| !driven.tick(*at).is_empty()).map(|at| at - from).collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut driven, 1000, 8000), [100, 300, 700, 1500, 3100, 5100]);
    driven.success(8000);
    assert_eq!(sent(&mut driven, 8000, 16_000), [1000, 2000, 3000, 5000, 7000]);
}

#[test]
fn a_start_ends_within_its_time() {
    for (state, waiting_for) in [(0, "the connection"), (1, "SUCCESS or ERROR to our REQUEST"), (2, "an address")] {
        let mut driven = Driven::new();
        driven.at(500, Event::Dialled);
        if state > 0 {
            driven.at(600, Event::Connected);
        }
        if state > 1 {
            driven.success(700);
        }
        assert_eq!(driven.0.deadline(), Some(ms(10_500)));
        driven.at(10_499, Event::Timeout);
        assert_eq!(driven.0.failure(), None);
        driven.at(10_500, Event::Timeout);
        assert_eq!(driven.0.failure(), Some(&Failure::NoAnswer(waiting_for)));
        assert_eq!((driven.tick(12_000), driven.at(12_000, Event::Ping)), (vec![], vec![]));
    }
}

#[test]
fn the_first_failure_counts() {
    let mut driven = Driven::new();
    driven.at(0, Event::Dialled);
    driven.at(1, Event::Cancel);
    driven.at(2, Event::ConnectFailed(111));
    assert_eq!(driven.at(3, Event::Connected), []);
    driven.at(4, Event::Stop);
    assert_eq!((driven.0.state(), driven.0.failure()), (State::Stopping, Some(&Failure::Stopped)));
}

#[test]
fn a_loss_while_the_device_is_made_fails_the_start() {
    let mut driven = Driven::new();
    driven.at(0, Event::Dialled);
    driven.at(10, Event::Connected);
    driven.success(20);
    driven.reply(30);
    assert_eq!(driven.at(40, Event::Disconnected), []);
    driven.at(50, Event::DeviceMade);
    assert_eq!((driven.0.state(), driven.0.failure()), (State::Lost, Some(&Failure::Connect(0))));
}

#[test]
fn a_silent_server_is_pinged_and_then_lost() {
    let mut driven = Driven::up();
    // The last packet arrived at 30 ms.
    assert_eq!(driven.ticks(250, 10_250), [(5_250, vec![op::PING]), (10_250, vec![op::PING])]);
    assert_eq!(driven.ticks(10_500, 15_000), []);
    let lost = driven.tick(15_250);
    assert_eq!(lost, [Action::Report(Notice::Lost("the server is silent".into())), Action::CloseStream]);
    assert_eq!((driven.0.state(), driven.0.failure()), (State::Lost, None));
    assert_eq!((driven.tick(16_000), driven.at(16_000, Event::Ping)), (vec![], vec![]));
}

#[test]
fn a_pause_of_any_length_is_followed_by_a_question() {
    for pause in [17_000, 25_000, 600_000] {
        for before in [1_000, 6_000, 15_000] {
            let mut driven = Driven::up();
            driven.ticks(250, before);
            let back = before + pause;
            assert_eq!(ops(&driven.tick(back)), [op::PING], "{before} ms, then {pause} ms");
            assert_eq!(driven.ticks(back + 250, back + 9_750), [(back + 5_000, vec![op::PING])]);
            assert_eq!(driven.0.state(), State::Up);
            driven.tick(back + 10_000);
            assert_eq!(driven.0.state(), State::Lost);
        }
    }
}

#[test]
fn a_start_is_given_the_time_that_a_pause_took() {
    let mut driven = Driven::new();
    driven.at(0, Event::Dialled);
    driven.at(10, Event::Connected);
    driven.at(60_000, Event::Paused(ms(59_000)));
    driven.at(60_000, Event::Timeout);
    assert!(driven.0.is_alive());
    assert_eq!(driven.tick(60_000), [request()], "the question is asked again");
    driven.at(69_000, Event::Timeout);
    assert!(!driven.0.is_alive());
}

#[test]
fn data_and_a_draining_queue_are_signs_of_life() {
    let mut driven = Driven::up();
    let pending = |ms_now: u64| match ms_now {
        0..14_000 => 9_000,
        _ => 8_000,
    };
    let mut pings = Vec::new();
    let mut lost = None;
    for now in (250..60_000).step_by(250) {
        let heard = ms(now.min(7_000));
        let actions = driven.at(now, Event::Tick { heard, pending: pending(now) });
        if !ops(&actions).is_empty() {
            pings.push(now);
        }
        if driven.0.state() == State::Lost {
            lost = Some(now);
            break;
        }
    }
    // Heard until 7 s, then the queue is shorter at 14 s.
    assert_eq!((pings, lost), (vec![12_000, 19_000, 24_000], Some(29_000)));
}

#[test]
fn the_server_may_ask_for_pings_more_often() {
    let mut driven = Driven::new();
    driven.at(0, Event::Dialled);
    driven.at(0, Event::Connected);
    driven.success(0);
    driven.reply_from(0, Some(Capabilities { keep_alive: Some(1), bundle: Some(100), ..Capabilities::default() }));
    driven.at(0, Event::DeviceMade);
    assert_eq!(ops(&driven.tick(1_000)), [op::PING]);
}

#[test]
fn a_refusal_fails_a_start_and_loses_a_connection() {
    let mut starting = Driven::new();
    starting.at(0, Event::Dialled);
    starting.at(10, Event::Connected);
    starting.at(20, Event::Problem(problem::NO_FREE_ADDR));
    assert_eq!(starting.0.failure(), Some(&Failure::Busy("it has no free address".into())));

    let mut up = Driven::up();
    assert_eq!(up.at(50, Event::Problem(problem::ALREADY_ASSIGNED_ADDR)), []);
    let ends = up.at(60, Event::ServicePacket { kind: pkt::NOTIFY_STOPPED, data: &[] });
    assert_eq!(ends[1], Action::CloseStream);
    assert_eq!(up.0.state(), State::Lost);
}

/// A connection that pays, granted by its first receipt and up at 40 ms.
fn paying(receipts: u64) -> Driven {
    let agreement = Agreement { receipts, ..agreement() };
    let request = Request { tx_cond: FIRST, ..settings().request };
    let mut driven = Driven(Exchange::new(Settings { request, agreement: Some(agreement), ..settings() }));
    driven.at(0, Event::Dialled);
    driven.at(10, Event::Connected);
    driven
}

fn sign_request(driven: &mut Driven, at: u64, prev_tx: TxHash) -> Vec<Action> {
    driven.at(at, Event::ServicePacket { kind: pkt::SIGN_REQUEST, data: &message(&info(prev_tx)) })
}

fn sign(driven: &mut Driven, at: u64, actions: &[Action]) -> Vec<Action> {
    let [Action::Sign(bytes)] = actions else { panic!("{actions:?}") };
    driven.at(at, Event::Signed { signed: *bytes, signature: &signature(8) })
}

/// Signs the first receipt, and brings the tunnel up.
fn paid(receipts: u64) -> (Driven, Vec<Action>) {
    let mut driven = paying(receipts);
    let actions = sign_request(&mut driven, 15, FIRST);
    let sent = sign(&mut driven, 16, &actions);
    // SUCCESS, with the bytes that the SDK leaves behind it.
    let mut success = Success { usage_id: 5, net_id: 7, srv_uid: 1 }.encode().to_vec();
    success.resize(87, 0xAA);
    let granted = driven.at(20, Event::ServicePacket { kind: pkt::SUCCESS, data: &success });
    assert_eq!(ops(&granted), [op::ADDR_REQUEST]);
    driven.reply(30);
    driven.at(40, Event::DeviceMade);
    assert_eq!(driven.0.state(), State::Up);
    (driven, sent)
}

#[test]
fn receipts_are_signed_and_sent() {
    let (mut driven, sent) = paid(3);
    let [Action::SendReceipt(receipt), Action::Report(Notice::Signed(1))] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(receipt.len(), 113 + 44 + 44);
    assert_eq!(sign_request(&mut driven, 10_000, PAYMENT), [Action::AskLedger]);
    let actions = driven.at(10_001, Event::LastPayment(PAYMENT));
    let sent = sign(&mut driven, 10_002, &actions);
    assert!(matches!(sent[..], [Action::SendReceipt(_), Action::Report(Notice::Signed(2))]), "{sent:?}");
    // SUCCESS follows every receipt, and changes nothing.
    assert_eq!(driven.success(10_010), []);
    assert_eq!(driven.0.state(), State::Up);
}

#[test]
fn a_paid_request_is_repeated_slowly_and_only_until_the_first_answer() {
    let mut driven = paying(3);
    let sent: Vec<u64> = (250..4_000).step_by(250).filter(|at| !driven.tick(*at).is_empty()).collect();
    assert_eq!(sent, [1250, 2250, 3250]);
    sign_request(&mut driven, 4_000, FIRST);
    assert!((4_250..9_000).step_by(250).all(|at| driven.tick(at).is_empty()));
}

#[test]
fn a_wrong_receipt_is_reported_once_as_a_warning() {
    let (mut driven, _) = paid(3);
    let wrong = message(&crate::wire::ReceiptInfo { units: 19, ..info(PAYMENT) });
    let mut ask = |at| driven.at(at, Event::ServicePacket { kind: pkt::SIGN_REQUEST, data: &wrong });
    let first = ask(10_000);
    let [Action::Report(notice @ Notice::Refused(_))] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!(notice.to_string(), "receipt not signed: the receipt's number of units is 19, expected 20");
    assert!(matches!(ask(11_000)[..], [Action::Report(Notice::RefusedAgain(_))]));
}

#[test]
fn a_used_up_transaction_is_renewed_once() {
    let (mut driven, sent) = paid(1);
    assert_eq!(sent.last(), Some(&Action::Renew));
    assert_eq!(sign_request(&mut driven, 10_000, PAYMENT), [Action::Report(Notice::UsedUp)]);
    let error = ServiceError { srv_uid: 1, usage_id: 5, code: 0x402, ..ServiceError::default() }.encode();
    let asked = driven.at(10_010, Event::ServicePacket { kind: pkt::ERROR, data: &error });
    assert_eq!(asked, [Action::Report(Notice::AskedToRenew(0x402))]);
    assert_eq!(driven.0.state(), State::Up);

    let (mut driven, _) = paid(3);
    let asked = driven.at(10_010, Event::ServicePacket { kind: pkt::ERROR, data: &error });
    assert_eq!(asked, [Action::Report(Notice::AskedToRenew(0x402)), Action::Renew]);
}

#[test]
fn every_end_has_a_reason() {
    let stopped = ServiceError { srv_uid: 1, usage_id: 5, code: 0x500, ..ServiceError::default() }.encode();
    for (kind, data, reason) in [
        (
            pkt::ERROR,
            &[8, 4, 0, 0][..],
            "the new conditional transaction does not hold enough for the price (code 0x408)",
        ),
        (pkt::NOTIFY_STOPPED, &[], "the server has stopped the service"),
        (
            pkt::NOTIFY_STOPPED,
            &stopped,
            "the server has stopped the service: the receipt differs from the one that the server issued (code 0x500)",
        ),
    ] {
        let (mut driven, _) = paid(3);
        driven.at(50, Event::ServicePacket { kind, data });
        assert_eq!((driven.0.state(), driven.0.loss()), (State::Lost, Some(reason)));
        assert_eq!(driven.0.failure(), None);

        let mut starting = paying(3);
        starting.at(50, Event::ServicePacket { kind, data });
        // Without a reason the server may just be stopping.
        let failure = if data.is_empty() { Failure::Busy } else { Failure::Refused };
        assert_eq!(starting.0.failure(), Some(&failure(reason.to_owned())));
        assert_eq!(sign_request(&mut starting, 60, FIRST), [], "nothing is signed after the end");
    }
}

#[test]
fn without_an_agreement_nothing_is_signed() {
    let mut driven = Driven::up();
    assert_eq!(sign_request(&mut driven, 50, FIRST), [Action::Report(Notice::Unagreed)]);
    assert_eq!(sign_request(&mut driven, 60, FIRST), []);
    let error = ServiceError { code: 0x402, ..ServiceError::default() }.encode();
    driven.at(70, Event::ServicePacket { kind: pkt::ERROR, data: &error });
    assert_eq!(driven.0.state(), State::Lost);
}

#[test]
fn a_held_request_waits_for_the_driver() {
    let mut driven = Driven(Exchange::new(Settings { is_held: true, ..settings() }));
    driven.at(0, Event::Dialled);
    assert_eq!(driven.at(10, Event::Connected), []);
    assert!(driven.0.is_ready());
    assert_eq!(driven.at(500, Event::Proceed), [request(), Action::StartTicks]);
    assert!(!driven.0.is_ready());

    // The driver may be early.
    let mut driven = Driven(Exchange::new(Settings { is_held: true, ..settings() }));
    driven.at(0, Event::Dialled);
    assert_eq!(driven.at(10, Event::Proceed), []);
    assert_eq!(driven.at(20, Event::Connected), [request(), Action::StartTicks]);
}

#[test]
fn a_connection_without_its_device_is_lost() {
    let mut early = Driven::new();
    early.at(0, Event::Dialled);
    assert_eq!(early.at(10, Event::Broken("gone")), []);
    assert!(early.0.is_alive());

    let mut driven = Driven::up();
    let actions = driven.at(50, Event::Broken("the device is gone"));
    assert_eq!(actions, [Action::Report(Notice::Lost("the device is gone".into())), Action::CloseStream]);
    assert_eq!((driven.0.state(), driven.0.loss()), (State::Lost, Some("the device is gone")));
    assert_eq!(driven.at(60, Event::Broken("again")), []);
}

#[test]
fn refusals_that_time_heals_are_told_from_those_that_stay() {
    let answered = |code: u32| {
        let mut driven = Driven::new();
        driven.at(0, Event::Dialled);
        driven.at(10, Event::Connected);
        let error = ServiceError { code, ..ServiceError::default() }.encode();
        driven.at(20, Event::ServicePacket { kind: pkt::ERROR, data: &error });
        driven.0.failure().cloned()
    };
    for code in [error_code::NETWORK_IS_OFFLINE, error_code::TX_COND_NOT_FOUND, error_code::SERVICE_INTERNAL_ERROR] {
        assert!(matches!(answered(code), Some(Failure::Busy(_))), "{code:#x}");
    }
    for code in [error_code::FREE_IS_NOT_ALLOWED, error_code::PRICE_ERROR, error_code::RECEIPT_BANNED_PKEY_HASH] {
        assert!(matches!(answered(code), Some(Failure::Refused(_))), "{code:#x}");
    }
    for code in [problem::NO_FREE_ADDR, problem::TUNNEL_DOWN] {
        let mut driven = Driven::new();
        driven.at(0, Event::Dialled);
        driven.at(10, Event::Connected);
        driven.success(20);
        driven.at(30, Event::Problem(code));
        assert!(matches!(driven.0.failure(), Some(Failure::Busy(_))), "{code}");
    }
}
