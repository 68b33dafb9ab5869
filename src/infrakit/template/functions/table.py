"""The type of template functions: the implementation and its entry in the reference manual."""

from collections.abc import Callable, Mapping
from typing import Any

Body = Callable[..., object]  # (frame, *arguments)
ABSENT = object()  # no default was given: null is a valid default


class Function:
    """A function that templates may call. No other Python object is callable from a template, except macros."""

    __slots__ = ("body", "example", "help", "is_filter", "members", "name", "result", "signature")

    def __init__(
        self,
        body: Body,
        *,
        signature: str,
        help: str = "",  # noqa: A002
        example: str = "",
        result: str = "",
        is_filter: bool = False,
        members: Mapping[str, "Function"] | None = None,
    ) -> None:
        self.body = body
        self.name = signature.partition("(")[0]
        self.signature = signature
        self.help = help
        self.example = example  # a template, whose output is `result`
        self.result = result
        self.is_filter = is_filter  # also available as a filter of its first argument
        self.members = dict(members or {})

    def __repr__(self) -> str:
        return f"<function {self.signature}>"


def function(signature: str, **documented: Any) -> Callable[[Body], Function]:
    """Return a decorator that makes a template function. Its help is the first paragraph of the docstring."""

    def decorate(body: Body) -> Function:
        help_text = " ".join((body.__doc__ or "").partition("\n\n")[0].split())
        return Function(body, signature=signature, help=help_text, **documented)

    return decorate


def collected(namespace: Mapping[str, object]) -> dict[str, Function]:
    """Return the template functions of a module, by name."""
    return {each.name: each for each in namespace.values() if isinstance(each, Function) and "." not in each.name}


def alias(known: Function, signature: str, *, example: str, result: str) -> Function:
    """Return the same function under another name."""
    return Function(
        known.body,
        signature=signature,
        help=f"Alias of `{known.name}`.",
        example=example,
        result=result,
        is_filter=known.is_filter,
    )
