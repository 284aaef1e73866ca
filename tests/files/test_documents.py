"""JSON and YAML that anybody may have written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from edgefel.errors import EdgefelError
from edgefel.files.documents import check_fields, check_shape, parse_yaml, read_json, read_yaml


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b"[" * 200_000, "nested more than 100 deep"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested more than 100 deep"),
        (b"[" * 101 + b"]" * 101, "nested more than 100 deep"),
        (b"9" * 5000, "a number of 5000 digits"),
        (b"[1, NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[1e999]", "the number 1e999 is out of range"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice in an object"),
        (b"{'a': 1}", "property name"),
        (b'{"a": 1', "delimiter"),
        (b'"\xff"', "not UTF-8 text: byte 1 is 0xff"),
        (bytes(1000), "Expecting value"),
    ],
)
def test_what_is_not_strict_json_is_one_line(data, said, tmp_path):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(EdgefelError, match=f"a.json: not valid JSON .*{said}") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_of_windows_is_read(encoding, tmp_path):
    (tmp_path / "a.json").write_bytes('{"ü": [1, 2.5, null, true]}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"ü": [1, 2.5, None, True]}
    (tmp_path / "a.json").write_text("[" * 99 + "]" * 99)
    read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(str(2**128))
    assert read_json(tmp_path / "a.json") == 2**128


SHAPE = {"name": str, "sizes": [{"n": int, "x?": float}], "more?": {str: [str]}, "note": (str, None)}
GOOD = {"name": "a", "sizes": [{"n": 1}, {"n": 2, "x": 1}], "more": {"k": ["v"]}, "note": None, "other": []}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 5}, "name is 5, not text"),
        ({"name": None}, "name is null, not text"),
        ({"sizes": {}}, "sizes is an object, not a list"),
        ({"sizes": [{"n": 1}, {}]}, r"lacks sizes\[1\].n"),
        ({"sizes": [{"n": True}]}, r"sizes\[0\].n is true, not a whole number"),
        ({"sizes": [{"n": 1.0}]}, r"sizes\[0\].n is 1.0, not a whole number"),
        ({"sizes": [{"n": 1, "x": "1"}]}, r"sizes\[0\].x is \"1\", not a number"),
        ({"more": {"k": [None]}}, r"more.\"k\"\[0\] is null, not text"),
        ({"note": 1}, "note is 1, not text or null"),
        ({"name": ["x" * 500]}, "name is a list, not text"),
    ],
)
def test_the_entry_that_does_not_fit_is_named(change, said):
    check_shape(GOOD, SHAPE, "f.json")
    with pytest.raises(EdgefelError, match=f"^f.json: {said}$"):
        check_shape(GOOD | change, SHAPE, "f.json")
    with pytest.raises(EdgefelError, match="^f.json: the whole is a list, not an object$"):
        check_shape([], SHAPE, "f.json")


@dataclass
class Fields:
    count: int
    names: tuple[str, ...] = ()
    rate: float = 1.0
    kind: Literal["a", "b"] = "a"
    box: tuple[int, int] | None = None
    pair: tuple[int, int] = (0, 0)


def test_fields_are_those_of_the_class():
    check_fields({"count": 1, "names": ["a"], "rate": 2, "box": None}, Fields, "f")
    check_fields({}, Fields, "f", partial=True)
    for values, said in (
        ({}, "lacks count"),
        ({"count": 1, "other": 2}, r"unknown entries \['other'\] for Fields"),
        ({"count": "1"}, 'count is "1", not a whole number'),
        ({"count": 1, "names": "a"}, 'names is "a", not a list'),
        ({"count": 1, "rate": None}, "rate is null, not a number"),
        ({"count": 1, "pair": [1]}, "pair has 1 values, not 2"),
        ({"count": 1, "kind": 3}, "kind is 3, not text"),
        ([], "the whole is a list, not an object"),
    ):
        with pytest.raises(EdgefelError, match=f"f: {said}"):
            check_fields(values, Fields, "f")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200_000, "nested more than 100 deep"),
        ("a: &a [*a]", "nested more than 100 deep"),
        (
            "\n".join([f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(9)]),
            "more than 100000 values",
        ),
        ("a: " + "9" * 5000, "digits"),
        ("a: 2001-99-99", "month"),
        ("a: [1", "flow sequence"),
        ("a: !!python/object/apply:os.system [x]", "python/object"),
        ("a: \x00", "special characters"),
        ("{[1]: 2}", "unhashable"),
    ],
)
def test_what_is_no_plain_yaml_is_one_line(text, said):
    with pytest.raises(EdgefelError, match=f"^f.yaml: not valid YAML .*{said}") as caught:
        parse_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)


def test_plain_yaml_is_read_with_its_aliases(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfint8: &x {a: 1e-4, b: 2.5}\r\nfp16: *x\r\n")
    assert read_yaml(tmp_path / "a.yaml") == {name: {"a": "1e-4", "b": 2.5} for name in ("int8", "fp16")}
    (tmp_path / "a.yaml").write_text("")
    assert read_yaml(tmp_path / "a.yaml") is None
    (tmp_path / "a.yaml").write_text("x" * (1 << 19))
    with pytest.raises(EdgefelError, match="has more than"):
        read_yaml(tmp_path / "a.yaml")


def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path):
    from edgefel.files.write import write_json, write_text

    write_json(tmp_path / "a.json", {"ü\udce9": ["\udce9"]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "ü\\udce9": [\n    "\\udce9"\n  ]\n}\n'
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"ü\udce9": ["\udce9"]}
    write_text(tmp_path / "a.html", "<p>\udce9</p>")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "<p>\\udce9</p>"
