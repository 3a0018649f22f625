//! The Unix socket: accepts on the thread "vpn-cli", runs each command on a separate thread.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use host::descriptors::above_stdio;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::{REQUEST_MAX, Reply, run, socket_path};
use crate::config::{BadValue, Config};
use crate::connection_threads::{ConnectionThreads, Refused};
use crate::deadline::Timed;
use crate::state::{self, StateDir};
use crate::threads;

/// Most connections at once; one more is told so and closed.
const CONNECTIONS_MAX: usize = 8;
/// For the peer to send a whole request, and to receive a whole reply.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a stop grants to running commands.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A listening CLI. Dropping it waits for running commands, ends its threads and removes its socket.
pub struct CliServer {
    path: PathBuf,
    /// Device and inode of the socket: a file that another process has put in its place must stay.
    identity: Option<(u64, u64)>,
    /// The accepting thread polls the other end; closing this one stops the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    pool: Arc<ConnectionThreads>,
}

/// Starts the CLI unless `[cli-server] enabled` is false. An error if the configured path is one where no socket can be
/// made. Logs other failures, which affect nothing else: another process listens there, or the default path cannot be
/// used.
pub fn start(config: &Config) -> Result<Option<CliServer>, BadValue> {
    if !config.get_bool("cli-server", "enabled", true) {
        return Ok(None);
    }
    let path = socket_path(config);
    match CliServer::listen(config, &path) {
        Ok(server) => {
            log::info!("the CLI accepts commands on {}", path.display());
            Ok(Some(server))
        }
        Err(error) => {
            let expected = format!("a path where this process can make a socket ({error})");
            let is_taken = error.kind() == io::ErrorKind::AddrInUse;
            if let Some(error) = config.bad_value("cli-server", "listen-path", expected).filter(|_| !is_taken) {
                return Err(error);
            }
            log::error!("the CLI cannot listen on {} ([cli-server] listen-path): {error}", path.display());
            Ok(None)
        }
    }
}

impl CliServer {
    fn listen(config: &Config, path: &Path) -> io::Result<Self> {
        let listener = bind(config, path)?;
        let identity = fs::symlink_metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let (stop, stopped) = UnixStream::pair()?;
        let (stop, stopped) = (above_stdio(stop)?, above_stdio::<UnixStream>(stopped)?);
        let pool = ConnectionThreads::new("vpn-cli-cmd", CONNECTIONS_MAX);
        let mut server = Self { path: path.to_owned(), identity, stop: Some(stop), thread: None, pool };
        let pool = Arc::clone(&server.pool);
        server.thread = Some(threads::spawn("vpn-cli", move || accept(&listener, &stopped, &pool))?);
        Ok(server)
    }

    /// Removes the socket from the file system, unless another file has replaced it. Does not wait.
    pub(crate) fn remove_file(&self) {
        let found = fs::symlink_metadata(&self.path).map(|file| (file.dev(), file.ino())).ok();
        if found.is_some() && found == self.identity {
            // Another process may have removed it in between, which is fine.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for CliServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The accepting thread runs no command and so never drops the server; its panics are logged elsewhere.
            let _ = thread.join();
        }
        self.remove_file();
        self.pool.stop(STOP_TIMEOUT);
    }
}

/// The listening socket, mode 0600 from the moment it is visible.
fn bind(config: &Config, path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path).map_err(|_| text_error("the path is too long for a socket (107 bytes)"))?;
    // Two processes that start at once must not each remove the other's new socket as a dead one.
    let _lock = lock(config, path)?;
    remove_if_dead(path, &address)?;
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // On Linux the socket's own mode, less the umask, becomes the file's mode (unix(7)).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 16)?;
    Ok(UnixListener::from(socket))
}

/// Locks the file beside the socket that only this program's user opens: everybody can lock a directory that he may
/// read. The file stays, because the removal of a lock lets two processes hold it.
fn lock(config: &Config, path: &Path) -> io::Result<fs::File> {
    let name = path.file_name().and_then(OsStr::to_str).ok_or_else(|| text_error("expected a path of a file"))?;
    let in_directory = |directory: &StateDir| directory.open_lock(&format!("{name}.lock"));
    let opened = if path.parent() == Some(&*config.state_path()) {
        state::open(config).and_then(|directory| in_directory(&directory))
    } else {
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        StateDir::of_file(path).and_then(|directory| in_directory(&directory))
    };
    let file = opened.map_err(io::Error::other)?;
    for _ in 0..20 {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(50)),
            other => return Ok(other.map(|()| file)?),
        }
    }
    Err(taken("its lock is held by another process, which is about to listen there"))
}

