"""Pipelines as text, and what is said where GStreamer is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.stream import gstreamer
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.gst_device import GstDevice
from edgefel.runtime.stream.gstreamer import (
    camera_pipeline,
    csi_pipeline,
    file_pipeline,
    has_element,
    quoted,
    rtsp_pipeline,
)


def test_the_pipelines_of_a_jetson():
    csi = " ".join(csi_pipeline(1, (1280, 720), 30))
    assert csi == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! "
        "nvvidconv ! video/x-raw,format=RGBA"
    )
    assert "framerate=30000/1001" in " ".join(csi_pipeline(0, (64, 64), 29.97))
    assert "framerate=12500/1000" in " ".join(csi_pipeline(0, (64, 64), 12.5))
    rtsp = " ".join(rtsp_pipeline("rtsp://host/live", hardware=True))
    assert rtsp.startswith('rtspsrc location="rtsp://host/live" protocols=tcp latency=100')
    assert "! parsebin ! tee name=coded coded. ! gdppay crc-header=false ! both. coded. ! queue !" in rtsp
    assert "! queue ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=RGBA !" in rtsp
    file = file_pipeline(Path("/videos/a b.mp4"), hardware=True)
    assert file[:2] == ("filesrc", 'location="/videos/a b.mp4"')
    assert "nvv4l2decoder" in file
    camera = " ".join(camera_pipeline(Path("/dev/video0"), (1280, 720), 30))
    wish = "width=1280,height=720,framerate=30/1"
    assert f'v4l2src device="/dev/video0" ! image/jpeg,{wish};video/x-raw,{wish} ! decodebin !' in camera


def test_control_characters_are_refused():
    with pytest.raises(EdgefelError, match="control characters"):
        quoted("rtsp://host/\nfakesink")


def test_without_the_elements_it_is_said_what_to_install(monkeypatch):
    if has_element("nvarguscamerasrc"):
        pytest.skip("this is a Jetson")
    if has_element("gdppay"):
        with pytest.raises(EdgefelError, match="no element nvarguscamerasrc: this is no Jetson"):
            open_source("csi")
        with pytest.raises(EdgefelError, match="no element nosuchthing; sudo apt-get install"):
            GstDevice(("nosuchthing",), "x")
    monkeypatch.setattr(gstreamer.shutil, "which", lambda name: None)
    with pytest.raises(EdgefelError, match="gst-launch-1.0: not installed; sudo apt-get install"):
        open_source("csi")
