"""Values on the command line: what is read, and what is refused with which words."""

from __future__ import annotations

import click
import pytest

from edgefel.cli.param_types import ABOVE_ZERO, INTEGERS, SHARE, SIZE, FiniteRange, name_list


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (FiniteRange(0, 1), "0.25", 0.25),
        (ABOVE_ZERO, "1e-3", 0.001),
        (INTEGERS, "1, 8", (1, 8)),
        (SIZE, "640X480", (640, 480)),
        (SIZE, (640, 480), (640, 480)),
        (SHARE, "5%", 0.05),
        (SHARE, "0.05", 0.05),
        (SHARE, "150 %", 1.5),
        (name_list(), "a, b", ("a", "b")),
        (name_list(("fp32", "int8")), "int8", ("int8",)),
    ],
)
def test_what_is_read(kind, text, value):
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (FiniteRange(0, 1), "nan", "nan is not a finite number"),
        (ABOVE_ZERO, "inf", "inf is not a finite number"),
        (ABOVE_ZERO, "0", "0.0 is not in the range x>0"),
        (INTEGERS, "1,0", "'1,0': give numbers of at least 1 with commas between them, each once"),
        (INTEGERS, "8,8", "each once"),
        (INTEGERS, "1,", "with commas between them"),
        (SIZE, "640", "'640' is not a size; give it as 640x480"),
        (SIZE, "0x480", "is not a size"),
        (SHARE, "5", "'5' would be 500%; give it as 5% if it is percent"),
        (SHARE, "-1%", "'-1%' is no share of at least 0"),
        (SHARE, "much", "is no share"),
        (name_list(), "a,,b", "'a,,b': give names with commas between them, each once"),
        (name_list(("fp32", "int8")), "fp32,fp8", "'fp8' is not one of fp32, int8"),
    ],
)
def test_what_is_refused(kind, text, message):
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert message in caught.value.message


def test_placeholders_in_help():
    option = click.Option(["--size"], type=SIZE)
    context = click.Context(click.Command("x"))
    assert option.make_metavar(context) == "WxH"
    known = click.Option(["--names"], type=name_list(("fp32", "int8")))
    assert known.make_metavar(context) == "[fp32,int8]"