/// Removes the socket of a killed process; an error if a process listens on it, or if it is not a socket.
fn remove_if_dead(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(text_error("the path is taken by another kind of file"));
        }
        Ok(_) => {}
    }
    match rustix::net::connect(&socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?, address) {
        Err(rustix::io::Errno::CONNREFUSED) => fs::remove_file(path),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        // Connected, or EAGAIN: a process listens and is busy.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Err(taken("another process listens there")),
        Err(error) => Err(error.into()),
    }
}

fn socket(flags: SocketFlags) -> io::Result<std::os::fd::OwnedFd> {
    Ok(above_stdio(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)?)
}

fn taken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, text)
}

fn text_error(text: &str) -> io::Error {
    io::Error::other(text)
}

fn accept(listener: &UnixListener, stopped: &UnixStream, pool: &Arc<ConnectionThreads>) {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                log::error!("the CLI stops: poll: {error}");
                return;
            }
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        match listener.accept().and_then(|(connection, _)| Ok(above_stdio(connection)?)) {
            Ok(connection) => take(connection, pool),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                // Descriptors or memory ran out and the connection is still queued: without a pause this would spin.
                log::debug!("CLI: accept: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn take(connection: UnixStream, pool: &Arc<ConnectionThreads>) {
    let connection = Arc::new(connection);
    let refusal = match pool.start(&connection, serve) {
        Ok(()) => return,
        Err(Refused::Full) => format!("{CONNECTIONS_MAX} commands are running already; try again"),
        Err(Refused::Io(error)) => format!("cannot start a thread: {error}"),
    };
    log::debug!("CLI: {refusal}");
    // The reply fits the socket's empty buffer; if it did not, the accepting thread must still not wait.
    let _ = connection.set_nonblocking(true);
    answer(&connection, &Reply::refused(refusal));
}

fn serve(connection: &UnixStream) {
    let reply = match request(connection) {
        Ok(Some(argv)) => run(&argv),
        Ok(None) => return,
        Err(refusal) => Reply::refused(refusal),
    };
    answer(connection, &reply);
}

fn answer(connection: &UnixStream, reply: &Reply) {
    let line = format!("{}\n", json!({ "code": reply.code, "reply": reply.text }));
    if let Err(error) = Timed::new(connection, PEER_TIMEOUT).write_all(line.as_bytes()) {
        log::debug!("CLI: cannot send the reply: {error}");
    }
}

/// The words of a command line; None if the peer closed without one.
fn request(connection: &UnixStream) -> Result<Option<Vec<String>>, String> {
    let mut line = Vec::new();
    let limit = REQUEST_MAX as u64 + 1;
    let mut reader = BufReader::new(Timed::new(connection, PEER_TIMEOUT).take(limit));
    reader.read_until(b'\n', &mut line).map_err(|error| format!("no request: {error}"))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > REQUEST_MAX {
        return Err(format!("a request has at most {REQUEST_MAX} bytes"));
    }
    words(&line).map(Some).ok_or_else(|| r#"expected a line like {"argv":["help"]}"#.into())
}

fn words(line: &[u8]) -> Option<Vec<String>> {
    let request: Value = serde_json::from_slice(line).ok()?;
    request.get("argv")?.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Command, call, register};
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;
    use std::time::Instant;

    fn config(directory: &tempfile::TempDir) -> Config {
        Config::parse(&format!("[general]\nstate_dir={}/state", directory.path().display()), "test.cfg").0
    }

    fn send(path: &Path, request: &[u8]) -> String {
        let connection = UnixStream::connect(path).unwrap();
        // The server may answer and close before it has received everything.
        let _ = (&connection).write_all(request);
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let mut reply = String::new();
        let _ = (&connection).read_to_string(&mut reply);
        reply
    }

    #[test]
    fn commands_run_over_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        register(Command {
            name: "socket_echo".into(),
            doc: String::new(),
            doc_ex: String::new(),
            run: Box::new(|argv| Reply { code: -3, text: argv[1..].join("|") }),
        });
        let server = start(&config).unwrap().unwrap();
        let path = socket_path(&config);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let reply = call(&path, &["socket_echo", "a b", "\"\n\0ё"]).unwrap();
        assert_eq!(reply, Reply { code: -3, text: "a b|\"\n\0ё".into() });
        assert_eq!(call(&path, &["nothing"]).unwrap().code, -1);
        assert!(start(&config).unwrap().is_none(), "the socket is live");
        assert_eq!(call(&path, &["help"]).unwrap().code, 0);
        drop(server);
        assert!(!path.exists());
        assert!(call(&path, &["help"]).unwrap_err().to_string().contains("no node"));
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        let path = socket_path(&config);
        state::open(&config).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let server = start(&config).unwrap().unwrap();
        assert_eq!(call(&path, &["help"]).unwrap().code, 0);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(server);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(start(&config).unwrap().is_none());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    /// Everybody may lock a directory that he can read, and /tmp is one: that must not keep the CLI from listening.
    #[test]
    fn a_lock_on_the_directory_is_nothing_to_us() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let theirs = fs::File::open(directory.path()).unwrap();
        rustix::fs::flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
        let text = format!("[cli-server]\nlisten-path={}", path.display());
        let config = Config::parse(&text, "test.cfg").0;
        let server = start(&config).unwrap().unwrap();
        assert_eq!(call(&path, &["help"]).unwrap().code, 0);
        let lock = directory.path().join("x.sock.lock");
        assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
        drop(server);
        // A link in the lock's place leads nowhere.
        let other = directory.path().join("other");
        fs::write(&other, "").unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink(&other, &lock).unwrap();
        assert!(start(&config).is_err());
        assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn no_cli_when_disabled_or_impossible() {
        let with = |text: &str| start(&Config::parse(text, "test.cfg").0);
        assert!(with("[cli-server]\nenabled=false").unwrap().is_none());
        for path in ["/proc/nothing/x.sock", "/dev/null/x.sock", "relative/../..", &"x".repeat(120)] {
            let error = with(&format!("[cli-server]\nlisten-path={path}"))
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(error.contains(&format!("[cli-server] listen-path = {path}: expected")), "{error}");
        }
    }

    #[test]
    fn hostile_requests_get_an_answer_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        let server = start(&config).unwrap().unwrap();
        let path = socket_path(&config);
        assert_eq!(send(&path, b""), "");
        let deep = [vec![b'['; 60_000], vec![b'\n']].concat();
        let huge = vec![b'x'; REQUEST_MAX * 4];
        let table: [&[u8]; 9] = [
            b"\n",
            b"garbage\n",
            b"\xff\xfe\0\n",
            b"{}\n",
            br#"{"argv":"help"}"#,
            br#"{"argv":[1]}"#,
            br#"{"argv":[]}"#,
            &deep,
            &huge,
        ];
        for request in table {
            let reply = send(&path, request);
            assert!(reply.starts_with(r#"{"code":-1,"#), "{:?} {reply:?}", &request[..request.len().min(20)]);
        }
        assert!(send(&path, b"{\"argv\":[\"help\"]}\nmore\n").starts_with(r#"{"code":0,"#));
        assert_eq!(call(&path, &["help"]).unwrap().code, 0);
        drop(server);
    }

    #[test]
    fn silent_peers_neither_block_commands_nor_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        let server = start(&config).unwrap().unwrap();
        let path = socket_path(&config);
        let mut silent: Vec<_> = (1..CONNECTIONS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(call(&path, &["help"]).unwrap().code, 0);
        silent.extend((0..2).map(|_| UnixStream::connect(&path).unwrap()));
        let mut reply = String::new();
        (&silent[CONNECTIONS_MAX]).read_to_string(&mut reply).unwrap();
        assert!(reply.contains("try again"), "{reply}");
        let start = Instant::now();
        drop(server);
        assert!(start.elapsed() < PEER_TIMEOUT);
    }

    #[test]
    fn a_running_command_delays_the_stop_and_may_cause_it() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        let server = Arc::new(parking_lot::Mutex::new(start(&config).unwrap()));
        let (inner, (started, has_started)) = (server.clone(), mpsc::channel());
        register(Command {
            name: "end_server".into(),
            doc: String::new(),
            doc_ex: String::new(),
            run: Box::new(move |_| {
                started.send(()).unwrap();
                let server = inner.lock().take();
                drop(server);
                Reply { code: 0, text: "ended".into() }
            }),
        });
        let path = socket_path(&config);
        let client = std::thread::spawn(move || call(&path, &["end_server"]).unwrap());
        has_started.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(client.join().unwrap().text, "ended");
        assert!(server.lock().is_none());
        super::super::unregister("end_server");
    }

    proptest! {
        #[test]
        fn any_line_is_words_or_refused(line: Vec<u8>) {
            words(&line);
        }

        #[test]
        fn words_come_back(argv: Vec<String>) {
            prop_assert_eq!(words(json!({ "argv": argv }).to_string().as_bytes()), Some(argv));
        }
    }
}
