"""Protocol buffers' text format, read back with the published schema."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelEnsembling, ModelInput, ModelParameter

from edgefel.deploy.pbtxt import Entries, Enum, to_pbtxt
from edgefel.errors import EdgefelError

UINT8 = ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name["TYPE_UINT8"].number


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**31), 2**31 - 1), st.booleans())
def test_any_text_survives_the_text_format(text, number, flag):
    values = {"string_value": text}
    step = {"model_name": text, "model_version": number, "input_map": Entries({text: text, "b": ""})}
    message = {
        "name": text,
        "max_batch_size": number,
        "parameters": Entries({"p": values}),
        "ensemble_scheduling": {"step": [step, step]},
        "input": [{"name": "x", "optional": flag, "dims": [number, 1], "data_type": Enum("TYPE_UINT8")}],
        "output": [],
    }
    parsed = text_format.Parse(to_pbtxt(message), ModelConfig())
    expected = ModelConfig(
        name=text,
        max_batch_size=number,
        parameters={"p": ModelParameter(string_value=text)},
        ensemble_scheduling=ModelEnsembling(
            step=[
                ModelEnsembling.Step(model_name=text, model_version=number, input_map={text: text, "b": ""})
            ]
            * 2
        ),
        input=[ModelInput(name="x", optional=flag, dims=[number, 1], data_type=UINT8)],
    )
    assert parsed == expected


def test_numbers_and_what_has_no_text_format():
    parsed = text_format.Parse(to_pbtxt({"response_cache": {"enable": True}}), ModelConfig())
    assert parsed.response_cache.enable
    with pytest.raises(EdgefelError, match="configuration field name: None has no text format"):
        to_pbtxt({"name": None})
    with pytest.raises(EdgefelError, match="field dims"):
        to_pbtxt({"dims": [np.int64(3)]})
