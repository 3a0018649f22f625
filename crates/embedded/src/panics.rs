//! The crate's one panic boundary: no panic leaves a function that C, the worker's loop or a thread's start calls. It is
//! also where a call in a fork's child ends.

use crate::process;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; returns `Err` with the panic's message if it panics.
///
/// Asserting unwind safety is sound because locks and cells of the called module protect all that `body` changes:
/// parking_lot does not poison, and every update there is one assignment or one map operation.
pub(crate) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| panic_text(panic.as_ref()).to_owned())
}

/// Runs the body of a C function; logs a panic in it under the function's name and returns `failure`. In the child of a
/// process in which the SDK ran it returns `failure` at once.
pub(crate) fn guard<T>(function: &str, failure: T, body: impl FnOnce() -> T) -> T {
    if process::is_child() {
        return failure;
    }
    catch(body).unwrap_or_else(|panic| {
        host::log_bounded!(Error, "{function}: internal error, the call failed: {panic}");
        failure
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without a message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_failure_value() {
        assert_eq!(guard("test", -1, || 7), 7);
        assert_eq!(guard("test", -1, || panic!("{}", "on purpose")), -1);
        assert_eq!(catch(|| panic!("on purpose")), Err::<(), _>("on purpose".to_owned()));
    }
}
