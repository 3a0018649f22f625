//! The security keys: a start stops at one that is there and cannot be read, because the default may be the opposite of
//! what its owner wrote.
//!
//! A key is there, too, if its name or its section's name is misspelt, if it stands in another section or below an
//! invalid section line, or if its list is never closed: [`mark_misspelt`] and the parser then set the key to
//! [`Value::Unreadable`].

use std::ops::RangeInclusive;
use std::path::Path;

use super::value::{Sections, Value, name};
use super::{BadValue, Config, ROLES, flag, integer};

/// What the value of a security key must be. The reader of a key may demand more.
#[derive(Debug)]
pub(super) enum Kind {
    /// A truth value.
    Flag,
    /// A whole number within bounds.
    Number(RangeInclusive<u64>),
    /// One value, not a list.
    Text,
    /// One value or a list, which may be empty.
    List,
    /// One value or a list.
    NotEmpty,
    /// `sha256:` and 64 hexadecimal digits.
    Pin,
    /// The path of a socket.
    Socket,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// The longest path of a socket, in bytes: the kernel's field has 108 with the NUL.
const SOCKET_PATH_MAX: usize = 107;

const COUNT: Kind = Kind::Number(0..=u64::MAX);

/// The security keys by section, `-` as `_`. docs/config.md marks them. A new one needs a row here and there; a key of
/// `[srv_vpn]` or `[vpn_client]` is read with the `checked_` functions of the seam's configuration.
pub(super) const KEYS: &[(&str, &[(&str, Kind)])] = &[
    ("general", &[("state_dir", Kind::Text)]),
    (
        "server",
        &[
            ("enabled", Kind::Flag),
            ("listen_address", Kind::NotEmpty),
            ("max_streams", COUNT),
            ("max_streams_per_address", COUNT),
            ("max_memory", COUNT),
            ("max_memory_per_address", COUNT),
            ("idle_timeout", Kind::Number(1..=86_400)),
        ],
    ),
    ("cli_server", &[("enabled", Kind::Flag), ("listen_path", Kind::Socket)]),
    (
        "srv_vpn",
        &[
            ("network_address", Kind::Text),
            ("network_mask", Kind::Text),
            ("client_isolation", Kind::Flag),
            ("allow_free_srv", Kind::Flag),
            ("prices", Kind::List),
            ("deny", Kind::List),
            ("deny_host", Kind::Flag),
            ("nat", Kind::Word(&["auto", "on", "off"])),
            ("monitor", Kind::Text),
            ("status_page", Kind::Flag),
            ("leases_per_address", COUNT),
            ("new_leases_per_minute", COUNT),
            ("lease_unused", COUNT),
            ("session_queue", COUNT),
            ("queue_memory", COUNT),
            ("limit_down", COUNT),
            ("limit_up", COUNT),
            ("order_limits", Kind::List),
            ("dns", Kind::List),
            ("device", Kind::Text),
            ("log_addresses", Kind::Flag),
            ("store_leases", Kind::Flag),
            ("static_leases", Kind::List),
            ("receipt_sign_cert", Kind::Text),
            ("gate", Kind::Flag),
            ("prove_key", Kind::Flag),
            ("payment_timeout", COUNT),
            ("grace_period", COUNT),
            ("grace_bytes", COUNT),
            ("grace_per_hour", COUNT),
            ("grace_at_once", COUNT),
            ("grace_bytes_per_hour", COUNT),
            ("account_book", COUNT),
            ("account_book_free", COUNT),
        ],
    ),
    (
        "vpn_client",
        &[
            ("server_pin", Kind::Pin),
            ("wallet", Kind::Text),
            ("wallet_token", Kind::Text),
            ("wallet_value", Kind::Text),
            ("order_hash", Kind::Text),
            ("tx_fee", COUNT),
            ("allow_source", Kind::List),
            ("allow_subnet", Kind::List),
            ("routes", Kind::List),
            ("exclude_routes", Kind::List),
            ("kill_switch", Kind::Flag),
            ("kill_switch_local", Kind::Flag),
            ("ipv6", Kind::Word(&["block", "leave"])),
            ("dns", Kind::List),
        ],
    ),
];

/// The security keys of each section `[network_<name>]`.
const NETWORK_KEYS: &[(&str, Kind)] = &[("id", COUNT), ("role", Kind::Word(ROLES))];

/// Names that other sections have for other things, such as the node's `[cli-server] listen_address`.
const OF_MANY: &[&str] = &["enabled", "listen_address", "listen_path"];
/// The same for sections that this SDK does not know.
const OF_OTHERS: &[&str] = &["deny", "device", "dns", "gate", "grace_period", "idle_timeout", "ipv6", "nat", "wallet"];
/// Keys of our own sections that are near a security key and none themselves.
const NO_SLIPS: &[&str] = &["net"];

/// The security keys with this name, in any section.
pub(super) fn sections_of(key: &str) -> impl Iterator<Item = &'static str> {
    let has = move |keys: &[(&str, Kind)]| keys.iter().any(|(name, _)| *name == key);
    KEYS.iter().filter(move |(_, keys)| has(keys)).map(|(section, _)| *section)
}

