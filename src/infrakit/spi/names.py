"""The remedy for a name that does not exist: the nearest one that does, or the list of them."""

from collections.abc import Iterable

LISTED_MAX = 10
COMPARED_MAX = 1000  # names; comparing with more would block the event loop for more than 20 ms


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most similar; empty if none is, or if there are more than `COMPARED_MAX`."""
    import difflib  # imported late: needed only for a mistyped name

    names = list(known)
    return next(iter(difflib.get_close_matches(name, names, n=1)), "") if len(names) <= COMPARED_MAX else ""


def remedy(name: str, known: Iterable[str], *, listed: str, otherwise: str = "") -> str:
    """Return `did you mean NAME?`, else the known names after `listed`; if they are too many, `otherwise`."""
    names = sorted({str(each) for each in known})
    if near := nearest(name, names):
        return f"did you mean {near}?"
    if otherwise and len(names) > LISTED_MAX:
        return otherwise
    more = ", ..." if len(names) > LISTED_MAX else ""
    return f"{listed}: {', '.join(names[:LISTED_MAX]) or 'none'}{more}"
