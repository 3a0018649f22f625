//! The boundary between C and Rust: panics do not cross it, and it turns bytes from C into slices.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of a function that C calls. A panic is a defect of this library, and unwinding into C is undefined
/// behaviour: a panic is logged under `what`, and C gets `failed`.
pub(crate) fn guard<T>(what: &str, failed: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        host::log_bounded!(Error, "internal error in {what}, please report it: {}", panic_text(&*panic));
        failed
    })
}

/// Makes a slice of bytes from C; empty for NULL.
///
/// # Safety
/// `data` is NULL or points to `size` bytes that stay unchanged for `'a`.
pub(super) unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data, size) }
}

/// Returns the message of a caught panic.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic without a message",
    }
}
