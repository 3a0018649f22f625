#!/usr/bin/env python3
"""Checks or writes the specification's example functions, byte for byte.

`spec_examples.py check DIR` compares DIR/{service_init,client_connect,tun_interface}.c with the text between the ```c
fences under "Typical Examples" in DIR/vpn-service.md; `spec_examples.py write DIR` writes the files from the text.
VPN_SPEC names a second copy of the text to check against.
"""
import os
import pathlib
import re
import sys

FILES = {
    "### VPN Service Initialization Example": "service_init.c",
    "### VPN Client Connection Example": "client_connect.c",
    "### VPN TUN Interface Management Example": "tun_interface.c",
}


def examples(text: bytes) -> dict:
    found = {}
    for heading, name in FILES.items():
        match = re.search(re.escape(heading.encode()) + rb"\n```c\n(.*?)```", text, re.S)
        if not match:
            sys.exit(f"FAIL: the specification has no example under '{heading}'")
        found[name] = match.group(1)
    return found


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2])
    texts = [folder / "vpn-service.md"]
    if os.environ.get("VPN_SPEC"):
        texts.append(pathlib.Path(os.environ["VPN_SPEC"]))
    failed = 0
    for text in texts:
        for name, body in examples(text.read_bytes()).items():
            path = folder / name
            if sys.argv[1] == "write":
                path.write_bytes(body)
            elif path.read_bytes() != body:
                failed = 1
                print(f"FAIL: {path} is not the text of {text}")
            else:
                print(f"ok: {name} is the text of {text.name}, {len(body)} bytes")
    sys.exit(failed)


if __name__ == "__main__":
    main()
