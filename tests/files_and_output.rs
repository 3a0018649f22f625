//! Files of the program are whole or absent, whatever ends their creation; its state directory belongs to its user;
//! output that was not written is an error.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use testkit::program::{Program, code, stderr};
use testkit::skip;

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// Exit codes: failed, nothing listens there, output not written.
const FAILED: i32 = 1;
const CANNOT_CONNECT: i32 = 3;
const OUTPUT: i32 = 7;

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

fn last_line(output: &Output) -> String {
    stderr(output).lines().last().unwrap_or_default().to_owned()
}

fn check(directory: &Path, state: &Path) -> Output {
    PROGRAM.run(directory, &["check", NOWHERE, "--state-dir", state.to_str().unwrap()])
}

/// Runs a check through a shell that first runs `before`.
fn check_after(directory: &Path, state: &Path, before: &str) -> Output {
    let mut command = Command::new("sh");
    command.env("XDG_STATE_HOME", directory).env("TMPDIR", directory).env_remove("RUST_LOG").stdin(Stdio::null());
    command.args(["-c", &format!("{before}\nexec \"$@\""), "sh", PROGRAM.0, "check", NOWHERE, "--state-dir"]);
    command.arg(state).output().unwrap()
}

#[test]
fn a_first_start_that_cannot_write_leaves_nothing_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 2, 4, 5, 8, 16, 40, 71, 72, 73, 100];
    let mut failed = 0;
    for kib in sizes {
        // A limit of the files' size: as an error, as on a full disk, and as a signal that kills the process.
        for at_limit in ["trap '' XFSZ", ":"] {
            let state = directory.path().join("state");
            // Blocks of 512 bytes.
            let output = check_after(directory.path(), &state, &format!("{at_limit}; ulimit -f {}", kib * 2));
            if output.status.code() != Some(CANNOT_CONNECT) {
                failed += 1;
            }
            if let Some(code) = output.status.code().filter(|code| *code != CANNOT_CONNECT) {
                assert_eq!(code, FAILED, "{kib} KiB: {}", stderr(&output));
                assert!(last_line(&output).contains("known servers"), "{}", stderr(&output));
            }
            let again = check(directory.path(), &state);
            assert_eq!(code(&again), CANNOT_CONNECT, "after {kib} KiB: {}", stderr(&again));
            let mut names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["store.redb"], "after {kib} KiB");
            fs::remove_dir_all(&state).unwrap();
        }
    }
    assert!(failed > 12, "only {failed} starts failed: the limit has no effect");
}

/// What an earlier version left on a full disk: a store without its first bytes.
#[test]
fn a_store_that_was_never_finished_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    for contents in [vec![], vec![0; 5], vec![0; 73_728]] {
        assert_eq!(code(&check(directory.path(), &state)), CANNOT_CONNECT);
        fs::write(state.join("store.redb"), &contents).unwrap();
        let output = check(directory.path(), &state);
        assert_eq!(code(&output), CANNOT_CONNECT, "{}: {}", contents.len(), stderr(&output));
    }
    // Another file is not ours to remove.
    fs::write(state.join("store.redb"), "something else, longer than nothing").unwrap();
    let output = check(directory.path(), &state);
    assert_eq!(code(&output), FAILED);
    assert_eq!(fs::read_to_string(state.join("store.redb")).unwrap(), "something else, longer than nothing");
}

#[test]
fn a_state_directory_that_cannot_be_made_is_the_cause_in_the_last_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for state in [Path::new("/proc/nothing/state"), &file, &file.join("below")] {
        let output = check(directory.path(), state);
        assert_eq!(code(&output), FAILED, "{}", stderr(&output));
        let line = last_line(&output);
        assert!(line.starts_with("cellframe-vpn: ") && line.contains(state.to_str().unwrap()), "{line}");
    }
}

