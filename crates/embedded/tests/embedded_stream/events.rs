//! Event sockets, pointer queues, timers and jobs.

use crate::support::*;
use embedded::abi::events::*;
use embedded::ctypes::*;
use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The events of one socket; the argument of the callbacks.
#[derive(Default)]
struct Notes {
    text: Mutex<Vec<String>>,
    /// What the `read` callback does.
    on_read: Mutex<Option<OnRead>>,
}

#[derive(Clone, Copy)]
enum OnRead {
    Take,
    DeleteSelf,
    StopReading,
}

impl Notes {
    fn note(&self, text: &str) {
        let worker = unsafe { dap_worker_get_current().as_ref() }.map(|worker| worker.id);
        let worker = worker.map_or("-".into(), |id| id.to_string());
        self.text.lock().unwrap().push(format!("{text}@{worker}"));
    }

    fn all(&self) -> Vec<String> {
        self.text.lock().unwrap().clone()
    }

    fn wait(&self, wanted: &[&str]) {
        eventually(|| self.all() == wanted, || format!("{:?}, not {wanted:?}", self.all()));
    }
}

unsafe fn notes<'a>(arg: *mut c_void) -> &'a Notes {
    // SAFETY: the socket holds a reference until `deleted` has run.
    unsafe { &*arg.cast::<Notes>() }
}

unsafe extern "C" fn made(_es: *mut dap_events_socket, arg: *mut c_void) {
    unsafe { notes(arg) }.note("new");
}

unsafe extern "C" fn deleted(es: *mut dap_events_socket, arg: *mut c_void) {
    // SAFETY: the socket's own reference, taken back in its last callback.
    let notes = unsafe { Arc::from_raw(arg.cast::<Notes>()) };
    unsafe { assert!((*es)._inheritor.get().is_null() || (*es).no_close.get()) };
    notes.note("delete");
}

unsafe extern "C" fn assigned(es: *mut dap_events_socket, worker: *mut dap_worker) {
    unsafe {
        assert_eq!((*es).worker.get(), worker);
        notes((*es).callbacks.get().arg).note("assign");
    }
}

unsafe extern "C" fn unassigned(es: *mut dap_events_socket, _worker: *mut dap_worker) {
    unsafe { notes((*es).callbacks.get().arg) }.note("unassign");
}

unsafe extern "C" fn readable(es: *mut dap_events_socket, arg: *mut c_void) {
    unsafe {
        assert_eq!((*es).buf_in_size.get(), 0);
        let notes = notes(arg);
        let action = notes.on_read.lock().unwrap().unwrap_or(OnRead::Take);
        match action {
            OnRead::Take => {
                let mut file = std::mem::ManuallyDrop::new(UnixStream::from_raw_fd((*es).fd.get()));
                let mut byte = [0];
                match file.read(&mut byte) {
                    // The hang-up itself may look readable once.
                    Ok(0) => {}
                    Ok(_) => notes.note(&format!("read {}", byte[0])),
                    Err(error) => notes.note(&error.to_string()),
                }
            }
            OnRead::DeleteSelf => {
                notes.note("read");
                dap_events_socket_remove_and_delete_unsafe(es, false);
                // The struct is still valid until this callback returns.
                (*es).last_ping_request.set(1);
                dap_events_socket_remove_and_delete_unsafe(es, false);
                notes.note("still here");
            }
            OnRead::StopReading => {
                notes.note("read");
                dap_events_socket_set_readable_unsafe(es, false);
                dap_events_socket_set_writable_unsafe(es, true);
            }
        }
    }
}

unsafe extern "C" fn writable(es: *mut dap_events_socket, arg: *mut c_void) -> bool {
    unsafe {
        notes(arg).note("write");
        dap_events_socket_set_writable_unsafe(es, false);
    }
    false
}

unsafe extern "C" fn failed(es: *mut dap_events_socket, errno: c_int) {
    unsafe { notes((*es).callbacks.get().arg) }.note(&format!("error {errno}"));
}

struct Wrapped {
    es: *mut dap_events_socket,
    uuid: u64,
    peer: UnixStream,
    notes: Arc<Notes>,
}

