"""Machines made of files and packages for the doctor: two Jetsons, a laptop, and whatever a test makes of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import fake_boards

from edgefel.runtime.doctor.check import Check
from edgefel.runtime.doctor.examine import examine
from edgefel.runtime.doctor.machine import Machine
from edgefel.runtime.engines import Gpu

BUILD = "  Video I/O:\n    FFMPEG:                      YES\n    GStreamer:                   {gst}\n\n  GUI:  {gui}\n"


ORIN, THOR, DESKTOP = Gpu("Orin", (8, 7)), Gpu("NVIDIA Thor", (11, 0)), Gpu("RTX 4070", (8, 9))


OLDEST = {"numpy": ("1.23", True), "onnxruntime": ("1.17", True), "pycuda": ("2025.1.2", False)}


OLDEST |= {"openvino": ("2025.0", False), "click": ("8.1", True), "torch": ("2.9", False)}


def opencv(version="4.12.0", gui="NONE", gst="NO", **more):
    build = BUILD.format(gui=gui, gst=gst)
    members = {"__version__": version, "CascadeClassifier": object, "getBuildInformation": lambda: build}
    return SimpleNamespace(**(members | more))


def onnxruntime(*providers: str, version="1.23.0"):
    names = [f"{name}ExecutionProvider" for name in (*providers, "CPU")]
    return SimpleNamespace(__version__=version, get_available_providers=lambda: names)


def version(text: str):
    return SimpleNamespace(__version__=text)


BASE = {"numpy": version("2.2.6"), "cv2": opencv(), "onnxruntime": onnxruntime()}


GSTREAMER = {
    "gst-launch-1.0": "gst-launch-1.0 version 1.20.3\nGStreamer 1.20.3",
    "nvarguscamerasrc": "Factory Details",
    "gdppay": "Factory Details",
    "nvv4l2decoder": "Factory Details",
    "nvvidconv": "Factory Details",
}


def machine(root: Path, modules: dict, *, gpu=None, cuda=None, commands=None, **changes) -> Machine:
    """A machine that has these modules (an exception is raised instead) and answers these commands."""

    def load(name: str):
        if name not in modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if isinstance(modules[name], BaseException):
            raise modules[name]
        return modules[name]

    def answer(command):
        return next((out for part, out in (commands or {}).items() if part in command), None)

    values = {"python": (3, 10, 12), "virtual_environment": True, "architecture": "aarch64"} | changes
    return Machine(
        root=root,
        import_module=load,
        run=answer,
        find_gpu=lambda: gpu,
        driver_cuda=lambda: cuda,
        oldest_supported=lambda: OLDEST,
        cores=lambda: 6,
        **{
            "may_use": lambda path: True,
            "installed_version": lambda name: "0.1.0" if name == "edgefel" else None,
            "gpu_problem": lambda: None,
            "accelerator_problem": lambda module: None,
            **values,
        },
    )


def orin_nano(root: Path, **changes) -> Machine:
    """Orin Nano Super with JetPack 6.2, a CSI and a USB camera, and everything installed."""
    fake_boards.orin_nano(root)
    files = {"/dev/video0": "", "/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010"}
    files |= {"/dev/video1": "", "/sys/class/video4linux/video1/name": "HD Webcam C270"}
    fake_boards.write(root, files)
    packages = BASE | {"tensorrt": version("10.3.0"), "pycuda.driver": version("2025.1.2")}
    packages["pycuda"] = SimpleNamespace(VERSION_TEXT="2025.1.2")
    commands = {"nvidia-jetpack": "6.2+b77", **GSTREAMER}
    given = {"gpu": ORIN, "cuda": "12.6", "commands": commands} | changes
    return machine(root, packages | given.pop("modules", {}), **given)


def laptop(root: Path, modules=BASE, **changes) -> Machine:
    """A PC without an NVIDIA GPU, fresh from pip install."""
    fake_boards.write(root, {"/proc/meminfo": fake_boards.MEMINFO})
    return machine(root, modules, **{"architecture": "x86_64", "python": (3, 12, 3), **changes})


def examined(one: Machine, folder: Path | None = None) -> dict[str, Check]:
    checks = examine(one, folder)
    named = {check.name: check for check in checks}
    assert len(named) == len(checks), "a thing is reported twice"
    for check in checks:
        assert "\n" not in check.found + (check.fix or "")
    return named


def statuses(checks: dict[str, Check], *which: str) -> list[str]:
    return [name for name, check in checks.items() if check.status in which]
