//! The key `monitor`.

use std::net::{Ipv4Addr, SocketAddr};

use crate::sdk::config::{BadValue, Config};

/// The port of `monitor = auto`: the one before the service's own.
pub(super) const PORT: u16 = 8078;
const EXPECTED: &str = "auto, off, or an address and a port, for example 127.0.0.1:8078";

/// The value of `monitor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No monitor.
    Off,
    /// 127.0.0.1, port [`PORT`].
    Auto,
    /// This address.
    At(SocketAddr),
}

impl Mode {
    /// Reads the key. A node's operator asks for a monitor: a node opens no port that its file does not name.
    pub(in crate::server) fn read(config: &Config, section: &str) -> Result<Mode, BadValue> {
        let text = config.checked_text(section, "monitor", EXPECTED)?;
        let Some(text) = text else { return Ok(if cfg!(feature = "embedded") { Mode::Auto } else { Mode::Off }) };
        let mode = Mode::parse(&text).ok_or_else(|| BadValue::new(section, "monitor", &text, EXPECTED))?;
        if let Mode::At(address) = mode
            && !address.ip().is_loopback()
        {
            log::warn!(
                "[{section}] monitor = {address}: other hosts may reach it, in plain text; every path then demands the \
                 token; expected an address of this host alone, such as 127.0.0.1:{PORT}"
            );
        }
        Ok(mode)
    }

    fn parse(text: &str) -> Option<Mode> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Some(Mode::Auto),
            "off" => Some(Mode::Off),
            text => text.parse().ok().map(Mode::At),
        }
    }

    /// Returns where to listen.
    pub(super) fn address(self) -> Option<SocketAddr> {
        match self {
            Mode::Off => None,
            Mode::Auto => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
            Mode::At(address) => Some(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let address = |text| Mode::parse(text).map(Mode::address);
        assert_eq!(address("auto"), Some(Some(([127, 0, 0, 1], 8078).into())));
        assert_eq!(address("OFF"), Some(None));
        assert_eq!(address("[::1]:9000"), Some(Some(([0, 0, 0, 0, 0, 0, 0, 1], 9000).into())));
        for text in ["", "on", "8078", "127.0.0.1", "localhost:8078", "127.0.0.1:65536"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
