"""Processes that are started again do not find what the killed ones have left."""

from __future__ import annotations

import pytest
from torch.distributed import TCPStore

from pcgraph.training.accelerator import meeting_place


def test_each_start_meets_in_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for name, value in {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(lent.port),
        "RANK": "0",
        "WORLD_SIZE": "1",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }.items():
        monkeypatch.setenv(name, value)
    places = []
    for start in ("0", "1", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", start)
        places.append(meeting_place())
    first, again, beside = (place["store"] for place in places)
    assert [(place["rank"], place["world_size"]) for place in places] == [(0, 1)] * 3
    first.set("address", "of a process that is killed")
    assert not again.check(["address"])
    again.set("address", "of one that lives")
    assert beside.get("address") == b"of one that lives"


def test_without_torchrun_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert meeting_place() == {}
