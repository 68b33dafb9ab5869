"""Functions that fetch other documents, as templates or as plain text."""

from infrakit.spi.errors import InfraKitError
from infrakit.template import addresses
from infrakit.template.failures import string_argument
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
    """Render the template at an address with a copy of the variables, and with the additional ones given."""
    source = fetch_document(frame, address)
    frame.run.record_need(frame, "include", address, source.address or "inline")
    inside = {**frame.variables, **{normal(name): value for name, value in variables.items()}}
    return frame.run.execute(frame.nested(source, variables=inside, definitions=dict(frame.definitions)))[0]


@function(
    "source(address)",
    example="{{ source('str://{% macro hi(x) %}hi {{ x }}{% endmacro %}{{ set(\"n\", 2) }}') }}"
    "{{ hi('you') }} {{ var('n') }}",
    result="hi you 2",
)
def source(frame: Frame, address: str) -> Definitions:
    """Import the definitions of another template: its variables, `{% set %}` names and macros. Prints nothing."""
    document = fetch_document(frame, address, kind="source")
    frame.run.record_need(frame, "source", address, document.address or "inline")
    inside = frame.nested(document, variables=frame.variables, definitions=frame.definitions)
    defined = Definitions(frame.run.execute(inside)[1])
    frame.definitions.update(defined)
    return defined


@function("fetch(address)", example="{{ fetch('str://as it is: {{ 1 }}') }}", result="as it is: {{ 1 }}")
def fetch(frame: Frame, address: str) -> str:
    """Return the text at an address without rendering it."""
    document = fetch_document(frame, address, kind="fetch")
    frame.run.record_need(frame, "fetch", address, document.address or "inline")
    return document.text


raw = alias(fetch, "raw(address)", example="{{ raw('str://{{') }}", result="{{")


def fetch_document(frame: Frame, address: str, *, kind: str = "include") -> Source:
    """Fetch a document that a template refers to. Raises `Refused` if the template may not read it.

    Raises `Exceeded` above the maximum number of remote addresses, and the errors of `Loader.fetch`.
    """
    run = frame.run
    string_argument(address, kind)
    if addresses.scheme(absolute := addresses.resolve(address, frame.template.address)) not in ("file", "str"):
        run.fetched.add(absolute)
        if len(run.fetched) > run.budget.limits.fetches_max:
            raise Exceeded(f"templates fetch more than {run.budget.limits.fetches_max} addresses")
    try:
        return run.engine.loader.fetch(
            address,
            referrer=frame.template.source,
            local_files=run.scope.local_files,
            timeout_s=run.budget.remaining_s(),
        )
    except InfraKitError:
        run.record_need(frame, kind, address, "")
        raise
