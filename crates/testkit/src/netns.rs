//! Runs tests that change links, addresses or routes in their own network namespace, so that they cannot affect the
//! host.
//!
//! [`in_namespace`] starts the test's binary again, for that one test, under util-linux `unshare`: as root with a new
//! network namespace, otherwise also with a new user namespace. An environment variable marks the inner run, which
//! executes the test's body. It has its own /etc: what the program writes there does not reach the host.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;
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
    in_namespace_for(TIME_LIMIT, test_name, body);
}

/// Does the same for a test that may take so long.
pub fn in_namespace_for(limit: Duration, test_name: &str, body: impl FnOnce()) {
    if std::env::var(INNER).is_ok_and(|inner| inner == test_name) {
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            eprintln!("the test takes longer than {limit:?}");
            std::process::abort();
        });
        // A test may come here several times.
        static ETC: Once = Once::new();
        ETC.call_once(own_etc);
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

/// Mounts a directory over /etc that has the host's entries, but a copy of its resolv.conf. A client of the program writes
/// that file, and others beside it.
fn own_etc() {
    let directory = std::env::temp_dir().join(format!("etc-of-test-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let at = directory.to_str().unwrap();
    mount(&["-t", "tmpfs", "tmpfs", at]);
    let host = directory.join(".host");
    fs::create_dir(&host).unwrap();
    mount(&["--rbind", "/etc", host.to_str().unwrap()]);
    // Whatever a test does to its /etc, the host's stays.
    mount(&["-o", "remount,bind,ro", host.to_str().unwrap()]);
    for entry in fs::read_dir("/etc").unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let shown = directory.join(&name);
        if name == "resolv.conf" {
            // A dangling link stands for a host without name servers.
            fs::write(&shown, fs::read(entry.path()).unwrap_or_default()).unwrap();
        } else if entry.file_type().unwrap().is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), &shown).unwrap();
        } else {
            symlink(Path::new(".host").join(&name), &shown).unwrap();
        }
    }
    mount(&["--rbind", at, "/etc"]);
    assert!(Command::new("umount").args(["--lazy", at]).status().unwrap().success(), "umount {at}");
    // Not with what is in it: that would be the host's, were the line above to fail.
    fs::remove_dir(&directory).unwrap();
}

/// Runs `mount`. Panics if it fails.
pub fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
}

/// What a test must leave as it is: the name servers of the host, as their file and what lies beside it say.
fn resolver_files() -> Vec<(String, u64, i64, u64)> {
    let entries = fs::read_dir("/etc").unwrap().flatten();
    let of_resolver = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("resolv.conf"));
    let facts = of_resolver.map(|entry| {
        let metadata = entry.metadata().unwrap();
        (entry.file_name().to_string_lossy().into_owned(), metadata.ino(), metadata.mtime(), metadata.size())
    });
    let mut facts: Vec<_> = facts.collect();
    facts.sort();
    facts
}

fn run_inside(namespaces: &[&str], test_name: &str) {
    let before = resolver_files();
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
    assert_eq!(resolver_files(), before, "{test_name} has changed the host's name servers");
    // Passes on the inner run's reasons for skipping.
    stderr.lines().filter(|line| line.starts_with("skipped: ")).for_each(write_to_stderr);
}
