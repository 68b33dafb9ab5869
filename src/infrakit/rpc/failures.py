"""The wire format of errors. InfraKit's clients restore the complete error; other clients read its message."""

import msgspec

from infrakit.spi import errors
from infrakit.spi.values import wire_name

INVALID_REQUEST = -32600
APPLICATION_ERROR = -32000

_KINDS: dict[str, type[errors.InfraKitError]] = {
    kind.__name__: kind
    for kind in (
        errors.InvalidSpec,
        errors.NotFound,
        errors.Conflict,
        errors.Refused,
        errors.Halted,
        errors.NotLeader,
        errors.Throttled,
        errors.Unreachable,
        errors.OutcomeUnknown,
        errors.PluginError,
    )
}


class ErrorData(msgspec.Struct, kw_only=True, rename=wire_name, omit_defaults=True):
    """The fields from which a client restores one of our errors."""

    kind: str = ""
    what: str = ""
    where: str = ""
    remedy: str = ""
    after_s: float = 0.0
    problems: list[errors.Problem] = []


def plain(text: str) -> str:
    """Escape bytes that are not Unicode, as in file names, because JSON cannot represent them."""
    return text.encode(errors="backslashreplace").decode()


def error_data(error: errors.InfraKitError) -> ErrorData:
    return ErrorData(
        kind=type(error).__name__,
        what=plain(error.what),
        where=plain(error.where),
        remedy=plain(error.remedy),
        after_s=error.after_s if isinstance(error, errors.Throttled) else 0.0,
        problems=[_plain_problem(p) for p in error.problems] if isinstance(error, errors.InvalidSpec) else [],
    )


def _plain_problem(problem: errors.Problem) -> errors.Problem:
    fields = {name: plain(getattr(problem, name)) for name in ("path", "message", "hint")}
    return msgspec.structs.replace(problem, **fields)


def error(message: str, data: ErrorData | None) -> errors.InfraKitError:
    """Restore the error that the other side raised; a foreign error becomes a `PluginError` with its message."""
    kind = _KINDS.get(data.kind) if data is not None else None
    if data is None or kind is None:
        return errors.PluginError(message)
    if kind is errors.InvalidSpec:
        return errors.InvalidSpec(data.problems, where=data.where, remedy=data.remedy)
    if kind is errors.Throttled:
        return errors.Throttled(data.what, after_s=data.after_s, where=data.where, remedy=data.remedy)
    return kind(data.what, where=data.where, remedy=data.remedy)
