"""The model of an index."""

import pytest

from support.loopback_hub import LoopbackHub
from support.tiny_models import tiny_model, tiny_processor
from ts2net.hub import push_to_hub
from ts2net.search.index_model import prepare_encoder


def test_an_index_notes_the_commit_of_its_model(monkeypatch: pytest.MonkeyPatch):
    """An index records the commit of its model, so that searches use the same weights after the repository changes."""
    with LoopbackHub() as hub:
        hub.use_here(monkeypatch)
        pushed = push_to_hub(tiny_model(), tiny_processor(), "indexed", token=hub.token)
        _, about = prepare_encoder("index", None, "tester/indexed", device="cpu", runtime="torch")
    assert (about.model, about.revision) == ("tester/indexed", pushed.oid)
