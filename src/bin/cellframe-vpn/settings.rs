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
    fn directory(self) -> &'static str {
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
const KEYS: &[(&str, &[&str])] = &[
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
        ],
    ),
    (
        "vpn_client",
        &[
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

/// Warns of unknown keys: a misspelt key would silently leave its default in force.
fn warn_of_unknown_keys(config: &Config) {
    for key in unknown_keys(config) {
        log::warn!("{}: {key}: no such key; ignored", config.origin());
    }
}

/// Returns the keys that nobody reads, as "[section] key".
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

/// Reads `file`, else [`DEFAULT_FILE`] if it exists, else nothing.
pub(crate) fn read(file: Option<&Path>) -> Result<Config, Failure> {
    let path = match file {
        Some(path) => path,
        None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
        None => return Ok(Config::empty()),
    };
    Config::load(path).map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", path.display())))
}

/// The output of `server --print-config`: an example with the keys that users set most, and their defaults.
pub(crate) const EXAMPLE: &str = "\
# Configuration of cellframe-vpn. Save it as /etc/cellframe-vpn/cellframe-vpn.cfg, or name it with --config.
# A line is `key=value`; a list is [a,b,c]; # begins a comment. The values below are the defaults, except where a
# comment says otherwise.

[general]
# Directory for the server's identity, store and control socket.
# Default: /var/lib/cellframe-vpn for root, ~/.local/state/cellframe-vpn for others, each with server/ and client/.
#state_dir=/var/lib/cellframe-vpn

[server]
enabled=true
# Addresses and ports on which clients connect; [::]:8079 listens on IPv6.
listen_address=[0.0.0.0:8079]

[srv_vpn]
enabled=true
# The network inside the tunnel. The server takes the first address, clients get the others. The network must not
# overlap one that this machine is in.
network_address=10.98.0.0
network_mask=255.255.255.0
# The Cellframe network that the ready line names; clients may use every network that [networks] lists.
net=backbone
# Clients may use the service without paying. If there are prices, only when this says so.
allow_free_srv=true
# What clients pay for: units, unit (s, min, h, d, B, kB, MB, GB, KiB, MiB, GiB), price and token of a receipt. Not set
# by default.
#prices=[3600 s for 1.5 CELL,1 GB for 0.5 CELL]
# Clients reach the gateway and the hosts behind it, but not each other.
#client_isolation=true
# Networks that clients must not reach, and whether they must not reach this machine's own addresses but the gateway.
# By default they reach all that this machine reaches. For a server to the Internet alone:
#deny=[10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10]
#deny_host=true
# Forwarding and address translation for clients: auto does what this machine lacks, off changes nothing, on fails where
# it cannot be done. Put back at the end.
#nat=auto
# Seconds for which the server keeps an address for a client that has left.
#lease_time=3600
# Largest packet inside the tunnel, bytes. The default, 1390, fits into 1500 on the outer network.
#mtu=1390
# Exchange super-packets of up to 64 KiB with the host and with clients that support them; false: single packets.
#offload=true

[resources]
# Worker threads; 0 means one per CPU.
threads_cnt=0

[vpn_client]
# For `client` and `check`: the identity the server must have, as its ready line shows it. Without a pin the client
# trusts and remembers the first identity it sees. Not set by default.
#server_pin=sha256:<64 hexadecimal digits>
# For `client`: networks in which a server may give the tunnel's subnet, beside 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16
# and 100.64.0.0/10. Not set by default.
#allow_subnet=[203.0.113.0/24]
# For `client`: networks that are routed into the tunnel beside its subnet, and those of them that are not. The default is
# all and none.
#routes=[0.0.0.0/0]
#exclude_routes=[192.168.0.0/16]
# For `client`: let nothing leave this machine but through the tunnel, until a stop, also after a crash; and whether local
# networks may be reached all the same. The default is false.
#kill_switch=true
#kill_switch_local=true
# For `client`: IPv6 of this machine while all IPv4 goes through the tunnel, which carries no IPv6: block answers it with
# \"unreachable\", leave sends it around the tunnel.
#ipv6=block
# For `client`: this machine's name servers while all traffic goes through the tunnel: those that the server gives, else
# the server itself if it answers; off, gateway, or a list.
#dns=auto
";

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
