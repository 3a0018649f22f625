//! The steps of the demo with money, as its two ends perform them.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dap_chain_net_srv_vpn::app::{self, Status};
use embedded::ledger::{self, EventKind};
use embedded::{config, net, wallets};
use serde_json::{Value, json};
use vpn_core::money::{Amount, Token};

use super::super::control::text;
use super::TOKEN;
use crate::args::EndRole;
use crate::exit::Failure;
use crate::target::DEFAULT_NETWORK;

/// The client's wallet.
const WALLET: &str = "purse";
/// The tunnel's own counters tell what arrives; nobody reads it, and without a socket the host would answer by ICMP.
const PORT: u16 = 9;
/// The bytes of a datagram with its headers, and how many are sent in a second.
const DATAGRAM: usize = 1000;
const RATE: u32 = 1000;

/// What an end keeps from step to step.
#[derive(Default)]
pub(in super::super) struct Steps {
    receiver: Option<UdpSocket>,
    sender: Option<Sender>,
    receipts: u64,
}

impl Steps {
    /// Performs a step; `None` if there is no such step.
    pub(in super::super) fn perform(
        &mut self,
        step: &str,
        role: EndRole,
        request: &Value,
    ) -> Option<Result<Value, Failure>> {
        Some(match (step, role) {
            ("make wallet", EndRole::Client) => make_wallet(),
            ("choose wallet", EndRole::Client) => self.choose_wallet(request),
            ("send", EndRole::Client) => Sender::start(request).map(|sender| {
                self.sender = Some(sender);
                json!({})
            }),
            ("send no more", EndRole::Client) => Ok(json!({"bytes": self.sender.take().map_or(0, Sender::finish)})),
            ("paid", EndRole::Client) => Ok(self.paid()),
            ("fund", EndRole::Server) => fund(request),
            ("accounts", EndRole::Server) => accounts(request),
            _ => return None,
        })
    }

    /// Has the server's host take what comes through the tunnel to this address.
    pub(in super::super) fn receive(&mut self, gateway: Ipv4Addr) -> Result<Value, Failure> {
        let socket = UdpSocket::bind((gateway, PORT));
        let socket = socket.map_err(|error| Failure::general(format!("cannot receive through the tunnel: {error}")))?;
        self.receiver = Some(socket);
        Ok(json!({}))
    }

    fn choose_wallet(&mut self, request: &Value) -> Result<Value, Failure> {
        let Amount(value) = amount(request, "value")?;
        let value = u64::try_from(value).map_err(|_| Failure::general("the value has more than 64 bits"))?;
        self.receipts = 0;
        app::client_choose_wallet(WALLET, Some(TOKEN), Some(value)).map_err(Failure::general)?;
        Ok(json!({}))
    }

    /// The receipts of the connection, also after its end.
    fn paid(&mut self) -> Value {
        let is_up = app::client_status() == Status::Started;
        if let Some(paid) = app::client_paid() {
            self.receipts = self.receipts.max(paid.receipts);
        }
        let why = app::client_last_error().filter(|_| !is_up).map(|error| error.to_string());
        json!({"receipts": self.receipts, "is_up": is_up, "why": why})
    }
}

fn make_wallet() -> Result<Value, Failure> {
    let key = wallets::create(&config::current(), WALLET).map_err(|error| Failure::general(error.to_string()))?;
    Ok(json!({"address": wallets::address_text(&key.hash())}))
}

fn amount(request: &Value, key: &str) -> Result<Amount, Failure> {
    text(request, key)?.parse().map_err(|error| Failure::general(format!("{key:?}: {error}")))
}

/// The network's number, the owner of the wallet, and the token.
fn account(request: &Value) -> Result<(u64, [u8; 32], Token), Failure> {
    let net = net::find_by_name(DEFAULT_NETWORK).ok_or_else(|| Failure::general("there is no such network"))?;
    let owner = wallets::parse_address(text(request, "address")?);
    let owner = owner.ok_or_else(|| Failure::general("\"address\" is no address"))?;
    let token = Token::new(TOKEN).map_err(|error| Failure::general(error.to_string()))?;
    Ok((net.id(), owner, token))
}

fn fund(request: &Value) -> Result<Value, Failure> {
    let (net, owner, token) = account(request)?;
    let Amount(value) = amount(request, "amount")?;
    ledger::fund(net, &owner, &token, value).map_err(|error| Failure::general(error.to_string()))?;
    Ok(json!({}))
}

/// What the ledger says of the wallet, and what the server's tunnel has carried. Amounts are in datoshi.
fn accounts(request: &Value) -> Result<Value, Failure> {
    let (net, owner, token) = account(request)?;
    ledger::audit(net).map_err(|why| Failure::general(format!("the ledger's own books do not add up: {why}")))?;
    let payments = ledger::history(net, Some(&owner), 1000).into_iter().filter(|event| event.kind == EventKind::Paid);
    let carried = app::server_totals().map_or(0, |totals| totals.up_bytes + totals.down_bytes);
    Ok(json!({
        "balance": ledger::balance(net, &owner, &token).to_string(),
        "locked": ledger::locked(net, &owner, &token).to_string(),
        "earned": ledger::earned(net).to_string(),
        "payments": payments.count(),
        "carried": carried,
    }))
}

/// Sends datagrams through the tunnel, until it is told to stop.
struct Sender {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Sender {
    fn start(request: &Value) -> Result<Sender, Failure> {
        let address = |key| {
            text(request, key)?.parse::<Ipv4Addr>().map_err(|_| Failure::general(format!("{key:?} is no IPv4 address")))
        };
        let (from, to) = (address("from")?, address("to")?);
        let failed = |error| Failure::general(format!("cannot send through the tunnel: {error}"));
        let socket = UdpSocket::bind((from, 0)).map_err(failed)?;
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&bytes));
        let thread = std::thread::Builder::new().name("demo-sender".into()).spawn(move || {
            let payload = [0x5a; DATAGRAM - 28];
            while !stopped.load(Ordering::Relaxed) {
                // When the service has ended there is no route any more.
                if socket.send_to(&payload, (to, PORT)).is_ok() {
                    counter.fetch_add(DATAGRAM as u64, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_secs(1) / RATE);
            }
        });
        Ok(Sender { stop, bytes, thread: thread.map_err(failed)? })
    }

    /// Stops, and returns the bytes that were sent.
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        // A panic has been reported.
        let _ = self.thread.join();
        self.bytes.load(Ordering::Relaxed)
    }
}
