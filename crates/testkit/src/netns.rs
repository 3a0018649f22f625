//! Tests that change links, addresses or routes run in a network namespace of their own, so that nothing touches the
//! host.
//!
//! [`in_namespace`] starts the test's own binary again, for that one test, under util-linux `unshare`: as root with a
//! new network namespace, otherwise with a new user namespace around it. The inner run, marked by an environment
//! variable, is the one that executes the test's body.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::skip::{say, skip};

/// Set in the inner run to the name of the test.
const INNER: &str = "VPN_TEST_IN_NAMESPACE";

/// An inner run that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// What `unshare` is asked for, by preference: the first is root's, the second works for everyone where the kernel has
/// unprivileged user namespaces. The mount namespace keeps what a test mounts to itself.
const NAMESPACES: [&[&str]; 2] = [&["--net", "--mount"], &["--user", "--map-root-user", "--net", "--mount"]];

/// Runs `body` in a fresh network namespace, as its root, with only a loopback link that is down.
///
/// `test_name` is the calling test's name as `cargo test` prints it. Where namespaces or TUN devices are missing, it
/// says "skipped: why" on stderr and returns; with `VPN_TESTS_MUST_NOT_SKIP=1` it panics instead. Panics when `body`
/// does.
pub fn in_namespace(test_name: &str, body: impl FnOnce()) {
    if std::env::var(INNER).is_ok_and(|inner| inner == test_name) {
        std::thread::spawn(|| {
            std::thread::sleep(TIME_LIMIT);
            eprintln!("the test takes longer than {TIME_LIMIT:?}");
            std::process::abort();
        });
        return body();
    }
    match available() {
        Ok(namespaces) => run_inside(namespaces, test_name),
        Err(why) => skip(test_name, &why),
    }
}

/// The arguments of `unshare` that work here, or what is missing.
fn available() -> Result<&'static [&'static str], String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        return Err(format!("/dev/net/tun cannot be opened: {error}"));
    }
    let mut why = String::new();
    for namespaces in NAMESPACES {
        match Command::new("unshare").args(namespaces).arg("true").stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => return Ok(namespaces),
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => why = format!("unshare (of util-linux) cannot be run: {error}"),
        }
    }
    Err(format!("no network namespace can be made: {why}"))
}

fn run_inside(namespaces: &[&str], test_name: &str) {
    let output = Command::new("unshare")
        .args(namespaces)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test_name, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(INNER, test_name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that matches no test would run none and succeed.
    let ran = stdout.contains("test result: ok. 1 passed");
    assert!(
        output.status.success() && ran,
        "{test_name} in its namespace: {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
        output.status
    );
    // What the body could not do here, it has said inside.
    stderr.lines().filter(|line| line.starts_with("skipped: ")).for_each(say);
}
