"""Runs compiled templates. The output is produced in pieces, so that the limits apply while it grows."""

from infrakit.template import failures
from infrakit.template.functions import TABLE
from infrakit.template.run import Frame, Run, TemplateContext, line_count
from infrakit.template.sandbox import CallerFunction
from infrakit.template.scope import Scope
from infrakit.template.values import Origin, Program, Rendered, Template, Templates

Pieces = dict[str, tuple[Origin | None, ...]]  # output of templates -> the origins of its lines


def render(engine: Templates, template: Template, scope: Scope, *, trace: bool) -> Rendered:
    """Render the outermost template."""
    run = Run(engine, scope, execute, trace=trace)
    frame = Frame(run, template, dict(scope.variables), {}, 0)
    try:
        text, _ = execute(frame)
    except Exception as error:  # noqa: BLE001 - every exception becomes an error for the author
        explained = _explained(run, frame, error)
    else:
        origins = None if run.pieces is None else run.pieces[text]
        return Rendered(
            text=text,
            exports=run.exports,
            needs=tuple(run.needs.values()),
            origins=origins,
            secrets=frozenset(run.secrets),
        )
    raise explained


def execute(frame: Frame) -> tuple[str, dict[str, object]]:
    """Return the output of a template, and its top-level definitions."""
    run, template = frame.run, frame.template
    program = template.program
    if program is None:
        text = template.source.text
        run.budget.print(len(text))
        if run.pieces is not None:
            run.pieces[text] = tuple(Origin(template.name, line + 1) for line in range(line_count(text)))
        return text, {}
    run.templates[program.filename] = template
    context = TemplateContext(program.environment, _names(frame), template.name, {})
    context.frame = frame
    parts, lines = [], []
    output = program.root(context)
    for part in output:
        run.budget.print(len(part))
        parts.append(part)
        if run.pieces is not None:
            lines.append(program.line(output.gi_frame.f_lineno))
    text = "".join(parts)
    if run.pieces is not None:
        run.pieces[text] = _origins(program, template.name, parts, lines, run.pieces)
    return text, context.get_exported()


def _names(frame: Frame) -> dict[str, object]:
    """Return the names that a template can use without a function call."""
    names: dict[str, object] = {name: value for name, value in frame.variables.items() if name.isidentifier()}
    names.update(frame.definitions)
    names.update(TABLE)
    for name, value in frame.run.scope.functions.items():
        names[name] = CallerFunction(name, value) if callable(value) else value
    return names


def _origins(
    program: Program, name: str, parts: list[str], lines: list[int], pieces: Pieces
) -> tuple[Origin | None, ...]:
    """Return the origin of each line of output: that of its first piece that is not only white space."""
    found: list[Origin | None] = [None]
    blank = True  # the current line, so far
    for part, line in zip(parts, lines, strict=True):
        inner = pieces.get(part)
        literal = part in program.literals
        for number, text in enumerate(part.split("\n")):
            if number:
                found.append(None)
                blank = True
            if blank and (text.strip() or found[-1] is None):
                here = Origin(name, line + (number if literal else 0))
                found[-1] = inner[number] if inner and number < len(inner) else here
                blank = not text.strip()
    return tuple(found[: line_count("".join(parts))])


def _explained(run: Run, frame: Frame, error: Exception) -> Exception:
    places: list[tuple[str, int]] = []
    names: set[str] = set(_names(frame))
    for filename, number in failures.frames(error.__traceback__):
        template = run.templates.get(filename)
        if template is None or not isinstance(template.program, Program):
            continue
        names |= template.program.defined
        place = (template.name, template.program.line(number))
        if places and places[-1][0] == template.name:
            places[-1] = place
        else:
            places.append(place)
    if not places:  # for example an exceeded output limit, which is detected outside of templates
        places.append((frame.template.name, 1))
    return failures.explained(error, places, names, run.masked)
