//! Runs tests that change links, addresses or routes in their own network namespace, so that they cannot affect the
//! host.
//!
//! [`in_namespace`] starts the test's binary again, for that one test, under util-linux `unshare`: as root with a new
//! network namespace, otherwise also with a new user namespace. An environment variable marks the inner run, which
//! executes the test's body.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::skip::{skip, write_to_stderr};

/// In the inner run it holds the name of the test.
const INNER: &str = "VPN_TEST_IN_NAMESPACE";

/// The time limit of an inner run.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Arguments of `unshare`, best first: the first set needs root, the second works for every user if the kernel allows
/// unprivileged user namespaces. The mount namespace hides a test's mounts from the host.
const NAMESPACES: [&[&str]; 2] = [&["--net", "--mount"], &["--user", "--map-root-user", "--net", "--mount"]];

/// Runs `body` in a new network namespace, as its root. The namespace has only a loopback link, which is down.
///
/// `test_name` is the calling test's name as `cargo test` prints it. Without namespaces or TUN devices it prints
/// "skipped: test: reason" on stderr and returns; with `VPN_TESTS_MUST_NOT_SKIP=1` it panics instead. Panics if `body`
/// panics.
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

/// Returns the arguments of `unshare` that work here, or the reason why none does.
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
    // With a name that matches no test, the run would succeed without running any.
    let ran = stdout.contains("test result: ok. 1 passed");
    assert!(
        output.status.success() && ran,
        "{test_name} in its namespace: {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
        output.status
    );
    // Passes on the inner run's reasons for skipping.
    stderr.lines().filter(|line| line.starts_with("skipped: ")).for_each(write_to_stderr);
}
