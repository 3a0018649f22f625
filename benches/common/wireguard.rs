//! WireGuard in user space, if it is installed: its own program runs it, and its socket configures it (the
//! cross-platform user space interface, wireguard.com/xplatform), so that `wg` is not needed.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use host::lab::{self, LabError};
use host::netlink::Netlink;

use super::failure::Failure;
use super::host::Host;
use super::running::Running;
use super::{Ends, INNER_CLIENT, INNER_SERVER, PREFIX};

const PORT: u16 = 51820;

/// Where the programs have their sockets, named after the devices. A program ends when its socket is removed.
const SOCKETS: &str = "/var/run/wireguard";

/// What the names of the devices begin with; this process's number follows. They must differ even on different hosts,
/// because the sockets are in one directory.
const CLIENT_PREFIX: &str = "wgc";
const SERVER_PREFIX: &str = "wgs";

/// The keys of a tunnel that only this machine uses.
const CLIENT_KEY: [u8; 32] = [0x11; 32];
const SERVER_KEY: [u8; 32] = [0x22; 32];

/// Starts a program in the foreground on both hosts, with one device each; `outer` has the hosts' addresses.
pub(crate) fn start(
    hosts: Ends<&Host>,
    outer: Ends<Ipv4Addr>,
    mtu: u16,
    program: &Path,
) -> Result<Ends<Running>, Failure> {
    remove_leftovers();
    let client_peer = format!(
        "public_key={}\nendpoint={}:{PORT}\nallowed_ip={INNER_SERVER}/32\n",
        public(&SERVER_KEY)?,
        outer.server
    );
    let server_peer = format!(
        "public_key={}\nendpoint={}:{PORT}\nallowed_ip={INNER_CLIENT}/32\n",
        public(&CLIENT_KEY)?,
        outer.client
    );
    let end = |host: &Host, device: String, inner: Ipv4Addr, key: &[u8], peer: &str| {
        // Without this variable, boringtun-cli becomes the user who called sudo and cannot be configured.
        let mut running = host.start(Command::new(program).arg("-f").arg(&device).env("WG_SUDO", "1"))?;
        let mut stream = running.wait_for("its socket", |_| UnixStream::connect(socket(&device)).ok())?;
        let configuration = format!("set=1\nprivate_key={}\nlisten_port={PORT}\n{peer}\n", hex(key));
        configure(&mut stream, &configuration).map_err(Failure::during(format!("configure {}", program.display())))?;
        let plugged = host.run(move || plug_in(&device, inner, mtu));
        plugged.map_err(Failure::during(format!("the device of {}", program.display())))?;
        Ok(running)
    };
    let server = end(hosts.server, device(SERVER_PREFIX), INNER_SERVER, &SERVER_KEY, &server_peer)?;
    let client = end(hosts.client, device(CLIENT_PREFIX), INNER_CLIENT, &CLIENT_KEY, &client_peer)?;
    Ok(Ends { client, server })
}

fn plug_in(device: &str, inner: Ipv4Addr, mtu: u16) -> Result<(), LabError> {
    let mut netlink = Netlink::open()?;
    let index = netlink.link_index(device)?;
    netlink.set_mtu(index, mtu.into())?;
    lab::plug_in(device, inner, PREFIX)
}

/// Removes the sockets of this process's programs that were killed, and those of earlier measurements.
pub(crate) fn remove_leftovers() {
    for socket in fs::read_dir(SOCKETS).into_iter().flatten().flatten() {
        let name = socket.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(CLIENT_PREFIX).or_else(|| name.strip_prefix(SERVER_PREFIX));
        let process = rest.and_then(|rest| rest.strip_suffix(".sock")?.parse::<u32>().ok());
        let is_ours = |process: u32| process == std::process::id() || !Path::new(&format!("/proc/{process}")).exists();
        if process.is_some_and(is_ours) {
            let _ = fs::remove_file(socket.path());
        }
    }
}

fn device(prefix: &str) -> String {
    format!("{prefix}{}", std::process::id())
}

fn socket(device: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{device}.sock"))
}

/// Looks a program up in PATH.
pub(crate) fn find(program: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| Failure::Missing(format!("{program} is not installed (it is looked for in PATH)")))
}

fn configure(stream: &mut UnixStream, configuration: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(configuration.as_bytes())?;
    let mut answer = String::new();
    let mut bytes = [0; 256];
    // An answer ends with an empty line; some programs then close the socket, others keep it open.
    while !answer.ends_with("\n\n") {
        match stream.read(&mut bytes)? {
            0 => break,
            length => answer.push_str(&String::from_utf8_lossy(&bytes[..length])),
        }
    }
    match answer.contains("errno=0") {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("it answers {answer:?}"))),
    }
}

fn public(key: &[u8; 32]) -> Result<String, Failure> {
    let what = "a key for WireGuard";
    let key = PrivateKey::from_private_key(&X25519, key).map_err(Failure::during(what))?;
    let public = key.compute_public_key().map_err(Failure::during(what))?;
    Ok(hex(public.as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
