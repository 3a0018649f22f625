//! What runs on the client's host: programs that know nothing of the VPN, and one that tries to get around it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use host::lab;
use host::netlink::Netlink;
use host::nft::Nft;
use serde_json::{Value, json};

use super::hosts::{AROUND, AROUND6, ROUTER, WEB};
use super::sites::{self, NAME};
use crate::exit::Failure;

/// Directories of the client's host that are not this machine's: name servers, and the C library's ways to ask another
/// process for them.
const OWN_DIRECTORIES: [&str; 2] = ["/etc", "/run/nscd"];
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// A page or an answer that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// An attempt around the tunnel that is neither answered nor refused by then is lost in silence.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Gives this process, which must have one thread, files of its own: its router is its name server.
pub(super) fn own_files() -> io::Result<()> {
    lab::hide_directories(&OWN_DIRECTORIES)?;
    fs::write("/etc/hosts", "127.0.0.1 localhost\n")?;
    fs::write("/etc/nsswitch.conf", "hosts: files dns\n")?;
    fs::write(RESOLV_CONF, format!("nameserver {ROUTER}\noptions timeout:2 attempts:2\n"))
}

/// The name servers that the C library asks.
fn name_servers() -> Vec<String> {
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("nameserver ")).map(str::to_owned).collect()
}

/// Fetches the page as a browser does, by its name; without name servers of its own by its address.
pub(super) fn fetch(by_name: bool) -> Result<Value, Failure> {
    let host = if by_name { NAME.to_owned() } else { WEB.to_string() };
    let failed = |what: &str, error: io::Error| Failure::general(format!("{what} http://{host}/: {error}"));
    let addresses: Vec<SocketAddr> =
        (&*host, 80).to_socket_addrs().map_err(|error| failed("cannot look up", error))?.collect();
    // The next address where one refuses, as IPv6 does in the tunnel.
    let connection = connect_to_any(&addresses).map_err(|error| failed("cannot connect to", error))?;
    let page = sites::request_page(&connection).and_then(|()| sites::read_page(&connection));
    let page = page.map_err(|error| failed("no page from", error))?;
    let address = connection.peer_addr().map(|address| address.ip().to_string());
    Ok(json!({
        "host": host,
        "address": address.unwrap_or_default(),
        "name_servers": if by_name { name_servers() } else { Vec::new() },
        "seen_as": seen_as(&page),
    }))
}

fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(connection) => {
                connection.set_read_timeout(Some(PATIENCE))?;
                return Ok(connection);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The address by which the web server knows the visitor.
fn seen_as(page: &Value) -> Option<String> {
    page["you"].as_str()?.parse().ok().map(|address: SocketAddr| address.ip().to_string())
}

/// A connection to the web server that stays open.
pub(super) struct Visit {
    connection: TcpStream,
}

impl Visit {
    /// Connects, and fetches the first page.
    pub(super) fn begin() -> Result<(Visit, Value), Failure> {
        let connection = connect_to_any(&[SocketAddr::from((WEB, 80))]).map_err(|error| broken(&error))?;
        let visit = Visit { connection };
        visit.request()?;
        let page = visit.page(PATIENCE)?;
        Ok((visit, page))
    }

    /// Sends a request, which TCP sends again until it arrives.
    pub(super) fn request(&self) -> Result<(), Failure> {
        sites::request_page(&self.connection).map_err(|error| broken(&error))
    }

    /// Waits for the answer to a request.
    pub(super) fn page(&self, patience: Duration) -> Result<Value, Failure> {
        let read = self.connection.set_read_timeout(Some(patience)).and_then(|()| sites::read_page(&self.connection));
        read.map_err(|error| broken(&error))
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::general(format!("the connection to the web server at {WEB} broke: {error}"))
}

/// Tries to get around the tunnel, by routes that it leaves out; returns what became of each attempt.
pub(super) fn attempts(has_ipv6: bool) -> Value {
    let mut attempts =
        vec![attempt("IPv4", (AROUND, 80).into(), web), attempt("DNS", (AROUND, 53).into(), name_server)];
    attempts.push(attempt("DNS of the local network", (ROUTER, 53).into(), name_server));
    if has_ipv6 {
        attempts.insert(1, attempt("IPv6", (AROUND6, 80).into(), web));
    }
    attempts.into()
}

fn attempt(what: &str, to: SocketAddr, make: fn(SocketAddr) -> io::Result<()>) -> Value {
    let started = Instant::now();
    let result = make(to);
    let outcome = match &result {
        Ok(()) => "answered",
        Err(error) if [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock].contains(&error.kind()) => "silence",
        Err(_) => "refused",
    };
    let error = result.err().map(|error| error.to_string());
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    json!({"what": what, "to": to.to_string(), "outcome": outcome, "milliseconds": milliseconds, "error": error})
}

fn web(to: SocketAddr) -> io::Result<()> {
    let connection = TcpStream::connect_timeout(&to, ATTEMPT)?;
    connection.set_read_timeout(Some(ATTEMPT))?;
    sites::request_page(&connection)?;
    sites::read_page(&connection).map(drop)
}

fn name_server(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(ATTEMPT))?;
    socket.connect(to)?;
    socket.send(&sites::query().map_err(io::Error::other)?)?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    if sites::names_the_web_server(&reply[..length]) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// What the tunnel changes on the client's host: links, addresses, routes, rules of nf_tables, name servers.
pub(super) fn state(own_files: bool) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::general(format!("the client's host cannot be read: {error}"));
    let mut netlink = Netlink::open().map_err(|error| failed(&error))?;
    let mut state = format!("{:?}", netlink.links().map_err(|error| failed(&error))?);
    let _ = write!(state, "{:?}", netlink.addresses().map_err(|error| failed(&error))?);
    let _ = write!(state, "{:?}", netlink.routes().map_err(|error| failed(&error))?);
    let _ = write!(state, "{:?}", Nft::open().and_then(|mut nft| nft.ruleset()).map_err(|error| failed(&error))?);
    if own_files {
        let mut names: Vec<_> = fs::read_dir("/etc").into_iter().flatten().flatten().map(|it| it.file_name()).collect();
        names.sort();
        let _ = write!(state, "{names:?}{:?}", fs::read_to_string(RESOLV_CONF));
    }
    Ok(state)
}
