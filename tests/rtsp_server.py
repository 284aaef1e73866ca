"""A live RTSP stream at rtsp://127.0.0.1:PORT/live, by the system's Python.

Every frame is full of strong colours: a stripe that moves over a red and blue ground, and the frame's number as 16
blocks, white or black, in its first rows. A decoder that lacks a key frame shows grey instead. Frame N is due N / fps
seconds after the stream began. Prints "serving", the port and when it began (`time.monotonic()`, one clock for all
processes of Linux); ends by itself after --seconds, and when its standard input is closed. Without a client it stops
producing; the numbers go on.
"""

import argparse
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PARSER = argparse.ArgumentParser(description=__doc__)
PARSER.add_argument("--port", default="0", help="0 is any")
PARSER.add_argument("--seconds", type=int, default=120)
PARSER.add_argument("--codec", choices=("h264", "h265", "jpeg"), default="h264")
PARSER.add_argument("--fps", type=int, default=15)
PARSER.add_argument("--keys", type=int, default=45, help="frames from one key frame to the next")
PARSER.add_argument("--size", type=int, nargs=2, default=(256, 128), help="width, from 256 on, and height")
PARSER.add_argument("--user", help="asks for this user and --password")
PARSER.add_argument("--password", default="")
PARSER.add_argument("--digest", action="store_true", help="asks for a digest of the password, not itself")
OPTIONS = PARSER.parse_args()
(WIDTH, HEIGHT), CODEC, FPS, KEYS = OPTIONS.size, OPTIONS.codec, OPTIONS.fps, OPTIONS.keys
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
    return (bits + b"\0" * (3 * WIDTH - len(bits))) * 16 + bytes(row) * (HEIGHT - 16)


def deaf(pad, info):
    """As many cameras, it makes no key frame because a client asks for one."""
    structure = info.get_event().get_structure()
    asks = structure is not None and structure.get_name() == "GstForceKeyUnit"
    return Gst.PadProbeReturn.DROP if asks else Gst.PadProbeReturn.OK


class Factory(GstRtspServer.RTSPMediaFactory):
    def do_gen_key(self, url):
        return "one stream, also for who comes through another port"

    def do_create_element(self, url):
        return Gst.parse_launch(
            f"appsrc name=source is-live=true format=time block=true max-bytes={9 * WIDTH * HEIGHT} "
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
            number = first = int((time.monotonic() - BEGAN) * FPS)
            while not over.wait(max(0.0, BEGAN + number / FPS - time.monotonic())):
                frame = Gst.Buffer.new_wrapped(image(number))
                # appsrc itself would take the machine's uptime for the time of a frame that comes before the base time
                frame.pts = (number - first) * Gst.SECOND // FPS
                if source.emit("push-buffer", frame) != Gst.FlowReturn.OK:
                    return
                number += 1

        threading.Thread(target=push, daemon=True).start()


def ask_for_password(server, factory):
    token, permissions = GstRtspServer.RTSPToken(), GstRtspServer.RTSPPermissions()
    token.set_string("media.factory.role", "viewer")
    for what in ("access", "construct"):
        permissions.add_permission_for_role("viewer", f"media.factory.{what}", True)
    factory.set_permissions(permissions)
    auth = GstRtspServer.RTSPAuth()
    if OPTIONS.digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(OPTIONS.user, OPTIONS.password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(OPTIONS.user, OPTIONS.password), token)
    server.set_auth(auth)


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(OPTIONS.port)
    factory = Factory()
    if OPTIONS.user:
        ask_for_password(server, factory)
    factory.set_shared(True)  # one encoder for all: who comes later joins between two key frames
    factory.connect("media-configure", Factory.configure)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        raise SystemExit("the port is taken")
    loop = GLib.MainLoop()
    GLib.timeout_add_seconds(OPTIONS.seconds, loop.quit)
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print("serving", server.get_bound_port(), BEGAN, flush=True)
    loop.run()


main()
