//! The start of a measurement: what it needs, and what it must not leave behind.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::thread::CapabilitySet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use super::failure::Failure;
use super::wireguard;

/// Measures, unless `cargo test --benches` runs the benchmark, without an argument: that should not take minutes of
/// traffic.
pub(crate) fn measure(bench: &str, measure: impl FnOnce() -> Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    if std::env::args_os().len() == 1 {
        eprintln!("skipped: `cargo bench --bench {bench}` starts the measurement");
        return Ok(ExitCode::SUCCESS);
    }
    measure()
}

/// Creates a directory for the programs' files, which is removed when it is dropped and on a signal.
pub(crate) fn directory() -> Result<TempDir, Failure> {
    wireguard::remove_leftovers();
    let directory = tempfile::Builder::new().prefix("cellframe-vpn-bench-").tempdir();
    let directory = directory.map_err(Failure::during("a temporary directory"))?;
    clean_up_on_signal(directory.path().to_owned())?;
    Ok(directory)
}

/// Checks for the rights that the measurement needs; the error says how to get them.
pub(crate) fn require_privileges(bench: &str) -> Result<(), Failure> {
    let sets = rustix::thread::capabilities(None).map_err(Failure::during("the capabilities of this process"))?;
    if !sets.effective.contains(CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN) {
        return Err(Failure::Missing(format!(
            "the measurement creates network namespaces, links and TUN devices: run it as root (it needs CAP_NET_ADMIN \
             and CAP_SYS_ADMIN), for instance with `sudo -E cargo bench --bench {bench}`"
        )));
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    device.map(drop).map_err(|error| Failure::Missing(format!("/dev/net/tun cannot be opened: {error}")))
}

/// Checks that a program of a Debian package is installed; the error says how to get it.
pub(crate) fn require_program(name: &str, package: &str, purpose: &str) -> Result<(), Failure> {
    // It only has to start: an option that it does not know is good enough.
    match Command::new(name).arg("-V").output() {
        Ok(_) => Ok(()),
        Err(error) => {
            let how = format!("install it, on Debian and Ubuntu with `apt-get install {package}`");
            Err(Failure::Missing(format!("{name} {purpose} and cannot be run ({error}): {how}")))
        }
    }
}

/// Checks that iperf3 is installed.
pub(crate) fn require_iperf() -> Result<(), Failure> {
    require_program("iperf3", "iperf3", "sends the traffic")
}

/// When this process ends, the kernel ends its children ([`super::running`]); files are removed here.
fn clean_up_on_signal(directory: PathBuf) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Failure::during("cannot watch for signals"))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = std::fs::remove_dir_all(directory);
            wireguard::remove_leftovers();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
