"""Options are checked, reach a real TensorRT, and are refused where it does not have them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.options import MIB, Effort, EngineOptions, set_compatibility, set_effort
from edgefel.runtime.engines import listen

trt = pytest.importorskip(
    "tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx); it builds without a GPU"
)


@pytest.fixture
def config():
    with listen(trt) as (logger, _):
        builder = trt.Builder(logger)
        yield builder.create_builder_config()


class Without:
    """TensorRT as a version is that lacks some names: everything else comes from the real one."""

    def __init__(self, real, *missing: str, **replaced) -> None:
        self.real, self.missing, self.replaced = real, missing, replaced

    def __getattr__(self, name: str):
        if name in self.missing:
            raise AttributeError(name)
        return self.replaced.get(name) if name in self.replaced else getattr(self.real, name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"opt_batch": 0, "max_batch": 4}, "1 <= min <= opt <= max, got min 1, opt 0, max 4"),
        ({"opt_batch": 5, "max_batch": 4}, "1 <= min <= opt <= max"),
        ({"min_batch": 3, "opt_batch": 2}, "1 <= min <= opt <= max"),
        ({"min_batch": 0}, "1 <= min <= opt <= max"),
        ({"builder_level": 6}, "builder level 6; give 0"),
        ({"builder_level": -1}, "builder level -1"),
        ({"workspace_mb": 0}, "workspace of 0 MiB"),
        ({"hardware_compatibility": "none"}, "hardware compatibility 'none'; choose one of ampere_plus"),
        ({"compute_capabilities": ("sm_89", "sm_89")}, "one is given twice"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(EdgefelError, match=said):
        EngineOptions(**options)


def test_targets_are_set_in_order(config):
    set_compatibility(trt, config, EngineOptions(compute_capabilities=("sm_89", "sm_75")))
    assert config.num_compute_capabilities == 2
    assert [config.get_compute_capability(i).name for i in range(2)] == ["SM89", "SM75"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compute_capabilities": ("sm_87",)}, "has no target 'sm_87'; it has current, sm_"),
        ({"compute_capabilities": ("current", "sm_89")}, "refuses the targets current, sm_89 together"),
        ({"version_compatible": True}, "has no version-compatible engines"),
        # it has this setting and ignores it
        ({"hardware_compatibility": "ampere_plus"}, "has no hardware compatibility 'ampere_plus'"),
    ],
)
def test_what_tensorrt_for_rtx_does_not_have_is_an_error(config, options, said):
    with pytest.raises(EdgefelError, match=said) as caught:
        set_compatibility(trt, config, EngineOptions(**options))
    assert "tensorrt_rtx 1." in str(caught.value)


def test_names_that_only_some_versions_have(config):
    levels = SimpleNamespace(AMPERE_PLUS=trt.HardwareCompatibilityLevel.AMPERE_PLUS)  # as in 10.3
    options = EngineOptions(hardware_compatibility="same_compute_capability")
    with pytest.raises(EdgefelError, match="has no hardware compatibility 'same_compute_capability'"):
        set_compatibility(Without(trt, HardwareCompatibilityLevel=levels), config, options)
    options = EngineOptions(compute_capabilities=("sm_89",))
    with pytest.raises(EdgefelError, match="full TensorRT builds for the GPU it runs on"):
        set_compatibility(Without(trt, "ComputeCapability"), config, options)


def test_version_compatibility_in_full_tensorrt(config):
    """Full TensorRT is not here: the real configuration, under its name."""
    set_compatibility(Without(trt, __name__="tensorrt"), config, EngineOptions(version_compatible=True))
    assert config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def test_limits_are_set_and_defaults_are_read_back(config):
    default = set_effort(trt, config, Effort())
    assert default.workspace is not None
    assert default.level == 3
    assert set_effort(trt, config, Effort(64 * MIB, 1)) == Effort(64 * MIB, 1)
