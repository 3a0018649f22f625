"""What the test programs in Python share: checks that are counted, and skips with a reason."""

import os
import sys

failures = 0


def check(held, what, detail=""):
    """Reports and counts a check; shows the end of `detail` if it does not hold."""
    global failures
    print(f"{'ok' if held else 'FAIL'}: {what}", flush=True)
    if not held:
        failures += 1
        print(str(detail)[-4000:], flush=True)
    return held


def skip(why):
    """Ends the program as skipped; as failed where no test may skip."""
    print(f"skipped: {why}")
    sys.exit(1 if os.environ.get("VPN_TESTS_MUST_NOT_SKIP") == "1" else 77)


def end():
    """Ends the program by what the checks came to."""
    print(f"{failures} failed")
    sys.exit(1 if failures else 0)
