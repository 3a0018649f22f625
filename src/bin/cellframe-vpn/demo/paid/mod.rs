//! `demo --paid`: a server that sells, a wallet, and a client that pays until the money ends.
//!
//! The two hosts are those of the demo without an Internet. The server has a price list and gives nothing away; its
//! operator funds the client's wallet. The client locks all of it in one transaction and sends datagrams through the
//! tunnel. The demo shows each receipt as it is signed, sees the service end with the money, funds the wallet once more,
//! and sees it go on. In the end the sums of both ends and of the ledger are compared ([`report`]).

mod report;
mod steps;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vpn_core::money::Amount;

use super::control::{End, Interruption};
use super::progress::Progress;
use super::workdir::WorkDir;
use super::{STEP, text_of};
use crate::args::EndRole;
use crate::exit::Failure;
pub(super) use report::Report;
pub(super) use steps::Steps;

/// That the money ends is a warning, and a part of this demo.
const LOG_LEVEL: &str = "error";
/// The bytes of a receipt, and what it costs.
const UNITS: u64 = 1_000_000;
const PRICE: Amount = Amount(Amount::TOKEN.0 / 4);
const TOKEN: &str = "CELL";
/// What the wallet gets, in receipts: at the begin, and when that is used up.
const FUNDS: [u128; 2] = [3, 2];
/// How long a part of the funds may last; it takes about as many seconds as it has receipts.
const TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// Performs the steps in order. The ends and the directory are gone when it returns.
pub(super) fn perform(interruption: &Interruption) -> Result<Report, Failure> {
    let progress = Progress::new();
    let directory = WorkDir::create()?;
    let mut server = End::spawn(EndRole::Server, None, LOG_LEVEL, interruption)?;
    server.call(json!({"do": "enter"}), STEP)?;
    let mut client = End::spawn(EndRole::Client, Some(server.pid()), LOG_LEVEL, interruption)?;
    client.call(json!({"do": "enter"}), STEP)?;
    server.call(json!({"do": "link", "peer": client.pid()}), STEP)?;
    client.call(json!({"do": "link"}), STEP)?;
    progress.step("two network namespaces with a virtual cable between them");

    let price = format!("{UNITS} B for {PRICE} {TOKEN}");
    let (server_state, client_state) = (directory.path().join("server"), directory.path().join("client"));
    let started = server.call(json!({"do": "start", "state": text_of(&server_state)?, "prices": [price]}), STEP)?;
    server.call(json!({"do": "receive"}), STEP)?;
    progress.step(format_args!("server started; it sells {}", text(&started["sells"])));
    client.call(json!({"do": "configure", "state": text_of(&client_state)?, "pin": started["pin"]}), STEP)?;
    let wallet = client.call(json!({"do": "make wallet"}), STEP)?["address"].take();
    progress.step(format_args!("wallet made: {}", text(&wallet)));

    let mut report = Report { units: UNITS, price: PRICE, token: TOKEN, ..Report::default() };
    for (part, receipts) in FUNDS.into_iter().enumerate() {
        let amount = Amount(receipts * PRICE.0);
        server.call(json!({"do": "fund", "address": wallet, "amount": amount.to_string()}), STEP)?;
        report.funded.0 += amount.0;
        let again = if part == 0 { "" } else { " once more" };
        progress.step(format_args!("the operator funds the wallet{again} with {amount} {TOKEN}"));
        client.call(json!({"do": "choose wallet", "value": amount.to_string()}), STEP)?;
        let lease = client.call(json!({"do": "start"}), STEP)?;
        progress.step(format_args!("client connected{again}, address {}", text(&lease["address"])));
        let signed = spend(&wallet, &lease, &mut report, &mut server, &mut client, &progress)?;
        progress.step(format_args!("the service has ended: {}", text(&signed["why"])));
    }
    client.call(json!({"do": "stop"}), STEP)?;
    report.ledger = server.call(json!({"do": "accounts", "address": wallet}), STEP)?;
    server.call(json!({"do": "stop"}), STEP)?;
    client.finish()?;
    server.finish()?;
    directory.remove()?;
    report.require_equal()?;
    Ok(report)
}

/// Sends until the service ends, and shows each receipt as it is signed. Returns the client's last answer.
fn spend(
    wallet: &Value,
    lease: &Value,
    report: &mut Report,
    server: &mut End<'_>,
    client: &mut End<'_>,
    progress: &Progress,
) -> Result<Value, Failure> {
    client.call(json!({"do": "send", "from": lease["address"], "to": lease["gateway"]}), STEP)?;
    let (deadline, before) = (Instant::now() + TIMEOUT, report.signed);
    loop {
        std::thread::sleep(POLL);
        let paid = client.call(json!({"do": "paid"}), STEP)?;
        let signed = before + paid["receipts"].as_u64().unwrap_or(0);
        if signed > report.signed {
            report.signed = signed;
            let accounts = server.call(json!({"do": "accounts", "address": wallet}), STEP)?;
            let [balance, locked] = ["balance", "locked"].map(|key| report::amount(&accounts[key]));
            progress.step(format_args!(
                "receipt {signed} signed: {UNITS} B for {PRICE} {TOKEN}; the wallet has {balance} {TOKEN}, and {locked} \
                 in its transaction"
            ));
        }
        if paid["is_up"] != true {
            report.sent += client.call(json!({"do": "send no more"}), STEP)?["bytes"].as_u64().unwrap_or(0);
            return Ok(paid);
        }
        if Instant::now() > deadline {
            return Err(Failure::general(format!(
                "the service goes on after {TIMEOUT:?}, though the money is used up"
            )));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
