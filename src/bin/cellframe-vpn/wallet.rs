//! `wallet`: keys on this machine, and the accounts of the server on this machine.
//!
//! What concerns the ledger is asked of the running server, which alone may open it; where none has it open, this process
//! does.

use dap_chain_net_srv_vpn::app::ClientError;
use embedded::bank::account::{self, BankError};
use embedded::cli::{self, CliError};
use embedded::config::{self, Config};
use embedded::wallets::{self, WalletError, address_text, parse_address};
use embedded::{ledger, ledger_cli, logging, net};
use std::io::ErrorKind;
use vpn_core::money::{Amount, Token};

use crate::args::{ControlOptions, WalletCommand, WalletPlace};
use crate::client;
use crate::control;
use crate::exit::{Code, Failure};
use crate::output;
use crate::settings::{self, Role};
use crate::target::Target;

/// Runs a sub-command.
pub(crate) fn run(command: &WalletCommand) -> Result<(), Failure> {
    logging::init();
    match command {
        WalletCommand::New { name, place } => {
            let key = wallets::create(&config_of(place)?, name).map_err(failure)?;
            output::line(address_text(&key.hash()));
            Ok(())
        }
        WalletCommand::List { place } => {
            let known = Known::read(&config_of(place)?)?;
            known.0.iter().for_each(|(name, address)| output::line(format!("{address} {name}")));
            Ok(())
        }
        WalletCommand::Address { name, place } => {
            let key = wallets::open(&config_of(place)?, name).map_err(failure)?;
            output::line(address_text(&key.hash()));
            Ok(())
        }
        WalletCommand::Fund { wallet, amount, token, control } => {
            let amount = amount.to_string();
            ask("fund", Some(wallet), &[&amount], token.as_deref(), control)
        }
        WalletCommand::Balance { wallet: Some(wallet), token, connect: Some(server), pin, control } => {
            balance_at(server, pin.as_deref(), wallet, token.as_deref(), control)
        }
        WalletCommand::Balance { wallet, token, control, .. } => {
            ask("balance", wallet.as_ref(), &[], token.as_deref(), control)
        }
        WalletCommand::History { wallet, most, control } => {
            let most = most.to_string();
            ask("history", wallet.as_ref(), &["-most", &most], None, control)
        }
    }
}

fn config_of(place: &WalletPlace) -> Result<Config, Failure> {
    settings::load_for_command(Role::Client, place.config.as_deref(), place.state_dir.as_deref())
}

fn failure(error: WalletError) -> Failure {
    let code = if matches!(error, WalletError::Name(_)) { Code::Usage } else { Code::Failure };
    Failure::new(code, error.to_string())
}

/// Asks another server what a wallet has in its ledger. Beside a running client, whose store this process cannot open.
fn balance_at(
    server: &Target,
    pin: Option<&str>,
    wallet: &str,
    token: Option<&str>,
    control: &ControlOptions,
) -> Result<(), Failure> {
    let place = settings::load_for_command(
        Role::Client,
        control.process.config.as_deref(),
        control.process.state_dir.as_deref(),
    )?;
    let owner = match parse_address(wallet) {
        Some(owner) => owner,
        None => wallets::open(&place, wallet).map_err(failure)?.hash(),
    };
    let mut config = settings::load(Role::Check, control.process.config.as_deref(), None)?;
    client::override_for_client(&mut config, pin);
    client::require_known_servers(&config)?;
    config::set_current(config);
    client::require_network(&control.net)?;
    let Some(net) = net::find_by_name(&control.net) else { return Ok(()) };
    let token = Token::new(token.unwrap_or(net.native_ticker()))
        .map_err(|error| Failure::new(Code::Usage, format!("--token: {error}")))?;
    let balance = account::open(net.id(), &server.host, server.port)
        .and_then(|()| account::balance(net.id(), &owner, token))
        .map_err(|error| match error {
            BankError::Unreachable { server, errno } => client::failure(&ClientError::Connect { server, errno }),
            BankError::NoAnswer { .. } => Failure::new(Code::NoAnswer, error.to_string()),
            error => Failure::new(Code::Refused, error.to_string()),
        })?;
    let (has, locked) = (Amount(balance.value), Amount(balance.locked));
    output::line(format_args!("{}: {has} {token}, and {locked} locked at {server}", address_text(&owner)));
    Ok(())
}

