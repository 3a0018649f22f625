//! Start and stop of the embedded SDK and of its objects.

use crate::support::*;
use embedded::abi::{client, events, service, stream};
use embedded::config::{self, Config};
use embedded::ctypes::*;
use embedded::lifecycle::User;
use embedded::timeouts::{self, Timeouts};
use embedded::{lifecycle, listener};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static DELETED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn socket_deleted(_es: *mut dap_events_socket, _arg: *mut c_void) {
    DELETED.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn pointer_arrived(_es: *mut dap_events_socket, _pointer: *mut c_void) {}

unsafe extern "C" fn again(_arg: *mut c_void) -> bool {
    true
}

#[test]
fn two_hundred_cycles_leave_nothing_behind() {
    let mut sdk = Sdk::configured(2, "");
    // Registered once for all cycles, as C code does.
    sdk.register_channels();
    let cycle = |sdk: &mut Sdk, index: u64| {
        lifecycle::retain(User::Program).unwrap();
        listener::ensure_started().unwrap();
        listener::ensure_started().unwrap();
        sdk.server = listener::addresses().first().copied();
        let client = sdk.connected("RS");
        client.watch(b'S');
        assert_eq!(client.send(b'S', 1, pattern(index, 2000)), 2000);
        client.wait_packets(1);
        // Leaves over every kind of object that can be left over.
        DELETED.store(0, Ordering::SeqCst);
        let mut callbacks = dap_events_socket_callbacks { delete_callback: Some(socket_deleted), ..Default::default() };
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        // SAFETY: any thread; the SDK now owns the descriptor.
        unsafe {
            let fd = std::os::fd::IntoRawFd::into_raw_fd(ours);
            let es = events::dap_events_socket_wrap_no_add(fd, &raw mut callbacks);
            events::dap_events_socket_assign_on_worker_mt(es, worker(1));
            let fd = std::os::fd::IntoRawFd::into_raw_fd(theirs);
            assert!(!events::dap_events_socket_wrap_no_add(fd, &raw mut callbacks).is_null());
            let queue = events::dap_events_socket_create_type_queue_ptr_mt(worker(0), Some(pointer_arrived));
            (*queue)
                .callbacks
                .set(dap_events_socket_callbacks { delete_callback: Some(socket_deleted), ..(*queue).callbacks.get() });
            assert!(!events::dap_timerfd_start_on_worker(worker(0), 1, Some(again), ptr::null_mut()).is_null());
        }
        lifecycle::release(User::Program);
        assert_eq!(client.events(), ["connected", "disconnected", "delete"]);
        assert_eq!(DELETED.load(Ordering::SeqCst), 2);
        assert!(listener::addresses().is_empty());
    };
    // The first cycles fill memory that stays, such as the log's and the random number generator's.
    for index in 0..3 {
        cycle(&mut sdk, index);
    }
    let (open, running) = testkit::settled(|| (descriptors(), threads()));
    let before = (open, running, resident_kib());
    for index in 0..200 {
        cycle(&mut sdk, index);
    }
    // A dialling thread may have reported but not ended yet.
    eventually(
        || (descriptors(), threads()) == (before.0, before.1),
        || format!("{:?} before, {:?} after", before, (descriptors(), threads())),
    );
    let grown = resident_kib().saturating_sub(before.2);
    assert!(grown < 8 * 1024, "{grown} KiB more");
}

#[test]
fn retain_is_counted_and_one_release_too_many_is_harmless() {
    let _sdk = Sdk::configured(3, "");
    // SAFETY: any thread.
    unsafe {
        events::dap_embedded_release();
        assert_eq!(events::dap_events_thread_get_count(), 0);
        assert_eq!(events::dap_embedded_retain(), 0);
        assert_eq!(events::dap_embedded_retain(), 0);
        assert_eq!(events::dap_events_thread_get_count(), 3);
        assert!(!events::dap_events_worker_get(2).is_null());
        assert!(events::dap_events_worker_get(3).is_null());
        assert!(events::dap_worker_get_current().is_null());
        events::dap_embedded_release();
        assert_eq!(events::dap_events_thread_get_count(), 3);
        events::dap_embedded_release();
        assert_eq!(events::dap_events_thread_get_count(), 0);
        events::dap_embedded_release();
        assert_eq!(events::dap_embedded_retain(), 0);
        assert_eq!(events::dap_events_thread_get_count(), 3);
        events::dap_embedded_release();
    }
}

#[test]
fn a_worker_may_give_the_last_one_back() {
    unsafe extern "C" fn release(_arg: *mut c_void) {
        // SAFETY: any thread.
        unsafe { events::dap_embedded_release() };
    }
    let sdk = Sdk::start(2);
    let client = sdk.connected("RS");
    // SAFETY: any thread.
    unsafe { events::dap_worker_exec_callback_on(worker(0), Some(release), ptr::null_mut()) };
    client.wait("delete");
    // Waits for the previous stop.
    lifecycle::retain(User::Program).unwrap();
    // SAFETY: any thread.
    assert_eq!(unsafe { events::dap_events_thread_get_count() }, 2);
    lifecycle::release(User::Program);
}

#[test]
fn channel_letters_survive_the_last_release() {
    let mut sdk = Sdk::configured(1, "");
    lifecycle::retain(User::Program).unwrap();
    sdk.register_channels();
    // SAFETY: any thread.
    let registered = || unsafe { stream::dap_stream_ch_proc_find(b'E') };
    let before = registered();
    assert!(!before.is_null());
    lifecycle::release(User::Program);
    assert_eq!(registered(), before);
    lifecycle::retain(User::Program).unwrap();
    listener::ensure_started().unwrap();
    sdk.server = listener::addresses().first().copied();
    let client = sdk.connected("E");
    client.watch(b'E');
    assert_eq!(client.send(b'E', 3, b"still there".to_vec()), 11);
    assert_eq!(client.wait_packets(1), [(3, b"still there".to_vec())]);
    // Registering the same functions again keeps the registration.
    sdk.register_channels();
    assert_eq!(registered(), before);
}

#[test]
fn a_callback_that_waits_for_the_stopping_thread_holds_it_up_for_a_bounded_time() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut sdk = Sdk::start(2);
    timeouts::set(Timeouts { callback: TIMEOUT, ..Timeouts::DEFAULT });
    let before = threads();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (is_blocked, blocked) = std::sync::mpsc::channel();
    let blocker = std::thread::spawn(move || {
        on_worker(worker(1), move || {
            is_blocked.send(()).unwrap();
            wait.recv().unwrap_err();
            // Its further calls do no harm.
            // SAFETY: any thread.
            unsafe {
                assert!(events::dap_worker_get_current().is_null());
                assert!(events::dap_timerfd_start_on_worker(worker(1), 1, Some(again), ptr::null_mut()).is_null());
            }
        });
    });
    blocked.recv_timeout(TEST_TIMEOUT).unwrap();
    let client = sdk.connect("RS");
    let begin = Instant::now();
    lifecycle::release(User::Program);
    let took = begin.elapsed();
    assert!((TIMEOUT - Duration::from_secs(1)..TIMEOUT + Duration::from_secs(4)).contains(&took), "{took:?}");
    // SAFETY: any thread.
    assert_eq!(unsafe { events::dap_events_thread_get_count() }, 0);
    // The stop does not delay a new start.
    lifecycle::retain(User::Program).unwrap();
    listener::ensure_started().unwrap();
    sdk.server = listener::addresses().first().copied();
    sdk.connected("RS");
    drop(go_on);
    blocker.join().unwrap();
    client.wait("delete");
    eventually(|| threads() <= before, || format!("{before} threads before, {} after", threads()));
    sdk.connected("RS");
}

