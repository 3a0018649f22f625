#!/usr/bin/env python3
"""configuration.py CONFIG_MD VERSION: writes cellframe-vpn.cfg(5), made from docs/config.md, to standard output.

The tables of keys become lists of definitions, because a page of 80 columns has no room for them; lowdown does the rest.
"""

import pathlib
import re
import subprocess
import sys

NAME = "cellframe-vpn.cfg - configuration of the Cellframe VPN's server and client"


def cells(row):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def definitions(head, rows):
    """A list with an entry for each row: the first cell, and the others with the names of their columns."""
    names = cells(head)
    for row in rows:
        first, *others = cells(row)
        facts = [f"{name}: {cell}" for name, cell in zip(names[1:-1], others[:-1]) if name and cell]
        yield re.sub(r"`([^`]+)`", r"**`\1`**", first)
        yield f": {others[-1]}" + (f" ({'; '.join(facts)})" if facts else "")
        yield ""


def page(text):
    lines = iter(text.splitlines())
    table = []
    for line in lines:
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            yield from definitions(table[0], table[2:])
            table = []
        yield line
    yield from definitions(table[0], table[2:]) if table else ()


def main():
    text, version = pathlib.Path(sys.argv[1]).read_text(), sys.argv[2]
    # Its heading is the page's name, and links lead to documents that have no page.
    text = re.sub(r"^# .*\n", "", text, count=1)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\.md[^)]*\)", r"\1", text)
    body = "\n".join(page(text)).replace("\n## ", "\n# ").replace("\n### ", "\n## ")
    markdown = f"# NAME\n\n{NAME}\n\n# DESCRIPTION\n{body}\n\n# SEE ALSO\n\ncellframe-vpn(1), cellframe-vpn-server(1), cellframe-vpn-client(1)\n"
    metadata = [
        "-m",
        "title=CELLFRAME-VPN.CFG",
        "-m",
        "section=5",
        "-m",
        f"source=cellframe-vpn {version}",
        "-m",
        "volume=Cellframe VPN",
        "-m",
        "date=",
    ]
    result = subprocess.run(["lowdown", "-s", "-tman", *metadata, "-"], input=markdown, text=True, capture_output=True)
    sys.exit(f"lowdown: {result.stderr}") if result.returncode else sys.stdout.write(result.stdout)


if __name__ == "__main__":
    main()