/// Asks the ledger of the server on this machine, and prints the answer with the names of this machine's wallets.
fn ask(
    verb: &str,
    wallet: Option<&String>,
    more: &[&str],
    token: Option<&str>,
    control: &ControlOptions,
) -> Result<(), Failure> {
    let server = settings::load_for_command(
        Role::Server,
        control.process.config.as_deref(),
        control.process.state_dir.as_deref(),
    )?;
    let known = Known::beside(&server, control)?;
    let address = wallet.map(|wallet| known.address(wallet)).transpose()?;
    let mut argv = vec![ledger_cli::NAME, verb];
    argv.extend(address.as_deref());
    argv.extend(more);
    token.iter().for_each(|token| argv.extend(["-token", *token]));
    argv.extend(["-net", &control.net]);
    let text = match control.process.socket.as_deref() {
        Some(socket) => control::call(Role::Server, socket, &argv)?,
        None => answer(server, &argv)?,
    };
    output::line(known.named(&text));
    Ok(())
}

/// Has the server run a command line, or runs it here if no server has the ledger open.
fn answer(server: Config, argv: &[&str]) -> Result<String, Failure> {
    let socket = cli::socket_path(&server);
    let reply = match cli::call(&socket, argv) {
        Ok(reply) if reply.code != ledger_cli::NOT_OPEN => reply,
        Err(CliError::NotRunning { source, .. })
            if !matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            return control::call(Role::Server, &socket, argv);
        }
        Ok(_) | Err(CliError::NotRunning { .. }) => {
            config::set_current(server);
            ledger::open().map_err(|error| Failure::general(error.to_string()))?;
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            let reply = ledger_cli::run(&argv);
            ledger::close();
            reply
        }
        Err(_) => return control::call(Role::Server, &socket, argv),
    };
    let text = reply.text.trim_end().to_owned();
    if reply.code == 0 { Ok(text) } else { Err(Failure::general(text)) }
}

/// The wallets on this machine: names and addresses.
struct Known(Vec<(String, String)>);

impl Known {
    fn read(config: &Config) -> Result<Known, Failure> {
        let names = wallets::list(config).map_err(failure)?;
        let with_address = |name: String| match wallets::open(config, &name) {
            Ok(key) => Ok((name, address_text(&key.hash()))),
            Err(error) => Err(failure(error)),
        };
        Ok(Known(names.into_iter().map(with_address).collect::<Result<_, _>>()?))
    }

    /// The wallets in the server's state directory, and in the client's if the command names no other place.
    fn beside(server: &Config, control: &ControlOptions) -> Result<Known, Failure> {
        let mut known = Known::read(server)?;
        if control.process.state_dir.is_none() {
            let client = settings::load_for_command(Role::Client, control.process.config.as_deref(), None)?;
            known.0.extend(Known::read(&client)?.0);
        }
        Ok(known)
    }

    /// The address that is meant.
    fn address(&self, wallet: &str) -> Result<String, Failure> {
        if let Some(hash) = parse_address(wallet) {
            return Ok(address_text(&hash));
        }
        let found = self.0.iter().find(|(name, _)| name == wallet).map(|(_, address)| address.clone());
        found.ok_or_else(|| {
            let message = format!(
                "there is no wallet {wallet:?} on this machine: expected its name, or an address of 0x and 64 \
                 hexadecimal digits (`cellframe-vpn wallet address {wallet}` on the machine that has it)"
            );
            Failure::new(Code::Usage, message)
        })
    }

    /// Puts the name of each wallet behind its address.
    fn named(&self, text: &str) -> String {
        let name = |text: String, (name, address): &(String, String)| {
            text.replace(address.as_str(), &format!("{address} ({name})"))
        };
        self.0.iter().fold(text.to_owned(), name)
    }
}
