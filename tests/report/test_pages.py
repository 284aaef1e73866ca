"""Pages of templates."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from jinja2 import ChoiceLoader, DictLoader

from edgefel.report import pages


@pytest.fixture
def page(monkeypatch):
    """A page of a template that only a test has."""
    template = (
        '{% extends "base.html.j2" %}'
        "{% block title %}{{ name }}{% endblock %}{% block content %}{{ name }}{% endblock %}"
    )
    environment = pages._environment()
    monkeypatch.setattr(
        environment, "loader", ChoiceLoader([DictLoader({"test": template}), environment.loader])
    )
    return pages.render_page("test", name="<b>&</b>")


def test_the_policy_takes_this_style_and_this_script(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_values_are_escaped(page):
    assert page.count("&lt;b&gt;&amp;&lt;/b&gt;") == 2
    assert "<b>" not in page
