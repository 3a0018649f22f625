//! iperf3 between the two ends of a tunnel.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::Ends;
use super::failure::Failure;
use super::host::Host;
use super::running::{Running, WAIT_TIMEOUT};

/// The ports of measurements, which may run at the same time.
const PORTS: std::ops::Range<u32> = 5201..5300;

/// A measurement that has begun.
pub(crate) struct Measurement {
    client: Running,
    _server: Running,
    limit: Duration,
}

/// Starts a measurement that takes `seconds`. The client gets `more` arguments.
pub(crate) fn start(
    hosts: Ends<&Host>,
    gateway: Ipv4Addr,
    seconds: u32,
    more: &[String],
) -> Result<Measurement, Failure> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u32;
    let listens_on = (PORTS.start + number) as u16;
    let (port, seconds_text) = (listens_on.to_string(), seconds.to_string());
    let mut server = hosts.server.start(Command::new("iperf3").args(["-s", "-1", "-p", &port]))?;
    server.wait_for("it listens", |server| server.sees_listener(listens_on).then_some(()))?;
    let mut command = Command::new("iperf3");
    command.args(["-J", "-p", &port, "-t", &seconds_text, "-c", &gateway.to_string()]).args(more);
    let client = hosts.client.start(&command)?;
    Ok(Measurement { client, _server: server, limit: WAIT_TIMEOUT + Duration::from_secs(seconds.into()) })
}

impl Measurement {
    /// Waits for the end, and returns what the client's report says of it.
    pub(crate) fn finish(self) -> Result<Value, Failure> {
        let answer = self.client.output(self.limit)?;
        let mut answer: Value = serde_json::from_str(&answer).map_err(Failure::during("iperf3's answer"))?;
        match answer["error"].as_str() {
            Some(error) => Err(Failure::Failed(format!("iperf3: {error}"))),
            None => Ok(answer["end"].take()),
        }
    }
}
