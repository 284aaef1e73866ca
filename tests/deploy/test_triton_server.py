"""The model repository against Triton's published schema, field by field."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    ModelConfig,
    ModelDynamicBatching,
    ModelEnsembling,
    ModelInput,
    ModelInstanceGroup,
    ModelOutput,
    ModelParameter,
    ModelTensorReshape,
    ModelVersionPolicy,
    ModelWarmup,
)

from edgefel.deploy.triton_server import TritonOptions, write_triton_repository
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest

SIDE = tiny_bundle.PREPROCESSING.output_size
FP32, UINT8, STRING = (
    ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name[name].number
    for name in ("TYPE_FP32", "TYPE_UINT8", "TYPE_STRING")
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.write_bundle(tmp_path / "bundle", ("fp32", "fp16"))


def read_configs(folder: Path) -> dict[str, ModelConfig]:
    """By folder; text that the schema does not have is an error of the parser."""
    return {
        path.parent.name: text_format.Parse(path.read_text(), ModelConfig())
        for path in folder.glob("*/config.pbtxt")
    }


def write(bundle: Path, folder: Path, **options: object) -> dict[str, ModelConfig]:
    written = write_triton_repository(bundle, folder, TritonOptions(**options))
    assert written == sorted(path for path in folder.rglob("*") if path.is_file())
    return read_configs(folder)


def with_file(bundle: Path, name: str, **entry: object) -> Path:
    """The bundle with one more file of a few bytes, or its entry changed."""
    manifest = read_manifest(bundle)
    if not (bundle / name).exists():
        (bundle / name).write_bytes(b"engine")
        manifest = manifest.with_file(describe_file(bundle / name, kind="engine", precision="fp32"))
    old = next(file for file in manifest.files if file.name == name)
    write_manifest(bundle, manifest.with_file(dataclasses.replace(old, **entry)))
    return bundle


def expected_outputs(of_network: bool) -> list[ModelOutput]:
    classes, labelled = tiny_bundle.CLASSES, {"label_filename": "labels.txt"}
    reshape = {"reshape": ModelTensorReshape()} if of_network else {}
    return [
        ModelOutput(name="logits", data_type=FP32, dims=[classes], **labelled),
        ModelOutput(name="primary", data_type=FP32, dims=[classes], **labelled),
        ModelOutput(name="probabilities", data_type=FP32, dims=[classes], **labelled),
        ModelOutput(name="confidence", data_type=FP32, dims=[1], **reshape),
        ModelOutput(name="embedding", data_type=FP32, dims=[tiny_bundle.EMBEDDING_DIM]),
    ]


def warm_up(size: int, name: str, data_type: int, dims: list[int]) -> ModelWarmup:
    tensor = ModelWarmup.Input(data_type=data_type, dims=dims, zero_data=True)
    return ModelWarmup(name=f"batch of {size}", batch_size=size, inputs={name: tensor})


VERSION = ModelVersionPolicy(specific=ModelVersionPolicy.Specific(versions=[1]))


def test_every_field_of_the_network(bundle, tmp_path):
    configs = write(
        bundle,
        tmp_path / "r",
        max_batch=8,
        preferred_batches=(4,),
        queue_delay_us=700,
        device="gpu",
        instances=3,
    )
    assert configs["edgefel_model"] == ModelConfig(
        name="edgefel_model",
        platform="onnxruntime_onnx",
        default_model_filename="model.onnx",
        max_batch_size=8,
        input=[ModelInput(name="image", data_type=FP32, dims=[3, SIDE, SIDE])],
        output=expected_outputs(of_network=True),
        version_policy=VERSION,
        instance_group=[ModelInstanceGroup(count=3, kind=ModelInstanceGroup.KIND_GPU)],
        dynamic_batching=ModelDynamicBatching(preferred_batch_size=[4], max_queue_delay_microseconds=700),
        model_warmup=[warm_up(size, "image", FP32, [3, SIDE, SIDE]) for size in (1, 4, 8)],
    )
    assert (tmp_path / "r/edgefel_model/1/model.onnx").read_bytes() == (
        bundle / "model.fp16.onnx"
    ).read_bytes()  # as a session on the GPU
    assert (tmp_path / "r/edgefel_model/labels.txt").read_text().split() == list(read_manifest(bundle).labels)


def test_every_field_of_the_preprocessing(bundle, tmp_path):
    config = write(bundle, tmp_path / "r", preprocess_instances=3)["edgefel_preprocess"]
    recipe = json.loads(config.parameters["preprocessing"].string_value)
    assert recipe == tiny_bundle.PREPROCESSING.to_dict()
    del config.parameters["preprocessing"]
    assert config == ModelConfig(
        name="edgefel_preprocess",
        backend="python",
        max_batch_size=16,
        input=[
            ModelInput(
                name="faces", data_type=UINT8, dims=[-1, -1, 3], allow_ragged_batch=True, optional=True
            ),
            ModelInput(name="encoded_faces", data_type=STRING, dims=[1], optional=True),
        ],
        output=[ModelOutput(name="image", data_type=FP32, dims=[3, SIDE, SIDE])],
        version_policy=VERSION,
        instance_group=[ModelInstanceGroup(count=3, kind=ModelInstanceGroup.KIND_CPU)],
        dynamic_batching=ModelDynamicBatching(),
        parameters={"input_type": ModelParameter(string_value="float32")},
        model_warmup=[warm_up(1, "faces", UINT8, [112, 112, 3])],
    )


@pytest.mark.parametrize(
    ("name", "data_type", "dims"), [("faces", UINT8, [-1, -1, 3]), ("encoded_faces", STRING, [1])]
)
def test_every_field_of_the_ensembles(bundle, tmp_path, name, data_type, dims):
    config = write(bundle, tmp_path / "r", prefix="robot")[f"robot_{name}"]
    outputs = read_manifest(bundle).outputs
    steps = [
        ModelEnsembling.Step(
            model_name="robot_preprocess",
            model_version=-1,
            input_map={name: name},
            output_map={"image": "preprocessed"},
        ),
        ModelEnsembling.Step(
            model_name="robot_model",
            model_version=-1,
            input_map={"image": "preprocessed"},
            output_map={output: output for output in outputs},
        ),
    ]
    assert config == ModelConfig(
        name=f"robot_{name}",
        platform="ensemble",
        max_batch_size=16,
        input=[ModelInput(name=name, data_type=data_type, dims=dims)],
        output=expected_outputs(of_network=False),
        ensemble_scheduling=ModelEnsembling(step=steps),
    )
    assert (tmp_path / "r" / f"robot_{name}" / "1" / ".keep").exists()


def test_a_bundle_with_uint8_input_and_fewer_outputs(uint8_bundle, tmp_path):
    configs = write(uint8_bundle, tmp_path / "r")
    assert configs["edgefel_model"].input[0] == ModelInput(
        name="image", data_type=UINT8, dims=[SIDE, SIDE, 3]
    )
    assert [output.name for output in configs["edgefel_model"].output] == ["probabilities", "confidence"]
    assert configs["edgefel_preprocess"].output[0].data_type == UINT8
    assert configs["edgefel_preprocess"].parameters["input_type"].string_value == "uint8"
    assert [output.name for output in configs["edgefel_faces"].output] == ["probabilities", "confidence"]


def test_the_precision_is_chosen_as_a_session_does(bundle, tmp_path):
    write(bundle, tmp_path / "half", precision="fp16")
    assert (tmp_path / "half/edgefel_model/1/model.onnx").read_bytes() == (
        bundle / "model.fp16.onnx"
    ).read_bytes()
    with pytest.raises(EdgefelError, match=r"no int8 onnx file in this bundle; it holds fp32 \(onnx\), fp16"):
        write(bundle, tmp_path / "r", precision="int8")
    with pytest.raises(EdgefelError, match="precision 'fp4' is not known"):
        write(bundle, tmp_path / "r", precision="fp4")
    only = tiny_bundle.write_bundle(tmp_path / "only", ("int8",))
    write(only, tmp_path / "only_repository")
    several = tiny_bundle.write_bundle(tmp_path / "several", ("int8", "fp16"))
    for device, taken in (("gpu", "fp16"), ("cpu", "fp16")):  # nobody has compared the INT8 file
        write(several, tmp_path / device, device=device)
        served = (tmp_path / device / "edgefel_model/1/model.onnx").read_bytes()
        assert served == (several / f"model.{taken}.onnx").read_bytes()
    assert not (tmp_path / "r").exists()


def test_failed_and_changed_files_are_refused_unless_forced(bundle, tmp_path):
    with_file(bundle, "model.fp32.onnx", parity={"verdict": "fail", "reasons": ["too far"]})
    with pytest.raises(EdgefelError, match="failed its comparison with PyTorch: too far"):
        write(bundle, tmp_path / "r", precision="fp32")
    write(bundle, tmp_path / "forced", precision="fp32", force=True)
    with (bundle / "model.fp16.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(EdgefelError, match="SHA-256 differs"):
        write(bundle, tmp_path / "r", precision="fp16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "forced"]


def test_an_engine_of_full_tensorrt(bundle, tmp_path):
    built = {"package": "tensorrt", "version": "10.3.0", "batch": {"min": 1, "opt": 4, "max": 8}}
    with_file(bundle, "model.fp32.engine", builder=built)
    configs = write(bundle, tmp_path / "r", engine=True)
    config = configs["edgefel_model"]
    assert (config.platform, config.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert {config.max_batch_size for config in configs.values()} == {8}, "what the engine was built for"
    assert (tmp_path / "r/edgefel_model/1/model.plan").read_bytes() == b"engine"
    assert not (tmp_path / "r/edgefel_model/1/model.onnx").exists()
    with pytest.raises(
        EdgefelError, match=r"built for batches up to 8, not 9; lower max_batch, or build it again"
    ):
        write(bundle, tmp_path / "s", engine=True, max_batch=9)
    with_file(bundle, "model.fp32.engine", builder={**built, "batch": {"min": 2, "opt": 4, "max": 8}})
    with pytest.raises(EdgefelError, match="built for batches of 2 to 8; Triton needs 1 upwards"):
        write(bundle, tmp_path / "s", engine=True)
    with_file(bundle, "model.fp32.engine", builder={**built, "package": "tensorrt_rtx"})
    with pytest.raises(
        EdgefelError, match="built with tensorrt_rtx, and Triton loads engines of full TensorRT"
    ):
        write(bundle, tmp_path / "s", engine=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "choose one of auto, gpu, cpu"),
        ({"engine": True, "device": "cpu"}, "a TensorRT engine runs on a GPU"),
        ({"prefix": "a/b"}, "prefix 'a/b': models are named after it"),
        ({"max_batch": 0}, "max_batch is 0; give at least 1"),
        ({"instances": 0}, "instances is 0"),
        ({"preprocess_instances": 0}, "preprocess_instances is 0"),
        ({"queue_delay_us": -1}, "queue_delay_us is -1"),
        ({"preferred_batches": (4, 32)}, "32 is not from 1 to max_batch 16"),
    ],
)
def test_options_that_cannot_be(bundle, tmp_path, options, message):
    with pytest.raises(EdgefelError, match=message):
        write(bundle, tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def test_a_folder_in_use_is_left_alone(bundle, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine").write_text("kept")
    with pytest.raises(EdgefelError, match="the folder is not empty"):
        write(bundle, tmp_path / "r")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["mine"]


def test_the_repository_needs_no_protobuf_and_no_torch(bundle, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from edgefel.deploy.triton_server import write_triton_repository\n"
        "write_triton_repository(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(sorted({'torch', 'onnx', 'google.protobuf', 'tritonclient', 'onnxruntime'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(bundle), str(tmp_path / "r")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
