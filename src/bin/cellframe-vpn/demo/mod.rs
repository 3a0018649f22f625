//! `demo`: runs a server and a client in two network namespaces and sends real traffic through their tunnel.
//!
//! With `--internet` there are three hosts ([`internet`]), with `--paid` there is money ([`paid`]); what follows is the demo
//! without either.
//!
//! The demo is three processes. This one owns the terminal: it starts the two ends, sends them requests over a socket
//! ([`control`]), shows progress and prints the report. Each end ([`end`]) makes its own namespace ([`namespaces`]),
//! which disappears with it. All files are in one directory ([`workdir`]).

mod control;
pub(crate) mod end;
mod internet;
mod namespaces;
mod paid;
mod ping;
mod progress;
mod report;
mod traffic;
mod workdir;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::{DemoOptions, EndRole};
use crate::exit::{Code, Failure};
use crate::settings::Role;
use crate::target::DEFAULT_NETWORK;
use crate::{output, privilege, signals};
use control::{End, Interruption};
use progress::Progress;
use report::{Report, Transfer};
use workdir::WorkDir;

/// Timeout of a step that normally returns at once.
const STEP: Duration = Duration::from_secs(20);

/// Runs the whole demo, prints the report, and cleans up whatever the outcome.
pub(crate) fn run(options: &DemoOptions) -> Result<(), Failure> {
    let interruption = Arc::new(Interruption::default());
    let interrupt = Arc::clone(&interruption);
    signals::watch(move |signal| interrupt.interrupt(signal))?;
    let result = privilege::require_tun().and_then(|()| report_of(options, &interruption));
    // After a signal an end's failure is only its consequence: report the signal.
    let result = match interruption.signal() {
        Some(signal) => Err(Failure::new(signals::interrupted(signal), "interrupted; everything was cleaned up")),
        None => result,
    };
    match &result {
        Ok(report) => output::line(report),
        Err(failure) if options.json => output::line(report::failure_to_json(failure)),
        Err(_) => {}
    }
    result.map(drop)
}

/// Performs the demo that was asked for, and returns its report as it is printed.
fn report_of(options: &DemoOptions, interruption: &Interruption) -> Result<String, Failure> {
    if options.internet {
        let report = internet::perform(interruption)?;
        return Ok(if options.json { report.to_json() } else { report.to_table() });
    }
    if options.paid {
        let report = paid::perform(interruption)?;
        return Ok(if options.json { report.to_json() } else { report.to_table() });
    }
    let report = perform(options, interruption)?;
    Ok(if options.json { report.to_json() } else { report.to_table() })
}

/// Performs the steps in order. The ends and the directory are gone when it returns.
fn perform(options: &DemoOptions, interruption: &Interruption) -> Result<Report, Failure> {
    let progress = Progress::new();
    let directory = WorkDir::create()?;

    let mut server = End::spawn(EndRole::Server, None, "warn", interruption)?;
    let privileges = server.call(json!({"do": "enter"}), STEP)?;
    let mut client = End::spawn(EndRole::Client, Some(server.pid()), "warn", interruption)?;
    client.call(json!({"do": "enter"}), STEP)?;
    server.call(json!({"do": "link", "peer": client.pid()}), STEP)?;
    client.call(json!({"do": "link"}), STEP)?;
    progress.step("two network namespaces with a virtual cable between them");

    let server_state = directory.path().join("server");
    let started = server.call(json!({"do": "start", "state": text_of(&server_state)?}), STEP)?;
    progress.step("server started");
    let client_state = directory.path().join("client");
    client.call(json!({"do": "configure", "state": text_of(&client_state)?, "pin": started["pin"]}), STEP)?;
    let check = client.call(json!({"do": "check"}), STEP)?;
    let answered = check["round_trip_ms"].as_f64().unwrap_or(0.0);
    progress.step(format_args!("server checked: it answers in {answered:.1} ms"));
    let lease = client.call(json!({"do": "start"}), STEP)?;
    progress.step(format_args!("client connected, address {}", lease["address"].as_str().unwrap_or("?")));

    server.call(json!({"do": "serve"}), STEP)?;
    let ping = client.call(json!({"do": "ping", "gateway": lease["gateway"]}), STEP)?;
    progress.step(format_args!("{} of {} pings answered", ping["received"], ping["sent"]));
    let upload = transfer("upload", options.seconds, &lease, &mut server, &mut client, &progress)?;
    let download = transfer("download", options.seconds, &lease, &mut server, &mut client, &progress)?;

    let (server_totals, client_totals) = totals(&mut server, &mut client)?;
    let socket = Path::new(started["cli_socket"].as_str().unwrap_or_default());
    let vpn_stat = crate::control::call(Role::Server, socket, &["vpn_stat", "-net", DEFAULT_NETWORK])?;

    client.call(json!({"do": "stop"}), STEP)?;
    server.call(json!({"do": "stop"}), STEP)?;
    client.finish()?;
    server.finish()?;
    directory.remove()?;

    let report = Report {
        privileges,
        check,
        lease,
        ping,
        upload,
        download,
        server: server_totals,
        client: client_totals,
        vpn_stat,
    };
    report.traffic_passed()?;
    Ok(report)
}

/// Transfers in one direction and measures both ends' processor time.
fn transfer(
    direction: &'static str,
    seconds: u32,
    lease: &Value,
    server: &mut End<'_>,
    client: &mut End<'_>,
    progress: &Progress,
) -> Result<Transfer, Failure> {
    let length = Duration::from_secs(u64::from(seconds));
    let before = (server.cpu(STEP)?, client.cpu(STEP)?);
    let request = json!({"do": "transfer", "direction": direction, "seconds": seconds, "gateway": lease["gateway"]});
    let bar = progress.transfer(direction, length);
    let measured = client.call_with_progress(request, STEP, |bytes| bar.update(bytes))?;
    let after = (server.cpu(STEP)?, client.cpu(STEP)?);
    let transfer = Transfer {
        bytes: measured["bytes"].as_u64().unwrap_or(0),
        seconds: measured["seconds"].as_f64().unwrap_or(0.0),
        server_cpu: after.0 - before.0,
        client_cpu: after.1 - before.1,
    };
    bar.finish(transfer.mbit_per_second());
    Ok(transfer)
}

/// Returns both ends' counters once they agree, which means that no packet is in flight. If they differ after a second,
/// packets were dropped on the way, and the drop counters say where.
fn totals(server: &mut End<'_>, client: &mut End<'_>) -> Result<(Value, Value), Failure> {
    const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
    let started = Instant::now();
    loop {
        let client_totals = client.call(json!({"do": "totals"}), STEP)?;
        let server_totals = server.call(json!({"do": "totals"}), STEP)?;
        let agree = ["up_packets", "down_packets"].iter().all(|key| client_totals[key] == server_totals[key]);
        if agree || started.elapsed() >= SETTLE_TIMEOUT {
            return Ok((server_totals, client_totals));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn text_of(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        Failure::new(Code::Usage, format!("the temporary directory {} is not UTF-8: set TMPDIR", path.display()))
    })
}
