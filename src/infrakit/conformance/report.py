"""Reports of the checks: for people, as JSON, and as JUnit XML for continuous integration."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import msgspec

from infrakit.conformance.check import Outcome, Verdict


def line(outcome: Outcome) -> str:
    """Return one line for people."""
    which = f" ({outcome.object})" if outcome.object else ""
    return f"{outcome.verdict:8} {outcome.name}{which}: {outcome.rule}"


def details(outcome: Outcome, *, raw: bool) -> Iterator[str]:
    """Yield what a failed check expected and saw, or why one was skipped; with `raw` also every exchange."""
    if outcome.verdict is Verdict.FAILED:
        yield f"         expected: {outcome.expected}"
        yield f"         seen:     {outcome.seen}"
    elif outcome.verdict is Verdict.SKIPPED:
        yield f"         because:  {outcome.seen}"
    if raw:
        for each in outcome.exchanges:
            yield from (f"         > {text}" for text in each.request.splitlines())
            yield from (f"         < {text}" for text in each.answer.splitlines())


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the summary: `14 passed, 1 failed, 0 skipped; capabilities: tokens; without: Watches`."""
    count = {verdict: sum(o.verdict is verdict for o in outcomes) for verdict in Verdict}
    counts = f"{count[Verdict.PASSED]} passed, {count[Verdict.FAILED]} failed, {count[Verdict.SKIPPED]} skipped"
    has, lacks = _capabilities(outcomes, Verdict.PRESENT), _capabilities(outcomes, Verdict.ABSENT)
    return f"{counts}; capabilities: {has}; without: {lacks}"


def _capabilities(outcomes: Sequence[Outcome], verdict: Verdict) -> str:
    names = dict.fromkeys(o.name.rpartition("/")[2] for o in outcomes if o.verdict is verdict)
    return ", ".join(names) or "none"


def json(outcomes: Sequence[Outcome]) -> str:
    """Return all results as JSON, with every exchange."""
    return msgspec.json.format(msgspec.json.encode(list(outcomes)), indent=2).decode()


def junit(outcomes: Sequence[Outcome], name: str) -> str:
    """Return all results as JUnit XML; a capability counts as passed."""
    failed = [o for o in outcomes if o.verdict is Verdict.FAILED]
    skipped = [o for o in outcomes if o.verdict is Verdict.SKIPPED]
    counts = {"tests": len(outcomes), "failures": len(failed), "skipped": len(skipped), "errors": 0}
    took = f"{sum(o.seconds for o in outcomes):.3f}"
    suite = ET.Element("testsuite", {"name": name, "time": took} | {key: str(value) for key, value in counts.items()})
    for outcome in outcomes:
        kind, _, rule = outcome.name.partition("/")
        classname = f"{kind}.{outcome.object}" if outcome.object else kind
        case = ET.SubElement(suite, "testcase", classname=classname, name=rule, time=f"{outcome.seconds:.3f}")
        if outcome.verdict is Verdict.FAILED:
            message = _printable(f"expected {outcome.expected}, seen {outcome.seen}")
            ET.SubElement(case, "failure", message=message).text = _printable("\n".join(details(outcome, raw=True)))
        elif outcome.verdict is Verdict.SKIPPED:
            ET.SubElement(case, "skipped", message=_printable(outcome.seen))
        elif outcome.verdict is not Verdict.PASSED:
            ET.SubElement(case, "system-out").text = f"capability: {outcome.verdict}"
    return ET.tostring(suite, encoding="unicode")


def _printable(text: str) -> str:
    """Replace characters that XML does not allow."""
    return "".join(c if c in "\n\t" or c.isprintable() else "?" for c in text)
