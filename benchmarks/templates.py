"""Templates: a large one with many variables, and the boot scripts of a large group, each with an include."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope

LINES, VARIABLES = 200, 1_000
INSTANCES = 10_000
COMMANDS = 30
BOOT = """\
#!/bin/sh
set -eu
# {{ var('cluster/name') }}: member {{ index }} of {{ size }}
{% for peer in peers %}
echo {{ peer }} {{ var('cluster/name') }}-{{ loop.index }} >>/etc/hosts
{% endfor %}
{% if spec.Attachments %}
mount /dev/disk/by-id/{{ spec.Attachments[0].ID | quote }} {{ var('mount', '/var/lib/data') }}
{% endif %}
{{ include('engine.sh', version='27.1') }}
hostnamectl set-hostname {{ logical_id | replace('.', '-') }}
"""
ENGINE = "apt-get install -y docker.io={{ version }}\nsystemctl enable --now engine # {{ var('cluster/name') }}\n"


def large() -> None:
    text = "".join(
        f"name_{line}={{{{ var('group/{line % VARIABLES}') }}}} {{{{ value_{line} | quote }}}}\n"
        for line in range(LINES)
    )
    variables: dict[str, object] = {f"group/{number}": number for number in range(VARIABLES // 2)}
    variables |= {f"value_{number}": f"text {number}" for number in range(VARIABLES // 2)}
    engine = Engine(Loader())
    began = time.perf_counter()
    engine.inline("{{ 1 }}", name="small")
    print(f"  the first template, with the import of its language: {(time.perf_counter() - began) * 1e3:.0f} ms")
    began = time.perf_counter()
    template = engine.inline(text, name="large")
    compiled = time.perf_counter()
    scope = Scope(variables=variables)
    runs = 50
    for _ in range(runs):
        assert engine.render(template, scope).text.count("\n") == LINES
    rendered = (time.perf_counter() - compiled) / runs
    print(f"  {LINES} lines, {VARIABLES:,} variables: compiled in {(compiled - began) * 1e3:.0f} ms, ", end="")
    print(f"rendered in {rendered * 1e3:.1f} ms")


def group() -> None:
    peers = [f"10.0.0.{number}" for number in range(1, 6)]
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "boot.sh").write_text(BOOT)
        (Path(home) / "engine.sh").write_text(ENGINE)
        engine = Engine(Loader())
        began = time.process_time()
        for number in range(INSTANCES):
            provided: dict[str, object] = {
                "index": number,
                "size": INSTANCES,
                "peers": peers,
                "logical_id": f"10.0.{number % 250}.1",
                "spec": {"Attachments": [{"ID": f"vol-{number}", "Type": "ebs"}]},
            }
            scope = Scope(variables={"cluster/name": "blue"}, functions=provided)
            engine.render(engine.template(f"{home}/boot.sh"), scope)
        print(f"  {INSTANCES:,} boot scripts with an include: {time.process_time() - began:.2f} s of CPU")


def command() -> None:
    """Compare the complete command `infrakit template` with the minimum cost of such a command."""
    with tempfile.TemporaryDirectory() as home:
        text = Path(home) / "small.sh.j2"
        text.write_text("#!/bin/sh\necho {{ var('cluster/name') | quote }} {{ var('size', 3) }}\n")
        program = [sys.executable, "-m", "infrakit"]
        for name, words in {
            "the interpreter alone": [sys.executable, "-c", "pass"],
            "infrakit --help": [*program, "--help"],
            "infrakit template, three lines": [*program, "template", str(text), "--var", "cluster/name=blue"],
        }.items():
            wall_s, cpu_s = min(_cost(words, home) for _ in range(COMMANDS))
            print(f"  {name}: {wall_s * 1e3:.0f} ms, {cpu_s * 1e3:.0f} ms of CPU")


def _cost(words: list[str], home: str) -> tuple[float, float]:
    environment = {"PATH": os.environ["PATH"], "INFRAKIT_HOME": home}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    print("templates")
    large()
    group()
    command()


if __name__ == "__main__":
    main()
