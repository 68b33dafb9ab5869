"""The remedy for a name that does not exist."""

from infrakit.spi import names


def test_the_nearest_name_is_suggested_and_else_the_few_that_exist_are_listed() -> None:
    assert names.remedy("wbe", ["web", "db"], listed="declared groups") == "did you mean web?"
    assert names.remedy("x", ["web", "db"], listed="declared groups") == "declared groups: db, web"
    assert names.remedy("x", [], listed="declared groups") == "declared groups: none"
    many = [f"node-{number:02}" for number in range(20)]
    assert names.remedy("x", many, listed="it has", otherwise="see: there") == "see: there"
    assert names.remedy("x", many, listed="it has").endswith("node-09, ...")


def test_with_very_many_names_none_is_compared() -> None:
    many = [f"node-{number}" for number in range(names.COMPARED_MAX + 1)]
    assert names.nearest("node-1x", many[:-1])
    assert not names.nearest("node-1x", many)
