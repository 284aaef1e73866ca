"""Cache keys and timing caches; engines in the cache are tested with real builds in test_tensorrt_engine.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgefel.export.tensorrt.cache import EngineCache, engine_key, load_timings, save_timings
from edgefel.export.tensorrt.options import EngineOptions
from edgefel.runtime.engines import Gpu, listen

ORIN = Gpu("Orin", (8, 7))
TENSORRT = SimpleNamespace(__name__="tensorrt", __version__="10.3.0")
RTX = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.7.1")


def test_the_key_changes_with_everything_that_the_engine_depends_on():
    options = EngineOptions()
    keys = {
        engine_key("a" * 64, TENSORRT, ORIN, options),
        engine_key("b" * 64, TENSORRT, ORIN, options),
        engine_key("a" * 64, RTX, ORIN, options),
        engine_key("a" * 64, SimpleNamespace(__name__="tensorrt", __version__="10.7.0"), ORIN, options),
        engine_key("a" * 64, TENSORRT, None, options),
        engine_key("a" * 64, TENSORRT, Gpu("Orin", (8, 6)), options),
        engine_key("a" * 64, TENSORRT, Gpu("Orin NX", (8, 7)), options),
        *(
            engine_key("a" * 64, TENSORRT, ORIN, changed)
            for changed in (
                EngineOptions(max_batch=9),
                EngineOptions(builder_level=4),
                EngineOptions(workspace_mb=64),
                EngineOptions(version_compatible=True),
                EngineOptions(hardware_compatibility="ampere_plus"),
                EngineOptions(compute_capabilities=("sm_89",)),
            )
        ),
    }
    assert len(keys) == 13
    assert engine_key("a" * 64, TENSORRT, ORIN, EngineOptions()) in keys


def test_timings_are_kept_per_package_version_and_gpu(tmp_path):
    cache = EngineCache(tmp_path)
    path = cache.timing_file(TENSORRT, Gpu("NVIDIA Orin/NX", (8, 7)))
    assert path == tmp_path / "timing" / "tensorrt_10.3.0_NVIDIA_Orin_NX_sm8.7.cache"
    assert cache.timing_file(TENSORRT, None) is None
    assert cache.timing_file(RTX, ORIN) is None


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")
class TestTimings:
    """TensorRT for RTX still has the calls of full TensorRT and does nothing behind them; that is enough to
    see that they are called rightly and that files are whole."""

    @pytest.fixture
    def config(self):
        trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
        with listen(trt) as (logger, _):
            yield trt.Builder(logger).create_builder_config()

    def test_they_are_saved_and_loaded(self, config, tmp_path):
        path = tmp_path / "timing" / "x.cache"
        cache, warnings = load_timings(config, path)
        assert warnings == []
        assert config.get_timing_cache() is not None
        assert save_timings(cache, path) == []
        assert path.read_bytes() == bytes(memoryview(cache.serialize()))
        assert [p.name for p in path.parent.iterdir()] == ["x.cache"]
        assert load_timings(config, path)[0] is not None

    def test_a_cache_that_tensorrt_refuses_is_begun_anew(self, config, tmp_path):
        (tmp_path / "x.cache").write_bytes(b"of another device")

        class Refusing:
            """The real configuration, which refuses what it is given the first time."""

            given: list[bytes]

            def __init__(self) -> None:
                self.given = []

            def create_timing_cache(self, data: bytes):
                self.given.append(data)
                return config.create_timing_cache(b"")

            def set_timing_cache(self, cache, ignore_mismatch: bool) -> bool:
                return config.set_timing_cache(cache, ignore_mismatch) and len(self.given) > 1

        refusing = Refusing()
        cache, warnings = load_timings(refusing, tmp_path / "x.cache")
        assert refusing.given == [b"of another device", b""]
        assert cache is not None
        assert warnings == ["timing cache x.cache does not belong to this device and is written anew"]

    def test_a_folder_that_cannot_be_written_is_a_warning(self, config, tmp_path):
        (tmp_path / "file").write_text("")
        cache, _ = load_timings(config, None)
        assert cache is None
        cache, _ = load_timings(config, tmp_path / "none.cache")
        (warning,) = save_timings(cache, tmp_path / "file" / "x.cache")
        assert "x.cache could not be written" in warning
