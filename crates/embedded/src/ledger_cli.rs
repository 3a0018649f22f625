//! The command `ledger`, for the operator: gives accounts tokens, shows balances and what has happened.
//!
//! It runs in the process that has the ledgers open: a server that sells, or the program itself where none runs.

use crate::cli::{self, Command, Reply};
use crate::ledger::{self, Event, Totals};
use crate::net::{self, NetRef};
use crate::wallets::{address_text, parse_address};
use jiff::Timestamp;
use vpn_core::money::{Amount, Token};

/// The command's name.
pub const NAME: &str = "ledger";
/// The code of the reply of a process that has no ledger open.
pub const NOT_OPEN: i32 = -2;
const HISTORY: usize = 100;
const USAGE: &str = "\
ledger fund ADDRESS AMOUNT [-token TOKEN] -net NETWORK    gives an account an amount of tokens
ledger balance [ADDRESS] -net NETWORK                     shows accounts
ledger history [ADDRESS] [-most N] -net NETWORK           shows what has happened, the latest first";

/// Adds the command to those of the control socket.
pub(crate) fn register() {
    cli::register(Command {
        name: NAME.into(),
        doc: "The accounts of those who pay this server".into(),
        doc_ex: USAGE.into(),
        run: Box::new(|argv| if ledger::is_open() { run(argv) } else { not_open() }),
    });
}

fn not_open() -> Reply {
    Reply { code: NOT_OPEN, text: "this process has no ledger open, because it sells nothing".into() }
}

/// Runs a command line, its name first, on the ledgers that are open.
pub fn run(argv: &[String]) -> Reply {
    match parse(argv).and_then(|command| command.run()) {
        Ok(text) => Reply { code: 0, text },
        Err(text) => Reply { code: -1, text },
    }
}

/// A command line.
struct Parsed<'a> {
    verb: &'a str,
    words: Vec<&'a str>,
    net: NetRef,
    token: Token,
    most: usize,
}

fn parse(argv: &[String]) -> Result<Parsed<'_>, String> {
    let mut words = Vec::new();
    let (mut net, mut token, mut most) = (None, None, HISTORY);
    let mut rest = argv.iter().skip(1).map(String::as_str);
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{word}: expected a value behind it"));
        match word {
            "-net" => net = Some(value()?),
            "-token" => token = Some(value()?),
            "-most" => {
                let text = value()?;
                most = text.parse().map_err(|_| format!("-most {text}: expected a number"))?;
            }
            word => words.push(word),
        }
    }
    let net = net.ok_or_else(|| format!("expected -net and a network\n{USAGE}"))?;
    let net = net::find_by_name(net).ok_or_else(|| {
        let known: Vec<&str> = net::all().iter().map(NetRef::name).collect();
        format!("network {net:?} is not known: expected one of {}", known.join(", "))
    })?;
    let token = Token::new(token.unwrap_or(net.native_ticker())).map_err(|error| error.to_string())?;
    let verb = if words.is_empty() { "" } else { words.remove(0) };
    Ok(Parsed { verb, words, net, token, most })
}

impl Parsed<'_> {
    fn run(&self) -> Result<String, String> {
        match (self.verb, &*self.words) {
            ("fund", [address, amount]) => self.fund(address, amount),
            ("balance", []) => self.all(),
            ("balance", [address]) => Ok(self.line(&owner(address)?, &self.token)),
            ("history", []) => Ok(self.history(None)),
            ("history", [address]) => Ok(self.history(Some(&owner(address)?))),
            _ => Err(USAGE.into()),
        }
    }

    fn fund(&self, address: &str, amount: &str) -> Result<String, String> {
        let (owner, token) = (owner(address)?, &self.token);
        let amount: Amount = amount.parse().map_err(|error| format!("{error}"))?;
        if token.as_str() != self.net.native_ticker() {
            let (net, native) = (self.net.name(), self.net.native_ticker());
            return Err(format!("{token} pays for nothing in {net}: expected its own token, {native}"));
        }
        ledger::fund(self.net.id(), &owner, token, amount.0).map_err(|error| error.to_string())?;
        Ok(format!("{amount} {token} given to {}", self.line(&owner, token)))
    }

    fn line(&self, owner: &[u8; 32], token: &Token) -> String {
        let net = self.net.id();
        let (free, locked) = (ledger::balance(net, owner, token), ledger::locked(net, owner, token));
        format!("{}: {} {token}, and {} locked", address_text(owner), Amount(free), Amount(locked))
    }

    fn all(&self) -> Result<String, String> {
        ledger::audit(self.net.id()).map_err(|what| format!("the ledger does not add up: {what}"))?;
        let accounts = ledger::accounts(self.net.id());
        let mut text: String =
            accounts.iter().map(|(owner, token, _)| format!("{}\n", self.line(owner, token))).collect();
        let Totals { emitted, earned, fees } = ledger::totals(self.net.id(), &self.token);
        let held = Amount(emitted.saturating_sub(earned).saturating_sub(fees));
        let token = &self.token;
        text.push_str(&format!(
            "given out {} {token}: held {held}, earned {}, fees {}",
            Amount(emitted),
            Amount(earned),
            Amount(fees)
        ));
        Ok(text)
    }

    fn history(&self, owner: Option<&[u8; 32]>) -> String {
        let lines: Vec<String> = ledger::history(self.net.id(), owner, self.most).iter().map(told).collect();
        if lines.is_empty() { "nothing has happened".into() } else { lines.join("\n") }
    }
}

fn told(event: &Event) -> String {
    let Event { time, kind, owner, token, amount, hash } = event;
    let time = i64::try_from(*time).ok().and_then(|time| Timestamp::from_second(time).ok()).unwrap_or_default();
    format!("{time} {kind:<6} {} {token} {} {}", Amount(*amount), address_text(owner), address_text(hash))
}

fn owner(text: &str) -> Result<[u8; 32], String> {
    parse_address(text).ok_or_else(|| format!("expected an address of 0x and 64 hexadecimal digits, not {text:?}"))
}
