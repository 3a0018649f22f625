//! What a client is to do: by its options, else by `[vpn_client]` in its file. So a file is all that a client needs that
//! runs as a service.

use std::fmt::Display;

use embedded::config::Config;

use crate::args::ClientOptions;
use crate::exit::{Code, Failure};
use crate::paying::{self, Means};
use crate::target::{DEFAULT_NETWORK, Target};

const SECTION: &str = "vpn_client";

/// The server, the network, and how to pay.
pub(crate) struct Profile {
    pub(crate) connect: Target,
    pub(crate) net: String,
    pub(crate) retry: bool,
    pub(crate) means: Means,
}

impl Profile {
    /// Reads what the options leave open. Fails with a usage error if neither names a server, or a value cannot be read.
    pub(crate) fn new(options: &ClientOptions, config: &Config) -> Result<Profile, Failure> {
        let file = File { config };
        let connect = match &options.connect {
            Some(target) => target.clone(),
            None => file.value("connect", str::parse)?.ok_or_else(|| file.no_server())?,
        };
        let net = match &options.net {
            Some(net) => net.clone(),
            None => file.text("net")?.unwrap_or_else(|| DEFAULT_NETWORK.to_owned()),
        };
        let pay = &options.pay;
        // A token and a value on the command line are those of the wallet there.
        let means = match &pay.wallet {
            Some(wallet) => Means { wallet: Some(wallet.clone()), token: pay.token.clone(), value: pay.value },
            None => Means {
                wallet: file.text("wallet")?,
                token: file.value("wallet_token", paying::parse_token)?,
                value: file.value("wallet_value", paying::parse_value)?,
            },
        };
        match means {
            Means { wallet: None, token: Some(_), .. } => Err(file.needs_wallet("wallet_token")),
            Means { wallet: None, value: Some(_), .. } => Err(file.needs_wallet("wallet_value")),
            means => Ok(Profile { connect, net, retry: options.retry, means }),
        }
    }
}

/// The section of the file.
struct File<'a> {
    config: &'a Config,
}

impl File<'_> {
    /// The one value of a key that may be missing.
    fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        if !self.config.keys().contains(&(SECTION, key)) {
            return Ok(None);
        }
        match self.config.get_str(SECTION, key).filter(|text| !text.is_empty()) {
            Some(text) => Ok(Some(text)),
            None => Err(self.wrong(key, &self.config.get_list(SECTION, key).join(","), "expected one value")),
        }
    }

    /// The same, read by `parse`.
    fn value<T, E: Display>(&self, key: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|error| self.wrong(key, &text, error))
    }

    fn wrong(&self, key: &str, value: &str, why: impl Display) -> Failure {
        Failure::new(Code::Usage, format!("{}: [{SECTION}] {key}={value}: {why}", self.config.origin()))
    }

    fn no_server(&self) -> Failure {
        let origin = self.config.origin();
        Failure::new(
            Code::Usage,
            format!(
                "no server: expected --connect HOST[:PORT], or connect=HOST[:PORT] in [{SECTION}] ({origin}); for example: \
                 sudo cellframe-vpn client --connect vpn.example.com"
            ),
        )
    }

    fn needs_wallet(&self, key: &str) -> Failure {
        let origin = self.config.origin();
        Failure::new(
            Code::Usage,
            format!("{origin}: [{SECTION}] {key} without wallet: expected wallet=NAME there, too"),
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    fn profile(arguments: &[&str], text: &str) -> Result<Profile, Failure> {
        let words = [&["cellframe-vpn", "client"], arguments].concat();
        let Command::Client(options) = Arguments::try_parse_from(words).expect("arguments").command else {
            panic!("another command")
        };
        Profile::new(&options, &Config::parse(&format!("[vpn_client]\n{text}"), "a.cfg").0)
    }

    #[test]
    fn a_file_stands_for_the_options() {
        let text = "connect=vpn.example.com:8089\nnet=other\nwallet=purse\nwallet_token=CELL\nwallet_value=2.5\n";
        let by_file = profile(&["--retry"], text).expect("a profile");
        assert_eq!(by_file.connect.to_string(), "vpn.example.com:8089");
        assert_eq!((by_file.net.as_str(), by_file.retry), ("other", true));
        let means =
            Means { wallet: Some("purse".into()), token: Some("CELL".into()), value: Some(25 * 10_u64.pow(17)) };
        assert_eq!(by_file.means, means);

        let by_option = profile(&["--connect", "192.0.2.1", "--net", "third", "--wallet", "mine"], text).expect("one");
        assert_eq!((by_option.connect.to_string().as_str(), by_option.net.as_str()), ("192.0.2.1:8079", "third"));
        assert_eq!(by_option.means, Means { wallet: Some("mine".into()), token: None, value: None });
        assert_eq!(profile(&["--connect", "h"], "").expect("defaults").net, DEFAULT_NETWORK);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named() {
        let table = [
            ("", "no server: expected --connect HOST[:PORT], or connect=HOST[:PORT] in [vpn_client] (a.cfg)"),
            ("connect=\n", "a.cfg: [vpn_client] connect=: expected one value"),
            ("connect=[a,b]\n", "a.cfg: [vpn_client] connect=a,b: expected one value"),
            ("connect=a:0\n", "a.cfg: [vpn_client] connect=a:0: \"0\" is not a port"),
            ("connect=a\nwallet=w\nwallet_value=none\n", "a.cfg: [vpn_client] wallet_value=none: "),
            ("connect=a\nwallet_value=1\n", "a.cfg: [vpn_client] wallet_value without wallet"),
        ];
        for (text, says) in table {
            let Err(failure) = profile(&[], text) else { panic!("{text:?} is taken") };
            assert_eq!(failure.code, Code::Usage);
            assert!(failure.message.starts_with(says), "{text:?}: {}", failure.message);
        }
    }
}
