"""The manual as Sphinx builds it: its text is shown as it is written, and its pages load nothing from other hosts."""

import html
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

TYPOGRAPHY = re.compile("[\u2013\u2014\u2018\u2019\u201c\u201d\u2026]")  # dashes, quotes, an ellipsis


def test_typographic_replacements_are_disabled() -> None:
    conf = runpy.run_path(str(ROOT / "docs/conf.py"))
    assert conf["smartquotes"] is False
    assert not {"smartquotes", "replacements"} & set(conf["myst_enable_extensions"])


def test_only_commands_are_copied() -> None:
    conf = runpy.run_path(str(ROOT / "docs/conf.py"))
    assert "sphinx_copybutton" in conf["extensions"]
    assert conf["copybutton_prompt_text"] == "$ "
    assert conf["copybutton_only_copy_prompt_lines"] is True
    assert conf["copybutton_copy_empty_lines"] is False


def test_the_quickstart_is_the_part_of_the_readme_between_its_marks() -> None:
    readme = (ROOT / "README.md").read_text()
    _, begin, rest = readme.partition("<!-- quickstart: begin -->")
    part, end, _ = rest.partition("<!-- quickstart: end -->")
    assert begin
    assert end
    assert "$ make demo" in part
    assert "infrakit down" in part
    page = (ROOT / "docs/quickstart.md").read_text()
    assert begin in page
    assert end in page
    pages = re.findall(r"^([\w/-]+)$", (ROOT / "docs/index.md").read_text().partition(":hidden:")[2], re.MULTILINE)
    assert pages[0] == "quickstart"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole manual, built without a warning."""
    target = tmp_path_factory.mktemp("manual")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", str(ROOT / "docs"), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.manual
@pytest.mark.timeout(300)
class TestBuilt:
    def test_hyphens_and_quotes_are_not_replaced(self, built: Path) -> None:
        changed = {}
        for page in built.rglob("*.html"):
            source = ROOT / "docs" / page.relative_to(built).with_suffix(".md")
            text = html.unescape(page.read_text())
            found = set(TYPOGRAPHY.findall(text)) - set(source.read_text() if source.exists() else "")
            if found:
                changed[page.name] = found
        assert not changed
        headings = re.findall(r"<h\d>(.*?)<", (built / "quickstart.html").read_text())
        assert "Quickstart" in headings
        assert "--store" in html.unescape((built / "operations/seed.html").read_text())

    def test_the_pages_load_nothing_from_other_hosts(self, built: Path) -> None:
        loaded = []
        for page in built.rglob("*.html"):
            loaded += re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"https?://[^\"]+", page.read_text())
        for sheet in built.glob("_static/**/*.css"):
            loaded += re.findall(r"(?:@import|url\()[^;)]*https?://[^;)]+", sheet.read_text())
        assert not loaded

    def test_code_blocks_have_copy_buttons(self, built: Path) -> None:
        page = (built / "quickstart.html").read_text()
        assert "copybutton.js" in page
        script = (built / "_static/copybutton.js").read_text()
        assert "formatCopyText(text, '$ ', false, true, true, false, '\\\\', '')" in script
        assert "$ make demo" in re.sub(r"<[^>]+>", "", page)
