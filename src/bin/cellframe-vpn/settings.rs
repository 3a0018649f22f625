//! Builds one configuration from the options: file, state directory and overrides.

use std::fmt::Display;
use std::net::ToSocketAddrs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use embedded::cli;
use embedded::config::Config;

use crate::exit::{Code, Failure};

/// Read if it exists and the command line names no other file.
pub(crate) const DEFAULT_FILE: &str = "/etc/cellframe-vpn/cellframe-vpn.cfg";

/// The part that a process plays. Each role on a machine has a state directory of its own, with a store that only one
/// process may open and a socket through which `stat`, `status` and `stop` find the process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Server,
    Client,
    /// `check` works beside a running client, whose store it cannot open.
    Check,
}

impl Role {
    /// The name of its state directory.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Check => "check",
        }
    }
}

/// Loads the configuration of `role`: `file`, else [`DEFAULT_FILE`] if it exists, else the built-in defaults. The state
/// directory is `state_dir`, else the role's directory inside the configured one. A security key that cannot be read is
/// an error: its default may be the opposite of what its owner wrote.
pub(crate) fn load(role: Role, file: Option<&Path>, state_dir: Option<&Path>) -> Result<Config, Failure> {
    let config = read(file)?;
    warn_of_unknown_keys(&config);
    config.check().map_err(usage)?;
    if matches!(role, Role::Server) {
        require_addresses(&config)?;
    }
    place(config, role, state_dir)
}

/// Loads the configuration as [`load`] does, for a command to a process that runs: what cannot be read of the keys that
/// do not lead to its socket is no obstacle to `stop`.
pub(crate) fn load_for_command(role: Role, file: Option<&Path>, state_dir: Option<&Path>) -> Result<Config, Failure> {
    let config = read(file)?;
    config.check_section("cli-server").and_then(|()| config.check_section("general")).map_err(usage)?;
    place(config, role, state_dir)
}

/// Fails if an address to listen on is none: the library would say so in the log, and listen on the others.
fn require_addresses(config: &Config) -> Result<(), Failure> {
    for address in config.get_list("server", "listen_address") {
        address.to_socket_addrs().map_err(|error| {
            usage(format_args!(
                "{}: [server] listen_address = {address}: expected ADDRESS:PORT, such as 0.0.0.0:8079 or [::]:8079 ({error})",
                config.origin()
            ))
        })?;
    }
    Ok(())
}

fn usage(error: impl Display) -> Failure {
    Failure::new(Code::Usage, error.to_string())
}

/// Sets the state directory.
pub(crate) fn place(mut config: Config, role: Role, state_dir: Option<&Path>) -> Result<Config, Failure> {
    let state_dir = match state_dir {
        Some(directory) => absolute(directory)?,
        None => config.state_path().join(role.directory()),
    };
    let text = state_dir.to_str().ok_or_else(|| {
        Failure::new(Code::Usage, format!("--state-dir {}: expected a UTF-8 path", state_dir.display()))
    })?;
    config.set("general", "state_dir", text);
    Ok(config)
}

/// The keys that the program reads, and the keys of a node's file that have no effect here.
pub(crate) const KEYS: &[(&str, &[&str])] = &[
    ("general", &["state_dir"]),
    (
        "server",
        &[
            "enabled",
            "listen_address",
            "max_streams",
            "max_streams_per_address",
            "max_memory",
            "max_memory_per_address",
            "idle_timeout",
        ],
    ),
    (
        "srv_vpn",
        &[
            "enabled",
            "network_address",
            "network_mask",
            "net",
            "allow_free_srv",
            "prices",
            "grace_period",
            "grace_per_hour",
            "grace_bytes",
            "grace_at_once",
            "grace_bytes_per_hour",
            "receipt_sign_cert",
            "wallet_addr",
            "gate",
            "prove_key",
            "payment_timeout",
            "auto_cpu_reassignment",
            "debug_more",
            "log_addresses",
            "mtu",
            "device_mtu",
            "lease_time",
            "lease_unused",
            "store_leases",
            "static_leases",
            "account_book",
            "account_book_free",
            "leases_per_address",
            "new_leases_per_minute",
            "client_isolation",
            "session_queue",
            "queue_memory",
            "limit_down",
            "limit_up",
            "order_limits",
            "congestion",
            "dns",
            "keep_alive",
            "offload",
            "device",
            "deny",
            "deny_host",
            "nat",
            "monitor",
            "status_page",
        ],
    ),
    (
        "vpn_client",
        &[
            "connect",
            "net",
            "wallet",
            "wallet_token",
            "wallet_value",
            "start_timeout",
            "mtu",
            "keep_alive",
            "reconnect",
            "offload",
            "congestion",
            "order_hash",
            "tx_fee",
            "server_pin",
            "allow_subnet",
            "allow_source",
            "ipv6",
            "routes",
            "exclude_routes",
            "kill_switch",
            "kill_switch_local",
            "dns",
        ],
    ),
    ("resources", &["threads_cnt"]),
    ("cli-server", &["enabled", "listen-path"]),
    ("networks", &["names"]),
    ("cdb", &["servers_list_check_timeout"]),
];

