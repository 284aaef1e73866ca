"""A live RTSP stream at rtsp://127.0.0.1:PORT/live, by the system's Python: rtsp_server.py PORT SECONDS CODEC FPS KEYS

Every frame is full of strong colours: a stripe that moves over a red and blue ground, and the frame's number as 16
blocks, white or black, in its first rows. A decoder that lacks a key frame shows grey instead. PORT: 0 is any. KEYS:
frames from one key frame to the next. Prints "serving" and the port, ends by itself after SECONDS, and when its
standard input is closed. Without a client it stops producing; the numbers go on.
"""

import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

WIDTH, HEIGHT = 256, 128
PORT, SECONDS, CODEC, FPS, KEYS = sys.argv[1], *map(int, sys.argv[2:3]), sys.argv[3], *map(int, sys.argv[4:6])
BEGAN = time.monotonic()
ENCODERS = {
    "h264": f"x264enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max={KEYS} threads=1 ! "
    "h264parse ! rtph264pay name=pay0 pt=96 config-interval=1",
    "h265": f"x265enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max={KEYS} "
    "option-string=pools=none:frame-threads=1 ! h265parse ! rtph265pay name=pay0 pt=96 config-interval=1",
    "jpeg": "jpegenc name=encoder ! rtpjpegpay name=pay0 pt=26",
}


def image(number: int) -> bytes:
    """BGR."""
    red, blue, yellow = b"\x10\x10\xf0", b"\xf0\x20\x10", b"\x10\xf0\xf0"
    row = bytearray(red * (WIDTH // 2) + blue * (WIDTH // 2))
    left = 3 * (number * 8 % (WIDTH - 16))
    row[left : left + 48] = yellow * 16
    bits = b"".join((b"\xff" if number >> bit & 1 else b"\x00") * 48 for bit in range(16))
    return bits * 16 + bytes(row) * (HEIGHT - 16)


def deaf(pad, info):
    """As many cameras, it makes no key frame because a client asks for one."""
    structure = info.get_event().get_structure()
    asks = structure is not None and structure.get_name() == "GstForceKeyUnit"
    return Gst.PadProbeReturn.DROP if asks else Gst.PadProbeReturn.OK


class Factory(GstRtspServer.RTSPMediaFactory):
    def do_create_element(self, url):
        return Gst.parse_launch(
            "appsrc name=source is-live=true format=time do-timestamp=true block=true max-bytes=400000 "
            f"caps=video/x-raw,format=BGR,width={WIDTH},height={HEIGHT},framerate={FPS}/1 ! videoconvert ! "
            f"video/x-raw,format=I420 ! {ENCODERS[CODEC]}"
        )

    def configure(self, media):
        pad = media.get_element().get_by_name_recurse_up("encoder").get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.EVENT_UPSTREAM, deaf)
        source = media.get_element().get_by_name_recurse_up("source")
        over = threading.Event()
        media.connect("unprepared", lambda media: over.set())

        def push():
            number = int((time.monotonic() - BEGAN) * FPS)
            while not over.wait(max(0.0, BEGAN + number / FPS - time.monotonic())):
                if source.emit("push-buffer", Gst.Buffer.new_wrapped(image(number))) != Gst.FlowReturn.OK:
                    return
                number += 1

        threading.Thread(target=push, daemon=True).start()


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(PORT)
    factory = Factory()
    factory.set_shared(True)  # one encoder for all: who comes later joins between two key frames
    factory.connect("media-configure", Factory.configure)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        raise SystemExit("the port is taken")
    loop = GLib.MainLoop()
    GLib.timeout_add_seconds(SECONDS, loop.quit)
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print("serving", server.get_bound_port(), flush=True)
    loop.run()


main()
