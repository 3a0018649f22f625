//! The handler of the process's forks.

use crate::process;
use std::sync::Once;

extern "C" fn in_child() {
    process::forked();
}

/// Has [`process`] told of each fork from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: in_child is a function of this library and only sets a flag, which is safe between fork and exec. The
        // C library forgets the handler if the library is unloaded.
        let code = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        if code != 0 {
            log::warn!("no memory for a handler of forks: a child must not call the embedded SDK");
        }
    });
}
