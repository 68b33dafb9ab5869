"""Other documents: templates that are rendered here, and text as it is."""

from infrakit.spi.errors import InfraKitError
from infrakit.template import addresses
from infrakit.template.failures import text as text_argument
from infrakit.template.functions.table import alias, function
from infrakit.template.limits import Exceeded
from infrakit.template.loaders import Source
from infrakit.template.run import Definitions, Frame
from infrakit.template.scope import normal


@function(
    "include(address, **variables)",
    example="{{ include('str://{{ greeting }} from {{ var(\"place\") }}', greeting='hello', place='here') }}",
    result="hello from here",
)
def include(frame: Frame, address: str, /, **variables: object) -> str:
    """The template at an address, rendered in a copy of the variables, with more of them if given."""
    source = fetched(frame, address)
    frame.run.need(frame, "include", address, source.address or "inline")
    inside = {**frame.variables, **{normal(name): value for name, value in variables.items()}}
    return frame.run.execute(frame.nested(source, variables=inside, definitions=dict(frame.definitions)))[0]


@function(
    "source(address)",
    example="{{ source('str://{% macro hi(x) %}hi {{ x }}{% endmacro %}{{ set(\"n\", 2) }}') }}"
    "{{ hi('you') }} {{ var('n') }}",
    result="hi you 2",
)
def source(frame: Frame, address: str) -> Definitions:
    """Render a template for its definitions only: its variables, `{% set %}` and macros are known here after it."""
    document = fetched(frame, address, kind="source")
    frame.run.need(frame, "source", address, document.address or "inline")
    inside = frame.nested(document, variables=frame.variables, definitions=frame.definitions)
    defined = Definitions(frame.run.execute(inside)[1])
    frame.definitions.update(defined)
    return defined


@function("fetch(address)", example="{{ fetch('str://as it is: {{ 1 }}') }}", result="as it is: {{ 1 }}")
def fetch(frame: Frame, address: str) -> str:
    """The text at an address, as it is."""
    document = fetched(frame, address, kind="fetch")
    frame.run.need(frame, "fetch", address, document.address or "inline")
    return document.text


raw = alias(fetch, "raw(address)", example="{{ raw('str://{{') }}", result="{{")


def fetched(frame: Frame, address: str, *, kind: str = "include") -> Source:
    """The document that a template names, if it may."""
    run = frame.run
    text_argument(address, kind)
    if addresses.scheme(absolute := addresses.resolve(address, frame.template.address)) not in ("file", "str"):
        run.fetched.add(absolute)
        if len(run.fetched) > run.budget.limits.fetches_max:
            raise Exceeded(f"templates ask for more than {run.budget.limits.fetches_max} addresses")
    try:
        return run.engine.loader.fetch(
            address,
            namer=frame.template.source,
            local_files=run.scope.local_files,
            timeout_s=run.budget.remaining_s(),
        )
    except InfraKitError:
        run.need(frame, kind, address, "")
        raise
