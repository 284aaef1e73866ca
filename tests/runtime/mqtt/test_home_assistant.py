"""Discovery messages hold what Home Assistant documents, and their templates give states that it takes.

Keys and rules: https://www.home-assistant.io/integrations/mqtt/, /sensor.mqtt/ and /binary_sensor.mqtt/ (2026).
"""

from __future__ import annotations

import json
import re

import jinja2
import pytest

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.runtime.mqtt.home_assistant import discovery

COMMON = {
    *(
        "availability",
        "availability_mode",
        "availability_template",
        "availability_topic",
        "default_entity_id",
    ),
    *("device", "device_class", "enabled_by_default", "encoding", "entity_category", "entity_picture"),
    *("expire_after", "force_update", "icon", "json_attributes_template", "json_attributes_topic", "name"),
    *("payload_available", "payload_not_available", "platform", "qos", "state_topic", "unique_id"),
    *("value_template", "origin"),
}
DOCUMENTED = {
    "sensor": COMMON
    | {
        *("last_reset_value_template", "options", "suggested_display_precision", "state_class"),
        "unit_of_measurement",
    },
    "binary_sensor": COMMON | {"off_delay", "payload_off", "payload_on"},
}
DEVICE = {
    *("configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model", "model_id"),
    *("name", "serial_number", "suggested_area", "sw_version", "via_device"),
}
ORIGIN = {"name", "sw_version", "support_url"}


def messages(topic: str = "home/Küche", prefix: str = "homeassistant") -> dict[str, dict]:
    found = discovery(
        topic,
        f"{topic}/state",
        f"{topic}/status",
        EXPRESSIONS_7,
        "fer-plus-nano",
        expire_after=90,
        prefix=prefix,
    )
    return {path: json.loads(text) for path, text in found.items()}


def test_topics_and_keys_are_documented():
    for path, entity in messages().items():
        match = re.fullmatch(r"homeassistant/(sensor|binary_sensor)/([\w-]+)/([\w-]+)/config", path, re.ASCII)
        assert match, path
        assert set(entity) <= DOCUMENTED[match[1]], path
        assert set(entity["device"]) <= DEVICE
        assert set(entity["origin"]) <= ORIGIN
        assert entity["origin"]["name"]
        assert entity["device"]["identifiers"]
        assert entity["unique_id"] == f"{match[2]}_{match[3]}"
        assert (entity["state_topic"], entity["availability_topic"]) == (
            "home/Küche/state",
            "home/Küche/status",
        )
        assert isinstance(entity["expire_after"], int)


def test_rules_of_options_and_units():
    """`options` is for enum alone, without state class and unit; a device class that sensors have."""
    for path, entity in messages().items():
        if "options" in entity:
            assert entity["device_class"] == "enum"
            assert entity["options"]
            assert not {"state_class", "unit_of_measurement"} & set(entity)
        assert entity.get("state_class", "measurement") == "measurement"
        assert entity.get("device_class") in ({"occupancy"} if "binary" in path else {None, "enum"})


def test_one_device_with_four_entities():
    found = messages()
    assert len(found) == 4
    assert len({json.dumps(entity["device"], sort_keys=True) for entity in found.values()}) == 1
    assert {entity["device"]["name"] for entity in found.values()} == {"Küche"}
    assert [path.split("/")[1] for path in messages(prefix="ha")] == [path.split("/")[1] for path in found]


def test_different_topics_are_different_devices():
    topics = ("edgefel", "edgefel/a", "edgefel_a", "a", "a/b", "a_b", "ä", "ö")
    identifiers = [next(iter(messages(topic).values()))["device"]["identifiers"][0] for topic in topics]
    assert len(set(identifiers)) == len(topics)
    assert identifiers[0] == "edgefel"
    assert identifiers == [
        next(iter(messages(topic).values()))["device"]["identifiers"][0] for topic in topics
    ]


def face(label: str, confidence: float) -> dict:
    return {"track": 3, "label": label, "confidence": confidence}


@pytest.mark.parametrize(
    ("faces", "states"),
    [
        ([], {"Presence": "OFF", "People": "0", "Expression": "nobody", "Confidence": "None"}),
        (
            [face("anger", 0.8125), face("fear", 0.1)],
            {"Presence": "ON", "People": "2", "Expression": "anger", "Confidence": "81.2"},
        ),
        (
            [face("unsure", 0.0)],
            {"Presence": "ON", "People": "1", "Expression": "unsure", "Confidence": "0.0"},
        ),
    ],
)
def test_states(faces, states):
    """As Home Assistant renders them: `value_json` is the message. "None" is the state unknown."""
    found = {}
    for entity in messages().values():
        template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(entity["value_template"])
        found[entity["name"]] = state = template.render(value_json={"faces": faces})
        assert state in entity.get("options", [state])
    assert found == states
