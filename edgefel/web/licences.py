"""LICENSES.txt: the licences of what the folder holds."""

from __future__ import annotations

from edgefel.deploy.wheel import license_text
from edgefel.web.onnxruntime_web import PACKAGE, VERSION

_MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def licences(*, published_detector: bool) -> str:
    """The text. published_detector: the detector is the file of OpenCV's model zoo."""
    parts = [
        f"onnxruntime-web/: {PACKAGE} {VERSION}, MIT License\n\nCopyright (c) Microsoft Corporation\n\n{_MIT}",
        "models/detector.onnx: YuNet, of OpenCV's model zoo, MIT License\n\nCopyright (c) 2020 Shiqi Yu\n\n"
        + _MIT
        if published_detector
        else "models/detector.onnx: given by whoever exported this folder, who knows its licence\n",
        "models/network.onnx: see model-card.md, where there is one\n",
        f"Everything else: edgefel\n\n{license_text()}",
    ]
    return f"\n{'-' * 80}\n\n".join(parts)
