"""Decodes JSON as a type, in any thread. Every typed decoding goes through here.

msgspec collects the fields of a struct when it is first decoded. If two threads do that at once, one of them may use
fields that the other has not collected yet, and the process ends with a segmentation fault (msgspec 0.22). Here one
lock is held while a decoder is built; a built decoder is safe in every thread.
"""

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_lock = threading.Lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(body: bytes | str | msgspec.Raw, type_: type[T]) -> T:
    """Decode JSON text. Raises `msgspec.MsgspecError`, or `UnicodeDecodeError` for text that is not UTF-8."""
    value: T = decoder(type_).decode(body)
    return value


def convert(value: object, type_: type[T]) -> T:
    """Convert plain values, such as dictionaries and lists. Raises `msgspec.ValidationError`."""
    decoder(type_)  # collects the fields
    return msgspec.convert(value, type_)


def decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a type, which is built at its first use."""
    found = _decoders.get(type_)
    if found is None:
        with _lock:
            found = _decoders.setdefault(type_, msgspec.json.Decoder(type_))
    return found
