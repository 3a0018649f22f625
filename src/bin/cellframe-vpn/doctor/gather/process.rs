//! A process of this program: whether it runs, its state directory, and which processes hold ports.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use embedded::cli;
use embedded::config::Config;
use embedded::state;
use rustix::fs::{Access, statvfs};
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};

use crate::doctor::facts::{Process, Runs};

pub(super) fn process(config: &Config) -> Process {
    let state_dir = config.state_path();
    let runs = match UnixStream::connect(cli::socket_path(config)) {
        Ok(stream) => {
            let peer = sockopt::socket_peercred(&stream).ok();
            Runs::Yes(peer.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok()))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Runs::Hidden,
        Err(_) => Runs::No,
    };
    let files = match runs {
        Runs::Yes(Some(pid)) => files_of(pid),
        _ => None,
    };
    // Root looks after a service that runs as a user of its own.
    let this = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(&state_dir).ok().map(|directory| directory.uid()).filter(|owner| this == 0 && *owner != 0);
    let existing = state_dir.ancestors().find(|directory| directory.exists());
    let access = existing.map(|directory| (directory, rustix::fs::access(directory, Access::WRITE_OK)));
    let read_only = access.and_then(|(at, access)| Some(format!("{}: {}", at.display(), access.err()?)));
    let free = existing.and_then(|directory| statvfs(directory).ok());
    Process {
        store_is_taken: runs == Runs::No && is_locked(&state_dir.join("store.redb")),
        runs,
        state: state::inspect(&state_dir, owner.unwrap_or(this)).map_err(|error| error.to_string()),
        owner: owner.map(user_name),
        read_only,
        free: free.map(|disk| (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_favail)),
        files: files.unwrap_or_else(|| getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
        state_dir,
    }
}

/// Whether a process has the file open as a store: redb holds a lock on it. The kernel's list is read, because to try the
/// lock would take it for a moment, in which a server could not start.
fn is_locked(store: &Path) -> bool {
    let Ok(file) = fs::metadata(store) else { return false };
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| line.split_ascii_whitespace().nth(5) == Some(&wanted))
}

/// The most files that a process may have open (proc(5), "limits").
fn files_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The user's name as passwd(5) has it; else the number.
fn user_name(user: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = user.to_string();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or(number)
}

/// The processes that listen on an address, or on one that includes it or is included in it.
pub(super) fn holders(address: SocketAddr) -> Vec<(String, Option<u32>)> {
    let mut inodes = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        inodes
            .extend(listening(&text).into_iter().filter(|(bound, _)| collide(*bound, address)).map(|(_, inode)| inode));
    }
    let mut holders = Vec::new();
    for inode in inodes {
        let owner = owner_of(&format!("socket:[{inode}]"));
        let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let name =
            owner.and_then(name).map_or_else(|| "another user's process".to_owned(), |name| name.trim().to_owned());
        if !holders.contains(&(name.clone(), owner)) {
            holders.push((name, owner));
        }
    }
    holders
}

/// Whether two sockets with these addresses exclude each other.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    // A socket of IPv6 for all addresses has those of IPv4 as well, as long as nobody has switched that off.
    let is_all = |ip: IpAddr| ip == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let of_one_kind = a.is_ipv4() == b.is_ipv4();
    one.port() == other.port()
        && (a == b || is_all(a) || is_all(b) || of_one_kind && (a.is_unspecified() || b.is_unspecified()))
}

/// The listening sockets in the text of /proc/net/tcp or tcp6, with their inodes.
fn listening(text: &str) -> Vec<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let &[_, local, _, state, _, _, _, _, _, inode, ..] = words.as_slice() else { return None };
        (state == LISTEN).then_some(())?;
        Some((address(local)?, inode.parse().ok()?))
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// Reads "0100007F:1F8F": each group of eight digits is a number of this machine that has four bytes in network order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let group = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(group(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (number, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&group(number * 8)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The process that has this open. Of other users' processes only root sees it.
fn owner_of(what: &str) -> Option<u32> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let is_it = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|link| link == Path::new(what));
        if files.flatten().any(is_it) {
            return Some(pid);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                    \x20  0: 0100007F:1F8F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
                    \x20  1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        let expected: SocketAddr = "127.0.0.1:8079".parse().unwrap();
        assert_eq!(listening(text), [(expected, 4711)]);
        let six = address("00000000000000000000000001000000:1F8F");
        assert_eq!(six, Some("[::1]:8079".parse().unwrap()));
        for wrong in ["", "0100007F", "0100007F:", "01007F:1F8F", "ü100007F:1F8F"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_exclude_each_other() {
        let of = |text: &str| text.parse().unwrap();
        for (one, other, expected) in [
            ("0.0.0.0:1", "10.0.0.1:1", true),
            ("10.0.0.1:1", "10.0.0.1:1", true),
            ("10.0.0.1:1", "10.0.0.2:1", false),
            ("0.0.0.0:1", "0.0.0.0:2", false),
            ("[::]:1", "10.0.0.1:1", true),
            ("[::1]:1", "0.0.0.0:1", false),
        ] {
            assert_eq!(
                (collide(of(one), of(other)), collide(of(other), of(one))),
                (expected, expected),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn users_have_names() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "4000000000");
    }

    #[test]
    fn a_lock_on_a_store_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_locked(file.path()));
        file.as_file().try_lock().unwrap();
        assert!(is_locked(file.path()));
    }

    #[test]
    fn a_port_has_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held = holders(listener.local_addr().unwrap());
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0].1, Some(std::process::id()));
    }
}
