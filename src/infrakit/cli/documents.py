"""FILE of a command line: fetched here, in the command line's process; the daemon only ever gets text.

A template is rendered here, too, with the variables and the environment of whoever gives the order; see `rendering` for
what counts as one.
"""

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import click

from infrakit.cli import rendering
from infrakit.spi.errors import InfraKitError, InvalidSpec, Problem
from infrakit.template import loaders

if TYPE_CHECKING:
    from infrakit.template.engine import Rendered

LITERALLY = rendering.Asked()


class Document(NamedTuple):
    """A document as it was typed, or as its template was rendered."""

    text: str
    source: str  # its name for messages
    rendered: "Rendered | None" = None

    def shown(self) -> str:
        """The text as people may see it: without secrets."""
        return self.text if self.rendered is None else self.rendered.masked()

    def placed(self) -> contextlib.AbstractContextManager[None]:
        """Whatever is wrong with the text, found inside, is told at the line of the template that it came from."""
        if self.rendered is None:
            return contextlib.nullcontext()
        return rendering.placed(self.rendered.origins or ())


def read(address: str, asked: rendering.Asked = LITERALLY) -> Document:
    """A document. One that cannot be had is the user's mistake."""
    source = loaders.display(address)
    if asked.renders(address):
        rendered = rendering.render(address, asked, trace=True)
        return Document(rendered.text, source, rendered)
    try:
        body = loaders.load(address)
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None
    try:
        return Document(body.decode("utf-8-sig"), source)
    except UnicodeDecodeError as error:
        found = f"not UTF-8: found the byte 0x{body[error.start]:02x}"
        line = body.count(b"\n", 0, error.start) + 1
        raise InvalidSpec(
            [Problem(path="", message=found, line=line, hint="save the document as UTF-8")], where=source
        ) from None
