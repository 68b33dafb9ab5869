"""A daemon and a plugin on another machine: certificates, tokens, and recorded identities."""

import socket
from pathlib import Path

import pytest
import trustme

from tests.journeys.operator import Operator, cattle

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def certificates(directory: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    for name, issued in (("server", ca.issue_cert(HOST)), ("ops", ca.issue_cert("ops@x.org", common_name="ops-1"))):
        issued.private_key_pem.write_to_path(str(directory / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))


def test_commands_from_another_machine_are_recorded_with_their_identity(operator: Operator) -> None:
    certificates(operator.home)
    address = f"{HOST}:{free_port()}"
    token = operator("remote", "token", "bob", "--file", "tokens")
    (operator.home / "bob.token").write_text(token)
    tls = ("--tls-cert=server.pem", "--tls-key=server.key", "--tls-client-ca=ca.pem", "--token-file=tokens")
    operator.up(cattle("web", 1), options=(f"--listen={address}", *tls))
    operator.converged()

    home = operator.environment["INFRAKIT_HOME"]
    operator.environment["INFRAKIT_HOME"] = str(operator.home / "elsewhere")
    url = f"https://{address}"
    operator("status", exits=3)
    operator("remote", "add", "prod", url, "--ca=ca.pem", "--cert=ops.pem", "--key=ops.key")
    operator("remote", "add", "bobs", url, "--ca=ca.pem", "--token-file=bob.token")
    operator("remote", "add", "nobodys", url, "--ca=ca.pem")
    assert operator("remote", "use", "prod").startswith("commands are sent to prod")
    assert "web" in operator("status")
    operator("group", "scale", "web", "2", "-m", "more", "--wait=120s")
    operator.environment["INFRAKIT_HOST"] = "bobs"
    operator("group", "scale", "web", "1", "-m", "less", "--wait=120s")
    assert "web/" in operator("events", "--group", "web")
    operator.environment["INFRAKIT_HOST"] = "nobodys"
    assert "present a valid client certificate or token" in operator("status", exits=2)
    operator("remote", "add", "strict", f"https://{HOST}:1", "--ca=ca.pem")
    operator.environment["INFRAKIT_HOST"] = "strict"
    unreachable = operator("status", exits=3)
    assert "remote strict (https://127.0.0.1:1): it cannot be reached (Connection refused)" in unreachable
    assert "infrakit remote use local" in unreachable
    operator("remote", "remove", "strict")
    operator.environment["INFRAKIT_HOST"] = "nowhere"
    assert "there is no remote 'nowhere'" in operator("status", exits=1)
    del operator.environment["INFRAKIT_HOST"]
    assert [line.split()[0] for line in operator("remote", "ls").splitlines()] == [
        "NAME",
        "local",
        "bobs",
        "nobodys",
        "*",
    ]
    operator("remote", "remove", "prod")
    operator("status", exits=3)

    operator.environment["INFRAKIT_HOME"] = home
    history = operator("history")
    assert "ann (certificate ops-1)" in history
    assert "ann (token bob)" in history
    assert ", scale by ann (certificate ops-1): more" in operator("events")
    assert token.strip() not in operator("events") + history + operator.daemon_output()


def test_insecure_listeners_and_remotes_are_refused(operator: Operator) -> None:
    document = operator.write(cattle("web", 1))
    assert "plain TCP is for loopback" in operator("up", document, "--listen=0.0.0.0:9", exits=2)
    assert "must be given together" in operator("up", document, "--listen=127.0.0.1:9", "--tls-cert=x", exits=1)
    assert "need --listen" in operator("up", document, "--token-file=x", exits=1)
    assert "x: the tokens cannot be read" in operator("up", document, "--listen=127.0.0.1:9", "--token-file=x", exits=2)
    assert not (operator.home / "home").exists()
    assert "is not an address of a daemon" in operator("remote", "add", "x", "https://nowhere", exits=1)
    assert "'ftp://a:1' is not an address" in operator("remote", "add", "x", "ftp://a:1", exits=1)
    assert "certificates need TLS" in operator("remote", "add", "x", "http://a:1", "--ca=c", exits=2)
    assert "needs its certificate" in operator("remote", "add", "x", "https://a:1", "--key=k", exits=2)
    assert "could be intercepted" in operator("remote", "add", "x", "tcp://a:1", "--token-file=t", exits=2)
    assert operator.ask("remote", "ls") == {"Current": "local", "Known": {}}
    assert "one plugin" in operator("plugin", "start", "vanilla", "file", "--listen=127.0.0.1:9", exits=1)


def test_a_group_runs_on_a_plugin_of_another_machine(operator: Operator) -> None:
    certificates(operator.home)
    address = f"{HOST}:{free_port()}"
    home = operator.environment["INFRAKIT_HOME"]
    operator.environment["INFRAKIT_HOME"] = str(operator.home / "elsewhere")
    tls = ("--tls-cert=server.pem", "--tls-key=server.key", "--tls-client-ca=ca.pem")
    operator.run_in_background("plugin", "start", "simulator:cloud", f"--listen={address}", *tls)
    operator.until(lambda: operator.plugins().get("cloud") == "running", "the plugin answers")
    operator.environment["INFRAKIT_HOME"] = home
    plugins = operator.home / "home" / "plugins"
    plugins.mkdir(parents=True, mode=0o700)
    (plugins / "far.listen").write_text(f"https://{address}\n")
    assert operator.plugins()["far"] == "unreachable"
    for variable, file in (("CA", "ca.pem"), ("CERT", "ops.pem"), ("KEY", "ops.key")):
        operator.environment[f"INFRAKIT_TLS_{variable}"] = file
    assert operator.plugins()["far"] == "running"
    operator.up(cattle("web", 3, plugin="far"))
    operator.converged()
