"""A notebook becomes Markdown: text, code, and the outputs that it was committed with."""

from __future__ import annotations

import json

from notebook_page import notebook_page


def test_each_kind_of_cell_and_output(tmp_path):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["[1, 2]"]}},
        {"output_type": "display_data", "data": {"image/png": "QUJD\n", "text/plain": ["<Figure size 2x1>"]}},
        {"output_type": "display_data", "data": {"image/jpeg": ["QU", "JD"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["a = 1\n", "a"], "outputs": outputs},
        {"cell_type": "code", "source": "b = 2", "outputs": []},
    ]
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}))
    assert notebook_page(path).split("\n\n") == [
        "# Title\ntext",
        "```python\na = 1\na\n```",
        "```text\none\ntwo\n```",
        "```text\n[1, 2]\n```",
        "![Output of the code above](data:image/png;base64,QUJD)",
        "![Output of the code above](data:image/jpeg;base64,QUJD)",
        "```python\nb = 2\n```\n",
    ]