/// The sections in which a key belongs that stands in `section`, where it has no effect. Other services of a node have
/// sections `srv_<name>` with keys of the same names as ours.
pub(super) fn misplaced<'a>(section: &str, key: &'a str) -> impl Iterator<Item = &'static str> + use<'a> {
    let is_known = KEYS.iter().any(|(known, _)| *known == section);
    let is_another_services = !is_known && section.starts_with("srv_");
    let is_own = KEYS.iter().any(|(known, keys)| *known == section && keys.iter().any(|(name, _)| *name == key));
    let may_be_anothers = OF_MANY.contains(&key) || !is_known && OF_OTHERS.contains(&key);
    let is_misplaced = !(is_another_services || is_own || may_be_anothers);
    sections_of(key).filter(move |_| is_misplaced)
}

/// The security key of a section that `word` names or misspells.
pub(super) fn meant(section: &str, word: &str) -> Option<&'static str> {
    let known = || KEYS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys);
    let keys = if section.starts_with("network_") { NETWORK_KEYS } else { known()? };
    keys.iter().map(|(name, _)| *name).find(|name| *name == word || is_near(word, name) && !NO_SLIPS.contains(&word))
}

/// Marks each security key that is missing, but that a key with a similar name or in another section stands for. A key
/// that is there under its own name counts.
pub(super) fn mark_misspelt(sections: &mut Sections) {
    let mut found = Vec::new();
    for (section, keys) in sections.iter() {
        for (known, security) in KEYS.iter().filter(|(known, _)| section == known || is_near(section, known)) {
            let is_security = |key: &String| section == known && security.iter().any(|(name, _)| name == key);
            for key in keys.keys().filter(|key| !is_security(key)) {
                if let Some(meant) = meant(known, key) {
                    found.push((*known, meant, format!("[{section}] {key}, which is no key (misspelt?)")));
                }
            }
        }
        for key in keys.keys() {
            for (known, meant) in misplaced(section, key).filter_map(|known| Some((known, meant(known, key)?))) {
                found.push((known, meant, format!("[{section}] {key}, which has no effect there (wrong section?)")));
            }
        }
    }
    for (section, key, text) in found {
        sections.entry(section.into()).or_default().entry(key.into()).or_insert(Value::Unreadable(text));
    }
}

/// Whether one name can be a slip of the pen for the other: a character too many, too few, wrong or in the wrong place,
/// two of them in a long name; upper case.
fn is_near(word: &str, name: &str) -> bool {
    let slips = match name.len() {
        0..3 => 0,
        3..9 => 1,
        _ => 2,
    };
    strsim::osa_distance(&word.to_lowercase(), name) <= slips
}

impl Config {
    /// Checks every security key: an error for the first that is there and cannot be read.
    ///
    /// ```
    /// use embedded::config::Config;
    ///
    /// let check = |text: &str| Config::parse(text, "a.cfg").0.check().map_err(|error| error.to_string());
    /// assert_eq!(check("[srv_vpn]\nclient_isolation=on\n"), Ok(()));
    /// assert_eq!(
    ///     check("[srv_vpn]\nclient_isolation=enabled\n"),
    ///     Err("a.cfg: [srv_vpn] client_isolation = enabled: expected true or false".into())
    /// );
    /// ```
    pub fn check(&self) -> Result<(), BadValue> {
        KEYS.iter().try_for_each(|(section, _)| self.check_section(section))?;
        let mut networks = self.sections.keys().filter(|section| section.starts_with("network_"));
        networks.try_for_each(|section| self.check_keys(section, NETWORK_KEYS))
    }

    /// Checks the security keys of one section.
    pub fn check_section(&self, section: &str) -> Result<(), BadValue> {
        let mut known = KEYS.iter().filter(|(known, _)| *known == name(section));
        known.try_for_each(|(section, keys)| self.check_keys(section, keys))
    }

