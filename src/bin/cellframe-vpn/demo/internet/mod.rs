//! `demo --internet`: the Internet through the tunnel, and nothing around it.
//!
//! Three hosts ([`hosts`]): a client, a server, and an Internet between them with a web server and a name server
//! ([`sites`]). A capture on the client's cable ([`wire`]) tells what leaves the client, while programs on it
//! ([`visitor`]) fetch a page by name, try to get around the tunnel, and keep a connection open. The demo looks on without
//! a VPN, with it, while the server is dead, after its restart, and after the client's stop. What it says is what it has
//! seen: an expectation that is not met is a failure ([`report`]).

mod hosts;
mod report;
mod sites;
mod steps;
mod visitor;
mod wire;

use std::path::Path;

use serde_json::{Value, json};

use super::control::{End, Interruption};
use super::progress::Progress;
use super::workdir::WorkDir;
use super::{STEP, text_of};
use crate::args::EndRole;
use crate::exit::Failure;
pub(super) use hosts::{NAME_SERVER, SERVER};
pub(super) use report::Report;
pub(super) use steps::Steps;

/// The loss of the connection, which is a warning, is a part of this demo.
const LOG_LEVEL: &str = "error";

/// Performs the steps in order. The ends and the directory are gone when it returns.
pub(super) fn perform(interruption: &Interruption) -> Result<Report, Failure> {
    let progress = Progress::new();
    let directory = WorkDir::create()?;
    let (server_state, client_state) = (directory.path().join("server"), directory.path().join("client"));
    let mut report = Report::default();

    let mut internet = End::spawn(EndRole::Internet, None, LOG_LEVEL, interruption)?;
    report.privileges = internet.call(json!({"do": "enter"}), STEP)?["privileges"].take();
    let mut client = End::spawn(EndRole::Client, Some(internet.pid()), LOG_LEVEL, interruption)?;
    report.no_own_files = client.call(json!({"do": "enter", "own_files": true}), STEP)?["no_own_files"].take();
    let laid = internet.call(json!({"do": "lay", "client": client.pid()}), STEP)?;
    client.call(json!({"do": "take", "has_ipv6": laid["has_ipv6"]}), STEP)?;
    report.has_ipv6 = laid["has_ipv6"] == true;
    progress.step("three hosts: a client, a server, and an Internet with a web server and a name server");
    if let Some(why) = report.no_own_files.as_str() {
        progress.step(format_args!("name servers are left out: the client can have no resolv.conf of its own ({why})"));
    }

    report.before.page = client.call(json!({"do": "fetch"}), STEP)?;
    report.before.attempts = client.call(json!({"do": "attempts"}), STEP)?["attempts"].take();
    report.before.wire = internet.call(json!({"do": "seen"}), STEP)?;
    report.require_open()?;
    progress.step(format_args!("without a VPN the capture on the client's cable sees {}", report.before.seen()));

    client.call(json!({"do": "note state"}), STEP)?;
    let (mut server, pin) = start_server(&internet, &laid, &server_state, interruption)?;
    client.call(json!({"do": "configure", "state": text_of(&client_state)?, "pin": pin, "internet": true}), STEP)?;
    report.lease = client.call(json!({"do": "start", "internet": true}), STEP)?;
    progress.step(format_args!("client connected, address {}", report.lease["address"].as_str().unwrap_or("?")));
    internet.call(json!({"do": "seen"}), STEP)?;

    report.tunnel.page = client.call(json!({"do": "fetch"}), STEP)?;
    report.visit = client.call(json!({"do": "visit"}), STEP)?;
    report.tunnel.attempts = client.call(json!({"do": "attempts"}), STEP)?["attempts"].take();
    report.tunnel.wire = internet.call(json!({"do": "seen"}), STEP)?;
    report.require_tunnel()?;
    progress.step(format_args!(
        "{} fetched through the tunnel; on the cable: {}",
        report.tunnel.page["host"].as_str().unwrap_or("?"),
        report.tunnel.seen()
    ));

    // SIGKILL: nothing of it can say good-bye.
    drop(server);
    client.call(json!({"do": "await loss"}), STEP)?;
    internet.call(json!({"do": "seen"}), STEP)?;
    client.call(json!({"do": "request"}), STEP)?;
    report.outage.attempts = client.call(json!({"do": "attempts"}), STEP)?["attempts"].take();
    report.outage.wire = internet.call(json!({"do": "seen"}), STEP)?;
    report.require_outage()?;
    progress.step(format_args!("server killed; every way around is refused; on the cable: {}", report.outage.seen()));

    (server, _) = start_server(&internet, &laid, &server_state, interruption)?;
    report.returned_in = client.call(json!({"do": "await return"}), STEP)?["milliseconds"].take();
    report.revisit = client.call(json!({"do": "page"}), STEP)?;
    report.again.page = client.call(json!({"do": "fetch"}), STEP)?;
    report.again.wire = internet.call(json!({"do": "seen"}), STEP)?;
    report.require_return()?;
    progress.step("server restarted; the TCP connection from before goes on");

    client.call(json!({"do": "stop"}), STEP)?;
    report.is_restored = client.call(json!({"do": "compare state"}), STEP)?["same"] == true;
    report.after.page = client.call(json!({"do": "fetch"}), STEP)?;
    report.after.attempts = client.call(json!({"do": "attempts"}), STEP)?["attempts"].take();
    report.require_restored()?;
    progress.step("client stopped; its host is what it was");
    server.call(json!({"do": "stop"}), STEP)?;
    client.finish()?;
    server.finish()?;
    internet.finish()?;
    directory.remove()?;
    Ok(report)
}

/// Starts a server on the server's host; returns its identity too.
fn start_server<'a>(
    internet: &End<'_>,
    laid: &Value,
    state: &Path,
    interruption: &'a Interruption,
) -> Result<(End<'a>, Value), Failure> {
    let mut server = End::spawn(EndRole::Server, Some(internet.pid()), LOG_LEVEL, interruption)?;
    server.call(json!({"do": "enter", "host": laid["server_host"]}), STEP)?;
    let mut started = server.call(json!({"do": "start", "state": text_of(state)?, "internet": true}), STEP)?;
    Ok((server, started["pin"].take()))
}
