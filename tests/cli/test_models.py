"""`edgefel models` from the command line."""

from __future__ import annotations

import json

from click.testing import CliRunner

from edgefel.cli.main import main


def run(*arguments: str):
    return CliRunner().invoke(main, ["models", *arguments])


def test_models_lists_sizes():
    result = run("--json")
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert {"arbex", "poster-v2", "arbex-nano"} <= set(rows)
    assert rows["arbex-nano"]["input_size"] == 112
    table = run().output
    assert "43.94 M" in table
    assert "with +resizer: a learned resize in front" in table


def test_models_of_a_name_with_additions():
    result = run("apvit-nano", "apvit-nano+resizer", "--json")
    plain, resized = json.loads(result.stdout)
    assert resized["name"] == "apvit-nano+resizer"
    assert resized["input_size"] == 192
    assert resized["macs"] > plain["macs"]
    assert resized["description"].startswith(plain["description"] + "; a learned resize")
    unknown = run("apvit-nano+wings")
    assert unknown.exit_code == 2
    assert "unknown model 'apvit-nano+wings'" in unknown.stderr
