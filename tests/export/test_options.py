"""Options of an export: what is written for them, and what is refused."""

from __future__ import annotations

import pytest

from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.options import ExportOptions, exported_preprocessing


def test_reduced_precisions_depend_on_what_is_asked_for():
    assert ExportOptions(("int8", "fp16")).onnx_precisions == ("fp16", "int8", "int8+fp16")
    assert ExportOptions(("int8",)).onnx_precisions == ("int8", "int8+fp16")
    assert ExportOptions(("int8",), engine=True).onnx_precisions == ("int8", "int8+fp16")
    assert ExportOptions(("int8", "fp16")).engine_precisions == ()
    assert ExportOptions(("int8", "fp16"), engine=True).engine_precisions == ("fp16", "int8+fp16")


def test_formats_of_tensorrt_come_last_and_get_engines():
    options = ExportOptions(("w4a16", "fp8", "int8"), engine=True)
    assert options.onnx_precisions == ("int8", "int8+fp16", "fp8", "w4a16")
    assert options.engine_precisions == ("int8+fp16", "fp8", "w4a16")
    assert [ExportOptions((name,)).calibrates for name in ("int8", "fp8", "w8a16", "fp16")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precisions": ("fp4",)}, "choose some of fp32, fp16, int8, fp8, w8a16, w4a16"),
        ({"precisions": ("w8a16",), "calibration_set": "x"}, "only INT8 and FP8 are calibrated"),
        ({"precisions": ()}, "choose some of"),
        ({"method": "guess"}, "choose one of minmax"),
        ({"parity_images": 0}, "at least 1"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(EdgefelError, match=message):
        ExportOptions(**values)


def test_input_sizes():
    full, nano = default_preprocessing(224), default_preprocessing(112)
    assert exported_preprocessing(full, 112).stride == 2
    assert exported_preprocessing(full, None) == full
    assert exported_preprocessing(nano, 112) == nano
    with pytest.raises(EdgefelError, match="takes 112x112 images; choose 112"):
        exported_preprocessing(nano, 224)
