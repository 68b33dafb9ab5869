"""The sandbox of templates: that of Jinja2, with allow-lists in place of deny-lists.

Every operation that calls, creates or prints something passes through it, and is charged to the budget of the render.
The only attributes are members of mappings and a few methods of strings and lists, so no value gives access to a class,
a frame or a module of Python. `syntax` rewrites each template so that the operations that Jinja2 compiles inline
(loops, `~`, lists, captured text) pass through the sandbox, too.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinMethodType, MethodType
from typing import Any

import jinja2
from jinja2.lexer import Token, TokenStream
from jinja2.runtime import LoopContext, Macro, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing

from infrakit.template import filters, operators
from infrakit.template.failures import Fault, UndefinedFault, kind_of, nearest
from infrakit.template.functions import TABLE
from infrakit.template.functions.table import Function
from infrakit.template.limits import Budget, Exceeded, Limits
from infrakit.template.run import Frame, TemplateContext, text_of

_RAW = re.compile(r"(?P<before>\{%[-+]?\s*(?P<word>raw|endraw)\s*)(?:-%\}|%\}(?P<end>\r\n|\r|\n|))")
_TEXT = frozenset((
    "upper", "lower", "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith",
    "replace", "find", "rfind", "count", "title", "capitalize", "swapcase", "casefold", "isdigit", "isalpha",
    "isalnum", "isspace", "isupper", "islower", "isdecimal", "isnumeric", "join", "partition", "rpartition",
    "removeprefix", "removesuffix", "zfill", "center", "ljust", "rjust",
))  # fmt: skip
_MAPPING = frozenset(("keys", "values", "items", "get"))
_LIST = frozenset(("index", "count"))
_GROUP = frozenset(("grouper", "list"))  # of the filter groupby
_LOOP = frozenset((
    "index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0", "previtem",
    "nextitem", "cycle", "changed",
))  # fmt: skip
_CONTAINERS = (str, list, tuple, dict, Mapping, range)
_FORMAT_HINT = "use ~ or the filter format"


CAPTURED = "(captured text)"  # a filter that `syntax` adds; no template can spell its name


class Missing(StrictUndefined):
    """An undefined name: every use of it is an error, except `is defined` and `default`."""

    __slots__ = ()

    def __init__(self, hint: str | None = None, obj: Any = missing, name: Any = None, exc: Any = None) -> None:
        fault: Any = functools.partial(UndefinedFault, name, obj)
        super().__init__(hint, obj, name, exc=exc or fault)


class CallerFunction(Function):
    """A function that the caller of the renderer provides; it takes no frame."""

    __slots__ = ()

    def __init__(self, name: str, body: Callable[..., object]) -> None:
        super().__init__(lambda _frame, *args, **kwargs: body(*args, **kwargs), signature=f"{name}(...)")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all templates under the same limits."""

    intercepted_binops = frozenset(operators.BINARY)
    context_class = TemplateContext

    def __init__(self, limits: Limits) -> None:
        super().__init__(
            comment_start_string="{{/*",
            comment_end_string="*/}}",
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            undefined=Missing,
            finalize=_printed,
            optimized=False,  # constants would be computed at compile time, outside of any budget
            autoescape=False,
            cache_size=0,
        )
        self.limits = limits
        self.globals = {}
        self.filters = dict(filters.FILTERS)
        self.filters[CAPTURED] = filters.guarded(CAPTURED, lambda _context, value: value)
        self.filters.update((name, _filter_of(each)) for name, each in TABLE.items() if each.is_filter)
        self.tests = {name: self.tests[name] for name in filters.TESTS}
        # The calls that `syntax` inserts for loops, lists, slices, `~` and late-bound names:
        self.counted = Function(_counted_items, signature="for(...)")
        self.charged = Function(_charged, signature="[...]")
        self.sliced = Function(_sliced, signature="[...:...]")
        self.joined = Function(_joined, signature="~(...)")
        self.late_bound = Function(_late_bound, signature="name(...)")

    def preprocess(self, source: str, name: str | None = None, filename: str | None = None) -> str:  # noqa: ARG002
        """Remove the line end after `{% raw %}`, as after all other statements; Jinja2 keeps it."""
        inside = False

        def moved(found: re.Match[str]) -> str:
            nonlocal inside
            begins = found["word"] == "raw" and not inside
            inside = found["word"] == "raw"
            moves = begins and found["end"]  # into the tag, which preserves the line numbers
            return f"{found['before']}\n%}}" if moves else found[0]

        return _RAW.sub(moved, source)

    def _tokenize(self, source: str, name: str | None, filename: str | None = None, state: str | None = None) -> Any:
        stream = super()._tokenize(source, name, filename, state)
        return TokenStream(self._counted(stream), name, filename)

    def _counted(self, stream: Iterable[Token]) -> Iterator[Token]:
        for number, token in enumerate(stream):
            if number >= self.limits.tokens_max:
                raise Exceeded(
                    f"the template has more than {self.limits.tokens_max:,} names, operators and pieces of text"
                )
            yield token

    # -- members -------------------------------------------------------------------------------------------------------

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return the member or allowed method of that name. A member takes precedence over a method."""
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()  # noqa: SLF001 - as for any other use of it
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        if attribute.startswith("_"):
            raise Fault(f"{attribute!r} is not available in templates", "members that begin with _ are Python's own")
        if isinstance(obj, Namespace):
            return (
                getattr(obj, attribute, None)
                if attribute in _namespace_names(obj)
                else Missing(obj=obj, name=attribute)
            )
        if isinstance(obj, Function):
            return obj.members.get(attribute) or Missing(obj=obj, name=attribute)
        allowed = _allowed(obj)
        if attribute in allowed:
            return getattr(obj, attribute)
        if not isinstance(obj, Mapping) and hasattr(type(obj), attribute):
            hint = _FORMAT_HINT if attribute.startswith("format") else nearest(attribute, allowed)
            raise Fault(f"{attribute!r} of {kind_of(obj)} is not available in templates", hint)
        return Missing(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item of a container, or the member of that name."""
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()  # noqa: SLF001
        if isinstance(obj, _CONTAINERS):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self.getattr(obj, str(argument))
        return Missing(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        """Whether an attribute is allowed; called by Jinja2."""
        return attr in _allowed(obj)

    # -- calls and operators -------------------------------------------------------------------------------------------

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call an allowed function, macro or method, and charge its result. Raises `Fault` for anything else."""
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        frame: Frame = context.frame
        run = frame.run
        run.budget.step()
        if isinstance(obj, Function):
            result = obj.body(frame, *args, **kwargs)
        elif isinstance(obj, Macro):
            if run.call_depth >= run.budget.limits.calls_deep_max:
                raise Exceeded(f"macros call each other more than {run.budget.limits.calls_deep_max} deep")
            run.call_depth += 1
            try:
                result = obj(*args, **kwargs)
            finally:
                run.call_depth -= 1
        elif isinstance(obj, Undefined):
            result = obj(*args, **kwargs)  # raises
        elif _is_allowed_method(obj):
            operators.check_method(run.budget, obj, args)
            result = obj(*args, **kwargs)
        else:
            raise Fault(f"{kind_of(obj)} cannot be called")
        run.budget.value(result)
        if run.secrets:
            run.taint(iter((*args, *kwargs.values(), getattr(obj, "__self__", None))), result)
        return result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply a binary operator, with a check of the size of its result."""
        run = context.frame.run
        run.budget.step()
        result = operators.BINARY[operator](run.budget, left, right)
        run.budget.value(result)
        if run.secrets:
            run.taint(iter((left, right)), result)
        return result


def _filter_of(function: Function) -> Callable[..., Any]:
    def body(context: TemplateContext, *args: Any, **kwargs: Any) -> object:
        return function.body(context.frame, *args, **kwargs)

    return filters.guarded(function.name, body)


@functools.lru_cache(maxsize=8)
def sandbox(limits: Limits) -> Sandbox:
    """Return the environment with these limits, from a cache."""
    return Sandbox(limits)


def _allowed(obj: object) -> frozenset[str]:
    if isinstance(obj, str):
        return _TEXT
    if isinstance(obj, Mapping):
        return _MAPPING
    if isinstance(obj, list | tuple):
        return _GROUP if hasattr(type(obj), "grouper") else _LIST
    return _LOOP if isinstance(obj, LoopContext) else frozenset()


def _is_allowed_method(obj: object) -> bool:
    if isinstance(obj, BuiltinMethodType | MethodType):
        return obj.__name__ in _allowed(obj.__self__)
    return False


def _namespace_names(namespace: Namespace) -> Mapping[str, Any]:
    names: Mapping[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return names


@jinja2.pass_context
def _printed(context: TemplateContext, value: object) -> str:
    text = text_of(value)
    context.frame.run.budget.value(text)
    return text


def _counted_items(frame: Frame, items: Any, text_bytes: int) -> Iterator[Any]:
    """Charge each iteration of a loop, and the text in it."""
    if isinstance(items, Undefined) or items is None or isinstance(items, int | float | Function | Macro):
        return iter(items) if isinstance(items, Undefined) else _refuse_loop(items)
    return _iterate(items, frame.run.budget, 1 + text_bytes // 100)


def _iterate(items: Iterable[Any], budget: Budget, cost: int) -> Iterator[Any]:
    for each in items:
        budget.step(cost)
        yield each


def _refuse_loop(items: object) -> Iterator[Any]:
    raise Fault(f"{kind_of(items)} is not iterable, expected a list or a mapping")


def _charged(_frame: Frame, value: object) -> object:
    return value  # the call charges it


def _sliced(_frame: Frame, value: Any, start: Any, stop: Any, step: Any) -> object:
    if not isinstance(value, str | list | tuple | range):
        raise Fault(f"{kind_of(value)} cannot be sliced")
    return value[start:stop:step]


def _joined(frame: Frame, *parts: object) -> str:
    texts = [text_of(part) for part in parts]
    frame.run.budget.size(sum(map(len, texts)))
    return "".join(texts)


def _late_bound(frame: Frame, name: str, before: object) -> object:
    """Resolve a name that a sourced template may have defined since; `before` is its value at the start."""
    return frame.definitions.get(name, before)