/// Whether the program reads the key.
#[cfg(test)]
pub(crate) fn is_known(section: &str, key: &str) -> bool {
    KEYS.iter().any(|(name, keys)| *name == section && keys.contains(&key))
}

/// Warns of unknown keys: a misspelt key would silently leave its default in force.
fn warn_of_unknown_keys(config: &Config) {
    for key in unknown_keys(config) {
        log::warn!("{}: {key}: no such key; ignored", config.origin());
    }
}

/// Returns the keys that nobody reads, as `[section] key`.
pub(crate) fn unknown_keys(config: &Config) -> Vec<String> {
    // The configuration compares names with `-` as `_`.
    let is = |name: &str, key: &str| name.replace('-', "_") == key;
    let is_known = |section: &str, key: &str| match KEYS.iter().find(|(name, _)| is(name, section)) {
        Some((_, keys)) => keys.iter().any(|name| is(name, key)),
        None => section.starts_with("network_"),
    };
    let unknown = config.keys().into_iter().filter(|(section, key)| !is_known(section, key));
    unknown.map(|(section, key)| format!("[{section}] {key}")).collect()
}

/// Fails if a process of this role already uses this state directory.
pub(crate) fn require_unused(role: Role, config: &Config) -> Result<(), Failure> {
    let socket = cli::socket_path(config);
    if UnixStream::connect(&socket).is_err() {
        return Ok(());
    }
    let (role, socket) = (role.directory(), socket.display());
    Err(Failure::general(format!(
        "a {role} already runs here (it listens on {socket}); give a second one its own --state-dir"
    )))
}

/// Returns the file that is read: `file`, else [`DEFAULT_FILE`] if it exists.
pub(crate) fn file(file: Option<&Path>) -> Option<&Path> {
    file.or_else(|| Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()))
}

/// Reads `named`, else [`DEFAULT_FILE`] if it exists, else nothing.
pub(crate) fn read(named: Option<&Path>) -> Result<Config, Failure> {
    let Some(path) = file(named) else { return Ok(Config::empty()) };
    Config::load(path).map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", path.display())))
}