fn wrap(on_read: Option<OnRead>) -> Wrapped {
    let (ours, peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let notes = Arc::new(Notes { on_read: Mutex::new(on_read), ..Notes::default() });
    let mut callbacks = dap_events_socket_callbacks {
        new_callback: Some(made),
        delete_callback: Some(deleted),
        read_callback: Some(readable),
        write_callback: Some(writable),
        error_callback: Some(failed),
        worker_assign_callback: Some(assigned),
        worker_unassign_callback: Some(unassigned),
        arg: Arc::into_raw(Arc::clone(&notes)).cast_mut().cast(),
        ..Default::default()
    };
    let es = unsafe { dap_events_socket_wrap_no_add(ours.into_raw_fd(), &raw mut callbacks) };
    let uuid = unsafe { (*es).uuid };
    Wrapped { es, uuid, peer, notes }
}

#[test]
fn a_descriptor_lives_in_a_loop() {
    let _sdk = Sdk::start(2);
    let mut socket = wrap(None);
    unsafe { dap_events_socket_assign_on_worker_mt(socket.es, worker(1)) };
    // A second assignment is refused.
    unsafe { dap_events_socket_assign_on_worker_mt(socket.es, worker(0)) };
    socket.peer.write_all(&[7, 8]).unwrap();
    socket.notes.wait(&["new@1", "assign@1", "read 7@1", "read 8@1"]);
    unsafe { dap_events_socket_remove_and_delete_mt(worker(1), socket.uuid) };
    socket.notes.wait(&["new@1", "assign@1", "read 7@1", "read 8@1", "delete@1"]);
    assert_eq!(socket.peer.read(&mut [0]).unwrap(), 0, "not closed");
    unsafe { dap_events_socket_remove_and_delete_mt(worker(1), socket.uuid) };
}

#[test]
fn no_close_and_preserved_inheritors_are_kept() {
    let _sdk = Sdk::start(1);
    let socket = wrap(None);
    let fd = unsafe {
        (*socket.es).no_close.set(true);
        (*socket.es)._inheritor.set(ptr::without_provenance_mut(1));
        (*socket.es).fd.get()
    };
    unsafe { dap_events_socket_assign_on_worker_mt(socket.es, worker(0)) };
    socket.notes.wait(&["new@0", "assign@0"]);
    let es = socket.es.expose_provenance();
    on_worker(worker(0), move || unsafe {
        dap_events_socket_remove_and_delete_unsafe(ptr::with_exposed_provenance_mut(es), true);
    });
    assert_eq!(socket.notes.all(), ["new@0", "assign@0", "delete@0"]);
    let mut still_open = unsafe { UnixStream::from_raw_fd(fd) };
    (&socket.peer).write_all(&[1]).unwrap();
    assert_eq!(still_open.read(&mut [0]).unwrap(), 1);
}

/// Descriptors 0 to 2 are the host program's, and one that C has closed itself is no reason to end.
#[test]
fn what_is_not_the_sdks_stays_open() {
    let sdk = Sdk::start(1);
    let socket = wrap(None);
    let wrap_number = |fd| unsafe { dap_events_socket_wrap_no_add(fd, ptr::null_mut()) };
    for fd in [0, 0, 1, 2] {
        assert!(!wrap_number(fd).is_null());
    }
    // A number that no file of this process has.
    // SAFETY: the socket is on no worker, and the descriptor that was in its place is closed here.
    drop(unsafe { UnixStream::from_raw_fd((*socket.es).fd.replace(1 << 30)) });
    drop(sdk);
    for fd in 0..3 {
        // SAFETY: a query.
        assert!(unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0, "{fd}");
    }
}

#[test]
fn a_malloced_inheritor_is_freed_as_the_sdk_does() {
    let _sdk = Sdk::start(1);
    let mut callbacks = dap_events_socket_callbacks::default();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    unsafe {
        let es = dap_events_socket_wrap_no_add(ours.into_raw_fd(), &raw mut callbacks);
        (*es)._inheritor.set(libc::malloc(100));
        // The socket has no worker: any thread may delete it. Valgrind and the allocator detect leaks and double frees.
        dap_events_socket_remove_and_delete_unsafe(es, false);
        dap_events_socket_remove_and_delete_unsafe(es, false);
    }
}

#[test]
fn a_socket_may_delete_itself_in_its_callback() {
    let _sdk = Sdk::start(1);
    let mut socket = wrap(Some(OnRead::DeleteSelf));
    unsafe { dap_events_socket_assign_on_worker_mt(socket.es, worker(0)) };
    socket.peer.write_all(&[1]).unwrap();
    socket.notes.wait(&["new@0", "assign@0", "read@0", "still here@0", "delete@0"]);
}

#[test]
fn reading_stops_and_writing_starts_on_request() {
    let _sdk = Sdk::start(1);
    let mut socket = wrap(Some(OnRead::StopReading));
    // Works before the socket has a worker, too.
    unsafe { dap_events_socket_set_readable_unsafe(socket.es, false) };
    unsafe { dap_events_socket_assign_on_worker_mt(socket.es, worker(0)) };
    socket.peer.write_all(&[1]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(socket.notes.all(), ["new@0", "assign@0"]);
    let es = socket.es.expose_provenance();
    on_worker(worker(0), move || unsafe {
        dap_events_socket_set_readable_unsafe(ptr::with_exposed_provenance_mut(es), true);
    });
    socket.notes.wait(&["new@0", "assign@0", "read@0", "write@0"]);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(socket.notes.all().len(), 4, "called again");
}

#[test]
fn a_hang_up_comes_after_the_last_byte() {
    let _sdk = Sdk::start(1);
    let mut socket = wrap(None);
    unsafe { dap_events_socket_assign_on_worker_mt(socket.es, worker(0)) };
    socket.peer.write_all(&[1, 2, 3]).unwrap();
    drop(socket.peer);
    socket.notes.wait(&[
        "new@0",
        "assign@0",
        "read 1@0",
        "read 2@0",
        "read 3@0",
        &format!("error {}@0", libc::ECONNRESET),
        "delete@0",
    ]);
}

#[test]
fn a_file_that_epoll_refuses_is_an_error() {
    let _sdk = Sdk::start(1);
    let notes = Arc::new(Notes::default());
    let mut callbacks = dap_events_socket_callbacks {
        delete_callback: Some(deleted),
        error_callback: Some(failed),
        arg: Arc::into_raw(Arc::clone(&notes)).cast_mut().cast(),
        ..Default::default()
    };
    let file = tempfile::tempfile().unwrap();
    unsafe {
        let es = dap_events_socket_wrap_no_add(file.into_raw_fd(), &raw mut callbacks);
        dap_events_socket_assign_on_worker_mt(es, worker(0));
        assert!(dap_events_socket_wrap_no_add(-1, &raw mut callbacks).is_null());
    }
    notes.wait(&[&format!("error {}@0", libc::EPERM), "delete@0"]);
}

#[test]
fn a_socket_moves_between_workers() {
    let _sdk = Sdk::start(2);
    let mut socket = wrap(None);
    unsafe {
        dap_events_socket_assign_on_worker_mt(socket.es, worker(0));
        dap_events_socket_reassign_between_workers_mt(worker(0), socket.es, worker(1));
        // The socket is already there: nothing happens.
        dap_events_socket_reassign_between_workers_mt(worker(0), socket.es, worker(1));
    }
    socket.notes.wait(&["new@0", "assign@0", "unassign@0", "assign@1"]);
    socket.peer.write_all(&[5]).unwrap();
    socket.notes.wait(&["new@0", "assign@0", "unassign@0", "assign@1", "read 5@1"]);
    // Names the old worker, as a caller does that has not heard of the move.
    unsafe { dap_events_socket_remove_and_delete_mt(worker(0), socket.uuid) };
    socket.notes.wait(&["new@0", "assign@0", "unassign@0", "assign@1", "read 5@1", "delete@1"]);
}

static ARRIVED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

unsafe extern "C" fn arrived(_es: *mut dap_events_socket, pointer: *mut c_void) {
    ARRIVED.lock().unwrap().push(pointer.addr());
}

#[test]
fn pointers_go_through_a_queue_in_order() {
    let _sdk = Sdk::start(2);
    ARRIVED.lock().unwrap().clear();
    let queue = unsafe { dap_events_socket_create_type_queue_ptr_mt(worker(1), Some(arrived)) };
    let address = queue.expose_provenance();
    let threads: Vec<_> = (0..3usize)
        .map(|thread| {
            std::thread::spawn(move || {
                for number in 0..20_000usize {
                    let pointer = ptr::without_provenance_mut(thread << 32 | number);
                    let queue = ptr::with_exposed_provenance_mut(address);
                    while unsafe { dap_events_socket_queue_ptr_send(queue, pointer) } == libc::EAGAIN {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    eventually(|| ARRIVED.lock().unwrap().len() == 60_000, || format!("{}", ARRIVED.lock().unwrap().len()));
    let mut next = [0; 3];
    for value in ARRIVED.lock().unwrap().drain(..) {
        assert_eq!(value & 0xffff_ffff, next[value >> 32]);
        next[value >> 32] += 1;
    }
    // A full queue; when it is deleted, the callback receives the remaining pointers first.
    let uuid = unsafe { (*queue).uuid };
    on_worker(worker(1), move || {
        let queue: *mut dap_events_socket = ptr::with_exposed_provenance_mut(address);
        for number in 0..65_536usize {
            assert_eq!(unsafe { dap_events_socket_queue_ptr_send(queue, ptr::without_provenance_mut(number)) }, 0);
        }
        assert_eq!(unsafe { dap_events_socket_queue_ptr_send(queue, ptr::null_mut()) }, libc::EAGAIN);
        unsafe { dap_events_socket_remove_and_delete_unsafe(queue, true) };
        assert_eq!(unsafe { dap_events_socket_queue_ptr_send(queue, ptr::null_mut()) }, libc::EINVAL);
    });
    assert!(ARRIVED.lock().unwrap().iter().copied().eq(0..65_536));
    unsafe { dap_events_socket_remove_and_delete_mt(worker(1), uuid) };
}

static TICKS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn three_ticks(_arg: *mut c_void) -> bool {
    TICKS.fetch_add(1, Ordering::SeqCst) + 1 < 3
}

unsafe extern "C" fn tick(_arg: *mut c_void) -> bool {
    TICKS.fetch_add(1, Ordering::SeqCst);
    true
}

unsafe extern "C" fn delete_own_timer(arg: *mut c_void) -> bool {
    TICKS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the test stored the timer's address behind `arg`.
    unsafe {
        let timer = (*arg.cast::<AtomicUsize>()).load(Ordering::SeqCst);
        dap_timerfd_delete_unsafe(ptr::with_exposed_provenance_mut(timer));
    }
    true
}

#[test]
fn timers_repeat_until_they_are_told_not_to() {
    let _sdk = Sdk::start(2);
    TICKS.store(0, Ordering::SeqCst);
    let begin = Instant::now();
    unsafe { dap_timerfd_start_on_worker(worker(0), 20, Some(three_ticks), ptr::null_mut()) };
    eventually(|| TICKS.load(Ordering::SeqCst) == 3, || "no ticks".into());
    assert!(begin.elapsed() >= Duration::from_millis(60), "{:?}", begin.elapsed());
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(TICKS.load(Ordering::SeqCst), 3);

    let uuid = unsafe { (*dap_timerfd_start_on_worker(worker(1), 1, Some(tick), ptr::null_mut())).esocket_uuid };
    eventually(|| TICKS.load(Ordering::SeqCst) > 10, || "no ticks".into());
    // Names another worker, too.
    unsafe { dap_timerfd_delete_mt(worker(0), uuid) };
    on_worker(worker(1), || ());
    let ticks = TICKS.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(TICKS.load(Ordering::SeqCst), ticks);

    static TIMER: AtomicUsize = AtomicUsize::new(0);
    TICKS.store(0, Ordering::SeqCst);
    on_worker(worker(0), || {
        let arg = (&raw const TIMER).cast_mut().cast();
        let timer = unsafe { dap_timerfd_start_on_worker(worker(0), 5, Some(delete_own_timer), arg) };
        TIMER.store(timer.expose_provenance(), Ordering::SeqCst);
    });
    eventually(|| TICKS.load(Ordering::SeqCst) == 1, || "no tick".into());
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(TICKS.load(Ordering::SeqCst), 1);
}

#[test]
fn jobs_run_in_order_on_their_worker() {
    let _sdk = Sdk::start(2);
    static ORDER: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
    unsafe extern "C" fn note(arg: *mut c_void) {
        let worker = unsafe { dap_worker_get_current() };
        ORDER.lock().unwrap().push((arg.addr(), worker.addr()));
    }
    ORDER.lock().unwrap().clear();
    for number in 0..1000 {
        unsafe { dap_worker_exec_callback_on(worker(1), Some(note), ptr::without_provenance_mut(number)) };
    }
    on_worker(worker(1), || ());
    let wanted: Vec<_> = (0..1000).map(|number| (number, worker(1).addr())).collect();
    assert!(*ORDER.lock().unwrap() == wanted);
    // An unknown worker, and no callback.
    unsafe {
        dap_worker_exec_callback_on(ptr::null_mut(), Some(note), ptr::null_mut());
        dap_worker_exec_callback_on(worker(0), None, ptr::null_mut());
    }
}

#[test]
fn wrong_threads_are_refused() {
    let _sdk = Sdk::start(2);
    let socket = wrap(None);
    unsafe { dap_events_socket_assign_on_worker_mt(socket.es, worker(0)) };
    socket.notes.wait(&["new@0", "assign@0"]);
    unsafe {
        dap_events_socket_remove_and_delete_unsafe(socket.es, false);
        dap_events_socket_set_readable_unsafe(socket.es, false);
        assert!((*socket.es).fd.get().as_raw_fd() >= 0);
    }
    (&socket.peer).write_all(&[3]).unwrap();
    socket.notes.wait(&["new@0", "assign@0", "read 3@0"]);
}
