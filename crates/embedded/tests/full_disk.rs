//! Identity and store on a disk that is full at each write of their first start, and then has space again.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use embedded::config::{self, Config};
use embedded::{store, tls};
use testkit::skip;

const TEST: &str = "a_full_disk_is_no_obstacle_once_it_has_space";
/// Set in the process that runs in a mount namespace of its own.
const INSIDE: &str = "TEST_DISK";
const PAGE: usize = 4096;

#[test]
fn a_full_disk_is_no_obstacle_once_it_has_space() {
    if let Some(disk) = std::env::var_os(INSIDE) {
        return (0..60).for_each(|pages| with_free(Path::new(&disk), pages));
    }
    let disk = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs none \"$1\" || exit 77; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(disk.path()).arg(own).args([TEST, "--exact"]);
    let output = command.env(INSIDE, disk.path()).output().unwrap();
    if !String::from_utf8_lossy(&output.stdout).contains("1 test") {
        return skip(TEST, String::from_utf8_lossy(&output.stderr).trim());
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A first start on a disk with this many free pages, then with space.
fn with_free(disk: &Path, pages: usize) {
    resize(disk, 64 * PAGE);
    fill(&disk.join("filler"), 64 - pages);
    let state = disk.join("state");
    let before = fs::create_dir(&state);
    if before.is_ok() {
        let text = format!("[general]\nstate_dir={}", state.display());
        config::set_current(Config::parse(&text, "test").0);
        let outcomes = start();
        assert!(pages > 0 || outcomes.iter().all(Result::is_err), "nothing failed: {outcomes:?}");
        assert!(pages < 50 || outcomes.iter().all(Result::is_ok), "{pages} pages: {outcomes:?}");
        // Of one process in two, the store is still open.
        if pages.is_multiple_of(2) {
            store::close();
        }
    }
    resize(disk, 64 << 20);
    let text = format!("[general]\nstate_dir={}", state.display());
    config::set_current(Config::parse(&text, "test").0);
    for outcome in start() {
        outcome.unwrap_or_else(|error| panic!("with {pages} pages free, then with space: {error}"));
    }
    assert_eq!(store::get("g", "k").unwrap().unwrap(), b"value");
    let mut names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["identity.crt", "identity.key", "store.redb"], "with {pages} pages free");
    store::close();
    fs::remove_dir_all(&state).unwrap();
}

fn start() -> [Result<(), String>; 3] {
    let config = config::current();
    [
        tls::identity_fingerprint(&config).map(drop).map_err(|error| error.to_string()),
        store::set("g", "k", b"value").map_err(|error| error.to_string()),
        store::set_if_absent("g", "large", &[7; 20_000]).map(drop).map_err(|error| error.to_string()),
    ]
}

fn fill(path: &Path, pages: usize) {
    // To the last page or to the wanted number of free ones.
    let _ = fs::write(path, vec![0xff; pages * PAGE]);
}

fn resize(disk: &Path, bytes: usize) {
    let _ = fs::remove_file(disk.join("filler"));
    let status = Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(disk).status().unwrap();
    assert!(status.success());
}
