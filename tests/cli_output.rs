//! What the program writes where: `--watch`, in place on a terminal and one answer behind the other elsewhere; colours; and
//! what helps after a mistake. A thread of the test answers as a server would.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use rustix::process::Signal;
use testkit::TEST_TIMEOUT;
use testkit::program::{Program, code, send, stderr, stdout, wait};
use testkit::terminal::{Terminal, screen};

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// A process that answers each command with "answer N", and a second line at first alone.
struct Answering {
    socket: PathBuf,
    answers: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn at(socket: &Path) -> Answering {
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (answers, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, is_end) = (Arc::clone(&answers), Arc::clone(&ends));
        let serve = move || {
            while let Ok((mut connection, _)) = listener.accept() {
                if is_end.load(Ordering::Relaxed) {
                    return;
                }
                assert!(connection.read(&mut [0; 1024]).unwrap() > 0);
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                let more = if number == 1 { "\\nof two lines" } else { "" };
                writeln!(connection, "{{\"code\":0,\"reply\":\"answer {number}{more}\"}}").unwrap();
            }
        };
        Answering { socket: socket.to_owned(), answers, ends, thread: Some(std::thread::spawn(serve)) }
    }

    fn wait_for(&self, answers: usize) {
        let deadline = std::time::Instant::now() + TEST_TIMEOUT;
        while self.answers.load(Ordering::Relaxed) < answers {
            assert!(std::time::Instant::now() < deadline, "no answer {answers}");
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = std::os::unix::net::UnixStream::connect(&self.socket);
        let _ = self.thread.take().unwrap().join();
        let _ = fs::remove_file(&self.socket);
    }
}

fn watching(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = PROGRAM.command(directory);
    command.args(arguments).args(["--socket", directory.join("s").to_str().unwrap()]);
    command
}

fn end(child: &mut Child, signal: Signal) {
    send(child, signal);
    assert_eq!(wait(child, TEST_TIMEOUT), Some(0));
}

#[test]
fn answers_follow_each_other_in_a_file_until_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let expected = [
        (vec!["stat", "--watch", "1"], "answer 1\nof two lines\n\nanswer 2\n\n"),
        (vec!["leases", "--json", "--watch=1"], "answer 1\nof two lines\nanswer 2\n"),
    ];
    for (arguments, expected) in expected {
        let answering = Answering::at(&directory.path().join("s"));
        let mut child = watching(directory.path(), &arguments).stdout(Stdio::piped()).spawn().unwrap();
        answering.wait_for(2);
        // The answer is on its way to the file.
        sleep(Duration::from_millis(100));
        end(&mut child, Signal::INT);
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, expected, "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let answering = Answering::at(&directory.path().join("s"));
    let mut child = watching(directory.path(), &["status", "--watch", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "answer 1\n");
    assert_eq!(wait(&mut child, TEST_TIMEOUT), Some(0));
    answering.wait_for(1);
}

#[test]
fn a_process_that_ends_is_said_once_and_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    // At first it is a failure.
    let output = watching(directory.path(), &["stat", "--watch"]).output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let answering = Answering::at(&socket);
    let mut command = watching(directory.path(), &["stat", "--watch", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    answering.wait_for(1);
    drop(answering);
    sleep(Duration::from_millis(2500));
    Answering::at(&socket).wait_for(1);
    end(&mut child, Signal::TERM);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("no server runs here").count(), 1, "{said}");
}

#[test]
fn on_a_terminal_the_answer_changes_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let answering = Answering::at(&directory.path().join("s"));
    let (terminal, end_of_program) = Terminal::new();
    let mut child = watching(directory.path(), &["stat", "--watch", "1"]).stdout(end_of_program).spawn().unwrap();
    answering.wait_for(2);
    sleep(Duration::from_millis(100));
    end(&mut child, Signal::INT);
    let shown = screen(&terminal.finish());
    assert_eq!(shown, ["cellframe-vpn stat, every 1 s until Ctrl-C", "", "answer 2", ""]);
}

#[test]
fn a_time_that_is_none_is_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, reason) in [
        (&["stat", "--watch", "0"][..], "1..=86400"),
        (&["stat", "--watch", "soon"], "soon"),
        (&["leases", "--watch", "--drop", "10.98.0.2"], "cannot be used with"),
    ] {
        let output = PROGRAM.run(directory.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
    }
}

/// What people type who have not read the help.
#[test]
fn a_mistake_is_answered_with_what_helps() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("x.cfg");
    fs::write(&config, "[server]\nlisten_address=[0.0.0.0:8079,everywhere]\n").unwrap();
    let table: [(&[&str], i32, &str); 14] = [
        (&["fly"], 2, "expected one of demo, server, client, check"),
        (&["wallet", "fly"], 2, "expected one of new, list, address"),
        (&["client"], 2, "for example: sudo cellframe-vpn client --connect vpn.example.com"),
        (&["client", "vpn.example.com"], 2, "--connect vpn.example.com"),
        (&["doctor", "server"], 2, "it is an option: --server"),
        (&["server", "--port", "80"], 2, "[server] listen_address"),
        (&["stat", "-v"], 2, "RUST_LOG=debug"),
        (&["client", "--connect", "https://host/"], 2, "is a URL; expected HOST or HOST:PORT"),
        (&["client", "--connect", "192.0.2.256"], 2, "four numbers from 0 to 255"),
        (&["client", "--connect", "host", "--route", "10.0.0.1/8"], 2, "10.0.0.0/8?"),
        (&["leases", "--drop", "10.0.0"], 2, "expected an IPv4 address such as 10.98.0.7"),
        (&["history", "--limit", "-1"], 2, "1..=1000000"),
        (&["server", "--config", config.to_str().unwrap()], 2, "listen_address = everywhere: expected ADDRESS:PORT"),
        (&["check", "127.0.0.1:1"], 3, "`cellframe-vpn doctor --connect 127.0.0.1:1`"),
    ];
    for (arguments, expected, helps) in table {
        let state: &[&str] = if arguments[0] == "check" { &["--state-dir", "state"] } else { &[] };
        let mut command = PROGRAM.command(directory.path());
        let output = command.current_dir(directory.path()).args(arguments).args(state).output().unwrap();
        assert_eq!(code(&output), expected, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(helps), "{helps:?} in {arguments:?}: {}", stderr(&output));
    }
    let help = |words: &[&str]| stdout(&PROGRAM.run(directory.path(), words));
    assert_eq!(help(&["help", "wallet", "new"]), help(&["wallet", "new", "--help"]));
    assert!(help(&["help"]).contains("Exit codes:"));
}

/// The text of a failing command, with these variables, and stderr on a terminal or not.
fn error_text(variables: &[(&str, &str)], on_terminal: bool) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut command = watching(directory.path(), &["stat"]);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").envs(variables.iter().copied());
    if !on_terminal {
        return stderr(&command.output().unwrap());
    }
    let (terminal, end_of_program) = Terminal::new();
    command.stderr(end_of_program).status().unwrap();
    drop(command);
    terminal.finish()
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let has_colours = |variables, on_terminal| error_text(variables, on_terminal).contains("\x1b[");
    assert!(has_colours(&[], true), "{:?}", error_text(&[], true));
    assert!(!has_colours(&[], false), "into a file");
    assert!(!has_colours(&[("NO_COLOR", "1")], true), "NO_COLOR");
    assert!(has_colours(&[("CLICOLOR_FORCE", "1")], false), "CLICOLOR_FORCE");
}
