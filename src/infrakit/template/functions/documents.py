"""Other documents: templates that are rendered here, and text as it is."""

from infrakit.template.functions.table import function
from infrakit.template.run import Definitions, Frame
from infrakit.template.scope import normal


@function(
    "include(address, **variables)",
    example="{{ include('str://{{ greeting }} from {{ var(\"place\") }}', greeting='hello', place='here') }}",
    result="hello from here",
)
def include(frame: Frame, address: str, /, **variables: object) -> str:
    """The template at an address, rendered in a copy of the variables, with more of them if given."""
    from infrakit.template.rendering import execute

    source = frame.run.engine.loader.fetch(address, base=frame.template.address)
    frame.run.need(frame, "include", address, source.address or "inline")
    inside = {**frame.variables, **{normal(name): value for name, value in variables.items()}}
    return execute(frame.nested(source, variables=inside, definitions=dict(frame.definitions)))[0]


@function(
    "source(address)",
    example="{{ source('str://{% macro hi(x) %}hi {{ x }}{% endmacro %}{{ set(\"n\", 2) }}') }}"
    "{{ hi('you') }} {{ var('n') }}",
    result="hi you 2",
)
def source(frame: Frame, address: str) -> Definitions:
    """Render a template for its definitions only: its variables, `{% set %}` and macros are known here after it."""
    from infrakit.template.rendering import execute

    fetched = frame.run.engine.loader.fetch(address, base=frame.template.address)
    frame.run.need(frame, "source", address, fetched.address or "inline")
    inside = frame.nested(fetched, variables=frame.variables, definitions=frame.definitions)
    defined = Definitions(execute(inside)[1])
    frame.definitions.update(defined)
    return defined
