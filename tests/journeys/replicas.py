"""Several daemons on this machine, each with a home of its own, which share one provider of processes."""

import subprocess

from infrakit.leadership.file import write_leader
from tests.journeys.operator import Operator


class Replicas:
    """Operators of three replicas on one machine, which share one provider of processes."""

    def __init__(self) -> None:
        self.provider = Operator()
        self.root = self.provider.home
        self.operators: dict[str, Operator] = {}
        self.leader_file = self.root / "leader"

    def start(self, *names: str) -> None:
        """Start the shared provider, then each replica; nobody leads yet."""
        self.provider.beside("plugin", "start", "local")
        socket = self.root / "home" / "plugins" / "local"
        self.provider.until(socket.exists, "the provider serves")
        for name in names:
            one = self.operators[name] = Operator()
            plugins = one.home / "home" / "plugins"
            plugins.mkdir(parents=True)
            (plugins / "local").symlink_to(socket)
            one.environment |= {"INFRAKIT_NAME": name, **self.sources(name)}
            self.up(name)

    def sources(self, name: str) -> dict[str, str]:
        """Where that replica finds the declaration, and who leads."""
        del name
        return {
            "INFRAKIT_STORE": f"file://{self.root}/store",
            "INFRAKIT_LEADERSHIP": f"file://{self.leader_file}",
        }

    def up(self, name: str, *options: str) -> None:
        one = self.operators[name]
        with (one.home / "up0.log").open("a") as log:
            one.daemon = one.start("up", *options, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.provider.until(lambda: answers(one), f"{name} answers")

    def lead(self, name: str) -> None:
        """Say who leads, and wait until it does."""
        write_leader(self.leader_file, name)
        one = self.operators[name]
        one.until(lambda: one.ask_status()["Leader"], f"{name} leads")

    def close(self) -> None:
        for one in (*self.operators.values(), self.provider):
            one.close()


def answers(one: Operator) -> bool:
    with one.start("leader", "-o", "json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        out, _ = process.communicate(timeout=60)
    return bool(out)
