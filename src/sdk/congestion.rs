//! The congestion control of the streams' TCP connections, by the key `congestion`. It concerns the sender alone: the
//! peer may run anything.

use std::ffi::CStr;
use std::fs;
use std::io::{self, ErrorKind};

use rustix::net::{AddressFamily, SocketType, socket, sockopt};

use super::channel::Channel;
use super::config::Config;

const KEY: &str = "congestion";
const EXPECTED: &str = "auto, bbr, cubic or host";

/// The values of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// The best one that can be set.
    Auto,
    /// This one, by the kernel's name.
    Named(&'static CStr),
    /// What the host's sockets have.
    Host,
}

/// What `auto` tries, best first. Bbr keeps its rate over random loss and its queue short, where a control that waits
/// for loss fills the path's buffer.
const AUTO: &[&CStr] = &[c"bbr"];

/// The congestion control of one role's streams, as the key asks for it and the kernel allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Congestion {
    section: &'static str,
    /// What is set on each stream; `None` leaves the host's.
    name: Option<&'static CStr>,
    /// For the log: what is in force, and why it is not what the key says.
    result: Result<String, String>,
}

impl Congestion {
    /// Reads the key in `section`, and tries the value on a socket of its own. A value that cannot be read is logged, and
    /// `auto` is used.
    pub fn read(config: &Config, section: &'static str) -> Congestion {
        let choice = match config.checked_text(section, KEY, EXPECTED) {
            Ok(text) => Choice::parse(text.as_deref().unwrap_or("auto")).ok_or_else(|| text.unwrap_or_default()),
            Err(bad) => Err(bad.value),
        };
        let choice = choice.unwrap_or_else(|value| {
            log::warn!("[{section}] {KEY} = {value}: expected {EXPECTED}; using auto");
            Choice::Auto
        });
        Congestion::of(section, choice)
    }

    fn of(section: &'static str, choice: Choice) -> Congestion {
        let (name, reason) = match choice {
            Choice::Host => (None, None),
            Choice::Named(name) => match try_out(name) {
                Ok(()) => (Some(name), None),
                Err(error) => (None, Some(reason(name, &error))),
            },
            Choice::Auto => (AUTO.iter().find(|name| try_out(name).is_ok()).copied(), None),
        };
        let in_force = name.map_or_else(hosts, |name| name.to_string_lossy().into_owned());
        let line = format!("streams send with the congestion control {in_force}");
        let result = match reason {
            Some(reason) => Err(format!("[{section}] {KEY}: {reason}; {line}, the host's; expected {}", allowed())),
            None if name.is_none() => Ok(format!("{line}, the host's")),
            None => Ok(line),
        };
        Congestion { section, name, result }
    }

    /// Says in the log what is in force; once for each start.
    pub fn say(&self) {
        match &self.result {
            Ok(line) => log::info!("{line}"),
            Err(line) => log::warn!("{line}"),
        }
    }

    /// Sets it on a channel's stream; on the channel's worker. If the kernel refuses what it took before, the stream keeps
    /// the host's.
    pub fn apply(&self, channel: &Channel) {
        let Some(name) = self.name else { return };
        if let Err(error) = channel.set_congestion(name) {
            host::log_bounded!(
                Warn,
                "[{}] {KEY}: {} cannot be set on the stream of {}: {error}",
                self.section,
                name.to_string_lossy(),
                channel.peer()
            );
        }
    }
}

impl Choice {
    fn parse(text: &str) -> Option<Choice> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Some(Choice::Auto),
            "bbr" => Some(Choice::Named(c"bbr")),
            "cubic" => Some(Choice::Named(c"cubic")),
            "host" => Some(Choice::Host),
            _ => None,
        }
    }
}

/// Tries a name on a socket that is never connected: the kernel answers as it would for a stream's.
fn try_out(name: &CStr) -> io::Result<()> {
    let name = name.to_str().map_err(io::Error::other)?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    Ok(sockopt::set_tcp_congestion(&socket, name)?)
}

/// Why the kernel refuses a name.
fn reason(name: &CStr, error: &io::Error) -> String {
    let name = name.to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => format!("this kernel has no {name}"),
        ErrorKind::PermissionDenied => format!("this process may not choose {name}"),
        _ => format!("{name} cannot be set: {error}"),
    }
}

/// What the host's sockets have.
fn hosts() -> String {
    let read = || sockopt::tcp_congestion(socket(AddressFamily::INET, SocketType::STREAM, None)?);
    read().unwrap_or_else(|error| format!("that cannot be read ({error})"))
}

/// What the kernel allows, for the log.
fn allowed() -> String {
    let read = |which: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{which}_congestion_control"));
        text.map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
    };
    format!(
        "one that every process may choose (net.ipv4.tcp_allowed_congestion_control = {}), or with CAP_NET_ADMIN one \
         that the kernel has (net.ipv4.tcp_available_congestion_control = {})",
        read("allowed"),
        read("available")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_values() {
        assert_eq!(Choice::parse("auto"), Some(Choice::Auto));
        assert_eq!(Choice::parse("BBR"), Some(Choice::Named(c"bbr")));
        assert_eq!(Choice::parse("cubic"), Some(Choice::Named(c"cubic")));
        assert_eq!(Choice::parse("host"), Some(Choice::Host));
        for wrong in ["", "reno", "bbr,cubic", "hosts"] {
            assert_eq!(Choice::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_leaves_the_hosts_and_says_what_is_allowed() {
        let congestion = Congestion::of("srv_vpn", Choice::Named(c"none-such"));
        assert_eq!(congestion.name, None);
        let line = congestion.result.unwrap_err();
        assert!(line.starts_with("[srv_vpn] congestion: "), "{line}");
        let allowed = fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
        for part in ["none-such", &format!("congestion control {}, the host's", hosts()), allowed.trim()] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn host_sets_nothing() {
        let congestion = Congestion::of("vpn_client", Choice::Host);
        assert_eq!(congestion.name, None);
        assert_eq!(congestion.result, Ok(format!("streams send with the congestion control {}, the host's", hosts())));
    }

    #[test]
    fn auto_takes_what_the_kernel_takes() {
        let congestion = Congestion::of("vpn_client", Choice::Auto);
        assert_eq!(congestion.name.is_some(), AUTO.iter().any(|name| try_out(name).is_ok()));
        assert!(congestion.result.is_ok());
    }
}
