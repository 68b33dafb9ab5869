"""Boot scripts at a URL: refused if invalid, retried if unavailable, fetched when an instance is created."""

from pathlib import Path
from typing import Any

import pytest

from tests.journeys.operator import Operator, cattle
from tests.unit.template.web import serving

pytestmark = pytest.mark.slow

FIRST = "echo {{ word() }}{{ index.group }} {{ index.sequence }} > told; exec sleep 1000\n".replace(
    "{{ word() }}", "one "
)
SECOND = FIRST.replace("one ", "two {{ metadata('vars/color') }} ")


def web(size: int, url: str) -> dict[str, Any]:
    return cattle("web", size, Init=(), InitScriptTemplateURL=url)


def written(operator: Operator, slot: str) -> str:
    """What the boot script of the newest instance in the slot has written."""
    members = operator.members("web")
    if slot not in members or not members[slot]["ID"]:
        return ""
    path = Path(operator.environment["INFRAKIT_HOME"]) / "local/instances" / members[slot]["ID"] / "work/told"
    return path.read_text().strip() if path.exists() else ""


def test_a_boot_script_at_a_url_is_fetched_when_an_instance_is_created(operator: Operator) -> None:
    with serving() as (address, site):
        site.page("/boot.sh", FIRST)
        operator.up(web(1, f"{address}/boot.sh"))
        operator.until(lambda: written(operator, "1") == "one web 1", "the boot script is rendered")
        first = operator.members("web")["1"]

        site.page("/wrong.sh", f"#!/bin/sh\n{SECOND}")
        output = operator.commit(web(1, f"{address}/wrong.sh"), exits=1)
        assert f"{address}/wrong.sh, line 2: there is no metadata at 'vars/color'" in output
        assert "groups[0].properties.Flavor.Properties.InitScriptTemplateURL" in output
        operator("metadata", "set", "vars/color", "blue", "-m", "because")
        site.page("/boot.sh", SECOND)

        def rendered_again() -> bool:
            """The script is fetched again after some seconds: until then, instances are recreated with the old one."""
            if (found := written(operator, "1")) and found != "two blue web 1":
                operator.kill_running()
            return found == "two blue web 1"

        operator.until(rendered_again, "the next boot script is rendered from the new template")
        operator.converged()
        last = operator.members("web")["1"]
        assert last["ID"] != first["ID"]
        assert last["Hash"] == first["Hash"], "the content of a URL is not part of the version"
        assert last["UpToDate"]


def test_an_instance_whose_boot_script_cannot_be_fetched_waits_and_reports_why(operator: Operator) -> None:
    with serving() as (address, site):
        site.page("/boot.sh", FIRST)
        operator.up(web(1, f"{address}/boot.sh"))
        operator.converged()
        site.pages.clear()

        def failed() -> bool:
            """The script is fetched again after some seconds: until then, instances are recreated."""
            output = operator("events", "--group", "web")
            if f"the flavor could not prepare it: {address}/boot.sh: the server answered 404" in output:
                return True
            operator.kill_running()
            return False

        operator.until(failed, "the failure is reported")
        assert "could not prepare it" in operator("why", "web/1")
        assert not operator.processes(), "no instance is partially created"

        site.page("/boot.sh", FIRST)
        operator.converged()
        assert written(operator, "1") == "one web 1"
