"""FILE of a command line: fetched here, in the command line's process; the daemon only ever gets text."""

import click

from infrakit.spi.errors import InfraKitError, InvalidSpec, Problem
from infrakit.template import loaders


def read(address: str) -> tuple[str, str]:
    """The text of a document and its name for messages. A document that cannot be had is the user's mistake."""
    try:
        body = loaders.load(address)
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None
    source = loaders.display(address)
    try:
        return body.decode("utf-8-sig"), source
    except UnicodeDecodeError as error:
        found = f"not UTF-8: found the byte 0x{body[error.start]:02x}"
        line = body.count(b"\n", 0, error.start) + 1
        raise InvalidSpec(
            [Problem(path="", message=found, line=line, hint="save the document as UTF-8")], where=source
        ) from None
