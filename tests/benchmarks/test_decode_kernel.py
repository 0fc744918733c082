"""The decode benchmark compares what computes the same thing, and counts its floor right."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from benchmarks import decode_kernel
from benchmarks.measuring.shapes import SMOLLM2
from benchmarks.measuring.timing import Timing
from models.lambda_attention import lambda_attention

SHAPE = replace(SMOLLM2, local_branch=64, global_branch=5)
ALL = {"floor", "Λ-attention", "window", "dense", "published"}


def token_and_text(length: int):
    query, key, value = SHAPE.inputs(length + 1, "cpu", torch.float32)
    token = tuple(x[:, :, -1:] for x in (query, key, value))
    whole = lambda_attention(query, key, value, SHAPE.layer())
    return token, (key[:, :, :-1].contiguous(), value[:, :, :-1].contiguous()), whole[:, :, -1:]


@pytest.mark.parametrize("length", [10, 63, 64, 66, 300])
def test_the_filled_cache_and_the_published_step_go_on_as_the_whole_text_does(length):
    token, text, expected = token_and_text(length)
    ours = decode_kernel.lambda_method(SHAPE, SHAPE.config, length, token, text)
    published = decode_kernel.published_method(SHAPE, torch.float32, token, text, budget=2**20)
    for found in (ours.run(), published.run(), published.run()):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_what_is_kept_of_a_text_is_enough_to_go_on():
    token, text, expected = token_and_text(300)
    kept = tuple(torch.cat([x[:, :, :5], x[:, :, -64:]], 2) for x in text)
    ours = decode_kernel.lambda_method(SHAPE, SHAPE.config, 300, token, kept)
    torch.testing.assert_close(ours.run(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("fastest", [0, -1])
def test_dense_attention_is_the_same_with_grouped_and_with_folded_heads(fastest, monkeypatch):
    monkeypatch.setattr(decode_kernel, "_fastest", lambda runs, device: runs[fastest])
    (query, *_), text, _ = token_and_text(100)
    found = decode_kernel.dense_method(SHAPE, torch.float32, (query, *_), text, budget=2**30).run()
    key, value = (x.repeat_interleave(3, 1) for x in text)
    expected = (query @ key.mT * SHAPE.head_dim**-0.5).softmax(-1) @ value
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [1, 63, 64, 66, 300])
def test_the_floor_counts_the_tokens_that_are_attended(length):
    distance, place = length - torch.arange(length + 1), torch.arange(length + 1)
    assert decode_kernel.kept_tokens(SHAPE, length) == int(((distance < 64) | (place < 5)).sum())
    assert decode_kernel.stored_bytes(SHAPE, 10, torch.bfloat16) == 2 * 10 * 3 * 64 * 2


def test_what_needs_too_much_memory_is_left_out():
    text = decode_kernel.stored_bytes(SHAPE, 300, torch.float32)
    names = [set(decode_kernel.methods(SHAPE, 300, "cpu", torch.float32, budget)) for budget in (0, text, 4 * text)]
    assert names == [{"Λ-attention", "window"}, {"Λ-attention", "window", "dense"}, ALL - {"floor"}]


def test_seconds_are_per_layer():
    assert decode_kernel.per_layer(Timing(8.0, 4.0, 16.0, 5), 8) == Timing(1.0, 0.5, 2.0, 5)


def test_a_panel_has_a_row_for_each_method_and_a_floor(monkeypatch):
    monkeypatch.setattr(decode_kernel, "copy_bandwidth", lambda device: 1e10)
    arguments = Namespace(lengths=[128, 256], device="cpu", repeats=2, budget=1.0, memory_share=0.2)
    rows = [row for found in decode_kernel.measure_panel(SHAPE, torch.float32, arguments) for row in found]
    assert [row["length"] for row in rows] == [128] * 5 + [256] * 5
    assert {row["method"] for row in rows} == ALL
    assert all(row["panel"] == "SmolLM2-135M, float32" for row in rows)
    assert all(row["of_floor"] > 0 and row["seconds"]["repeats"] == 2 for row in rows if row["method"] != "floor")
    assert rows[0]["seconds"] == pytest.approx(2 * 69 * 3 * 64 * 4 / 1e10)
