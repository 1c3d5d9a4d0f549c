#!/usr/bin/env python3
"""Writes files as a C source with one array each: embed.py OUTPUT FILE..."""

import hashlib
import pathlib
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def main():
    output, *names = sys.argv[1:]
    files = [pathlib.Path(name) for name in names]
    lines = ["/* Written by web/embed.py. */", '#include "gateway/web_files.h"', ""]
    table = []
    for number, file in enumerate(files):
        data = file.read_bytes()
        lines.append(f"static const uint8_t file_{number}[] = {{")
        for at in range(0, len(data), 20):
            lines.append("    " + "".join(f"{byte}," for byte in data[at : at + 20]))
        lines.append("};")
        etag = hashlib.sha256(data).hexdigest()[:16]
        kind = TYPES[file.suffix]
        table.append(f'    {{"{file.name}", "{kind}", "\\"{etag}\\"", file_{number}, sizeof file_{number}}},')
    lines += ["", "const struct web_file web_files[] = {", *table, "};"]
    lines.append(f"const size_t web_file_count = {len(files)};")
    pathlib.Path(output).write_text("\n".join(lines) + "\n")


main()
