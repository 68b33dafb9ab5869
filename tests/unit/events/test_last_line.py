"""The last line of a log in an event."""

import pytest

from infrakit.events import last_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("\n \n\x1b[0m\n", ""),
        ("one\ntwo\n\n", "two"),
        ("\x1b[31;1mred\x1b[0m\tand \x1b]0;title\x07more\x00", "red and more"),
        ("ä" * 300, "ä" * 199 + "…"),
        ("cannot connect to postgres://ann:hunter2@db/x", "cannot connect to postgres://ann:***@db/x"),
        ('login failed: DB_PASSWORD="two words" user=ann', "login failed: DB_PASSWORD=*** user=ann"),
        ('{"api_key": "abc", "user": "ann"}', '{"api_key": ***, "user": "ann"}'),
        ("401 for Authorization: Bearer eyJhbGciOi.abc", "401 for Authorization: Bearer ***"),
        ("unexpected token at line 3", "unexpected token at line 3"),
        ("OSError: [Errno 98] Address already in use", "OSError: [Errno 98] Address already in use"),
    ],
)
def test_it_is_one_short_printable_line_without_secrets(text: str, shown: str) -> None:
    assert last_line.last_line(text) == shown


@pytest.mark.parametrize(("code", "expected"), [(0, False), (1, True), (127, True), (137, False), (255, True)])
def test_a_log_does_not_explain_a_signal(code: int, expected: bool) -> None:
    assert last_line.explains_exit(code) is expected
