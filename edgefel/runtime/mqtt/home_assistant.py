"""Entities of Home Assistant, by its MQTT discovery: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery

Four for a source, however many people it shows: whether somebody is there, how many, and label and confidence of the
most prominent person. One message for each entity, which every version of Home Assistant and others that follow its
format read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgefel import __version__
from edgefel.runtime.results import UNSURE

PREFIX = "homeassistant"
# a state of its own: a label that is not among the options would be ignored, and the last person's would stay
NOBODY = "nobody"
# of faces[0], which is the most prominent person; None is the state "unknown"
_LABEL = "{{ value_json.faces[0].label if value_json.faces else '" + NOBODY + "' }}"
_CONFIDENCE = "{{ (100 * value_json.faces[0].confidence) | round(1) if value_json.faces else None }}"
_COUNT = "{{ value_json.faces | count }}"
_SOMEBODY = "{{ 'ON' if value_json.faces else 'OFF' }}"


def discovery(
    topic: str,
    state: str,
    status: str,
    labels: Sequence[str],
    network: str,
    *,
    expire_after: int,
    prefix: str,
) -> dict[str, str]:
    """The messages, to be retained: JSON by topic.

    topic: of the address, which identifies the device. state, status: topics of results and of availability. labels:
    class names. network: its name. expire_after: seconds without a result, after which the entities are unavailable.
    prefix: of the topics that Home Assistant listens to.
    """
    node = _identifier(topic)
    shared = {
        "state_topic": state,
        "availability_topic": status,
        "expire_after": expire_after,
        "qos": 1,
        "device": {
            "identifiers": [node],
            "name": topic.rpartition("/")[2],
            "manufacturer": "edgefel",
            "model": network,
            "sw_version": __version__,
        },
        "origin": {"name": "edgefel", "sw_version": __version__},
    }
    entities: Mapping[tuple[str, str], dict[str, Any]] = {
        ("binary_sensor", "presence"): {
            "name": "Presence",
            "device_class": "occupancy",
            "value_template": _SOMEBODY,
        },
        ("sensor", "people"): {
            "name": "People",
            "icon": "mdi:account-group",
            "state_class": "measurement",
            "value_template": _COUNT,
        },
        ("sensor", "expression"): {
            "name": "Expression",
            "icon": "mdi:emoticon-outline",
            "device_class": "enum",
            "options": [*labels, UNSURE, NOBODY],
            "value_template": _LABEL,
        },
        ("sensor", "confidence"): {
            "name": "Confidence",
            "icon": "mdi:percent",
            "state_class": "measurement",
            "unit_of_measurement": "%",
            "suggested_display_precision": 0,
            "value_template": _CONFIDENCE,
        },
    }
    return {
        f"{prefix}/{component}/{node}/{name}/config": json.dumps(
            {**entity, "unique_id": f"{node}_{name}", **shared}
        )
        for (component, name), entity in entities.items()
    }


def _identifier(topic: str) -> str:
    """A name of letters, digits, _ and - for a topic; different ones for different topics."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", topic)
    name = name if name.startswith("edgefel") else f"edgefel_{name}"
    return name if name == topic else f"{name}_{hashlib.sha256(topic.encode()).hexdigest()[:6]}"
