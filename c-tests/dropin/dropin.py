#!/usr/bin/env python3
"""dropin.py REPOSITORY BUILD_DIR: tests the drop-in build in a small SDK tree of the project's own.

Puts the repository into the tree's modules/service/vpn, and builds the tree's node with its own build files: with all
parts in Rust, each part alone, and all parts but one; stand-ins in C replace the others. The node prints the result of
each part, which shows whether Rust or C answered. Also tests Ninja beside Make, a second configure, a debug build, that
nothing is written outside the build directory, and the messages for an unknown part, a missing C file and an SDK that
does not fit.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

PARTS = ["common", "server", "cmd", "client", "client-tun"]
LEGACY = "42"
# The line in which the build says what it found in the SDK, and what the stand-in has.
FOUND, VARIANTS = "this SDK: ", "usage has service_state and service_substate"
failures = 0


def check(condition, what, detail=""):
    global failures
    if not condition:
        failures += 1
        print(f"FAIL: {what}\n{detail[-3000:]}")


def run(*command, cwd=None):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd)


def target_directory(repository):
    """Returns cargo's target directory of the repository: its debug build has compiled most crates already."""
    found = run("cargo", "metadata", "--no-deps", "--format-version", "1", cwd=repository)
    if found.returncode:
        sys.exit(f"FAIL: cargo metadata: {found.stderr}")
    return json.loads(found.stdout)["target_directory"]


def lay_out(repository, folder):
    """Makes the tree: copies of the stand-in's files, and a link to the repository in the module's place."""
    tree = folder / "sdk"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(repository / "c-tests/dropin/sdk", tree)
    for name in sorted((repository / "include/embedded").glob("*.h")):
        if name.name != "dap_embedded_sdk.h":
            (tree / "core/include" / name.name).write_text('#include "standin.h"\n')
    for name in ("dap_chain_datum_tx_items.h", "dap_chain_ledger.h", "dap_chain_mempool.h", "dap_chain_net_tx.h",
                 "dap_chain_node.h", "dap_chain_wallet.h", "dap_pkey.h", "dap_sign.h"):
        (tree / "core/include" / name).write_text('#include "standin.h"\n')
    # Only the one header of the embedded SDK that does not have an SDK name.
    headers = tree / "embedded"
    headers.mkdir()
    shutil.copy(repository / "include/embedded/dap_embedded_sdk.h", headers)
    (tree / "modules/service").mkdir(parents=True)
    (tree / "modules/service/vpn").symlink_to(repository)
    return tree


def configure(tree, build, *options):
    build.mkdir(exist_ok=True)
    return run("cmake", *options, f"-DEMBEDDED_HEADERS={tree / 'embedded'}", tree, cwd=build)


def build_and_ask(build, label):
    built = run("cmake", "--build", ".", "--", "-j2", cwd=build)
    check(built.returncode == 0, f"{label} builds", built.stdout + built.stderr)
    if built.returncode:
        return {}
    lines = (built.stdout + built.stderr).splitlines()
    for warning in [line for line in lines if "warning" in line.lower() and FOUND not in line]:
        check(False, f"{label}: {warning}")
    # Which variants of the SDK the build has found.
    named = [line for line in lines if FOUND in line]
    check(named and all(VARIANTS in line for line in named), f"{label}: the build names the SDK's variants", str(named))
    asked = run(build / "node")
    check(asked.returncode == 0, f"{label} runs: exit code {asked.returncode}", asked.stdout + asked.stderr)
    return dict(line.split(" ", 1) for line in asked.stdout.splitlines() if " " in line)


