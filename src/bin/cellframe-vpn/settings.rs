//! From options to one configuration: which file, which state directory, what the options override.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use embedded::cli;
use embedded::config::Config;

use crate::exit::{Code, Failure};
use crate::target::parse_pin;

/// Read when it exists and no other file is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/cellframe-vpn/cellframe-vpn.cfg";

/// Server and client of one machine keep their state apart: each holds a store that only one process may open, and a
/// socket that `stat`, `status` and `stop` find it by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Server,
    Client,
    /// `check` works beside a running client, so it may not open that one's store.
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

/// The configuration of `role`: `file`, else [`DEFAULT_FILE`] if it exists, else the built-in defaults; its state in
/// `state_dir`, else in the role's directory inside the configured state directory.
pub(crate) fn load(role: Role, file: Option<&Path>, state_dir: Option<&Path>) -> Result<Config, Failure> {
    let mut config = read(file)?;
    warn_of_unknown_keys(&config);
    if let Some(pin) = config.get_str("vpn_client", "server_pin")
        && let Err(expected) = parse_pin(&pin)
    {
        return Err(Failure::new(
            Code::Usage,
            format!("{}: [vpn_client] server_pin={pin}: {expected}", config.origin()),
        ));
    }
    let state_dir = match state_dir {
        Some(directory) => absolute(directory)?,
        None => config.state_path().join(role.directory()),
    };
    let text = state_dir.to_str().ok_or_else(|| {
        Failure::new(Code::Usage, format!("--state-dir {}: expected a path in UTF-8", state_dir.display()))
    })?;
    config.set("general", "state_dir", text);
    Ok(config)
}

/// The keys that the program reads, and those of a node's file that it knows to be without effect here.
const KEYS: &[(&str, &[&str])] = &[
    ("general", &["state_dir"]),
    ("server", &["enabled", "listen_address", "max_streams", "max_streams_per_address", "idle_timeout"]),
    (
        "srv_vpn",
        &[
            "enabled",
            "network_address",
            "network_mask",
            "net",
            "allow_free_srv",
            "grace_period",
            "receipt_sign_cert",
            "wallet_addr",
            "auto_cpu_reassignment",
            "debug_more",
            "mtu",
            "lease_time",
            "client_isolation",
            "session_queue",
            "dns",
            "keep_alive",
            "offload",
            "device",
        ],
    ),
    ("vpn_client", &["start_timeout", "mtu", "keep_alive", "offload", "order_hash", "server_pin"]),
    ("resources", &["threads_cnt"]),
    ("cli-server", &["enabled", "listen-path"]),
    ("networks", &["names"]),
    ("cdb", &["servers_list_check_timeout"]),
];

/// A misspelt key would leave its default in force without a word.
fn warn_of_unknown_keys(config: &Config) {
    for (section, key) in config.keys() {
        let known = match KEYS.iter().find(|(name, _)| *name == section) {
            Some((_, keys)) => keys.contains(&key),
            None => section.starts_with("network_"),
        };
        if !known {
            log::warn!("{}: [{section}] {key}: no such key; it has no effect", config.origin());
        }
    }
}

/// An error when a process of this role runs with this state directory already.
pub(crate) fn require_unused(role: Role, config: &Config) -> Result<(), Failure> {
    let socket = cli::socket_path(config);
    if UnixStream::connect(&socket).is_err() {
        return Ok(());
    }
    let (role, socket) = (role.directory(), socket.display());
    Err(Failure::general(format!(
        "a {role} runs here already (it listens on {socket}); give another one its own --state-dir"
    )))
}

fn read(file: Option<&Path>) -> Result<Config, Failure> {
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

/// What `server --print-config` prints: every key a server reads, with its default.
pub(crate) const EXAMPLE: &str = "\
# Configuration of cellframe-vpn. Save it as /etc/cellframe-vpn/cellframe-vpn.cfg, or name it with --config.
# A line is `key=value`; lists are [a,b,c]; what follows a # is a comment. The values below are the defaults, except
# where a comment says otherwise.

[general]
# Where the server's identity, its store and its control socket are kept.
# Default: /var/lib/cellframe-vpn for root, ~/.local/state/cellframe-vpn for others; in it server/ and client/.
#state_dir=/var/lib/cellframe-vpn

[server]
enabled=true
# Addresses and ports for clients; [::]:8079 listens on IPv6.
listen_address=[0.0.0.0:8079]

[srv_vpn]
enabled=true
# The network inside the tunnel. The server takes its first address, clients get the others. It must not overlap a
# network that this machine is in.
network_address=10.98.0.0
network_mask=255.255.255.0
# The Cellframe network that the ready line names; clients may name any that [networks] lists.
net=backbone
# Clients may use the service without paying.
allow_free_srv=true
# Clients may not reach each other, only the gateway and what is behind it.
#client_isolation=true
# Seconds for which a client that left gets its address back.
#lease_time=3600
# Largest packet inside the tunnel, bytes. Default: 1390, what fits into 1500 on the outer network.
#mtu=1390
# Whole super-packets of up to 64 KiB between the host and clients that take them; false: one packet at a time.
#offload=true

[resources]
# Worker threads; 0 is one for each CPU.
threads_cnt=0

[vpn_client]
# For `client` and `check`: the identity the server must have, as its ready line shows it. Without it the first
# identity seen is trusted, and remembered. Not set by default.
#server_pin=sha256:<64 hexadecimal digits>
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
    fn an_option_wins_over_the_file() {
        let directory = std::env::temp_dir().join(format!("cellframe-vpn-settings-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("make a directory");
        let file = directory.join("a.cfg");
        let text = format!("[general]\nstate_dir={}\n[srv_vpn]\nnet=other\n", directory.join("file").display());
        std::fs::write(&file, text).expect("write a file");

        let by_file = load(Role::Client, Some(&file), None).expect("load");
        let by_option = load(Role::Client, Some(&file), Some(&directory.join("a # b"))).expect("load");
        assert_eq!(by_file.state_dir(), directory.join("file/client"));
        assert_eq!(by_option.state_dir(), directory.join("a # b"));
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
