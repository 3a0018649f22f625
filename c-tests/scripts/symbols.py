#!/usr/bin/env python3
"""symbols.py LIBRARY_DIR: checks the shared library's exports, both libraries' definitions, and their dependencies.
symbols.py --embedded: prints the names of the functions that include/embedded/dap_embedded_sdk.h declares.

Both must export exactly the legacy module's symbols and the declarations of include/embedded/dap_embedded_sdk.h.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INCLUDE = ROOT / "include"
NAME = "libdap_chain_net_srv_vpn"
CLIENT = "init deinit start stop status check check_result update get_wallet_info get_stream_ch get_stream_worker " \
         "set_order_state_callback pkt_in pkt_out"
TUN = "init create delete status get_esock"
ABI = {
    "common": ["dap_chain_net_srv_vpn_pre_init"],
    "server": ["dap_chain_net_srv_vpn_init", "dap_chain_net_srv_vpn_deinit"],
    "cmd": ["com_vpn_statistics", "com_vpn_client", "dap_chain_net_srv_vpn_cmd_init"],
    "client": [f"dap_chain_net_vpn_client_{name}" for name in CLIENT.split()],
    "client-tun": [f"dap_chain_net_vpn_client_tun_{name}" for name in TUN.split()] + [
        "ch_sf_tun_addr_leased", "ch_sf_tun_client_send", "tun_device_create", "m_client_tun_new",
        "save_current_connection_interface_data", "disableIPV6", "enableIPV6"],
}
# The library may depend only on the C library, the loader, and the compiler's support library.
NEEDED = {"libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2", "libpthread.so.0", "libdl.so.2",
          "librt.so.1"}
LINK_LIBRARIES = ["-lpthread", "-ldl", "-lm", "-lrt", "-lgcc_s"]


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"FAIL: {' '.join(command)}\n{result.stderr}")
    return result.stdout


def declared_in_the_embedded_header():
    """Finds functions in the compiler's list of prototypes and variables by their `extern` lines."""
    functions, variables = set(), set()
    compiler = "gcc"  # clang has no -aux-info
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "unit.c"
        source.write_text("#include <dap_embedded_sdk.h>\n")
        listing = pathlib.Path(folder) / "prototypes"
        options = ["-std=c11", f"-I{INCLUDE}", f"-I{INCLUDE / 'embedded'}"]
        run(compiler, *options, "-aux-info", str(listing), "-c", str(source), "-o", str(source) + ".o")
        for line in listing.read_text().splitlines():
            match = re.match(r"/\* (.*?):\d+:\w+ \*/ extern (.*)$", line)
            if match and match.group(1).startswith(str(INCLUDE)):
                functions.add(re.search(r"(\w+) \(", match.group(2)).group(1))
        text = run(compiler, *options, "-E", "-P", str(source))
    for declaration in re.findall(r"\bextern\s+(?!\")([^;{(]*);", text):
        variable = re.search(r"(\w+)\s*(\[[^\]]*\])?$", declaration.strip()).group(1)
        if re.search(rf"\b{variable}\b", (INCLUDE / "embedded" / "dap_embedded_sdk.h").read_text()):
            variables.add(variable)
    return functions, variables


def nm(*arguments):
    rows = []
    for line in run("nm", *arguments).splitlines():
        fields = line.split()
        if len(fields) >= 2 and len(fields[-2]) == 1:
            rows.append((fields[-2], fields[-1]))
    return rows


def global_symbols(archive):
    """Uses readelf: nm passes Rust's objects to an installed linker plugin, which cannot read them."""
    rows = [line.split() for line in run("readelf", "-sW", str(archive)).splitlines()]
    return {row[7] for row in rows if len(row) == 8 and row[4] in ("GLOBAL", "WEAK") and row[6] != "UND"}


def link_archive(archive, names):
    """Links a program that refers to every symbol against the archive alone and runs it."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "all.c"
        lines = [f"extern char {name}[];" for name in names]
        source.write_text("\n".join(lines) + "\nchar *all[] = {" + ",".join(names) + "};\nint main(void) "
                          "{ return all[0] == 0; }\n")
        command = ["gcc", "-fno-builtin", "-w", str(source), str(archive), *LINK_LIBRARIES, "-o",
                   str(source) + ".out"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            return result.stderr[-1500:]
        return subprocess.run([str(source) + ".out"]).returncode and "the linked program fails"


def main():
    functions, variables = declared_in_the_embedded_header()
    if sys.argv[1] == "--embedded":
        print("\n".join(sorted(functions)))
        return
    folder = pathlib.Path(sys.argv[1])
    shared, archive = folder / f"{NAME}.so", folder / f"{NAME}.a"
    failures = []
    abi = {name for part in ABI.values() for name in part}
    embedded = functions | variables
    if len(embedded) < 20:
        failures.append(f"only {len(embedded)} declarations found in dap_embedded_sdk.h")
    wanted = abi | embedded

    exported = {name.split("@")[0] for kind, name in nm("-D", "--defined-only", str(shared)) if kind != "A"}
    failures += [f"{shared.name} does not export {name}" for name in sorted(wanted - exported)]
    failures += [f"{shared.name} exports {name}, which no header documents" for name in sorted(exported - wanted)]

    defined = global_symbols(archive)
    failures += [f"{archive.name} does not define {name}" for name in sorted(wanted - defined)]
    others = sorted(defined - wanted)
    if others:
        failures.append(f"{archive.name} has {len(others)} more global symbols, such as {', '.join(others[:5])}")
    listed = set((ROOT / "build/exported-symbols.txt").read_text().split())
    failures += [f"build/exported-symbols.txt lacks {name}" for name in sorted(wanted - listed)]
    failures += [f"build/exported-symbols.txt has {name}, which no header documents" for name in sorted(listed - wanted)]
    problem = link_archive(archive, sorted(wanted & defined))
    if problem:
        failures.append(f"linking against {archive.name}: {problem}")

    dynamic = run("readelf", "-dW", str(shared))
    major = re.search(r'^version = "(\d+)', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    if not re.search(rf"\(SONAME\).*\[{NAME}\.so\.{major}\]", dynamic):
        failures.append(f"{shared.name} has no SONAME {NAME}.so.{major}")
    for library in re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic):
        if library not in NEEDED:
            failures.append(f"{shared.name} needs {library}")
    for kind, name in nm("-D", "--undefined-only", str(shared)):
        if kind not in "wv" and not re.search(r"@(GLIBC|GCC)_", name):
            failures.append(f"{shared.name} leaves {name} undefined")

    for failure in failures:
        print(f"FAIL: {failure}")
    print(f"{len(abi)} symbols of the module, {len(embedded)} of the embedded SDK, {len(exported)} exported; "
          f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
