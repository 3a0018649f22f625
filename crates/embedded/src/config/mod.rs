//! The configuration: the node's `.cfg` files, and the defaults with which an empty one runs.
//!
//! A look-up tries the file (later files of `<name>.cfg.d/` win), then the built-in defaults, then the caller's
//! default. A value of the wrong kind is logged with its section, key and the expected kind, and counts as absent;
//! [`Config::check`] makes an error of it for the keys in `security`.

mod changes;
mod parse;
mod security;
mod value;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

pub use changes::Change;
pub use parse::Diagnostic;
use value::{Sections, Value};

/// A configuration file has a page or two; a larger file is another kind of file.
const FILE_SIZE_MAX: u64 = 4 << 20;

/// The roles that a node can have in a network, as `[network_<name>] role` names them.
pub(crate) const ROLES: &[&str] = &["root-master", "root", "archive", "cell-master", "master", "full", "light"];

const NETWORK_DEFAULTS: [(&str, &str); 2] = [("network_address", "10.98.0.0"), ("network_mask", "255.255.255.0")];
const DEFAULTS: [(&str, &str, &str); 5] = [
    ("srv_vpn", "enabled", "true"),
    ("srv_vpn", "net", "backbone"),
    ("srv_vpn", "allow_free_srv", "true"),
    ("server", "enabled", "true"),
    ("server", "listen_address", "0.0.0.0:8079"),
];

/// One configuration, which does not change once it is read.
///
/// ```
/// use embedded::config::Config;
///
/// let text = "[server]\nlisten_address=[0.0.0.0:8079,[::1]:8079]\n[resources]\nthreads_cnt=0x4\n?\n";
/// let (mut config, bad_lines) = Config::parse(text, "example.cfg");
/// assert_eq!(bad_lines.len(), 1);
/// assert!(bad_lines[0].to_string().starts_with("example.cfg:5: "));
///
/// assert_eq!(config.get_list("server", "listen_address"), ["0.0.0.0:8079", "[::1]:8079"]);
/// assert_eq!(config.get_u64("resources", "threads_cnt", 0), 4);
/// // Absent from the text: the built-in default, or the caller's.
/// assert_eq!(config.get_str("srv_vpn", "net").as_deref(), Some("backbone"));
/// assert_eq!(config.get_u64("vpn_client", "start_timeout", 10), 10);
///
/// config.set("srv_vpn", "net", "test");
/// assert_eq!(config.get_str("srv_vpn", "net").as_deref(), Some("test"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    origin: String,
    sections: Sections,
}

/// A key that is there, and whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: [{section}] {key} = {value}: expected {expected}")]
pub struct BadValue {
    /// Where the configuration came from.
    pub origin: String,
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// The values that are valid.
    pub expected: String,
}

