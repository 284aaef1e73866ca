"""`edgefel run --mqtt` with a real mosquitto: what others hear, a broker that goes away, signals, errors, passwords."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click
import jinja2
import pytest
from click.testing import CliRunner
from labelled_runs import NANO, lines, run, start, wait_for
from mosquitto import PASSWORD, USER, Broker, Subscriber, free_port

from edgefel.cli.main import main
from edgefel.cli.mqtt import PASSWORD_VARIABLE, mqtt_options
from edgefel.runtime.stream import capture

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")


def address(broker: Broker, user: str = "") -> str:
    return f"mqtt://{user}127.0.0.1:{broker.port}/home/hall"


def test_messages_of_a_run(clip, tmp_path):
    with Broker(tmp_path) as broker, Subscriber(broker) as heard:
        result = run(NANO, clip, "--json", "--mqtt", address(broker), "--mqtt-every", 0)
        heard.wait("home/hall/status", 2)
        rows = {row["frame"]: row for row in lines(result)}
        assert f"{address(broker)}: connected, results at home/hall/state" in result.stderr
        messages = heard.messages()
    assert heard.payloads("home/hall/status") == ["online", "offline"]
    states = [json.loads(message["payload"]) for message in messages if message["topic"] == "home/hall/state"]
    # labels that change, in two people; every message is a line of --json, the largest face first
    assert (
        len({frozenset((face["track"], face["label"]) for face in state["faces"]) for state in states}) >= 3
    )
    for state in states:
        row = rows[state["frame"]]
        assert state | {"faces": 0} == row | {"faces": 0}
        tracks = {face["track"]: face for face in state["faces"]}
        assert all(tracks[face["track"]] == face for face in row["faces"])
    last = [(face["track"], face["label"]) for face in states[-1]["faces"]]
    assert sorted(last) == sorted((face["track"], face["label"]) for face in rows[39]["faces"])
    # what Home Assistant makes of the last one
    entities = [
        json.loads(message["payload"]) for message in messages if message["topic"].endswith("/config")
    ]
    shown = {
        entity["name"]: jinja2.Template(entity["value_template"]).render(value_json=states[-1])
        for entity in entities
        if entity["state_topic"] == "home/hall/state"
    }
    first = states[-1]["faces"][0]
    assert shown == {
        "Presence": "ON",
        "People": "2",
        "Expression": first["label"],
        "Confidence": str(round(100 * first["confidence"], 1)),
    }
    assert {entity["device"]["model"] for entity in entities} == {"nano-synthetic"}


def test_no_entities(tiny, clip, tmp_path):
    with Broker(tmp_path) as broker, Subscriber(broker) as heard:
        assert (
            run(tiny, clip, "--frames", 3, "--mqtt", address(broker), "--mqtt-discovery", "none").exit_code
            == 0
        )
        heard.wait("home/hall/status", 2)
        assert {message["topic"] for message in heard.messages()} == {
            "ready",
            "home/hall/status",
            "home/hall/state",
        }


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_broker_that_goes_away_and_a_signal(tiny, clip, tmp_path, number, code):
    """Results are written all along; the password is in no line and in no list of processes."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    listing = tmp_path / "faces.jsonl"
    login = ("-u", USER, "-P", PASSWORD)

    def written() -> int:
        return listing.read_text().count("\n")

    with Broker(tmp_path, password=True) as broker:
        options = ("--mqtt", address(broker, f"{USER}@"), "--mqtt-password-file", tmp_path / "password")
        process = start(tiny, clip, "--loop", "--policy", "latest", "-o", listing, *options)
        with Subscriber(broker, *login) as heard:
            heard.wait("home/hall/state", seconds=60)
        assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        broker.kill()
        before = written()
        wait_for(lambda: written() > before + 20)
        broker.start()
        with Subscriber(broker, *login) as heard:
            heard.wait("home/hall/state", 2, seconds=60)
            heard.wait("home/hall/status")
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)
            assert process.returncode == code, errors
            assert [message["payload"] for message in heard.wait("home/hall/status", 2)] == [
                "online",
                "offline",
            ]
    assert "connection lost" in errors
    assert "connected again" in errors
    assert PASSWORD not in output + errors
    assert "Traceback" not in errors


