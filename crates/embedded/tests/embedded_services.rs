//! The embedded SDK's process-wide parts through their C functions: `g_config`, the store, a CLI command. One test in
//! its own process, because the parts are process-wide.
// Every unsafe call here passes string constants and the test's own variables.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use embedded::abi::cert::{dap_cert_find_by_name, dap_enc_key_serialize_pub_key};
use embedded::abi::cli::{dap_cli_server_cmd_add, dap_cli_server_cmd_set_reply_str};
use embedded::abi::config::*;
use embedded::abi::net::dap_chain_net_by_name;
use embedded::abi::store::*;
use embedded::ctypes::dap_config;
use embedded::{cli, config, http, store, tls};

const VARIABLE: &str = "CELLFRAME_VPN_CONFIG";

#[test]
fn one_process() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.cfg");
    let state = directory.path().join("state");
    let text = "[networks]\nnames=[one,backbone]\n[s]\nk=first\n";
    fs::write(&file, format!("[general]\nstate_dir={}\n{text}", state.display())).unwrap();

    default_configuration(&file);
    assert!(!unsafe { dap_chain_net_by_name(c"one".as_ptr()) }.is_null());
    values_in_the_store(&state);
    a_command_over_the_socket();
    nothing_is_left_after_many_starts();
    the_node_s_certificate();
    closing_and_opening_by_name(directory.path());
    assert!(unsafe { dap_chain_net_by_name(c"one".as_ptr()) }.is_null());
}

fn default_configuration(file: &Path) {
    unsafe { std::env::set_var(VARIABLE, "/nowhere/node.cfg") };
    assert!(unsafe { dap_config_default() }.is_null());
    assert!(global().load(Ordering::Relaxed).is_null());
    assert_eq!(value(null_mut()), "absent");
    let enabled =
        || unsafe { dap_config_get_item_bool_default(null_mut(), c"srv_vpn".as_ptr(), c"enabled".as_ptr(), false) };
    assert!(enabled(), "the built-in defaults");
    config::set_current(config::Config::parse("[srv_vpn]\nenabled=no", "test.cfg").0);
    assert!(!enabled(), "what the Rust side has set");
    config::set_current(config::Config::empty());
    unsafe { std::env::set_var(VARIABLE, file) };
    let config = unsafe { dap_config_default() };
    assert!(!config.is_null());
    assert_eq!(unsafe { dap_config_default() }, config);
    assert_eq!(global().load(Ordering::Relaxed), config);
    assert_eq!((value(config), value(null_mut())), ("first".into(), "first".into()));
    assert_eq!(config::current().get_str("s", "k").as_deref(), Some("first"));
}

fn values_in_the_store(state: &Path) {
    let set = |value: &CStr, len| {
        let value = value.as_ptr().cast::<c_void>();
        unsafe { dap_global_db_set_sync(c"group".as_ptr(), c"key".as_ptr(), value, len, true) }
    };
    let get = || {
        let (mut size, mut is_pinned, mut time) = (7, false, 0);
        let value =
            unsafe { dap_global_db_get_sync(c"group".as_ptr(), c"key".as_ptr(), &mut size, &mut is_pinned, &mut time) };
        if value.is_null() {
            assert_eq!((size, is_pinned, time), (0, false, 0));
            return None;
        }
        assert!(is_pinned && time > 0);
        // One byte more than the size: the NUL that is always behind the value.
        let bytes = unsafe { std::slice::from_raw_parts(value, size + 1) }.to_vec();
        unsafe { libc::free(value.cast()) };
        Some(bytes)
    };
    assert_eq!(get(), None);
    assert_eq!(set(c"value", 3), 0);
    assert_eq!(get().unwrap(), b"val\0");
    assert_eq!(set(c"value", usize::MAX), 0);
    assert_eq!(get().unwrap(), b"value\0\0");
    assert_eq!(set(c"", 0), 0);
    assert_eq!(get().unwrap(), b"\0");
    assert_eq!(set(c"value", (1 << 20) + 1), -libc::EINVAL);
    store::close();
    let other = redb::Database::create(state.join("store.redb")).unwrap();
    assert_eq!(set(c"value", 5), -libc::EBUSY);
    drop(other);
    assert_eq!(get().unwrap(), b"\0");
    assert_eq!(unsafe { dap_global_db_del_sync(c"group".as_ptr(), c"key".as_ptr()) }, 0);
    assert_eq!(unsafe { dap_global_db_del_sync(c"group".as_ptr(), c"key".as_ptr()) }, 0);
    assert_eq!(get(), None);
    store::close();
}

