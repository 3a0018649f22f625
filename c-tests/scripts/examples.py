#!/usr/bin/env python3
"""examples.py PROGRAM: runs the specification's examples (inside scripts/box.sh) and compares their logs line by line.

The server's example runs in the namespace `srv`, the client's in this one, where vpn.example.com is the server.
"""
import os
import pathlib
import re
import subprocess
import sys
import time

SERVER = """=== VPN Service Initialization ===
✓ VPN service pre-initialized successfully
 Service ID: 0x0000000000000001
 Ledger tagging: Enabled
✓ VPN service initialized successfully
 TUN device: Ready
 Service registration: Complete
 Command interface: Active
VPN Service Capabilities:
 • TUN/TAP interface management
 • Dynamic IP allocation
 • Encrypted packet routing
 • Session management
 • Blockchain billing integration
 • Cross-platform support
 • Traffic monitoring
VPN service is ready for client connections
VPN service initialization example completed"""

CLIENT = """=== VPN Client Connection Example ===
VPN Connection Parameters:
 Server: vpn.example.com:8089
 Network: backbone
--- Server Connectivity Check ---
✓ VPN server connectivity check passed
Current VPN client status:
 Status: Not Started
--- Starting VPN Connection ---
✓ VPN client started successfully
✓ VPN connection established
 Stream channel: Active
 Worker thread: Assigned
 Ready for data transmission
✓ VPN client is active and connected
VPN client connection example completed
Note: Call dap_chain_net_vpn_client_stop() to disconnect"""

NO_SERVER = """=== VPN Client Connection Example ===
VPN Connection Parameters:
 Server: vpn.example.com:8089
 Network: backbone
--- Server Connectivity Check ---
✗ Failed to connect to VPN server"""

TUN = """=== VPN TUN Interface Management ===
TUN Interface Configuration:
 Client IP: 10.0.1.100
 Gateway IP: 10.0.1.1
--- TUN Interface Initialization ---
✓ TUN interface initialized successfully
--- TUN Interface Creation ---
✓ TUN interface created successfully
 Interface: tun0 (or equivalent)
 IP Address: 10.0.1.100
 Gateway: 10.0.1.1
 Status: Ready for packet routing
✓ TUN event socket obtained
 Socket: Available for packet processing
 Event handling: Enabled
TUN Interface Status:
 Status: Interface active and operational
--- Interface Usage Simulation ---
TUN interface capabilities:
 • Packet capture from application layer
 • Packet injection to network stack
 • IP routing and forwarding
 • Network isolation and security
 • Traffic monitoring and statistics
--- TUN Interface Cleanup ---
✓ TUN interface deleted successfully
 Interface: Removed from system
 Resources: Cleaned up
 Network routes: Restored
VPN TUN interface management example completed"""

SERVER_ADDRESS = "10.200.0.1"
LINE = re.compile(r"^(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (?P<level>\w+) +(?P<tag>\S+): (?P<message>.*)$")
failures = 0


def check(held, what, detail=""):
    global failures
    print(f"{'ok' if held else 'FAIL'}: {what}")
    if not held:
        failures += 1
        print(detail)


def messages_of(log, source):
    """Returns the messages and levels that the example in this source file logged."""
    found = [LINE.match(line) for line in log.splitlines()]
    found = [match for match in found if match and match.group("tag").endswith(source)]
    return [match.group("message") for match in found], {match.group("level") for match in found}


def compare(what, log, source, expected, levels=("INFO",)):
    got, seen = messages_of(log, source)
    want = expected.split("\n")
    wrong = [f"  line {i + 1}: got {a!r}, expected {b!r}" for i, (a, b) in enumerate(zip(got, want)) if a != b]
    detail = "\n".join(wrong + [f"  {len(got)} lines, expected {len(want)}", "  the whole log:", log])
    check(got == want, f"{what}: {len(want)} lines as the specification's example prints them", detail)
    check(seen == set(levels), f"{what}: levels {', '.join(sorted(seen))}", f"  expected {levels}")


def devices(namespace=None):
    prefix = ["ip", "-n", namespace] if namespace else ["ip"]
    listing = subprocess.run([*prefix, "-o", "link"], capture_output=True, text=True).stdout
    return re.findall(r": (tun[^:@ ]*)", listing)


def gone(namespace=None):
    """Waits until no TUN device is left: the kernel removes it after its process has exited."""
    end = time.monotonic() + 2
    while devices(namespace) and time.monotonic() < end:
        time.sleep(0.05)
    return not devices(namespace)


def config(folder, name, lines):
    path = folder / f"{name}.cfg"
    path.write_text(f"[general]\nstate_dir={folder / name}\n{lines}")
    return {**os.environ, "CELLFRAME_VPN_CONFIG": str(path), "RUST_LOG": "info"}


def client_log(program, mode, environment):
    result = subprocess.run([program, mode], env=environment, capture_output=True, text=True, timeout=90)
    check(result.returncode == 0, f"{mode}: exit code {result.returncode}", result.stderr)
    check(gone(), f"{mode}: no TUN device is left", str(devices()))
    return result.stderr


def wait_for(path, text, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if text in path.read_text():
            return True
        time.sleep(0.05)
    return False


def main():
    program = sys.argv[1]
    folder = pathlib.Path(os.environ["VPN_TEST_TMP"])
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{SERVER_ADDRESS} vpn.example.com\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    server = config(folder, "server", "[server]\nenabled=true\nlisten_address=[0.0.0.0:8089]\n[srv_vpn]\nenabled=true\n"
                    "network_address=10.77.0.0\nnetwork_mask=255.255.255.0\nnet=backbone\nallow_free_srv=true\n")
    client = config(folder, "client", "[server]\nenabled=false\n")

    compare("client without a server", client_log(program, "client", client), "client_connect.c", NO_SERVER,
            ("INFO", "ERROR"))

    log = folder / "server.log"
    with open(log, "w") as stderr:
        process = subprocess.Popen(["ip", "netns", "exec", "srv", program, "server"], env=server,
                                   stdin=subprocess.PIPE, stderr=stderr)
        check(wait_for(log, "example completed", 30), "the server's example completes", log.read_text())
        check(len(devices("srv")) == 1, "the server has one TUN device", str(devices("srv")))
        compare("client", client_log(program, "client", client), "client_connect.c", CLIENT)
        bare = config(folder, "bare", "[server]\nenabled=false\n")
        compare("a program with only the client's example", client_log(program, "bare-client", bare),
                "client_connect.c", CLIENT)
        process.stdin.close()
        check(process.wait(30) == 0, f"the server ends: exit code {process.returncode}", log.read_text())
    compare("server", log.read_text(), "service_init.c", SERVER)
    check(gone("srv"), "the server's TUN device is gone", str(devices("srv")))

    compare("tun", client_log(program, "tun", client), "tun_interface.c", TUN)
    print(f"{failures} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
