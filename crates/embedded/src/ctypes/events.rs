//! Workers, event sockets and timers.

use super::base::DAP_HOSTADDR_STRLEN;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};

#[repr(C)]
pub struct dap_worker {
    pub id: u32,
    pub _inheritor: Cell<*mut c_void>,
}
pub type dap_worker_t = dap_worker;

pub type dap_events_socket_uuid_t = u64;
pub type dap_events_socket_callback_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut c_void)>;
pub type dap_events_socket_write_callback_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut c_void) -> bool>;
pub type dap_events_socket_callback_error_t = Option<unsafe extern "C" fn(*mut dap_events_socket, c_int)>;
pub type dap_events_socket_callback_queue_ptr_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut c_void)>;
pub type dap_events_socket_worker_callback_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut dap_worker)>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_events_socket_callbacks {
    pub queue_ptr_callback: dap_events_socket_callback_queue_ptr_t,
    pub new_callback: dap_events_socket_callback_t,
    pub delete_callback: dap_events_socket_callback_t,
    pub read_callback: dap_events_socket_callback_t,
    pub write_callback: dap_events_socket_write_callback_t,
    pub write_finished_callback: dap_events_socket_callback_t,
    pub error_callback: dap_events_socket_callback_error_t,
    pub worker_assign_callback: dap_events_socket_worker_callback_t,
    pub worker_unassign_callback: dap_events_socket_worker_callback_t,
    pub arg: *mut c_void,
}
pub type dap_events_socket_callbacks_t = dap_events_socket_callbacks;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_events_desc_type {
    DESCRIPTOR_TYPE_SOCKET_CLIENT = 0,
    DESCRIPTOR_TYPE_SOCKET_LISTENING = 2,
    DESCRIPTOR_TYPE_FILE = 7,
    DESCRIPTOR_TYPE_QUEUE = 9,
    DESCRIPTOR_TYPE_TIMER = 10,
}
pub type dap_events_desc_type_t = dap_events_desc_type;

/// An event socket: a descriptor, or a stream's connection, in one worker's loop.
///
/// Made by `dap_events_socket_wrap_no_add` or by the SDK, freed by the SDK after `delete_callback`. The fields are for
/// the owning worker's thread.
#[repr(C)]
pub struct dap_events_socket {
    pub fd: Cell<c_int>,
    pub r#type: Cell<dap_events_desc_type>,
    pub uuid: u64,
    pub flags: Cell<u32>,
    /// True if the SDK must not close the descriptor.
    pub no_close: Cell<bool>,
    pub was_reassigned: Cell<bool>,
    /// Data that the loop has read; the embedded SDK leaves reading to `read_callback` and keeps the size at 0.
    pub buf_in: Cell<*mut u8>,
    pub buf_in_size: Cell<usize>,
    /// Bytes accepted for sending and not yet passed to the kernel.
    pub buf_out_size: Cell<usize>,
    pub buf_out_size_max: Cell<usize>,
    pub remote_addr_str: [c_char; DAP_HOSTADDR_STRLEN],
    pub remote_port: u16,
    pub worker: Cell<*mut dap_worker>,
    pub callbacks: Cell<dap_events_socket_callbacks>,
    pub last_time_active: Cell<c_long>,
    pub last_ping_request: Cell<c_long>,
    pub _inheritor: Cell<*mut c_void>,
    pub _pvt: Cell<*mut c_void>,
}
pub type dap_events_socket_t = dap_events_socket;

pub type dap_timerfd_callback_t = Option<unsafe extern "C" fn(*mut c_void) -> bool>;

#[repr(C)]
pub struct dap_timerfd {
    pub timeout_ms: u64,
    pub worker: *mut dap_worker,
    pub esocket_uuid: u64,
    pub callback: dap_timerfd_callback_t,
    pub callback_arg: *mut c_void,
}
pub type dap_timerfd_t = dap_timerfd;

pub type dap_worker_callback_t = Option<unsafe extern "C" fn(*mut c_void)>;