unsafe extern "C" fn command(argc: c_int, argv: *mut *mut c_char, reply: *mut *mut c_void, _version: c_int) -> c_int {
    let argv = unsafe { std::slice::from_raw_parts(argv, argc as usize + 1) };
    assert!(argv[argc as usize].is_null());
    unsafe { dap_cli_server_cmd_set_reply_str(reply, argv[argc as usize - 1]) };
    argc
}

fn a_command_over_the_socket() {
    let name = c"c_command".as_ptr();
    let added = unsafe { dap_cli_server_cmd_add(name, Some(command), null_mut(), c"doc".as_ptr(), c"usage".as_ptr()) };
    assert!(!added.is_null());
    let config = config::current();
    let server = cli::start(&config).unwrap();
    let reply = cli::call(&cli::socket_path(&config), &["c_command", "слово"]).unwrap();
    assert_eq!((reply.code, reply.text.as_str()), (2, "слово"));
    drop(server);
    assert!(!cli::socket_path(&config).exists());
}

/// Threads and descriptors of this process.
fn in_use() -> (usize, usize) {
    let count = |directory| fs::read_dir(directory).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

fn nothing_is_left_after_many_starts() {
    let config = config::current();
    let socket = cli::socket_path(&config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = testkit::settled(in_use);
    for _ in 0..200 {
        let server = cli::start(&config).unwrap();
        let idle = UnixStream::connect(&socket).unwrap();
        assert_eq!(cli::call(&socket, &["help"]).unwrap().code, 0);
        drop((server, idle));
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        http::serve(listener.accept().unwrap().0);
        drop(peer);
        http::stop();
    }
    // A joined thread stays in /proc for a moment after it has ended.
    let deadline = Instant::now() + Duration::from_secs(5);
    while in_use() != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(in_use(), before);
}

fn the_node_s_certificate() {
    assert!(unsafe { dap_cert_find_by_name(c"somebody".as_ptr()) }.is_null());
    let cert = unsafe { dap_cert_find_by_name(c"node".as_ptr()) };
    assert!(!cert.is_null());
    assert_eq!(unsafe { dap_cert_find_by_name(c"node".as_ptr()) }, cert);
    let cert = unsafe { &*cert };
    assert_eq!(unsafe { CStr::from_ptr(cert.name.as_ptr()) }, c"node");
    let mut size = 0;
    let key = unsafe { dap_enc_key_serialize_pub_key(cert.enc_key, &mut size) };
    assert!(!key.is_null());
    let bytes = unsafe { std::slice::from_raw_parts(key, size) }.to_vec();
    unsafe { libc::free(key.cast()) };
    assert_eq!(bytes, tls::identity_spki(&config::current()).unwrap());
}

fn closing_and_opening_by_name(directory: &Path) {
    let first = global().load(Ordering::Relaxed);
    fs::write(directory.join("second.cfg"), "[s]\nk=second\n").unwrap();
    let c_directory = CString::new(directory.to_str().unwrap()).unwrap();
    assert_eq!(unsafe { dap_config_init(c_directory.as_ptr()) }, 0);
    let second = unsafe { dap_config_open(c"second".as_ptr()) };
    assert_eq!((value(second), value(null_mut())), ("second".into(), "first".into()));
    unsafe { dap_config_close(first) };
    assert!(global().load(Ordering::Relaxed).is_null());
    assert_eq!((value(second), value(null_mut())), ("second".into(), "absent".into()));
    assert_eq!(config::current().get_str("s", "k"), None);
    unsafe { dap_config_close(second) };
    let second = unsafe { dap_config_open(c"second".as_ptr()) };
    assert_eq!(global().load(Ordering::Relaxed), second);
    unsafe { dap_config_deinit() };
    assert!(global().load(Ordering::Relaxed).is_null());
    assert_eq!(value(second), "absent");
    assert_eq!(unsafe { dap_config_init(std::ptr::null()) }, 0);
}

fn value(config: *mut dap_config) -> String {
    let (section, key, default) = (c"s".as_ptr(), c"k".as_ptr(), c"absent".as_ptr());
    let value = unsafe { dap_config_get_item_str_default(config, section, key, default) };
    unsafe { CStr::from_ptr(value) }.to_str().unwrap().to_owned()
}
