"""The type of template functions: the implementation, and its entry in the manual."""

from collections.abc import Callable, Mapping
from typing import Any

Body = Callable[..., object]  # (frame, *arguments)
ABSENT = object()  # a default that was not given: null may be one


class Function:
    """A function that templates may call; nothing else of Python is callable from them."""

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
        self.example = example  # a template, and what is printed by it
        self.result = result
        self.is_filter = is_filter  # may stand after `|`, too, for its first argument
        self.members = dict(members or {})

    def __repr__(self) -> str:
        return f"<function {self.signature}>"


def function(signature: str, **documented: Any) -> Callable[[Body], Function]:
    """Make a function of templates: its help is the docstring's first paragraph."""

    def made(body: Body) -> Function:
        help_text = " ".join((body.__doc__ or "").partition("\n\n")[0].split())
        return Function(body, signature=signature, help=help_text, **documented)

    return made


def collected(namespace: Mapping[str, object]) -> dict[str, Function]:
    """The functions of a module, by name."""
    return {each.name: each for each in namespace.values() if isinstance(each, Function) and "." not in each.name}


def alias(known: Function, signature: str, *, example: str, result: str) -> Function:
    """The same function by another name."""
    return Function(
        known.body,
        signature=signature,
        help=f"The same as `{known.name}`.",
        example=example,
        result=result,
        is_filter=known.is_filter,
    )
