#!/usr/bin/env python3
"""programs.py SERVE CONNECT EXAMPLES: runs the C programs of examples/ (inside scripts/box.sh), as their heads say.

The server runs in the namespace `srv`, the client in this one; both with the configuration files of the folder EXAMPLES,
whose state directories the box has put on a file system of its own.
"""
import os
import pathlib
import re
import socket
import subprocess
import sys

SERVER, GATEWAY, CLIENT, PORT = "10.200.0.1", "10.98.0.1", "10.98.0.2", "8079"
TIMEOUT = 30
failures = 0


def check(held, what, detail=""):
    global failures
    print(f"{'ok' if held else 'FAIL'}: {what}")
    if not held:
        failures += 1
        print(detail)


class Program:
    """A program that runs until its standard input ends, and its log."""

    def __init__(self, command, config, log):
        self.log = log
        environment = {**os.environ, "CELLFRAME_VPN_CONFIG": str(config)}
        with open(log, "w") as stderr:
            self.process = subprocess.Popen(command, env=environment, text=True, stderr=stderr,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def expect_line(self, line):
        got = self.process.stdout.readline().rstrip("\n")
        check(got == line, f"it prints {line!r}", f"  got {got!r}\n{self.log.read_text()}")

    def expect_end(self, code, stderr=""):
        self.process.stdin.close()
        got, log = self.process.wait(TIMEOUT), self.log.read_text()
        check(got == code, f"it ends with {code}", f"  got {got}\n{log}")
        if stderr:
            check(stderr in log, f"its stderr has {stderr!r}", log)


def devices(namespace=None):
    prefix = ["ip", "-n", namespace] if namespace else ["ip"]
    listing = subprocess.run([*prefix, "-o", "link"], capture_output=True, text=True).stdout
    return re.findall(r": (tun[^:@ ]*)", listing)


def answers_through_the_tunnel():
    """The server's kernel answers a connection to a port that nobody listens on: it refuses it."""
    try:
        socket.create_connection((GATEWAY, 9), TIMEOUT, source_address=(CLIENT, 0)).close()
    except ConnectionRefusedError:
        return True
    except OSError as error:
        print(f"  {error}")
    return False


def main():
    serve, connect, examples = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    folder = pathlib.Path(os.environ["VPN_TEST_TMP"])

    def client(name):
        return Program([connect, SERVER, PORT], examples / "client.cfg", folder / name)

    print("no server")
    client("unreachable.log").expect_end(1, "not connected: refused or unreachable (code -2)")

    print("server")
    server = Program(["ip", "netns", "exec", "srv", serve], examples / "server.cfg", folder / "server.log")
    server.expect_line("ready, press Ctrl-D to stop")
    print("client")
    first = client("client.log")
    first.expect_line(f"connected to {SERVER}:{PORT}, press Ctrl-D to stop")
    check(answers_through_the_tunnel(), "the server's host answers through the tunnel")
    first.expect_end(0)
    check(devices() == [], "the client leaves no TUN device", str(devices()))

    print("a client whose server ends")
    second = client("lost.log")
    second.expect_line(f"connected to {SERVER}:{PORT}, press Ctrl-D to stop")
    server.expect_end(0)
    check(devices("srv") == [], "the server leaves no TUN device", str(devices("srv")))
    check(second.process.wait(TIMEOUT) == 1, "the client ends by itself with 1", second.log.read_text())
    second.expect_end(1, "the connection was lost")

    print("usage")
    result = subprocess.run([connect], capture_output=True, text=True)
    check((result.returncode, "usage: " in result.stderr) == (2, True), "without arguments it explains them", str(result))
    result = subprocess.run([serve], env={**os.environ, "CELLFRAME_VPN_CONFIG": "/nowhere"}, capture_output=True, text=True)
    check(result.returncode == 1 and "/nowhere" in result.stderr, "a missing configuration is named", str(result))
    print(f"{failures} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
