"""The Markdown as text."""

from __future__ import annotations

import re

from bench_rows import DEVICE, ORIN, example_rows, row

from edgefel.bench.report import markdown
from edgefel.bench.report.rows import Collection


def test_markdown_is_a_table_for_each_device():
    collection = Collection((*example_rows(), *example_rows(ORIN, speed=3.0)), ())
    text = markdown.render(collection)
    assert [line for line in text.splitlines() if line.startswith("### ")] == [f"### {DEVICE}", f"### {ORIN}"]
    assert "Run arbex int8 in openvino with 2 threads: 29.5 ms an image" in text
    assert "| **arbex** | **int8** | **openvino** |" in text
    assert "#### Roofline: a bound, not a measurement" in text
    assert "#### Profile by groups of operators" in text
    assert "products (ms)" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_markdown_stays_markdown_whatever_a_name_holds():
    hostile = "a|b`c\n<img src=x>*d*"
    text = markdown.render(Collection((row(subject={"model": hostile}),), ()))
    assert "| a\\|b\\`c \\<img src=x\\>\\*d\\* |" in text