/// A configuration that cannot be read at all. Invalid lines are a [`Diagnostic`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file or directory cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no text of a configuration.
    #[error("{} is not a configuration file: {why}", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// What it has, and what is expected.
        why: &'static str,
    },
    /// The file is too large to be a configuration.
    #[error("{} is not a configuration file: it is larger than {FILE_SIZE_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl Config {
    /// The built-in defaults alone.
    pub fn empty() -> Self {
        Self { origin: "built-in defaults".into(), sections: Sections::new() }
    }

    /// Parses a text; `origin` is its name in messages. Returns the invalid lines without logging them.
    pub fn parse(text: &str, origin: &str) -> (Self, Vec<Diagnostic>) {
        let mut config = Self { origin: origin.to_owned(), sections: Sections::new() };
        let mut diagnostics = Vec::new();
        parse::parse_into(&mut config.sections, &mut diagnostics, text.as_bytes(), origin);
        security::mark_misspelt(&mut config.sections);
        (config, diagnostics)
    }

    /// Reads a file, then `<path>.d/*.cfg` in the order of their names. Logs invalid lines as warnings.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self { origin: path.display().to_string(), sections: Sections::new() };
        let mut diagnostics = Vec::new();
        let included = included_files(path)?;
        for file in std::iter::once(path.to_owned()).chain(included) {
            let text = read(&file)?;
            if let Some(why) = parse::refuse(&text) {
                return Err(ConfigError::NoText { path: file, why });
            }
            parse::parse_into(&mut config.sections, &mut diagnostics, &text, &file.display().to_string());
        }
        for diagnostic in diagnostics {
            log::warn!("{diagnostic}");
        }
        security::mark_misspelt(&mut config.sections);
        Ok(config)
    }

    /// A configuration in place of one that cannot be read: a start with it fails at the first security key, where the
    /// built-in defaults would start.
    pub fn unreadable(error: &ConfigError) -> Self {
        let mut sections = Sections::new();
        for (section, keys) in security::KEYS {
            let keys = keys.iter().map(|(key, _)| ((*key).to_owned(), Value::Unreadable(format!("({error})"))));
            sections.insert((*section).to_owned(), keys.collect());
        }
        Self { origin: "no configuration".into(), sections }
    }

    /// Sets a key as if the file's last line had done so: for command line options that override it.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        let section = self.sections.entry(value::name(section)).or_default();
        section.insert(value::name(key), Value::Scalar(value.to_owned()));
    }

    /// Sets a list, in place of any value from the text.
    pub fn set_list(&mut self, section: &str, key: &str, items: &[String]) {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), Value::List(items.to_vec()));
    }

    /// Where the configuration came from, for messages: a path, or "built-in defaults".
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the text contains the section, with or without keys. Built-in defaults do not count.
    pub fn has_section(&self, section: &str) -> bool {
        self.sections.contains_key(&value::name(section))
    }

    /// Every section and key in the text, in the order of their names, `-` as `_`.
    pub fn keys(&self) -> Vec<(&str, &str)> {
        let all = self.sections.iter().flat_map(|(section, keys)| keys.keys().map(move |key| (section, key)));
        let mut all: Vec<_> = all.map(|(section, key)| (section.as_str(), key.as_str())).collect();
        all.sort_unstable();
        all
    }

    /// The letter of `dap_config_item_type_t` for the value; None if it is absent.
    pub(crate) fn kind(&self, section: &str, key: &str) -> Option<u8> {
        let of_text = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "false" => b'b',
            text if text.parse::<i64>().is_ok() => b'd',
            _ => b's',
        };
        match self.written(section, key) {
            Some(Value::List(_)) => Some(b'a'),
            Some(Value::Scalar(text)) => Some(of_text(text)),
            Some(Value::Unreadable(_)) => Some(b's'),
            None => self.built_in(section, key).map(of_text),
        }
    }

    /// The value as text; None if it is absent or a list.
    pub fn get_str(&self, section: &str, key: &str) -> Option<String> {
        match self.written(section, key) {
            Some(Value::Scalar(text) | Value::Unreadable(text)) => Some(text.clone()),
            Some(Value::List(_)) => {
                self.warn_invalid(section, key, "[...]", "one value, not a list");
                None
            }
            None => self.built_in(section, key).map(str::to_owned),
        }
    }

    /// The items of a list; a single value is a list of one, an absent or empty value an empty list.
    pub fn get_list(&self, section: &str, key: &str) -> Vec<String> {
        match self.written(section, key) {
            Some(Value::List(items)) => items.clone(),
            Some(Value::Scalar(text)) if text.is_empty() => Vec::new(),
            Some(Value::Scalar(text) | Value::Unreadable(text)) => vec![text.clone()],
            None => self.built_in(section, key).map(str::to_owned).into_iter().collect(),
        }
    }

    /// `true/on/yes/1` or `false/off/no/0`, in any case.
    pub fn get_bool(&self, section: &str, key: &str, default: bool) -> bool {
        self.get(section, key, default, "true or false", flag)
    }

    /// A whole number from 0, decimal or 0x hexadecimal.
    pub fn get_u64(&self, section: &str, key: &str, default: u64) -> u64 {
        self.get(section, key, default, "a whole number from 0 to 2^64 - 1", |text| {
            integer(text).and_then(|n| n.try_into().ok())
        })
    }

    /// A whole number, decimal or 0x hexadecimal, which may be negative.
    pub fn get_i64(&self, section: &str, key: &str, default: i64) -> i64 {
        self.get(section, key, default, "a whole number from -2^63 to 2^63 - 1", |text| {
            integer(text).and_then(|n| n.try_into().ok())
        })
    }

    /// A finite decimal number.
    pub fn get_f64(&self, section: &str, key: &str, default: f64) -> f64 {
        self.get(section, key, default, "a number", |text| text.parse().ok().filter(|n: &f64| n.is_finite()))
    }

    /// The directory for data that must survive a restart (identity, store, CLI socket): `[general] state_dir`, else
    /// `/var/lib/cellframe-vpn` for root and `$XDG_STATE_HOME/cellframe-vpn` (`~/.local/state`) for other users.
    pub fn state_path(&self) -> PathBuf {
        const NAME: &str = "cellframe-vpn";
        if let Some(path) = self.get_str("general", "state_dir").filter(|path| !path.is_empty()) {
            return path.into();
        }
        let system = || Path::new("/var/lib").join(NAME);
        if rustix::process::geteuid().is_root() {
            return system();
        }
        // A relative $XDG_STATE_HOME is invalid (XDG Base Directory Specification).
        let state_home = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let state_home = state_home.or_else(|| Some(std::env::home_dir()?.join(".local/state")));
        state_home.map_or_else(system, |home| home.join(NAME))
    }

    /// Whether the text has the key. Built-in defaults do not count.
    pub(crate) fn is_written(&self, section: &str, key: &str) -> bool {
        self.written(section, key).is_some()
    }

    fn written(&self, section: &str, key: &str) -> Option<&Value> {
        self.sections.get(&value::name(section))?.get(&value::name(key))
    }

    /// The error of a key whose value turns out to be unusable; `None` if the key is not written.
    pub(crate) fn bad_value(&self, section: &str, key: &str, expected: String) -> Option<BadValue> {
        Some(self.bad(section, key, self.written(section, key)?, expected))
    }

    fn bad(&self, section: &str, key: &str, value: &Value, expected: String) -> BadValue {
        let value = match value {
            Value::Scalar(text) => text.escape_debug().to_string(),
            Value::List(items) => format!("[{}]", items.join(",")).escape_debug().to_string(),
            Value::Unreadable(text) => text.clone(),
        };
        let (section, key) = spelling(section, key);
        BadValue { origin: self.origin.clone(), section, key, value, expected }
    }

    /// The network has a default only if the text has no VPN section: a section without a mask is a mistake that its
    /// owner must see in the log.
    fn built_in(&self, section: &str, key: &str) -> Option<&'static str> {
        if section == "srv_vpn"
            && !self.has_section(section)
            && let Some((_, value)) = NETWORK_DEFAULTS.iter().find(|(name, _)| *name == key)
        {
            return Some(value);
        }
        DEFAULTS.iter().find(|(of, name, _)| *of == section && *name == key).map(|(_, _, value)| *value)
    }

    /// The keys that have a default here, written or not.
    fn built_in_keys(&self) -> impl Iterator<Item = (&str, &str)> {
        let network = NETWORK_DEFAULTS.iter().map(|(key, _)| ("srv_vpn", *key));
        DEFAULTS.iter().map(|(section, key, _)| (*section, *key)).chain(network)
    }

    fn get<T>(&self, section: &str, key: &str, default: T, expected: &str, convert: impl Fn(&str) -> Option<T>) -> T {
        let Some(text) = self.get_str(section, key) else { return default };
        convert(&text).unwrap_or_else(|| {
            self.warn_invalid(section, key, &text, expected);
            default
        })
    }

    fn warn_invalid(&self, section: &str, key: &str, value: &str, expected: &str) {
        log::error!(
            "{}: [{section}] {key}={value}: expected {expected}; the value is ignored",
            self.origin,
            value = value.escape_debug()
        );
    }
}

