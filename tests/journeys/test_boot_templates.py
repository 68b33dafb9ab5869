"""Boot scripts at a URL: refused when they are wrong, waited for when they are away, taken as they are then."""

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


def told(operator: Operator, slot: str) -> str:
    """What the newest instance there has written down."""
    members = operator.members("web")
    if slot not in members or not members[slot]["ID"]:
        return ""
    path = Path(operator.environment["INFRAKIT_HOME"]) / "local/instances" / members[slot]["ID"] / "work/told"
    return path.read_text().strip() if path.exists() else ""


def test_a_boot_script_at_a_url_is_taken_as_it_is_when_it_is_needed(operator: Operator) -> None:
    with serving() as (address, site):
        site.page("/boot.sh", FIRST)
        operator.up(web(1, f"{address}/boot.sh"))
        operator.until(lambda: told(operator, "1") == "one web 1", "it is rendered")
        first = operator.members("web")["1"]

        site.page("/wrong.sh", f"#!/bin/sh\n{SECOND}")
        said = operator.commit(web(1, f"{address}/wrong.sh"), exits=1)
        assert f"{address}/wrong.sh, line 2: there is no metadata at 'vars/color'" in said
        assert "groups[0].properties.Flavor.Properties.InitScriptTemplateURL" in said
        operator("metadata", "set", "vars/color", "blue", "-m", "because")
        site.page("/boot.sh", SECOND)

        def renewed() -> bool:
            """It is asked for again after some seconds: until then, those who die come back as they were."""
            if (found := told(operator, "1")) and found != "two blue web 1":
                operator.kill(operator.members("web")["1"]["ID"] or "nobody")
            return found == "two blue web 1"

        operator.until(renewed, "the next one is rendered from what is there now")
        operator.converged()
        last = operator.members("web")["1"]
        assert last["ID"] != first["ID"]
        assert last["Hash"] == first["Hash"], "what a URL serves is no part of the version"
        assert last["UpToDate"]


def test_one_whose_boot_script_is_away_waits_and_says_why(operator: Operator) -> None:
    with serving() as (address, site):
        site.page("/boot.sh", FIRST)
        operator.up(web(1, f"{address}/boot.sh"))
        operator.converged()
        site.pages.clear()

        def failed() -> bool:
            """The template is asked for again after some seconds: until then, those who die come back."""
            said = operator("events", "--group", "web")
            if f"the flavor could not prepare it: {address}/boot.sh: the server answered 404" in said:
                return True
            for each in operator.members("web").values():
                operator.kill(each["ID"] or "nobody")
            return False

        operator.until(failed, "the failure is told")
        assert "could not prepare it" in operator("why", "web/1")
        assert not operator.processes(), "nothing half made"

        site.page("/boot.sh", FIRST)
        operator.converged()
        assert told(operator, "1") == "one web 1"
