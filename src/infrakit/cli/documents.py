"""Reads FILE of a command line in the command's own process; the daemon receives only text.

A template is rendered here, too, with the variables and the environment of the user who runs the command; `rendering`
defines which files are templates.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
import msgspec

from infrakit.cli import daemon, failures, rendering
from infrakit.spi.errors import InfraKitError, InvalidSpec, Problem
from infrakit.template import loaders

if TYPE_CHECKING:
    from infrakit.lifecycle.request import DocumentRequest
    from infrakit.template.values import Rendered

R = TypeVar("R", bound="DocumentRequest")

VERBATIM = rendering.TemplateOptions()
NAMES = ("infrakit.yaml", "infrakit.yaml.j2")  # in a directory, the first of these that exists is read


class InputDocument(NamedTuple):
    """The text of a document, or the text rendered from its template."""

    text: str
    source: str  # its name in messages
    rendered: "Rendered | None" = None

    def shown(self) -> str:
        """Return the text for display, with secrets masked."""
        return self.text if self.rendered is None else self.rendered.masked()

    def request(self, kind: type[R], *, why: str, **more: Any) -> R:
        """Build a request with this document, in the name of the caller."""
        return kind(text=self.text, source=self.source, who=daemon.who(), why=why, **more)

    def errors_located(self) -> contextlib.AbstractContextManager[None]:
        """Report errors in the text with the template line that produced them."""
        if self.rendered is None:
            return _hint_at_template(self.text)
        return rendering.errors_located(self.rendered.origins or ())


@contextlib.contextmanager
def _hint_at_template(text: str) -> Iterator[None]:
    """Add a hint to syntax errors in a text that may be a template."""
    try:
        yield
    except Exception as error:
        error = failures.cause(error)
        if not isinstance(error, InvalidSpec) or "{%" not in text:
            raise
        hint = "if it is a template, pass --template or name it .j2"
        problems = [
            msgspec.structs.replace(each, hint="; ".join(filter(None, (each.hint, hint))))
            if each.message.startswith(("not YAML", "not JSON"))
            else each
            for each in error.problems
        ]
        raise InvalidSpec(problems, where=error.where) from None


def read(address: str, template_options: rendering.TemplateOptions = VERBATIM) -> InputDocument:
    """Read a document; in a directory, one of `NAMES`. A document that cannot be read is a user error."""
    if "://" not in address and Path(address).is_dir():
        names = [name for name in NAMES if (Path(address) / name).exists()]
        address = str(Path(address) / (names or NAMES)[0])
    source = loaders.display(address)
    if template_options.renders(address):
        rendered = rendering.render(address, template_options, trace=True)
        return InputDocument(rendered.text, source, rendered)
    try:
        body = loaders.load(address)
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None
    try:
        return InputDocument(body.decode("utf-8-sig"), source)
    except UnicodeDecodeError as error:
        found = f"not UTF-8: found the byte 0x{body[error.start]:02x}"
        line = body.count(b"\n", 0, error.start) + 1
        raise InvalidSpec(
            [Problem(path="", message=found, line=line, hint="save the document as UTF-8")], where=source
        ) from None