#[test]
fn a_host_thread_with_our_name_waits_for_the_end() {
    let _sdk = Sdk::configured(2, "");
    lifecycle::retain(User::Program).unwrap();
    let host = std::thread::Builder::new().name("vpn-host".into());
    let left = host.spawn(|| {
        lifecycle::release(User::Program);
        // SAFETY: any thread.
        unsafe { events::dap_events_thread_get_count() }
    });
    assert_eq!(left.unwrap().join().unwrap(), 0);
}

#[test]
fn settling_waits_for_the_last_release_of_a_callback() {
    unsafe extern "C" fn release_late(_arg: *mut c_void) {
        std::thread::sleep(Duration::from_millis(300));
        // SAFETY: any thread.
        unsafe { events::dap_embedded_release() };
    }
    unsafe extern "C" fn failed(_client: *mut dap_chain_node_client, _errno: std::ffi::c_int, _arg: *mut c_void) {
        FAILING.store(true, Ordering::SeqCst);
        // SAFETY: any thread.
        unsafe { release_late(ptr::null_mut()) };
    }
    static FAILING: AtomicBool = AtomicBool::new(false);
    let sdk = Sdk::configured(2, "");
    sdk.register_channels();
    let socket = sdk.directory.path().join("cli.sock");
    let with_cli = format!("[general]\nstate_dir={}\n[server]\nenabled=false\n", sdk.directory.path().display());
    config::set_current(Config::parse(&with_cli, "test").0);
    let settle = || {
        // SAFETY: any thread.
        unsafe { events::dap_embedded_settle() };
        // SAFETY: any thread.
        assert_eq!(unsafe { events::dap_events_thread_get_count() }, 0);
        assert!(!socket.exists());
    };
    // On a worker.
    lifecycle::retain(User::Program).unwrap();
    assert!(socket.exists());
    // SAFETY: any thread.
    unsafe { events::dap_worker_exec_callback_on(worker(1), Some(release_late), ptr::null_mut()) };
    settle();
    // On a connecting thread.
    lifecycle::retain(User::Program).unwrap();
    let callbacks =
        dap_chain_node_client_callbacks { connected: None, disconnected: None, r#delete: None, error: Some(failed) };
    let mut info = node_info("127.0.0.1", dead_port());
    // SAFETY: all arguments live during the calls, which copy them; a stale client is not followed.
    unsafe {
        let (info, callbacks) = (info.as_mut_ptr().cast(), &raw const callbacks);
        let client = client::dap_chain_node_client_create_n_connect(
            ptr::null_mut(),
            info,
            c"S".as_ptr(),
            callbacks,
            ptr::null_mut(),
        );
        assert!(!client.is_null());
        // If closed before it had failed, it would not call back at all.
        eventually(|| FAILING.load(Ordering::SeqCst), || "the connection does not fail".into());
        client::dap_chain_node_client_close_mt(client);
    }
    settle();
    // With nothing to wait for.
    settle();
    lifecycle::retain(User::Program).unwrap();
    // SAFETY: any thread.
    unsafe { events::dap_embedded_settle() };
    lifecycle::release(User::Program);
}

#[test]
fn the_socket_file_goes_with_a_release_on_a_worker() {
    let sdk = Sdk::configured(1, "");
    let socket = sdk.directory.path().join("cli.sock");
    config::set_current(Config::parse(&format!("[general]\nstate_dir={}\n", sdk.directory.path().display()), "test").0);
    lifecycle::retain(User::Program).unwrap();
    assert!(socket.exists());
    let path = socket.clone();
    // At once: the process may end before the stopping thread removes it.
    let is_gone = on_worker(worker(0), move || {
        lifecycle::release(User::Program);
        !path.exists()
    });
    assert!(is_gone);
    lifecycle::quiesce();
    // SAFETY: any thread.
    assert_eq!(unsafe { events::dap_events_thread_get_count() }, 0);
}

#[test]
fn unregistering_an_http_path_starts_nothing() {
    use embedded::abi::http;
    unsafe extern "C" fn nothing(_simple: *mut dap_http_simple, _status: *mut c_void) {}
    let sdk = Sdk::start(1);
    let path = c"/life".as_ptr();
    // SAFETY: any thread; the server lives as long as the process.
    let server = unsafe { (*http::dap_server_get_default())._inheritor.get() }.cast::<dap_http_server>();
    // SAFETY: a string constant and a function of this program.
    assert!(!unsafe { http::dap_http_simple_proc_add(server, path, 10, Some(nothing)) }.is_null());
    lifecycle::release(User::Program);
    // The listener has stopped, and must not start for this call, whether or not it can start.
    // SAFETY: a string constant.
    let remove = || unsafe { http::dap_http_simple_proc_remove(server, path) };
    assert!(remove());
    assert!(!remove());
    lifecycle::retain(User::Program).unwrap();
    assert!(!remove());
    assert!(listener::addresses().is_empty());
    drop(sdk);
}

#[test]
fn retained_from_many_threads_at_once() {
    let _sdk = Sdk::configured(2, "");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..50 {
                    lifecycle::retain(User::Program).unwrap();
                    // SAFETY: any thread.
                    assert_eq!(unsafe { events::dap_events_thread_get_count() }, 2);
                    lifecycle::release(User::Program);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn nothing_retained_means_failure_not_waiting() {
    let sdk = Sdk::configured(1, "");
    sdk.register_channels();
    let stale: *mut c_void = ptr::without_provenance_mut(0x1000);
    let begin = Instant::now();
    // SAFETY: addresses are compared, not followed.
    unsafe {
        for pointer in [ptr::null_mut(), stale] {
            assert!(events::dap_events_worker_get(0).is_null());
            assert!(events::dap_worker_get_current().is_null());
            events::dap_worker_exec_callback_on(pointer.cast(), None, ptr::null_mut());
            assert!(events::dap_events_socket_wrap_no_add(0, ptr::null_mut()).is_null());
            events::dap_events_socket_assign_on_worker_mt(pointer.cast(), pointer.cast());
            events::dap_events_socket_set_readable_unsafe(pointer.cast(), true);
            events::dap_events_socket_set_writable_unsafe(pointer.cast(), true);
            events::dap_events_socket_remove_and_delete_unsafe(pointer.cast(), false);
            events::dap_events_socket_remove_and_delete_mt(pointer.cast(), 1);
            events::dap_events_socket_reassign_between_workers_mt(pointer.cast(), pointer.cast(), pointer.cast());
            assert!(
                events::dap_events_socket_create_type_queue_ptr_mt(pointer.cast(), Some(pointer_arrived)).is_null()
            );
            assert_eq!(events::dap_events_socket_queue_ptr_send(pointer.cast(), pointer), libc::EINVAL);
            assert!(events::dap_timerfd_start_on_worker(pointer.cast(), 1, Some(again), ptr::null_mut()).is_null());
            events::dap_timerfd_delete_mt(pointer.cast(), 1);
            events::dap_timerfd_delete_unsafe(pointer.cast());
            assert_eq!(stream::dap_stream_ch_pkt_write_unsafe(pointer.cast(), 1, pointer, 0), 0);
            assert_eq!(stream::dap_stream_ch_pkt_write_mt(pointer.cast(), 1, 1, ptr::null(), 0), 0);
            stream::dap_stream_ch_set_ready_to_read_unsafe(pointer.cast(), true);
            stream::dap_stream_ch_set_ready_to_write_unsafe(pointer.cast(), true);
            assert!(stream::dap_stream_ch_by_id_unsafe(pointer.cast(), b'S' as i8).is_null());
            assert!(stream::dap_stream_ch_find_by_uuid_unsafe(pointer.cast(), 1).is_null());
            client::dap_chain_node_client_close_mt(pointer.cast());
            assert!(client::dap_client_get_stream_ch_unsafe(pointer.cast(), b'S').is_null());
            assert!(client::dap_client_get_stream_worker(pointer.cast()).is_null());
            service::dap_chain_net_srv_del(pointer.cast());
            assert!(service::dap_chain_net_srv_stream_session_create(pointer.cast()).is_null());
        }
        assert!(create("127.0.0.1", 1, "S", ptr::null_mut()).is_null());
        let none = service::dap_chain_net_srv_add(dap_chain_net_srv_uid { uint64: 1 }, ptr::null(), ptr::null_mut());
        assert!(none.is_null());
        assert!(service::dap_chain_net_srv_get(dap_chain_net_srv_uid { uint64: 1 }).is_null());
        assert!(service::dap_chain_net_srv_usage_find_unsafe(ptr::null_mut(), 1).is_null());
        assert!(!service::dap_embedded_free_order(ptr::null(), ptr::null_mut()));
        let list = stream::dap_stream_session_get_list_sessions();
        assert!(list.is_null());
        stream::dap_list_free(list);
        stream::dap_stream_session_get_list_sessions_unlock();
    }
    assert!(listener::ensure_started().is_err());
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_listener_says_what_is_wrong() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (more, expected) in [
        ("listen_address=[nonsense]", "listen_address=nonsense"),
        (&format!("listen_address=[127.0.0.1:0,{taken}]"), &format!("listen_address={taken}")),
        ("enabled=false", "enabled is false"),
    ] {
        let _keep = std::net::TcpListener::bind(taken);
        let _sdk = Sdk::configured(1, &format!("[server]\n{more}\n"));
        lifecycle::retain(User::Program).unwrap();
        let error = listener::ensure_started().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(listener::addresses().is_empty());
        lifecycle::release(User::Program);
    }
}

#[test]
fn the_session_list_keeps_what_it_shows() {
    let sdk = Sdk::start(2);
    let clients: Vec<Client> = (0..5).map(|_| sdk.connected("RS")).collect();
    // SAFETY: locked until the unlock below; the cells are freed once.
    unsafe {
        let list = stream::dap_stream_session_get_list_sessions();
        let inner = stream::dap_stream_session_get_list_sessions();
        stream::dap_list_free(inner);
        stream::dap_stream_session_get_list_sessions_unlock();
        drop(clients);
        eventually(
            || {
                let now = stream::dap_stream_session_get_list_sessions();
                let is_empty = now.is_null();
                stream::dap_list_free(now);
                stream::dap_stream_session_get_list_sessions_unlock();
                is_empty
            },
            || "sessions are left".into(),
        );
        // The streams are gone, what the list shows is not.
        let (mut count, mut last, mut cell) = (0, 0, list);
        while let Some(current) = cell.as_ref() {
            let session = &*current.data.cast::<dap_stream_session>();
            assert!(session.id > last);
            assert_eq!(session.active_channels[..3], [b'R' as i8, b'S' as i8, 0]);
            assert!(session.time_created > 1_700_000_000);
            last = session.id;
            count += 1;
            assert!(current.next.is_null() || (*current.next).prev == cell);
            cell = current.next;
        }
        assert_eq!(count, 5);
        stream::dap_list_free(list);
        stream::dap_stream_session_get_list_sessions_unlock();
        // One too many is harmless.
        stream::dap_stream_session_get_list_sessions_unlock();
    }
}

#[test]
fn a_changed_identity_is_refused_until_it_is_accepted() {
    let mut sdk = Sdk::start(2);
    let port = sdk.port();
    let again = |sdk: &mut Sdk, more: &str| {
        lifecycle::release(User::Program);
        configure(sdk.directory.path(), 2, &format!("[server]\nlisten_address=[127.0.0.1:{port}]\n{more}"));
        lifecycle::retain(User::Program).unwrap();
        listener::ensure_started().unwrap();
    };
    let outcome = |sdk: &Sdk| {
        let client = sdk.connect("RS");
        eventually(|| !client.events().is_empty(), || "nothing happened".into());
        let first = client.events().remove(0);
        drop(client);
        first
    };
    let refused = format!("error {}", libc::EKEYREJECTED);
    assert_eq!(outcome(&sdk), "connected");
    // The same identity after a restart.
    again(&mut sdk, "");
    assert_eq!(outcome(&sdk), "connected");
    for name in ["identity.key", "identity.crt"] {
        std::fs::remove_file(sdk.directory.path().join(name)).unwrap();
    }
    again(&mut sdk, "");
    assert_eq!(outcome(&sdk), refused);
    assert_eq!(outcome(&sdk), refused, "the refused key must not become the known one");
    let config = embedded::config::current();
    let fingerprint = embedded::tls::identity_fingerprint(&config).unwrap();
    let text = embedded::tls::fingerprint_text(&fingerprint);
    again(&mut sdk, &format!("[vpn_client]\nserver_pin={text}\n"));
    assert_eq!(outcome(&sdk), "connected");
    let other = format!("sha256:{}", "3".repeat(64));
    again(&mut sdk, &format!("[vpn_client]\nserver_pin={other}\n"));
    assert_eq!(outcome(&sdk), refused);
    // A pin that cannot be read stops the start.
    lifecycle::release(User::Program);
    configure(sdk.directory.path(), 2, "[vpn_client]\nserver_pin=sha256:1234\n");
    let error = lifecycle::retain(User::Program).unwrap_err().to_string();
    assert!(error.contains("[vpn_client] server_pin = sha256:1234: expected sha256:"), "{error}");
    configure(sdk.directory.path(), 2, "");
    lifecycle::retain(User::Program).unwrap();
    // No other spelling of the address is trusted anew.
    again(&mut sdk, "");
    for spelling in ["127.1", "0x7f.0.0.1", "2130706433", "::ffff:127.0.0.1"] {
        let client = Client::connect(spelling, port, "RS");
        client.wait(&refused);
    }
    // Deleting the pin accepts the new identity.
    again(&mut sdk, "");
    let key = format!("127.0.0.1:{port}");
    assert!(embedded::store::delete("local.vpn_client.pins", &key).unwrap());
    assert_eq!(outcome(&sdk), "connected");
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
