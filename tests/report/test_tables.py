"""Tables, as the pages show them."""

from __future__ import annotations

from edgefel.report import pages
from edgefel.report.tables import Cell, Table, number, share, table_of, word

MACRO = '{% from "macros.html.j2" import table %}{{ table(found, name) }}'


def shown(table: Table, name: str = "numbers") -> str:
    return pages._environment().from_string(MACRO).render(found=table, name=name)


def test_a_table_has_names_numbers_and_what_is_missing():
    found = table_of(
        ["name", "value", "why"], [[word("a<b"), number(0.5), word("x")], [word("c"), Cell(), Cell()]]
    )
    assert found.numeric == (False, True, False)
    text = shown(found, 'of "these"')
    assert 'aria-label="of &#34;these&#34;"' in text
    assert '<td data-order="a&lt;b">a&lt;b</td><td class="n" data-order="0.5">0.500</td>' in text
    assert '<td class="n">–</td><td>–</td>' in text
    assert '<table class="sortable">' in text


def test_asides_hints_and_what_stands_out():
    line = (Cell("1", 1, "0–2", 'against "b"', strong=True), share(0.25, strong=True))
    text = shown(Table(("a", "b"), (True, True), (line,), best=0))
    assert (
        '<tr class="best"><td class="n strong" data-order="1" title="against &#34;b&#34;">1 <small>0–2</small></td>'
        '<td class="n strong" data-order="0.25">25.0 %</td></tr>'
    ) in text
