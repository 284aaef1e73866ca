"""Downloads YuNet's ONNX file; the one place that opens the network without being given an address."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from edgefel import __version__
from edgefel.errors import EdgefelError
from edgefel.files.read import reason
from edgefel.files.write import sha256, sole_user
from edgefel.runtime.detector_file import BYTES, NAME, SHA256, detector_path
from edgefel.text import one_line

# the same file twice; the first is of the commit that added it
ADDRESSES = (
    "https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/models/"
    f"face_detection_yunet/{NAME}",
    f"https://huggingface.co/opencv/face_detection_yunet/resolve/main/{NAME}",
)
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 16
_BY_HAND = f"or get {NAME} elsewhere and give it with --from FILE"


def download_detector() -> Path:
    """Downloads the file from the first of ADDRESSES that gives it, and returns its place.

    What was received before a connection broke is kept beside it, and the next call asks for the rest only. Proxies
    are those of the environment (https_proxy, no_proxy). Raises EdgefelError if no address gives the file.
    """
    path = detector_path()
    part, reasons = path.with_name(f"{NAME}.part"), []
    with sole_user(path.parent, f"{path.parent}: another 'edgefel detector get' is running; wait for it"):
        for address in ADDRESSES:
            try:
                _fetch(address, part)
            except (EdgefelError, http.client.HTTPException, urllib.error.URLError) as error:
                reasons.append(f"{urllib.parse.urlsplit(address).hostname}: {_why(error)}")
                continue
            return part.replace(path)
    raise EdgefelError(
        f"YuNet cannot be downloaded ({'; '.join(reasons)}); try again with a network (and https_proxy set where "
        f"there is a proxy), {_BY_HAND}"
    )


def _fetch(address: str, part: Path) -> None:
    """Completes the partial file; raises EdgefelError, with the file removed if its bytes are not the known ones."""
    done = part.stat().st_size if part.is_file() else 0
    if done > BYTES or (done == BYTES and sha256(part) != SHA256):
        part.unlink()
        done = 0
    if done < BYTES:
        _receive(address, part, done)
    if (size := part.stat().st_size) < BYTES:
        raise EdgefelError(f"the connection ended after {size} of {BYTES} bytes")
    if sha256(part) != SHA256:
        part.unlink()
        raise EdgefelError("it gives another file than the known one")


def _receive(address: str, part: Path, done: int) -> None:
    headers = {"User-Agent": f"edgefel/{__version__}"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(address, headers=headers)
    try:
        # an opener of its own: urlopen keeps the proxies of the first call
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT) as response:
            goes_on = str(response.headers.get("Content-Range", "")).startswith(f"bytes {done}-")
            announced = str(response.headers.get("Content-Length", ""))
            if announced.isdecimal() and int(announced) + (done if goes_on else 0) != BYTES:
                raise EdgefelError(f"it gives another file, of {announced} bytes")
            with part.open("ab" if goes_on else "wb") as stream:
                # one byte too many shows that it is another file; no more is taken
                while (left := BYTES + 1 - stream.tell()) > 0:
                    try:
                        block = response.read(min(_BLOCK, left))
                    except OSError as error:  # a reset connection; not to be taken for a full disk
                        raise urllib.error.URLError(error) from error
                    if not block:
                        return
                    stream.write(block)
    except (TimeoutError, ConnectionError) as error:  # while the answer's first line is read
        raise urllib.error.URLError(error) from error


def _why(error: Exception) -> str:
    """The reason in a few words."""
    cause = getattr(error, "reason", error)
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(cause, OSError):
        return reason(cause) if cause.strerror else one_line(cause)
    return one_line(cause) if isinstance(cause, Exception) else str(cause)
