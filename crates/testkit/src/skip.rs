//! Tests that cannot be run on a machine say why, or fail where nothing may be skipped.

use std::io::Write;

/// Set to 1 where a skipped test is a failed one, as in CI.
const MUST_NOT_SKIP: &str = "VPN_TESTS_MUST_NOT_SKIP";

/// Says on stderr that a test could not be run, as "skipped: test: why". With `VPN_TESTS_MUST_NOT_SKIP=1` it panics
/// instead.
pub fn skip(test: &str, why: &str) {
    let must_not = std::env::var(MUST_NOT_SKIP).is_ok_and(|value| value == "1");
    assert!(!must_not, "{test} must not be skipped: {why}");
    say(&format!("skipped: {test}: {why}"));
}

/// Not by eprintln!, whose output the test harness keeps to itself when a test passes.
pub(crate) fn say(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}