def expected(rust):
    """Returns the node's output with these parts in Rust; the stand-in has no configuration, workers or connection."""
    def own(part, value):
        return value if part in rust else LEGACY
    status = "0" if "client" in rust else "3"
    sentence = {"0": "VPN client not started", "3": "VPN client lost connection"}[status]
    return {
        "pre_init": own("common", "0"),
        "tag": "vpn" if "common" in rust else "none",
        "init": own("server", "-2"),
        "client_start": own("client", "-2"),
        "client_status": status,
        "tun_status": own("client-tun", "-1"),
        "command": own("cmd", "0"),
        "command_says": sentence if "cmd" in rust else f"legacy client status {status}",
    }


def try_parts(tree, build, rust, *options):
    label = f"{'+'.join(rust)} in Rust"
    made = configure(tree, build, f"-DVPN_RUST_PARTS={';'.join(rust)}", f"-DVPN_LEGACY_DIR={tree / 'legacy'}", *options)
    check(made.returncode == 0, f"{label} configures", made.stdout + made.stderr)
    answers = build_and_ask(build, label)
    for key, value in expected(rust).items():
        check(answers.get(key) == value, f"{label}: {key} is {answers.get(key)!r}, expected {value!r}")
    print(f"ok so far: {label}")


def files_of(repository, target):
    """Maps every file's path to its time of change, except git's files and those of builds."""
    other = {repository / ".git", repository / "target", repository / "c-tests/build", pathlib.Path(target)}
    found = {}
    for directory, names, files in os.walk(repository):
        names[:] = [name for name in names if pathlib.Path(directory, name) not in other]
        for name in files:
            path = pathlib.Path(directory, name)
            found[str(path.relative_to(repository))] = path.lstat().st_mtime_ns
    return found


def main():
    repository, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    os.environ["PATH"] += ":" + os.path.expanduser("~/.cargo/bin")
    if not shutil.which("cargo"):
        sys.exit("FAIL: no cargo")
    folder.mkdir(parents=True, exist_ok=True)
    tree, build = lay_out(repository, folder), folder / "build"
    for old in ("build", "build-ninja", "build-wrong", "build-other"):
        shutil.rmtree(folder / old, ignore_errors=True)
    # Debug builds fastest, and in the repository's own target directory it has its crates from the Rust tests.
    target = target_directory(repository)
    shared = [f"-DVPN_CARGO_TARGET_DIR={target}", "-DCMAKE_BUILD_TYPE=Debug"]
    before = files_of(repository, target)
    try_parts(tree, build, PARTS, *shared)
    for part in PARTS:
        try_parts(tree, build, [part])
        try_parts(tree, build, [other for other in PARTS if other != part])
    again = run("cmake", ".", cwd=build)
    check(again.returncode == 0, "a second configure", again.stderr)

    if shutil.which("ninja"):
        try_parts(tree, folder / "build-ninja", PARTS, "-GNinja", *shared)
    else:
        print("no ninja here: only Make was tried")
    wrong = configure(tree, folder / "build-wrong", "-DVPN_RUST_PARTS=common;kernel")
    check(wrong.returncode != 0 and "there is no part 'kernel'" in wrong.stderr, "an unknown part is refused", wrong.stderr)
    wrong = configure(tree, folder / "build-wrong", "-DVPN_RUST_PARTS=common", "-DVPN_LEGACY_DIR=/nonexistent")
    check(wrong.returncode != 0 and "VPN_LEGACY_DIR" in wrong.stderr, "a missing C file is refused", wrong.stderr)
    other = configure(tree, folder / "build-other", "-DCMAKE_C_FLAGS=-DSTANDIN_OTHER_COMMANDS", *shared)
    check(other.returncode == 0, "an SDK with other commands configures", other.stderr)
    built = run("cmake", "--build", ".", "--target", "dap_chain_net_srv_vpn_cargo", cwd=folder / "build-other")
    check(built.returncode != 0 and '#error "This SDK\'s dap_cli_server_cmd_add' in built.stdout + built.stderr,
          "an SDK with other commands is refused with a message", built.stdout + built.stderr)
    after = files_of(repository, target)
    written = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    check(not written, "nothing is written outside the build directory", "\n".join(written))
    print(f"{failures} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
