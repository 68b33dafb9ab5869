"""The validity period of a certificate, parsed from DER; the standard library decodes accepted certificates only."""

import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

from infrakit.spi.clock import SystemClock

_UTC_TIME, _VERSION = 0x17, 0xA0


class _Element(NamedTuple):
    """One DER element (X.690): its tag, and the start and end of its content."""

    tag: int
    begin: int
    end: int


def of_file(path: str) -> str:
    """Return the result of `of` for the first certificate in a PEM file; empty if there is none."""
    try:
        text = Path(path).read_text()
        begin = text.index(ssl.PEM_HEADER)
        end = text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)
        return of(ssl.PEM_cert_to_DER_cert(text[begin:end]))
    except (OSError, ValueError):
        return ""


def of(der: bytes) -> str:
    """Return `expired on 2026-11-23` or `is not valid before ...`; empty if it is valid or cannot be parsed."""
    try:
        begin, end = _times(der)
    except (IndexError, ValueError):
        return ""
    now = SystemClock().now()
    if now > end.timestamp():
        return f"expired on {end:%Y-%m-%d %H:%M} UTC"
    if now < begin.timestamp():
        return f"is not valid before {begin:%Y-%m-%d %H:%M} UTC"
    return ""


def _times(der: bytes) -> tuple[datetime.datetime, datetime.datetime]:
    """Certificate ::= { tbs { [0] version, number, algorithm, issuer, validity { from, to }, ... } ... } (RFC 5280)."""
    at = _element(der, _element(der, 0).begin).begin
    skipped = 3
    if _element(der, at).tag == _VERSION:
        skipped += 1
    for _ in range(skipped):
        at = _element(der, at).end
    begin = _element(der, _element(der, at).begin)
    return _time(der, begin), _time(der, _element(der, begin.end))


def _element(der: bytes, at: int) -> _Element:
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + size], "big"), begin + size
    if begin + length > len(der):
        raise ValueError("it ends too early")
    return _Element(der[at], begin, begin + length)


def _time(der: bytes, element: _Element) -> datetime.datetime:
    text = der[element.begin : element.end].decode("ascii")
    form = "%y%m%d%H%M%SZ" if element.tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC)
