//! Skips a test that cannot run on a machine, with the reason; or fails it where skipping is forbidden.

use std::io::Write;

/// If 1, as in CI, a skipped test fails.
const MUST_NOT_SKIP: &str = "VPN_TESTS_MUST_NOT_SKIP";

/// Prints "skipped: test: reason" on stderr. With `VPN_TESTS_MUST_NOT_SKIP=1` it panics instead.
pub fn skip(test: &str, why: &str) {
    let must_not = std::env::var(MUST_NOT_SKIP).is_ok_and(|value| value == "1");
    assert!(!must_not, "{test} must not be skipped: {why}");
    write_to_stderr(&format!("skipped: {test}: {why}"));
}

/// Writes to stderr directly: the test harness hides the output of eprintln! when a test passes.
pub(crate) fn write_to_stderr(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}