/// The output of `server --print-config`, and the configuration file of a package: every key, with its default.
pub(crate) const EXAMPLE: &str = include_str!("example.cfg");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_what_the_defaults_are() {
        let (example, mistakes) = Config::parse(EXAMPLE, "example");
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let defaults = Config::empty();
        let keys = [
            ("server", "enabled"),
            ("server", "listen_address"),
            ("srv_vpn", "enabled"),
            ("srv_vpn", "network_address"),
            ("srv_vpn", "network_mask"),
            ("srv_vpn", "net"),
            ("srv_vpn", "allow_free_srv"),
        ];
        for (section, key) in keys {
            assert!(!example.get_list(section, key).is_empty(), "[{section}] {key}");
            assert_eq!(example.get_list(section, key), defaults.get_list(section, key), "[{section}] {key}");
        }
        assert_eq!(example.get_u64("resources", "threads_cnt", 7), 0);
        assert_eq!(example.get_str("vpn_client", "server_pin"), None);
    }

    /// Lines such as `#key=value`: keys that are commented out. Other comments have a space first.
    fn switched_on(example: &str) -> String {
        let is_key = |line: &str| line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains('=');
        let lines = example.lines().map(|line| line.strip_prefix('#').filter(|line| is_key(line)).unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_has_every_key() {
        let text = switched_on(EXAMPLE).replace("<64 hexadecimal digits>", &"5a".repeat(32));
        let (example, mistakes) = Config::parse(&text, "example");
        assert!(mistakes.is_empty(), "{mistakes:?}");
        example.check().expect("values that can be read");
        let is = |name: &str, key: &str| name.replace('-', "_") == key;
        let written = example.keys();
        let mut known = 0;
        for (section, key) in KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| (section, key))) {
            // A key of a node's file, without effect.
            if *key != "wallet_addr" {
                assert!(written.iter().any(|(s, k)| is(section, s) && is(key, k)), "[{section}] {key} is missing");
                known += 1;
            }
        }
        assert_eq!(written.len(), known, "an unknown key: {written:?}");
    }

    /// Compares with the tables of the documentation, where a default is a number or a word.
    #[test]
    fn the_example_has_the_documented_defaults() {
        let (example, _) = Config::parse(&switched_on(EXAMPLE), "example");
        let text = include_str!("../../../docs/config.md");
        let mut compared = 0;
        for (section, heading) in
            [("srv_vpn", "## The service: `[srv_vpn]`"), ("vpn_client", "## The client: `[vpn_client]`")]
        {
            let (_, table) = text.split_once(heading).expect(heading);
            let (table, _) = table.split_once("\n## ").expect("another section");
            for row in table.lines().filter(|line| line.starts_with("| `")) {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                let key = cells[1].split('`').nth(1).expect("a key");
                // Such as "1390; 1353 in a node".
                let default = cells[3].split(';').next().unwrap_or_default().trim_matches('`');
                let is_number = !default.is_empty() && default.bytes().all(|byte| byte.is_ascii_digit());
                let is_plain = is_number || ["true", "false"].contains(&default);
                // A key of another section, and one that has an example in place of the default.
                if is_plain && !key.starts_with('[') && key != "deny_host" {
                    assert_eq!(example.get_str(section, key).as_deref(), Some(default), "[{section}] {key}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 30, "{compared} defaults");
    }

    #[test]
    fn every_key_of_the_documentation_is_known() {
        let text = include_str!("../../../docs/config.md");
        let mut keys = 0;
        for (section, heading) in
            [("srv_vpn", "## The service: `[srv_vpn]`"), ("vpn_client", "## The client: `[vpn_client]`")]
        {
            let (_, table) = text.split_once(heading).expect(heading);
            let (table, _) = table.split_once("\n## ").expect("another section");
            let (_, known) = KEYS.iter().find(|(name, _)| *name == section).expect(section);
            let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key);
            for key in rows.filter(|key| !key.starts_with('[')) {
                assert!(known.contains(&key), "[{section}] {key}");
                keys += 1;
            }
        }
        assert!(keys > 20, "{keys} keys");
    }

    #[test]
    fn an_option_wins_over_the_file() {
        let directory = std::env::temp_dir().join(format!("cellframe-vpn-settings-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("make a directory");
        let file = directory.join("a.cfg");
        let text = format!("[general]\nstate_dir={}\n[srv_vpn]\nnet=other\n", directory.join("file").display());
        std::fs::write(&file, text).expect("write a file");

        let by_file = load(Role::Client, Some(&file), None).expect("load");
        let by_option = load(Role::Client, Some(&file), Some(&directory.join("a # b"))).expect("load");
        assert_eq!(by_file.state_path(), directory.join("file/client"));
        assert_eq!(by_option.state_path(), directory.join("a # b"));
        assert_eq!(by_option.get_str("srv_vpn", "net").as_deref(), Some("other"));
        std::fs::remove_dir_all(&directory).expect("remove the directory");
    }

    #[test]
    fn a_missing_file_is_a_usage_error_that_names_it() {
        let failure = load(Role::Server, Some(Path::new("/nonexistent/x.cfg")), None).expect_err("no such file");
        assert_eq!(failure.code, Code::Usage);
        assert!(failure.message.contains("/nonexistent/x.cfg"), "{failure}");
    }
}
