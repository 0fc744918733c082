"""Which rank reads which stream."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from scripts.harness.skipping import Skips
from scripts.streaming.streams import make_texts, share_out
from tests.tiny_models import VOCAB_SIZE, tiny_tokenizer
from utils.console import Console
from utils.errors import SharedError
from utils.ranks.runtime import Runtime

RUNTIME = Runtime(0, 1, torch.device("cpu"), Console(silent=True), None)


def shared_out(streams, ranks, sharded):
    runtimes = [replace(RUNTIME, rank=rank, world_size=ranks) for rank in range(ranks)]
    shares = [share_out(streams, runtime, sharded) for runtime in runtimes]
    return [(share.indices, share.owned) for share in shares]


@pytest.mark.parametrize("sharded", [True, False])
def test_streams_are_dealt_out(sharded):
    assert shared_out(1, 1, sharded) == [([0], True)]
    assert shared_out(3, 2, sharded) == [([0, 2], True), ([1], True)]


def test_ranks_of_a_sharded_model_without_a_stream_compute_another_along():
    assert shared_out(2, 5, sharded=True) == [([0], True), ([1], True), ([0], False), ([1], False), ([0], False)]


@pytest.mark.parametrize("rank", range(4))
def test_ranks_that_would_have_nothing_to_do_are_refused_by_all(rank):
    runtime = replace(RUNTIME, rank=rank, world_size=4)
    with pytest.raises(SharedError, match="--streams 3 leaves 1 of 4 ranks without work: give --streams 4 or more"):
        share_out(3, runtime, sharded=False)


@pytest.mark.parametrize("single, first", [("$A", []), ("<s> $A", [1]), ("<s> $A </s>", [1])])
def test_a_stream_begins_as_the_tokenizer_has_a_text_begin(single, first):
    """Whether or not the tokenizer knows a beginning-of-sequence token."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    model = SimpleNamespace(tokenizer=tokenizer, vocab_size=VOCAB_SIZE)
    texts = make_texts(None, model, seed=0, document_separator="none", cache=None, skips=Skips(Console(), strict=False))
    assert tokenizer.bos_token_id == 1 and texts.first == first
