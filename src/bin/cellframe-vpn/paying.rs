//! How `client` pays: the options, and what they mean for the library.

use clap::Args;
use dap_chain_net_srv_vpn::app::{self, ClientError};
use embedded::bank::purse;
use embedded::config::Config;
use embedded::net;
use vpn_core::money::{Amount, Token};
use vpn_core::wire::{self, error_code};

use crate::exit::{Code, Failure};
use crate::output;

#[derive(Args, Clone, Debug)]
pub(crate) struct PayOptions {
    /// The wallet that pays if the server sells its service (`cellframe-vpn wallet new`); kept for later starts
    #[arg(long, value_name = "NAME")]
    pub(crate) wallet: Option<String>,
    /// With --wallet: the token that pays [default: the network's own]
    #[arg(long, value_name = "TOKEN", requires = "wallet", value_parser = parse_token)]
    pub(crate) token: Option<String>,
    /// With --wallet: how many tokens one transaction locks at the server, such as 1.5; receipts are paid out of it, and
    /// the next transaction follows when it is used up
    #[arg(long, value_name = "AMOUNT", requires = "wallet", value_parser = parse_value)]
    pub(crate) value: Option<u64>,
    /// The order to use [default: a free one, else the cheapest that can be paid]
    #[arg(long, value_name = "HASH", value_parser = parse_order)]
    pub(crate) order: Option<String>,
}

/// The wallet that pays, with the token and the value of a transaction in datoshi.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Means {
    pub(crate) wallet: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) value: Option<u64>,
}

/// Puts the order into the configuration.
pub(crate) fn configure(options: &PayOptions, config: &mut Config) {
    if let Some(order) = &options.order {
        config.set("vpn_client", "order_hash", order);
    }
}

/// Has the library pay with the wallet, if there is one. The configuration is in force.
pub(crate) fn choose(means: &Means, net: &str) -> Result<(), Failure> {
    let Some(wallet) = &means.wallet else { return Ok(()) };
    purse::open(wallet).map_err(|error| Failure::new(Code::Usage, format!("--wallet {wallet}: {error}")))?;
    let native = net::find_by_name(net).map(|net| net.native_ticker());
    let token = means.token.as_deref().or(native);
    app::client_choose_wallet(wallet, token, means.value)
        .map_err(|error| Failure::general(format!("--wallet {wallet}: {error}")))
}

/// Says how to pay a server that has refused a client without a wallet because it sells.
pub(crate) fn hint(means: &Means, error: &ClientError) {
    let ClientError::Refused { reason, .. } = error else { return };
    let sells = [error_code::PRICE_ERROR, error_code::FREE_IS_NOT_ALLOWED];
    if means.wallet.is_none() && sells.iter().any(|code| reason.starts_with(wire::error_text(*code))) {
        output::note(
            "a server that sells its service is paid with --wallet NAME --value AMOUNT; `cellframe-vpn wallet new NAME` \
             makes a wallet",
        );
    }
}

pub(crate) fn parse_token(text: &str) -> Result<String, String> {
    Token::new(text).map(|token| token.to_string()).map_err(|error| error.to_string())
}

/// Receipts have values of 64 bits at the client.
pub(crate) fn parse_value(text: &str) -> Result<u64, String> {
    let Amount(datoshi) = text.parse().map_err(|error: vpn_core::money::AmountError| error.to_string())?;
    match u64::try_from(datoshi) {
        Ok(0) => Err("expected more than 0".into()),
        Ok(datoshi) => Ok(datoshi),
        Err(_) => Err(format!("expected at most {}", Amount(u64::MAX.into()))),
    }
}

fn parse_order(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match wire::parse_hash(digits) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected 64 hexadecimal digits, with or without 0x, as the server's price list has them".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_tokens_of_64_bits() {
        assert_eq!(parse_value("1.5"), Ok(1_500_000_000_000_000_000));
        assert_eq!(parse_value("18.446744073709551615"), Ok(u64::MAX));
        for (text, says) in
            [("0", "more than 0"), ("19", "at most 18.446744073709551615"), ("1,5", "a number of tokens")]
        {
            assert!(parse_value(text).unwrap_err().contains(says), "{text}");
        }
    }

    #[test]
    fn orders_are_hashes() {
        let digits = "00fF".repeat(16);
        assert_eq!(parse_order(&digits), Ok(digits.clone()));
        assert_eq!(parse_order(&format!("0x{digits}")), Ok(format!("0x{digits}")));
        for wrong in ["", "0x", &digits[1..], "cheapest"] {
            assert!(parse_order(wrong).is_err(), "{wrong}");
        }
    }
}
