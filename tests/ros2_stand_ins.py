"""Stand-ins of rclpy, sensor_msgs and vision_msgs, for a test of docs/ros2.md. They are not ROS 2.

Messages have the fields of the published definitions (common_interfaces, and vision_msgs 4 as in Humble and Jazzy), and
check types on assignment as generated Python messages do. A node hands its publications to a list; there is no
middleware, no QoS and no executor: `spin` gives the test's messages to the callbacks, one after the other, in the
calling thread.
"""

from __future__ import annotations

import array
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar


class Message:
    """Fields by name: a type, or [a type] for a sequence."""

    FIELDS: ClassVar[dict[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        assert set(values) <= set(self.FIELDS), (
            f"{type(self).__name__} has no {set(values) - set(self.FIELDS)}"
        )
        for name, kind in self.FIELDS.items():
            empty = [] if isinstance(kind, list) else array.array("B") if kind is array.array else kind()
            setattr(self, name, values.get(name, empty))

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.FIELDS.get(name)
        assert kind is not None, f"{type(self).__name__} has no field {name}"
        if isinstance(kind, list):
            assert isinstance(value, list)
        else:
            assert isinstance(value, kind), f"{name} must be {kind.__name__}, not {type(value).__name__}"
        super().__setattr__(name, value)


def message(name: str, **fields: Any) -> type[Message]:
    return type(name, (Message,), {"FIELDS": fields})


Time = message("Time", sec=int, nanosec=int)
Header = message("Header", stamp=Time, frame_id=str)
Image = message(
    "Image",
    header=Header,
    height=int,
    width=int,
    encoding=str,
    is_bigendian=int,
    step=int,
    data=array.array,
)
Point2D = message("Point2D", x=float, y=float)
Pose2D = message("Pose2D", position=Point2D, theta=float)
BoundingBox2D = message("BoundingBox2D", center=Pose2D, size_x=float, size_y=float)
ObjectHypothesis = message("ObjectHypothesis", class_id=str, score=float)
PoseWithCovariance = message("PoseWithCovariance")
ObjectHypothesisWithPose = message(
    "ObjectHypothesisWithPose", hypothesis=ObjectHypothesis, pose=PoseWithCovariance
)
Detection2D = message(
    "Detection2D", header=Header, results=[ObjectHypothesisWithPose], bbox=BoundingBox2D, id=str
)
Detection2DArray = message("Detection2DArray", header=Header, detections=[Detection2D])


class ExternalShutdownException(Exception):
    pass


class Publisher:
    def __init__(self, kind: type[Message]) -> None:
        self.kind, self.messages = kind, []

    def publish(self, sent: Message) -> None:
        assert isinstance(sent, self.kind)
        self.messages.append(sent)


class Logger:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *, once: bool = False) -> None:
        if not (once and text in self.lines):
            self.lines.append(text)


class Ros:
    """The process's context. parameters: of the command line. feed: yields (topic, message), and looks at the node
    between them; an exception that it raises comes out of `spin`."""

    def __init__(
        self, parameters: dict[str, Any], feed: Callable[[Any], Iterator[tuple[str, Message]]]
    ) -> None:
        self.parameters, self.feed, self.running, self.nodes = parameters, feed, False, []

    def init(self) -> None:
        self.running = True

    def ok(self) -> bool:
        return self.running

    def try_shutdown(self) -> None:
        self.running = False

    def spin(self, node: Any) -> None:
        for topic, sent in self.feed(node):
            if not self.running:
                raise ExternalShutdownException
            node.callbacks[topic](sent)

    def modules(self) -> dict[str, types.ModuleType]:
        """What takes the place of ROS 2's modules in `sys.modules`."""
        ros = self

        class Node:
            def __init__(self, name: str) -> None:
                assert ros.running, "rclpy.init was not called"
                self.name, self.callbacks, self.sent, self.logger, self.destroyed = (
                    name,
                    {},
                    {},
                    Logger(),
                    False,
                )
                ros.nodes.append(self)

            def declare_parameter(self, name: str, default: Any) -> types.SimpleNamespace:
                return types.SimpleNamespace(value=ros.parameters.get(name, default))

            def create_publisher(self, kind: type[Message], topic: str, depth: int) -> Publisher:
                self.sent[topic] = Publisher(kind)
                return self.sent[topic]

            def create_subscription(
                self, kind: type[Message], topic: str, callback: Callable[[Message], None], qos: object
            ) -> None:
                assert qos is SENSOR_DATA
                self.callbacks[topic] = callback

            def get_logger(self) -> Logger:
                return self.logger

            def destroy_node(self) -> None:
                self.destroyed = True

        contents: dict[str, dict[str, Any]] = {
            "rclpy": {"init": self.init, "ok": self.ok, "spin": self.spin, "try_shutdown": self.try_shutdown},
            "rclpy.executors": {"ExternalShutdownException": ExternalShutdownException},
            "rclpy.node": {"Node": Node},
            "rclpy.qos": {"qos_profile_sensor_data": SENSOR_DATA},
            "sensor_msgs": {},
            "sensor_msgs.msg": {"Image": Image},
            "vision_msgs": {},
            "vision_msgs.msg": {
                "Detection2D": Detection2D,
                "Detection2DArray": Detection2DArray,
                "ObjectHypothesisWithPose": ObjectHypothesisWithPose,
            },
        }
        found = {}
        for name, values in contents.items():
            assert name not in sys.modules, f"{name} is installed here: test with it"
            found[name] = types.ModuleType(name)
            vars(found[name]).update(values)
        return found


SENSOR_DATA = object()
