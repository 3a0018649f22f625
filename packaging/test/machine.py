"""A small machine to install packages on: systemd as the first process of namespaces of its own, over a copy of this
host's files that only it sees. Nothing that happens there reaches the host, and nothing is left.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

SYSTEMD = "/lib/systemd/systemd"
# They would reach the host's kernel, or have nothing to do here.
MASKED = [
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-udevd.service",
    "systemd-update-utmp.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "modprobe@.service",
]
DEVICES = ["null", "zero", "full", "random", "urandom", "tty"]
START = r"""
set -eu
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
for place in run tmp dev sys/fs/cgroup; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
chmod 1777 tmp
mkdir dev/net dev/pts dev/shm
for device in $2; do touch "dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
ln -s /proc/self/fd dev/fd
# As udev makes it: for every user.
mknod -m 666 dev/net/tun c 10 200
# Either the one hierarchy of cgroup v2, or the two that systemd needs where the host has the old ones.
if [ "$3" = unified ]; then
    umount sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount --bind "$6" mnt
ip link set lo up
# In images of containers it keeps packages from starting services.
rm -f usr/sbin/policy-rc.d
rm -rf etc/cellframe-vpn var/lib/cellframe-vpn
for unit in $4; do ln -sf /dev/null "etc/systemd/system/$unit"; done
mkdir host
pivot_root . host
umount -l /host
rmdir /host
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$5" --system --unit=basic.target --show-status=no
"""


def missing():
    """Why no such machine can be made here; None if one can."""
    if os.geteuid() != 0:
        return "only root can start systemd in namespaces"
    for tool, package in [
        (SYSTEMD, "systemd"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
        ("ping", "iputils-ping"),
        ("dpkg", "dpkg"),
    ]:
        if not shutil.which(tool):
            return f"no {tool}: apt-get install {package}"
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun: modprobe tun"
    if not hierarchies():
        return "no writable cgroup hierarchy for systemd"
    made = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "true"], capture_output=True, text=True
    )
    return f"namespaces cannot be made: {made.stderr.strip()}" if made.returncode else None


def hierarchies():
    """The cgroup file systems that systemd needs, as the host has them mounted."""
    found = {}
    for line in open("/proc/self/mounts"):
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" or kind == "cgroup" and "name=systemd" in options.split(","):
            found[kind] = pathlib.Path(where)
    if set(found) == {"cgroup2"} and os.access(found["cgroup2"], os.W_OK):
        return found
    return found if {"cgroup", "cgroup2"} <= set(found) else {}


def until(condition, seconds=20):
    """Waits until a condition holds; returns whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Machine:
    """The machine, with the files of a folder in /mnt."""

    def __init__(self, given):
        self.given = given

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vpn-package-"))
        self.stack.callback(lambda: self.folder.rmdir())
        found = hierarchies()
        # What systemd makes of cgroups is below these.
        groups = [place / f"vpn-package-{os.getpid()}" for place in found.values()]
        for group in groups:
            group.mkdir()
        self.stack.callback(lambda: [self.remove_group(group) for group in groups])

        def join():
            for group in groups:
                (group / "cgroup.procs").write_text("0")

        kind = "unified" if set(found) == {"cgroup2"} else "hybrid"
        command = [
            "unshare",
            "--mount",
            "--net",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--cgroup",
            "--kill-child",
            "sh",
            "-c",
            START,
            "sh",
            str(self.folder),
            " ".join(DEVICES),
            kind,
            " ".join(MASKED),
            SYSTEMD,
            str(self.given),
        ]
        self.log = tempfile.TemporaryFile()
        self.outer = subprocess.Popen(
            command, preexec_fn=join, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        self.stack.callback(self.end)
        children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        if not until(lambda: self.outer.poll() is not None or children.read_text().strip()):
            raise RuntimeError("unshare starts nothing")
        self.first = children.read_text().strip() if self.outer.poll() is None else ""
        up = self.first and until(
            lambda: self.outer.poll() is not None
            or self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"),
            60,
        )
        if not up or self.outer.poll() is not None:
            self.log.seek(0)
            said = self.log.read().decode(errors="replace")
            self.stack.close()
            raise RuntimeError(f"systemd does not start:\n{said}")
        return self

    def __exit__(self, *_):
        self.stack.close()

    def end(self):
        self.outer.kill()
        self.outer.wait()
        self.log.close()

    @staticmethod
    def remove_group(group):
        def gone():
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            return not group.exists()

        until(gone, 10)

    def run(self, *command, text=None):
        """Runs a command on the machine to its end."""
        return subprocess.run(
            ["nsenter", "--target", self.first, "--all", "--", *map(str, command)],
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def says(self, *command):
        return self.run(*command).stdout.strip()

    def write(self, path, text):
        self.run("mkdir", "-p", os.path.dirname(path))
        self.run("tee", path, text=text)
