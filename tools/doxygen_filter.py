#!/usr/bin/env python3
"""Doxygen's view of one of our headers: doc blocks whose formulas keep their lines, members with what is said beside them.

Of a block of ``///`` the lines that are indented, or have a gap inside, are kept as they stand; the others are prose. A member is
described by the comment behind it, or by its words in the struct's list of fields, which itself is no news to a reader.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterator
from itertools import groupby

BLOCK = re.compile(r"^\s*///(?!/|<) ?(.*)$")
KEPT = re.compile(r"^ {2,}\S|\S {2,}\S")
OPENS = re.compile(r"^(?:struct|class|enum class) \w+(?: final)?(?: : [^{]*)? \{$")
FIELDS = re.compile(r"^  void fields\(auto&& visit\) \{\n(.*?)^  \}\n", re.MULTILINE | re.DOTALL)
VISIT = re.compile(r'visit\("\w+", (\w+),\s*"((?:[^"\\]|\\.)*)"\)')
DESIGNATED = re.compile(r"(?: = )?\{(\.[^{}]*)\}")
ADJACENT = re.compile(r'"\s*\n\s*"')
NAMESPACE = re.compile(r"^namespace schatten\S* \{\n|^\}  // namespace schatten\S*\n", re.MULTILINE)
NAMES = re.compile(r"^(?:inline )?constexpr auto enum_names\(\w+\) \{(?: [^\n]*\}|\n.*?^\})\n", re.MULTILINE | re.DOTALL)
MEMBER = re.compile(r"^  (?=\w)(?:.*?\b(\w+)(?: = .*|\{.*\})?[;,]|.*[;,]|\w+)$")
SEVERAL = re.compile(r"^(  [\w:]+) (\w+(?: = [^,;(){}]+)?(?:, \w+(?: = [^,;(){}]+)?)+);", re.MULTILINE)
DECLARED = re.compile(r"^(\w.*;)  +// (.*)$", re.MULTILINE)


def escaped(text: str) -> str:
    """Prose as it stands: nothing in it is a command or a tag of Doxygen's, but for the code in backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\@<>#%&$])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def doc_block(lines: list[str]) -> Iterator[str]:
    """Blank lines beside what is kept are left out: Doxygen loses its place there."""
    for kept, group in groupby(lines, lambda line: bool(KEPT.search(line))):
        text = "\n".join(group)
        yield from ["\\verbatim", *text.split("\n"), "\\endverbatim"] if kept else escaped(text.strip()).split("\n")


def described(line: str, told: dict[str, str]) -> str:
    """A member with the words of the list of fields, else with those of the comment behind it."""
    code, _, said = line.partition("  // ")
    member = MEMBER.match(code.rstrip())
    if not member or said.startswith("NOLINT"):
        return line
    text = told.get(member[1] or "") or said.strip()
    if found := DESIGNATED.search(code):  # which Sphinx cannot read
        code = code.replace(found[0], "")
        text += f" ({found[1].replace('.', '')})"
    return f"{code.rstrip()}  ///< {escaped(text.strip())}" if text else line


def struct_described(struct: str) -> str:
    told = {}
    if found := FIELDS.search(struct):
        told = dict(VISIT.findall(found[1]))
        struct = struct.replace(found[0], "")
    struct = SEVERAL.sub(lambda found: "\n".join(f"{found[1]} {name};" for name in found[2].split(", ")), struct)
    return "\n".join(described(line, told) for line in struct.split("\n"))


def structs_described(text: str) -> str:
    lines, out = text.split("\n"), []
    while lines:
        end = lines.index("};") + 1 if OPENS.match(lines[0]) and "};" in lines else 0
        out.append(struct_described("\n".join(lines[:end])) if end else lines[0])
        del lines[: end or 1]
    return "\n".join(out)


def filtered(text: str) -> str:
    for nothing in (NAMESPACE, NAMES, ADJACENT):
        text = nothing.sub("", text)
    text = DECLARED.sub(lambda found: f"{found[1]}  ///< {escaped(found[2])}", text)
    out = []
    for is_block, group in groupby(structs_described(text).split("\n"), lambda line: bool(BLOCK.match(line))):
        lines = list(group)
        if is_block:
            indent = lines[0][: lines[0].index("/")]
            said = [BLOCK.sub(r"\1", line) for line in lines]
            lines = [f"{indent}/// {line}".rstrip() for line in doc_block(said)]
        out += lines
    return "\n".join(out)


if __name__ == "__main__":
    sys.stdout.write(filtered(pathlib.Path(sys.argv[1]).read_text()))
