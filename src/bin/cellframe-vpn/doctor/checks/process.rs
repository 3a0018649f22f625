//! The processes of this program, their state directories and their limits.

use crate::doctor::facts::{Facts, Process, Runs};
use crate::doctor::finding::Finding;

/// Below this the store may not grow; below the first, nothing can be written.
const DISK_FULL: u64 = 1 << 20;
const DISK_LOW: u64 = 100 << 20;
/// A connection takes a file; what a server needs beside them, and the number that serves a small operator.
const FILES_LOW: u64 = 4096;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let server = facts.server.as_ref().map(|end| ("server", &end.process));
    let client = facts.client.as_ref().map(|end| ("client", &end.process));
    let mut findings = Vec::new();
    for (role, process) in server.into_iter().chain(client) {
        findings.push(runs(role, process));
        findings.extend(state(role, process));
        // Two roles on one disk say the same.
        findings.extend(disk(process).filter(|finding| !findings.contains(finding)));
    }
    findings.extend(server.map(|(_, process)| files(process)));
    findings
}

fn runs(role: &str, process: &Process) -> Finding {
    let check = if role == "server" { "server" } else { "client" };
    match &process.runs {
        Runs::Yes(Some(pid)) => Finding::ok(check, format!("the {role} runs, as process {pid}")),
        Runs::Yes(None) => Finding::ok(check, format!("the {role} runs")),
        Runs::No => {
            Finding::ok(check, format!("no {role} runs here (state directory {})", process.state_dir.display()))
        }
        Runs::Hidden => Finding::unknown(
            check,
            format!("a {role} of another user seems to run: its socket cannot be used"),
            "sudo cellframe-vpn doctor",
        ),
    }
}

fn state(role: &str, process: &Process) -> Option<Finding> {
    const CHECK: &str = "state";
    let directory = process.state_dir.display();
    match &process.state {
        Err(error) => Some(Finding::fault(
            CHECK,
            error.clone(),
            &format!("the {role} keeps its identity there, and does not start"),
            &[&format!("chown -R $USER {directory} && chmod 700 {directory}"), "[general] state_dir=ANOTHER DIRECTORY"],
        )),
        Ok(_) if process.store_is_taken => Some(Finding::fault(
            CHECK,
            format!("another process has {directory}/store.redb open, and no {role} answers at its socket"),
            &format!("a {role} that is started here cannot keep anything"),
            &[&format!("fuser -v {directory}/store.redb"), "end that process, or use another --state-dir"],
        )),
        Ok(_) if process.read_only.is_some() => Some(Finding::fault(
            CHECK,
            format!("{directory} cannot be written to: {}", process.read_only.as_deref().unwrap_or_default()),
            &format!("the {role} keeps its identity there, and does not start"),
            &["sudo cellframe-vpn doctor, if root is to start it", "[general] state_dir=ANOTHER DIRECTORY"],
        )),
        Ok(true) if process.owner.is_some() => {
            let owner = process.owner.as_deref().unwrap_or_default();
            let found = format!("{directory} is private, and that of {owner}: start the {role} as this user");
            Some(Finding::ok(CHECK, found))
        }
        Ok(true) => Some(Finding::ok(CHECK, format!("{directory} is private"))),
        Ok(false) => Some(Finding::ok(CHECK, format!("{directory} will be made at the first start"))),
    }
}

fn disk(process: &Process) -> Option<Finding> {
    const CHECK: &str = "disk";
    let (bytes, files) = process.free?;
    let directory = process.state_dir.parent().unwrap_or(&process.state_dir).display();
    let mebibytes = bytes >> 20;
    let remedy = format!("df -h {directory}; remove what is not needed, or move [general] state_dir");
    // File systems that make files as they need them count none.
    if bytes < DISK_FULL || (files < 16 && files != 0) {
        let what = if bytes < DISK_FULL { "bytes" } else { "files" };
        return Some(Finding::fault(
            CHECK,
            format!("the disk with {directory} has no {what} left"),
            "leases, payments and identities cannot be kept; a paid server stops to sell",
            &[&remedy],
        ));
    }
    if bytes < DISK_LOW {
        return Some(Finding::warning(
            CHECK,
            format!("the disk with {directory} has {mebibytes} MiB left"),
            "when it is full, leases and payments cannot be kept",
            &[&remedy],
        ));
    }
    Some(Finding::ok(CHECK, format!("{mebibytes} MiB are free for the state")))
}

fn files(process: &Process) -> Finding {
    const CHECK: &str = "open files";
    let files = process.files;
    if files >= FILES_LOW {
        let most = if files == u64::MAX { "any number of".to_owned() } else { files.to_string() };
        return Finding::ok(CHECK, format!("the server may have {most} files open"));
    }
    Finding::warning(
        CHECK,
        format!("the server may have {files} files open (RLIMIT_NOFILE); expected {FILES_LOW} at least"),
        "each client takes one, and those that come when all are taken are refused",
        &["ulimit -n 65536, in the shell that starts the server", "LimitNOFILE=65536, in its systemd unit"],
    )
}