/// Section and key as the node's files and the documentation spell them.
fn spelling(section: &str, key: &str) -> (String, String) {
    match section {
        "cli_server" => ("cli-server".to_owned(), key.replace('_', "-")),
        _ => (section.to_owned(), key.to_owned()),
    }
}

/// The process-wide configuration; the built-in defaults until one is set. Any thread.
pub fn current() -> Arc<Config> {
    if let Some(config) = CURRENT.read().as_ref() {
        return Arc::clone(config);
    }
    Arc::clone(CURRENT.write().get_or_insert_with(|| Arc::new(Config::empty())))
}

/// Makes `config` the process-wide configuration. Holders of the previous one keep it.
pub fn set_current(config: impl Into<Arc<Config>>) {
    *CURRENT.write() = Some(config.into());
}

static CURRENT: RwLock<Option<Arc<Config>>> = RwLock::new(None);

/// `<path>.d/*.cfg`, sorted; empty if the directory does not exist.
fn included_files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let failed = |source| ConfigError::Read { path: directory.clone(), source };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "cfg") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_SIZE_MAX + 1), &mut text).map_err(failed)?;
    if text.len() as u64 > FILE_SIZE_MAX { Err(ConfigError::TooLarge { path: path.to_owned() }) } else { Ok(text) }
}

fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    // u64's parser accepts a sign; after ours there must be none.
    let number = match hexadecimal {
        Some(digits) if digits.bytes().all(|d| d.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok()?,
        None if digits.bytes().all(|d| d.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    Some(if negative { -i128::from(number) } else { i128::from(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let (config, diagnostics) = Config::parse(text, "test.cfg");
        assert_eq!(diagnostics, []);
        config
    }

    #[test]
    fn an_empty_configuration_runs() {
        let empty = Config::empty();
        assert!(empty.get_bool("srv_vpn", "enabled", false));
        assert!(empty.get_bool("srv_vpn", "allow_free_srv", false));
        assert_eq!(empty.get_str("srv_vpn", "net").as_deref(), Some("backbone"));
        assert_eq!(empty.get_str("srv_vpn", "network_address").as_deref(), Some("10.98.0.0"));
        assert_eq!(empty.get_str("srv_vpn", "network_mask").as_deref(), Some("255.255.255.0"));
        assert_eq!(empty.get_list("server", "listen_address"), ["0.0.0.0:8079"]);
        assert_eq!(empty.get_str("srv_vpn", "other"), None);
        assert!(!empty.has_section("srv_vpn"));
    }

    #[test]
    fn a_written_section_gets_no_default_network() {
        let written = config("[srv_vpn]\nnetwork_address=10.1.0.0\n");
        assert_eq!(written.get_str("srv_vpn", "network_mask"), None);
        assert_eq!(written.get_str("srv_vpn", "net").as_deref(), Some("backbone"));
        assert_eq!(config("[srv_vpn]").get_str("srv_vpn", "network_address"), None);
        assert_eq!(config("[server]").get_str("srv_vpn", "network_mask").as_deref(), Some("255.255.255.0"));
    }

    #[test]
    fn kinds_of_values() {
        for (text, expected) in [
            ("true", Some(true)),
            ("ON", Some(true)),
            ("Yes", Some(true)),
            ("1", Some(true)),
            ("false", Some(false)),
            ("off", Some(false)),
            ("NO", Some(false)),
            ("0", Some(false)),
            ("2", None),
            ("", None),
            ("[true]", None),
        ] {
            let config = config(&format!("[s]\nk={text}"));
            assert_eq!(config.get_bool("s", "k", true), expected.unwrap_or(true), "{text}");
            assert_eq!(config.get_bool("s", "k", false), expected.unwrap_or(false), "{text}");
        }
        for (text, unsigned, signed) in [
            ("0", 0, 0),
            ("42", 42, 42),
            ("0x10", 16, 16),
            ("0XfF", 255, 255),
            ("-5", 7, -5),
            ("-0x10", 7, -16),
            ("18446744073709551615", u64::MAX, 7),
            ("18446744073709551616", 7, 7),
            ("-9223372036854775808", 7, i64::MIN),
            ("--1", 7, 7),
            ("-+1", 7, 7),
            ("0x", 7, 7),
            ("0x+1", 7, 7),
            ("1k", 7, 7),
            ("", 7, 7),
        ] {
            let config = config(&format!("[s]\nk={text}"));
            assert_eq!(config.get_u64("s", "k", 7), unsigned, "{text}");
            assert_eq!(config.get_i64("s", "k", 7), signed, "{text}");
        }
        let config = config("[s]\na=1.5\nb=nan\nlist=[x,y]\none=x\nnone=");
        assert_eq!((config.get_f64("s", "a", 0.0), config.get_f64("s", "b", 2.0)), (1.5, 2.0));
        assert_eq!(config.get_list("s", "list"), ["x", "y"]);
        assert_eq!(config.get_list("s", "one"), ["x"]);
        assert_eq!(config.get_list("s", "none"), [""; 0]);
        assert_eq!(config.get_str("s", "list"), None);
    }

    #[test]
    fn included_files_come_later_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.cfg");
        fs::write(&path, "[s]\na=file\nb=file\nc=file\n").unwrap();
        assert_eq!(Config::load(&path).unwrap().get_str("s", "b").as_deref(), Some("file"));
        fs::create_dir(directory.path().join("node.cfg.d")).unwrap();
        fs::write(directory.path().join("node.cfg.d/20.cfg"), "[s]\nc=20\n").unwrap();
        fs::write(directory.path().join("node.cfg.d/10.cfg"), "[s]\nb=10\nc=10\n").unwrap();
        fs::write(directory.path().join("node.cfg.d/30.cfg~"), "[s]\na=30\n").unwrap();
        let config = Config::load(&path).unwrap();
        let values: Vec<_> = ["a", "b", "c"].map(|key| config.get_str("s", key).unwrap()).into();
        assert_eq!(values, ["file", "10", "20"]);
    }

    #[test]
    fn unreadable_files_are_named() {
        let error = Config::load(Path::new("/nowhere/x.cfg")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/x.cfg"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Config::load(directory.path()), Err(ConfigError::Read { .. })));
        assert!(matches!(Config::load(Path::new("/dev/zero")), Err(ConfigError::TooLarge { .. })));
        let path = directory.path().join("node.cfg");
        fs::write(&path, "[s]\nk=v\n").unwrap();
        let included = directory.path().join("node.cfg.d");
        // A file in the directory's place, then files in it that cannot be read.
        fs::write(&included, "[s]\nk=w\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("node.cfg.d"), "{error}");
        fs::remove_file(&included).unwrap();
        fs::create_dir(&included).unwrap();
        let file = included.join("10.cfg");
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("10.cfg"), "{error}");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "[srv_vpn]\rclient_isolation=true\r").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("10.cfg") && error.contains("CR alone"), "{error}");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })));
    }
}