/// Links and files of other users in the state directory, and one that is theirs.
#[test]
fn what_others_could_exchange_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (state, outside) = (directory.path().join("state"), directory.path().join("outside"));
    assert_eq!(code(&check(directory.path(), &state)), CANNOT_CONNECT);
    let refused = |what: &str| {
        let output = check(directory.path(), &state);
        assert_eq!(code(&output), FAILED, "{what}: {}", stderr(&output));
        assert!(last_line(&output).contains(what), "{what}: {}", last_line(&output));
    };
    fs::rename(state.join("store.redb"), &outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
    symlink(&outside, state.join("store.redb")).unwrap();
    refused("a link");
    assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o644);
    fs::remove_file(state.join("store.redb")).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    refused("every user may write");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    if chown(&state, Some(65534), None).is_err() {
        return skip("what_others_could_exchange_is_refused", "only root can give a file away");
    }
    refused("belongs to user 65534");
    chown(&state, Some(0), Some(65534)).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o770)).unwrap();
    refused("group 65534 may write");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    // The directory above, both as the option's parent and as the configured directory itself.
    chown(directory.path(), Some(65534), None).unwrap();
    refused("parent");
    let config = directory.path().join("vpn.cfg");
    fs::write(&config, format!("[general]\nstate_dir={}\n", directory.path().display())).unwrap();
    let output = PROGRAM.run(Path::new("/"), &["check", NOWHERE, "--config", config.to_str().unwrap()]);
    assert_eq!(code(&output), FAILED, "{}", stderr(&output));
    assert!(last_line(&output).contains("parent") && !directory.path().join("check").exists(), "{}", stderr(&output));
}

/// The output goes to a full disk: the code says so, and so does a line.
#[test]
fn output_that_is_not_written_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 6] = [
        &[],
        &["--help"],
        &["--version"],
        &["server", "--help"],
        &["server", "--print-config"],
        &["stat", "--socket", "stat.sock"],
    ];
    for arguments in commands {
        for (target, expected) in [("/dev/full", OUTPUT), ("a closed pipe", if arguments.is_empty() { 2 } else { 0 })] {
            let _ = fs::remove_file(directory.path().join("stat.sock"));
            let server = arguments.contains(&"stat").then(|| {
                let listener = UnixListener::bind(directory.path().join("stat.sock")).unwrap();
                std::thread::spawn(move || {
                    let (mut connection, _) = listener.accept().unwrap();
                    assert!(connection.read(&mut [0; 1024]).unwrap() > 0);
                    connection.write_all(b"{\"code\":0,\"reply\":\"all is well\"}\n").unwrap();
                })
            });
            let stdout: Stdio = if target == "/dev/full" {
                OpenOptions::new().write(true).open(target).unwrap().into()
            } else {
                std::io::pipe().unwrap().1.into()
            };
            let mut command = PROGRAM.command(directory.path());
            let child = command.current_dir(directory.path()).args(arguments).stdout(stdout).stderr(Stdio::piped());
            let output = child.spawn().unwrap().wait_with_output().unwrap();
            assert_eq!(code(&output), expected, "{arguments:?} into {target}: {}", stderr(&output));
            let says = last_line(&output).contains("output cannot be written: No space left");
            assert_eq!(says, expected == OUTPUT, "{arguments:?} into {target}: {}", stderr(&output));
            if let Some(server) = server {
                server.join().unwrap();
            }
        }
    }
}

/// A limit of the file's size, which a signal reports, and an output that nobody can write to.
#[test]
fn output_beyond_a_limit_or_into_what_is_read_only_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in ["", "--help", "--version", "server --print-config"] {
        for redirected in ["ulimit -f 0; exec \"$0\" $1 > file", "exec \"$0\" $1 1< /dev/null"] {
            let mut command = Command::new("sh");
            let output =
                command.current_dir(directory.path()).args(["-c", redirected, PROGRAM.0, arguments]).output().unwrap();
            assert_eq!(output.status.code(), Some(OUTPUT), "{arguments}: {redirected}: {}", stderr(&output));
            assert!(last_line(&output).contains("output cannot be written"), "{}", stderr(&output));
        }
    }
}
