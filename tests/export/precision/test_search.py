"""The search for a precision mix, with gates whose best answer is known."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefel.errors import EdgefelError
from edgefel.export.precision.search import MixVerdict, SearchResult, search
from edgefel.export.precision.sensitivity import LayerCost


def layers(*macs: int) -> list[LayerCost]:
    """Layers a, b, c, ... with these MACs, the costliest first."""
    return [
        LayerCost(name, "Conv", work, 1.0 / i, 10.0 + i, agreement=0.9, recall_loss=1.0, precision="int8")
        for i, (name, work) in enumerate(zip("abcdefghijklmnop", macs, strict=False), start=1)
    ]


def needs(*names: str):
    """A gate that passes when these are in float."""

    def judge(kept: frozenset[str]) -> MixVerdict:
        missing = sorted(set(names) - kept)
        return MixVerdict(not missing, tuple(f"{name} hurts" for name in missing))

    return judge


def kept(result: SearchResult) -> set[str]:
    return set(result.keep_float)


def test_nothing_is_kept_when_everything_passes():
    result = search(layers(1, 2, 3), needs())
    assert kept(result) == set()
    assert len(result.trials) == 1
    assert result.int8_share == 1.0
    assert all("the gate passes with it in INT8" in decision.reason for decision in result.decisions)


def test_only_what_hurts_stays_in_float():
    """Bisection keeps a, b and c for the sake of c; a and b are given back."""
    result = search(layers(100, 10, 1, 5, 7), needs("c"))
    assert kept(result) == {"c"}
    assert result.int8_share == pytest.approx(122 / 123)
    reasons = {decision.cost.node: decision.reason for decision in result.decisions}
    assert "given back" in reasons["a"]
    assert "with it in INT8 as well the gate fails (c hurts)" in reasons["c"]
    assert "rank 3: alone it costs 0.33 nats in int8 and at most 1.0 points" in reasons["c"]
    assert reasons["e"].endswith("the gate passes with it in INT8")


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=9), st.data())
def test_a_gate_that_wants_certain_layers_gets_just_these(macs, data):
    ranking = layers(*macs)
    wanted = data.draw(st.sets(st.sampled_from([cost.node for cost in ranking]), max_size=len(macs) - 1))
    cheapest = ranking[-1].node
    if cheapest in wanted:
        with pytest.raises(EdgefelError, match="no mix of INT8 and float passes the gate"):
            search(ranking, needs(*wanted))
    else:
        assert kept(search(ranking, needs(*wanted))) == wanted


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_whatever_the_gate_says_the_answer_has_passed(macs, random):
    """Also for a gate that keeping more layers in float can turn against."""
    ranking = layers(*macs)
    names = [cost.node for cost in ranking]
    table = {
        frozenset(chosen): random.random() < 0.5
        for size in range(len(names) + 1)
        for chosen in itertools.combinations(names, size)
    }
    try:
        result = search(ranking, lambda kept: MixVerdict(table[kept], ("no",)))
    except EdgefelError:
        return
    assert table[frozenset(kept(result))]


def test_each_mix_is_judged_once_and_recorded():
    asked: list[frozenset[str]] = []

    def judge(kept: frozenset[str]) -> MixVerdict:
        asked.append(kept)
        return needs("b", "e")(kept)

    result = search(layers(*range(1, 13)), judge)
    assert len(asked) == len(set(asked)) == len(result.trials)
    assert kept(result) == {"b", "e"}
    document = result.to_dict()
    assert [layer["node"] for layer in document["layers"] if not layer["int8"]] == ["b", "e"]
    assert document["trials"][0]["verdict"]["passes"] is False


def test_giving_back_stops_after_so_many_tries(monkeypatch):
    monkeypatch.setattr("edgefel.export.precision.search.GIVE_BACK_TRIES", 1)
    result = search(layers(5, 4, 3, 2, 1), needs("d"))
    assert kept(result) == {"b", "c", "d"}
    reasons = {decision.cost.node: decision.reason for decision in result.decisions}
    assert "not tried on its own" in reasons["b"]


def test_a_gate_that_never_passes_is_an_error_that_says_what_it_said():
    with pytest.raises(
        EdgefelError, match="a hurts; z hurts, with 1 of 2 layers|z hurts, with 1 of 2 layers"
    ):
        search(layers(1, 1), needs("a", "z"))
    with pytest.raises(EdgefelError, match="0 of 1 layer"):
        search(layers(1), needs("a"))
