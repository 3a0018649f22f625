#!/usr/bin/env python3
"""skips.py FILE: lists the tests that printed "skipped: why", one per line as `name: why`.

FILE is nextest's JUnit report, CTest's LastTest.log, or the output of `cargo test -- --show-output`.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as xml

SKIPPED = re.compile(r"^\s*skipped: (.*?)\s*$")


def from_junit(path):
    for case in xml.parse(path).iter("testcase"):
        for output in case.iter():
            for line in (output.text or "").splitlines():
                match = SKIPPED.match(line)
                if match:
                    yield case.get("name"), match.group(1)


def from_text(path):
    name = "?"
    for line in path.read_text(errors="replace").splitlines():
        heading = re.match(r"\d+/\d+ Testing: (\S+)", line) or re.match(r"---- (\S+) stdout ----", line)
        if heading:
            name = heading.group(1)
        match = SKIPPED.match(line)
        if match:
            yield name, match.group(1)


def main():
    path = pathlib.Path(sys.argv[1])
    if not path.exists():
        return
    found = from_junit(path) if path.suffix == ".xml" else from_text(path)
    for name, why in dict.fromkeys(found):
        print(f"{name}: {why}")


if __name__ == "__main__":
    main()
