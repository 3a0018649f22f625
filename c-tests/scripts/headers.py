#!/usr/bin/env python3
"""headers.py COMPILER... : compiles each public header alone, twice, and in every ordered pair, as C11, C17 and C++17.

All warnings are errors, with one exception: the packet, whose text the specification gives, has a flexible array member
and structs declared in an anonymous union, which ISO C++ lacks. C++ is therefore compiled without -Wpedantic, and a
second C++ pass with it checks that it reports nothing else.
"""
import itertools
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INCLUDE = ROOT / "include"
PUBLIC = sorted(path.name for path in INCLUDE.glob("*.h"))
EXPECTED = [
    "dap_chain_net_srv_vpn.h", "dap_chain_net_srv_vpn_cmd.h", "dap_chain_net_srv_vpn_common.h",
    "dap_chain_net_vpn_client.h", "dap_chain_net_vpn_client_tun.h", "dap_stream_ch_vpn.h",
]
EMBEDDED = sorted(path.name for path in (INCLUDE / "embedded").glob("*.h"))
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
PACKET = re.compile(r"flexible array member|anonymous types declared in an anonymous union")


def compile_one(compiler, standard, names, folder, flags):
    suffix = ".cpp" if "++" in standard else ".c"
    source = pathlib.Path(folder) / ("unit" + suffix)
    text = "".join(f"#include <{name}>\n" for name in names) + "int unit_is_not_empty;\n"
    source.write_text(text)
    command = [compiler, f"-std={standard}", "-fsyntax-only", *flags, f"-I{INCLUDE}", f"-I{INCLUDE / 'embedded'}",
               str(source)]
    return subprocess.run(command, capture_output=True, text=True)


def warnings_beside_the_packet(output):
    complaints = [line for line in output.splitlines() if re.search(r": (error|warning): ", line)]
    return [line for line in complaints if not PACKET.search(line)]


def main():
    compilers = sys.argv[1:]
    if not compilers:
        sys.exit(__doc__)
    for compiler in compilers:
        if not shutil.which(compiler):
            print(f"skipped: compiler '{compiler}' is not installed")
            sys.exit(77)
    failures = []
    if PUBLIC != EXPECTED:
        failures.append(f"include/ holds {PUBLIC}, expected {EXPECTED}")
    units = [[name] for name in PUBLIC + EMBEDDED] + [[name, name] for name in PUBLIC]
    units += [list(pair) for pair in itertools.permutations(PUBLIC, 2)]
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for compiler in compilers:
            cxx = "++" in compiler
            for standard in ["c++17"] if cxx else ["c11", "c17"]:
                for names in units:
                    flags = WARNINGS if cxx else WARNINGS + ["-Wpedantic", "-Wstrict-prototypes"]
                    result = compile_one(compiler, standard, names, folder, flags)
                    count += 1
                    if result.returncode != 0:
                        failures.append(f"{compiler} -std={standard} {' '.join(names)}:\n{result.stderr[:2000]}")
                if cxx:
                    pedantic = compile_one(compiler, standard, PUBLIC, folder, ["-Wall", "-Wextra", "-Wpedantic"])
                    count += 1
                    for line in warnings_beside_the_packet(pedantic.stderr):
                        failures.append(f"{compiler} -std={standard} -Wpedantic: {line}")
    for failure in failures[:20]:
        print(f"FAIL: {failure}")
    print(f"{count} compilations with {', '.join(compilers)}, {len(failures)} failed")
    sys.exit(1 if failures or not count else 0)


if __name__ == "__main__":
    main()
