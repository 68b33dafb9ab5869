"""Prints those lines of a universal list of requirements that a Python version needs, whatever Python runs this.

    requirements.py 3.11 requirements/run.txt

A requirement is a line `name==version ; marker \\`, and the lines of its hashes that follow, indented.
"""

import sys
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement


def needed(text: str, version: str) -> str:
    """The requirements whose marker is true for CPython of that version on Linux, without the marker."""
    environment = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    lines, keep = [], False
    for line in text.splitlines():
        if line[:1] not in ("", " ", "#"):
            requirement = Requirement(line.removesuffix("\\"))
            keep = requirement.marker is None or requirement.marker.evaluate(environment)
            line = f"{requirement.name}{requirement.specifier} \\"  # noqa: PLW2901
        if keep:
            lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    print(needed(Path(sys.argv[2]).read_text(), sys.argv[1]))
