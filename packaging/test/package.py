#!/usr/bin/env python3
"""package.py LIBRARIES PROGRAMS FOLDER: builds the Debian packages of the libraries and the program in two directories
of cargo's, and lives with them.

On a machine of its own (machine.py): install, start by the units, connect, upgrade, remove, purge. Prints "skipped:
why" and exits with 77 where that cannot be done; with VPN_TESTS_MUST_NOT_SKIP=1 that is a failure.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

# Whatever a test leaves in the sources stops a release.
sys.dont_write_bytecode = True
PACKAGING = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(PACKAGING.parent / "c-tests" / "scripts"))
import checks
from checks import check, skip
from machine import Machine, missing, until

SERVER, CLIENT = "cellframe-vpn-server", "cellframe-vpn-client@far"
CONFIG, STATE = "/etc/cellframe-vpn/cellframe-vpn.cfg", "/var/lib/cellframe-vpn"
# Of systemd-analyze security: 0 is best, 10 worst. What is left are capabilities and address families that a VPN needs.
EXPOSED_AT_MOST = {SERVER: 2.3, CLIENT: 2.4}

def build(libraries, programs, folder):
    shutil.rmtree(folder, ignore_errors=True)
    # The libraries are of a release build, and the program is the one that the Rust tests have built.
    binaries = folder / "binaries"
    binaries.mkdir(parents=True)
    for file in (
        libraries / "libdap_chain_net_srv_vpn.a",
        libraries / "libdap_chain_net_srv_vpn.so",
        programs / "cellframe-vpn",
    ):
        shutil.copy(file, binaries)
    result = subprocess.run(
        [PACKAGING / "build", "--fast", "--binaries", binaries, "--output", folder], capture_output=True, text=True
    )
    check(result.returncode == 0, "the packages are built", result.stdout + result.stderr)
    shutil.copy(PACKAGING.parent / "examples/projects/hello.c", folder)
    return {path.name.split("_")[0]: path for path in folder.glob("*_*.deb")}


def given(file):
    """The path on the machine of a file in the folder."""
    return f"/mnt/{file.name}"


def newer(package, folder):
    """The same package with a higher version."""
    tree = folder / "newer"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    version = re.search(r"^Version: (.*)$", control.read_text(), re.M).group(1)
    control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {version}+newer"))
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, folder / "newer.deb"], check=True, capture_output=True)
    shutil.rmtree(tree)
    return folder / "newer.deb"


class Life:
    """The life of the packages on a machine."""

    def __init__(self, machine):
        self.machine = machine
        self.run, self.says = machine.run, machine.says

    def active(self, unit):
        return self.says("systemctl", "is-active", unit)

    def main_pid(self, unit):
        return self.says("systemctl", "show", "-P", "MainPID", unit)

    def journal(self, unit):
        return self.says("journalctl", "-o", "cat", "--no-pager", "-u", unit)

    def quiet(self, unit):
        """The log of a life without mistakes, of which the journal knows the levels."""
        levels = {
            level: self.says("journalctl", "-o", "cat", "--no-pager", "-u", unit, "-p", level, "_COMM=cellframe-vpn")
            for level in ("info", "warning")
        }
        check(
            " INFO " not in levels["info"] and "dap_chain_net_srv_vpn::" in levels["info"],
            "the journal has the time and the level of each line",
            levels,
        )
        check(
            "dap_chain" not in levels["warning"] and "embedded" not in levels["warning"],
            "its log has no warning",
            levels["warning"],
        )

    def done(self, what, *command):
        result = self.run(*command)
        detail = result.stdout + result.stderr
        if result.returncode and command[0] == "systemctl":
            detail += self.journal(command[-1])
        return check(result.returncode == 0, what, detail)

    def dpkg(self, what, *words):
        # The triggers, such as man-db's index, are other packages'.
        return self.done(what, "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--no-triggers", *words)

    def files(self):
        """What is installed, but for what dpkg and systemd know of it."""
        known = "/var/lib/dpkg /var/log /var/lib/systemd /var/cache /etc/ld.so.cache /var/backups".split()
        leave = [word for place in known for word in ("-path", place, "-o")][:-1]
        found = self.says(
            "find", "/etc", "/usr", "/lib", "/var", "(", *leave, ")", "-prune", "-o", "-print"
        ).splitlines()
        # Files of users and groups have a backup, with a hyphen.
        return {
            path
            for path in found
            if path not in ("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock")
        }

    def install(self, packages):
        if not self.dpkg("dpkg installs the program", "--install", given(packages["cellframe-vpn"])):
            return
        for unit in (SERVER, "cellframe-vpn-client@"):
            state = self.says("systemctl", "is-enabled", f"{unit}.service")
            check(state == "disabled", f"{unit} is not enabled by the installation", state)
        check(self.active(SERVER) == "inactive", "no server starts by the installation", self.active(SERVER))
        check("cellframe-vpn" in self.says("getent", "passwd", "cellframe-vpn"), "the service's user is there")
        self.done(
            "systemd knows what the units say", "systemd-analyze", "verify", f"{SERVER}.service", f"{CLIENT}.service"
        )
        for unit, most in EXPOSED_AT_MOST.items():
            said = self.says("systemd-analyze", "security", "--no-pager", f"{unit}.service")
            exposure = re.search(r"Overall exposure level.*: ([0-9.]+)", said)
            check(exposure and float(exposure.group(1)) <= most, f"{unit}: exposure at most {most}", said)
        for page in ("cellframe-vpn.1", "cellframe-vpn-wallet-new.1", "cellframe-vpn.cfg.5"):
            path = f"/usr/share/man/man{page[-1]}/{page}.gz"
            warnings = self.run("sh", "-c", f"zcat {path} | man --warnings -l - > /dev/null")
            check(warnings.returncode == 0 and not warnings.stderr, f"the page {page}", warnings.stderr)
        completes = (
            "source /usr/share/bash-completion/completions/cellframe-vpn; COMP_WORDS=(cellframe-vpn sta); "
            "COMP_CWORD=1; "
            "_cellframe__vpn cellframe-vpn sta cellframe-vpn; echo ${COMPREPLY[*]}"
        )
        check(
            self.says("bash", "-c", completes).startswith("stat status"),
            "bash completes commands",
            self.says("bash", "-c", completes),
        )

    def start_server(self):
        if not self.done("systemctl starts the server", "systemctl", "start", SERVER):
            return None
        check(
            until(lambda: "ready: listening" in self.journal(SERVER)),
            "its ready line is in the journal",
            self.journal(SERVER),
        )
        status = pathlib.PurePath("/proc", self.main_pid(SERVER), "status")
        facts = dict(line.split(":\t", 1) for line in self.says("cat", status).splitlines() if ":\t" in line)
        user = self.says("id", "-u", "cellframe-vpn")
        check(facts.get("Uid", "").split() == [user] * 4 and user != "0", "it runs as the service's user", facts)
        # CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12, CAP_NET_RAW 13.
        for held in ("CapEff", "CapBnd", "CapAmb"):
            check(
                int(facts.get(held, "-1"), 16) == 1 << 10 | 1 << 12 | 1 << 13,
                f"{held} is CAP_NET_ADMIN, CAP_NET_BIND_SERVICE and CAP_NET_RAW",
                facts,
            )
        owner = self.says("stat", "-c", "%U %a", f"{STATE}/server")
        check(owner == "cellframe-vpn 700", "its state is its own", owner)
        self.done("`cellframe-vpn stat` finds it", "cellframe-vpn", "stat")
        check(
            "cellframe-vpn-server" in self.says("nft", "list", "tables"),
            "it translates addresses",
            self.journal(SERVER),
        )
        forwarding = self.says("sh", "-c", "cat /proc/sys/net/ipv4/conf/tun*/forwarding")
        check(forwarding == "1", "it forwards", self.journal(SERVER))
        self.quiet(SERVER)
        pin = re.search(r"identity (sha256:[0-9a-f]+)", self.journal(SERVER))
        return pin and pin.group(1)

    def start_client(self, pin):
        """The client is on another host: a network namespace behind a cable."""
        for words in (
            "netns add far",
            "link add near type veth peer name far netns far",
            "address add 10.55.0.1/24 dev near",
            "link set near up",
            "-n far address add 10.55.0.2/24 dev far",
            "-n far link set far up",
            "-n far link set lo up",
            "-n far route add default via 10.55.0.1",
        ):
            self.run("ip", *words.split())
        self.machine.write(
            f"/etc/systemd/system/{CLIENT}.service.d/test.conf", "[Service]\nNetworkNamespacePath=/run/netns/far\n"
        )
        self.machine.write(
            "/etc/cellframe-vpn/client-far.cfg",
            f"[vpn_client]\nconnect=10.55.0.1\nserver_pin={pin}\ndns=gateway\nkill_switch=true\n",
        )
        self.run("systemctl", "daemon-reload")
        if not self.done("systemctl starts a client", "systemctl", "start", CLIENT):
            return
        check(self.connected(), "it connects", self.journal(CLIENT))
        check(
            "nameserver 10.98.0.1" in self.says("cat", "/etc/resolv.conf"),
            "it sets the name server",
            self.says("cat", "/etc/resolv.conf"),
        )
        self.quiet(CLIENT)
        status = self.run("cellframe-vpn", "status")
        check(f"--state-dir {STATE}/client-far" in status.stderr, "`cellframe-vpn status` says where it is", status)

    def connected(self):
        """Whether a packet comes back through the tunnel."""
        ping = ["ip", "netns", "exec", "far", "ping", "-c1", "-W1", "-I", "10.98.0.2", "10.98.0.1"]
        return until(lambda: self.run(*ping).returncode == 0)

    def reload(self):
        before = self.main_pid(SERVER)
        self.run("sed", "-i", "s/^#limit_down=.*/limit_down=20000/", CONFIG)
        self.done("systemctl reloads the server", "systemctl", "reload", SERVER)
        check(
            re.search("limit_down.*20000", self.journal(SERVER)),
            "it has read its configuration again",
            self.journal(SERVER),
        )
        self.run("sed", "-i", "s/^limit_down=.*/limit_down=many/", CONFIG)
        check(
            self.run("systemctl", "reload", SERVER).returncode != 0,
            "a mistake makes a reload fail",
            self.journal(SERVER),
        )
        warnings = self.says("journalctl", "-o", "cat", "--no-pager", "-u", SERVER, "-p", "warning")
        check("limit_down" in warnings, "and stands in the journal as one", warnings)
        self.run("sed", "-i", "s/^limit_down=.*/#limit_down=0/", CONFIG)
        self.done("systemctl reloads a client", "systemctl", "reload", CLIENT)
        check(
            self.main_pid(SERVER) == before and self.active(SERVER) == "active",
            "it is the same process",
            self.journal(SERVER),
        )
        check(self.connected(), "the client stays connected")

    def hang(self):
        """The program hangs: the watchdog, which the test makes shorter, starts it again."""
        self.machine.write(f"/run/systemd/system/{SERVER}.service.d/test.conf", "[Service]\nWatchdogSec=3\n")
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "restart", SERVER)
        before = self.main_pid(SERVER)
        self.run("systemctl", "kill", "--signal=STOP", SERVER)
        check(
            until(lambda: self.main_pid(SERVER) not in (before, "0") and self.active(SERVER) == "active", 30),
            "a server that hangs starts again",
            self.journal(SERVER),
        )

    def kill(self):
        before = self.main_pid(SERVER)
        self.run("systemctl", "kill", "--signal=KILL", SERVER)
        check(
            until(lambda: self.main_pid(SERVER) not in (before, "0") and self.active(SERVER) == "active"),
            "a killed server starts again",
            self.journal(SERVER),
        )
        check(self.connected(), "the client connects again, with its address", self.journal(CLIENT))

        before = self.main_pid(CLIENT)
        self.run("systemctl", "kill", "--signal=KILL", CLIENT)
        check("cellframe-vpn-client" in self.far_tables(), "a killed client leaves its kill switch up")
        check(
            until(lambda: self.main_pid(CLIENT) not in (before, "0")) and self.connected(),
            "and starts again",
            self.journal(CLIENT),
        )
        check("cellframe-vpn-client" in self.far_tables(), "with its kill switch")

    def far_tables(self):
        return self.says("ip", "netns", "exec", "far", "nft", "list", "tables")

    def upgrade(self, package):
        self.run("sed", "-i", "s/^#lease_time=.*/lease_time=1800/", CONFIG)
        before = self.main_pid(SERVER), self.main_pid(CLIENT)
        self.dpkg("dpkg upgrades the program", "--install", "--force-confold", given(package))
        check("lease_time=1800" in self.says("cat", CONFIG), "the configuration stays as it was changed")
        after = self.main_pid(SERVER), self.main_pid(CLIENT)
        check(
            after[0] not in (before[0], "0") and self.active(SERVER) == "active",
            "the server is restarted",
            (before, after),
        )
        check(after[1] == before[1], "the client is not", (before, after))
        check(self.connected(), "it connects again, with its address", self.journal(CLIENT))

    def remove(self):
        resolver = "nameserver 10.98.0.1"
        self.run("systemctl", "enable", SERVER, CLIENT)
        self.dpkg("dpkg removes the program", "--remove", "cellframe-vpn")
        for unit in (SERVER, CLIENT):
            check(self.active(unit) != "active", f"{unit} is stopped", self.journal(unit))
        left = self.says(
            "sh",
            "-c",
            "pgrep -a cellframe-vpn; ip -o link show type tun; ip -n far -o link show type tun; "
            "nft list tables | grep cellframe; ip netns exec far nft list tables",
        )
        check(not left, "no process, device or table is left", left)
        check(resolver not in self.says("cat", "/etc/resolv.conf"), "the name servers are put back")
        check("lease_time=1800" in self.says("cat", CONFIG), "the configuration stays")
        check(self.run("test", "-f", f"{STATE}/server/identity.key").returncode == 0, "the identity stays")

    def purge(self, before):
        self.run("rm", "-r", f"/etc/systemd/system/{CLIENT}.service.d")
        self.dpkg("dpkg purges the program", "--purge", "cellframe-vpn")
        left = self.files() - before
        check(not left, "no file is left", sorted(left))
        check(not self.says("getent", "passwd", "cellframe-vpn"), "no user is left")

    def library(self, packages):
        names = [name for name in packages if name.startswith("libdap")]
        self.dpkg("dpkg installs the library", "--install", *(given(packages[name]) for name in names))
        self.run("ldconfig")
        self.done(
            "a C program is built with pkg-config",
            "sh",
            "-c",
            "cc -o /tmp/hello /mnt/hello.c $(pkg-config --cflags --libs dap_chain_net_srv_vpn)",
        )
        self.machine.write("/tmp/vpn.cfg", "[general]\nstate_dir=/tmp/state\n[server]\nenabled=false\n")
        said = self.run("env", "CELLFRAME_VPN_CONFIG=/tmp/vpn.cfg", "/tmp/hello")
        check(said.stdout.startswith("workers: running"), "it runs with the installed library", said)
        self.dpkg("dpkg purges the library", "--purge", *names)


def main():
    libraries, programs, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    for tool, package in [("dh", "debhelper"), ("lowdown", "lowdown"), ("nft", "nftables"), ("man", "man-db")]:
        if not shutil.which(tool):
            skip(f"no {tool}: apt-get install {package}")
    why = missing()
    if why:
        skip(why)
    packages = build(libraries, programs, folder)
    if checks.failures:
        checks.end()
    upgrade = newer(packages["cellframe-vpn"], folder)
    with Machine(folder) as machine:
        life = Life(machine)
        before = life.files()
        life.install(packages)
        pin = life.start_server()
        if pin:
            life.start_client(pin)
            life.reload()
            life.kill()
            life.hang()
            life.upgrade(upgrade)
        life.remove()
        life.purge(before)
        life.library(packages)
        left = life.files() - before
        check(not left, "no file of the library is left", sorted(left))
    checks.end()


if __name__ == "__main__":
    main()