def test_a_broker_that_is_away_is_a_warning(tiny, clip):
    result = run(tiny, clip, "--json", "--frames", 5, "--mqtt", f"mqtt://127.0.0.1:{free_port()}/x")
    assert len(lines(result)) == 5
    assert "not connected (Connection refused); trying again, labels go on" in result.stderr


def refused(*options: object, source: str = "nothing.mp4", bundle: Path = NANO) -> str:
    """The one line of an error that comes before anybody has looked for the source."""
    result = run(bundle, source, *options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "nothing.mp4" not in line
    return line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mqtt", "hub"), "unknown kind of address"),
        (("--mqtt", "mqtt://hub/a+"), "wildcard"),
        (("--mqtt", "mqtt://hub", "--mqtt-ca", "ca.crt"), "--mqtt-ca belongs to mqtts://"),
        (("--mqtt", "mqtts://hub", "--mqtt-ca", "missing.crt"), "missing.crt: cannot be used (no such file)"),
        (("--mqtt", "mqtt://hub", "--mqtt-discovery", "a#"), "--mqtt-discovery: 'a#' has a wildcard"),
        (("--mqtt", "mqtt://hub", "--mqtt-discovery", ""), "has an empty level"),
        (("--mqtt", "mqtt://u@hub", "--mqtt-password-file", "missing"), "missing: no such file"),
        (("--mqtt-every", "2"), "--mqtt-every belongs to --mqtt"),
        (("--mqtt-discovery", "ha"), "--mqtt-discovery belongs to --mqtt"),
    ],
)
def test_wrong_options(options, message):
    assert message in refused(*options)


def test_a_refused_user_ends_the_run_before_a_camera_is_opened(tiny, tmp_path, monkeypatch):
    def opened() -> None:
        raise AssertionError("the camera was opened")

    plan = capture.SourcePlan(opened, live=True)
    monkeypatch.setattr(capture, "plan_source", lambda *arguments: plan)
    with Broker(tmp_path, password=True) as broker:
        for url in (address(broker), address(broker, f"{USER}:wr0ng@")):
            result = run(tiny, "0", "--mqtt", url)
            assert result.exit_code == 2
            assert result.stderr.splitlines()[-1] == (
                f"error: {address(broker)}: the broker refuses the connection (Not authorized); "
                "check user and password"
            )
            assert "wr0ng" not in result.output


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    assert "run: pip install 'edgefel[mqtt]'" in refused("--mqtt", "mqtt://hub")


@click.command()
@mqtt_options
def shown(mqtt) -> None:
    click.echo(None if mqtt is None else mqtt.address.password)


def password_of(*options: str, environment: dict[str, str] | None = None) -> str:
    result = CliRunner().invoke(shown, options, env={PASSWORD_VARIABLE: None} | (environment or {}))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"error: {result.exception}"
    return result.stdout.removesuffix("\n")


def test_where_a_password_comes_from(tmp_path):
    file = tmp_path / "password"
    named = ("--mqtt-password-file", str(file))
    inherited = {PASSWORD_VARIABLE: "of the environment"}
    user, both = "mqtt://me@hub", "mqtt://me:url@hub"
    assert password_of() == password_of("--mqtt", user) == ""
    assert password_of("--mqtt", both) == password_of("--mqtt", both, environment=inherited) == "url"
    assert password_of("--mqtt", user, environment=inherited) == "of the environment"
    file.write_bytes(" of a file ä\r\n".encode())
    assert password_of("--mqtt", user, *named, environment=inherited) == " of a file ä"
    assert "has a password already" in password_of("--mqtt", both, *named)
    assert "a password needs a user" in password_of("--mqtt", "mqtt://hub", environment=inherited)
    file.write_text("\n")
    assert "holds no password" in password_of("--mqtt", user, *named)
    file.write_bytes(b"\xff")
    assert "cannot be read as UTF-8 text" in password_of("--mqtt", user, *named)
    file.unlink()
    assert "no such file" in password_of("--mqtt", user, *named)


def test_help_has_no_password_from_the_environment():
    result = CliRunner().invoke(main, ["run", "--help"], env={PASSWORD_VARIABLE: "secret"})
    assert PASSWORD_VARIABLE in result.stdout.replace("\n", "").replace(" ", "")
    assert "secret" not in result.stdout