    fn check_keys(&self, section: &str, keys: &[(&str, Kind)]) -> Result<(), BadValue> {
        for (key, kind) in keys {
            let Some(value) = self.written(section, key) else { continue };
            let expected = match (kind, value) {
                (Kind::List, Value::List(_)) => None,
                (Kind::NotEmpty, Value::List(items)) if !items.is_empty() => None,
                (kind, Value::Scalar(text)) => kind.refuses(text),
                (kind, _) => Some(kind.expected()),
            };
            if let Some(expected) = expected {
                return Err(self.bad(section, key, value, expected));
            }
        }
        Ok(())
    }
}

impl Kind {
    fn refuses(&self, text: &str) -> Option<String> {
        let fits = match self {
            Kind::Flag => flag(text).is_some(),
            Kind::Number(bounds) => integer(text).and_then(|n| n.try_into().ok()).is_some_and(|n| bounds.contains(&n)),
            Kind::Text | Kind::NotEmpty => !text.is_empty(),
            Kind::List => true,
            Kind::Pin => text
                .strip_prefix("sha256:")
                .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())),
            Kind::Socket => Path::new(text).is_absolute() && text.len() <= SOCKET_PATH_MAX,
            Kind::Word(words) => words.contains(&text),
        };
        (!fits).then(|| self.expected())
    }

    fn expected(&self) -> String {
        match self {
            Kind::Flag => "true or false".into(),
            Kind::Number(bounds) if *bounds.end() == u64::MAX => "a whole number".into(),
            Kind::Number(bounds) => format!("a whole number from {} to {}", bounds.start(), bounds.end()),
            Kind::Text => "one value, not a list".into(),
            Kind::List | Kind::NotEmpty => "a list, such as [a,b]".into(),
            Kind::Pin => "sha256: and 64 hexadecimal digits".into(),
            Kind::Socket => format!("an absolute path of at most {SOCKET_PATH_MAX} bytes"),
            Kind::Word(words) => format!("one of {}", words.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<String> {
        Config::parse(text, "test.cfg").0.check().err().map(|error| error.to_string())
    }

    fn all_taken(texts: &[&str]) {
        for text in texts {
            assert_eq!(refused(text), None, "{text}");
        }
    }

    /// Each kind of key with each kind of mistake: none of them is a default.
    #[test]
    fn a_security_key_that_cannot_be_read_is_named() {
        let networks = [("network_backbone", NETWORK_KEYS)];
        for (section, keys) in KEYS.iter().chain(&networks) {
            for (key, kind) in *keys {
                let mut mistakes = vec![
                    format!("[{section}]\n{key}=[a"),
                    format!("[{section}\n{key}=1"),
                    format!("[{section}]\n{key} true"),
                    format!("{key}=1\n[{section}]"),
                    format!("[{section}]\n{key}=[a\nb] c\n"),
                ];
                if *section == "network_backbone" {
                    // Which network a key without a section is of, nobody knows.
                    mistakes.retain(|text| text.starts_with("[network_backbone]\n"));
                }
                if !matches!(kind, Kind::List) {
                    mistakes.extend([format!("[{section}]\n{key}="), format!("[{section}]\n{key}=[]")]);
                }
                if !matches!(kind, Kind::List | Kind::NotEmpty) {
                    mistakes.push(format!("[{section}]\n{key}=[a,b]"));
                }
                if !matches!(kind, Kind::List | Kind::NotEmpty | Kind::Text) {
                    mistakes.extend([format!("[{section}]\n{key}=maybe"), format!("[{section}]\n{key}=-1")]);
                }
                for text in mistakes {
                    let error = refused(&text).unwrap_or_else(|| panic!("{text:?} is taken"));
                    let is_named = error.replace('-', "_").contains(&format!("] {key} = "));
                    assert!(is_named && error.contains("expected"), "{text:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_documentation_marks_them() {
        let text = include_str!("../../../../docs/config.md");
        // A second mark is for keys that a reload changes.
        let text = text.replace("` ! ~ |", "` ! |");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `") && line.contains("` ! |")).collect();
        let mut keys = 0;
        for (section, security) in KEYS {
            for (key, _) in *security {
                let long = format!("| `[{section}] {key}` ! |");
                let is_marked =
                    |row: &&str| row.replace('-', "_").starts_with(&long) || row.starts_with(&format!("| `{key}` ! |"));
                assert!(rows.iter().any(is_marked), "[{section}] {key}");
                keys += 1;
            }
        }
        for (key, _) in NETWORK_KEYS {
            assert!(rows.iter().any(|row| row.starts_with(&format!("| `[network_<name>] {key}` ! |"))), "{key}");
            keys += 1;
        }
        assert_eq!(rows.len(), keys, "a marked key is in no row of KEYS");
    }

    #[test]
    fn a_misspelt_security_key_is_one_that_cannot_be_read() {
        for text in [
            "[srv_vpn]\nclient_isolaton=true",
            "[srv_vpn]\nClient_Isolation=true",
            "[srv_vpn]\nclientisolation=true",
            "[SRV_VPN]\nclient_isolation=true",
            "[srv_vnp]\nclient_isolation=true",
            "[srv_vpn]\nallow_fre_srv=false",
            "[vpn_client]\nserver_pn=x",
            "[vpn_client]\nserverpin=x",
            "[client_vpn]\n[vpn_clent]\nserver_pin=x",
            "[server]\nmax_stream=5",
            "[srv_vpn]\nden=[10.0.0.0/8]",
            "[srv_vpn]\ndney=[10.0.0.0/8]",
            "[srv_vpn]\ndn=[10.98.0.1]",
            "[srv_vpn]\ngtae=true",
            "[srv_vpn]\nlease_per_address=3",
            "[srv_vpn]\nNEW_LEASES_PER_MINUTE=3",
            "[srv_vpn]\nlease_unsued=3",
            "[srv_vpn]\nnta=off",
            "[vpn_client]\nallow_subent=[203.0.113.0/24]",
        ] {
            let error = refused(text).unwrap_or_else(|| panic!("{text:?} is taken"));
            assert!(error.contains("is no key (misspelt?)"), "{error}");
        }
        let taken = [
            "[srv_vpn]\nclient_isolation=true\nclient_isolaton=true\n",
            "[srv-vpn]\nclient-isolation=true",
            "[cli-server]\nlisten-path=/run/x\nlisten_port=1\n",
            "[other]\nenabled=maybe",
            "[srv_vpn]\nnet=backbone",
            "[srv_vpn]\nwallet_addr=x\npricelist=[a]\nlease_time=3\nmtu=x\n",
            "[srv_xchange]\nenabled=maybe",
        ];
        all_taken(&taken);
    }

    #[test]
    fn a_security_key_in_another_section_is_one_that_cannot_be_read() {
        for (text, at) in [
            ("[server]\nclient_isolation=true", "[srv_vpn] client_isolation"),
            ("[general]\nclient-isolation=true", "[srv_vpn] client_isolation"),
            ("[vpn_server]\nclient_isolation=true", "[srv_vpn] client_isolation"),
            ("[network_backbone]\ndeny_host=true", "[srv_vpn] deny_host"),
            ("[server]\ndeny=[10.0.0.0/8]", "[srv_vpn] deny"),
            ("[srv_vpn]\nmax_streams_per_address=10", "[server] max_streams_per_address"),
            ("[srv_vpn]\nmax_memory=10", "[server] max_memory"),
            ("[server]\nserver_pin=sha256:00", "[vpn_client] server_pin"),
            ("[srv_vpn]\nallow_subnet=[203.0.113.0/24]", "[vpn_client] allow_subnet"),
            ("[vpn_client]\nleases_per_address=3", "[srv_vpn] leases_per_address"),
            ("[resources]\nstate_dir=/x", "[general] state_dir"),
            ("[server]\nclient_isolation true", "[srv_vpn] client_isolation"),
            ("[server]\nclient_isolation=[true", "[srv_vpn] client_isolation"),
        ] {
            let error = refused(text).unwrap_or_else(|| panic!("{text:?} is taken"));
            assert!(error.contains(&format!("{at} = ")) && error.contains("expected"), "{error}");
        }
        let taken = [
            "[srv_vpn]\nclient_isolation=true\n[server]\nclient_isolation=true",
            "[cli-server]\nlisten-address=[127.0.0.1:12345]",
            "[notify_server]\nlisten_path=x\nlisten_address=y",
            "[srv_stake]\nallow_free_srv=x\ngrace_period=x\nreceipt_sign_cert=[",
            "[balancer]\nenabled=x\ndns=x\ndevice=[x\ngate",
        ];
        all_taken(&taken);
    }

    #[test]
    fn the_last_value_counts() {
        assert_eq!(refused("[srv_vpn]\nclient_isolation=[x\n[srv_vpn]\nclient_isolation=true"), None);
        assert!(refused("[srv_vpn]\nclient_isolation=true\nclient_isolation=[x").is_some());
    }
}
