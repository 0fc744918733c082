"""Methods, numbers and commands in words."""

from tests.visualization.report_files import LAMBDA
from visualization.reporting.words import large, settings_words, typed_words


def test_settings_in_words():
    def words(attention, **arguments):
        return settings_words({"script": "eval_generation", "arguments": arguments, "lambda_attention": attention})

    shown = words(LAMBDA | {"top_k": {"k": 5, "from_layer": 4}}, use_lambda_attention=True)
    assert "the best 5 in between from layer 4 on" in shown
    assert "no first tokens, distances not capped" in words(LAMBDA | {"global_branch": 0, "limit_distance": None})
    assert "positions counted inside the cache" in words(LAMBDA | {"sink_positions": "cache", "limit_distance": None})
    assert "RoPE scaled by 2.0 (dynamic)" in words(None, rope_scaling="dynamic", rope_factor=2.0)
    assert "of the last 4,096 tokens only" in words(None, method="truncate", runtime_truncation=4096)


def test_commands_are_as_they_are_typed():
    command = ["/a/venv/bin/python3.11", "/a/tree/scripts/diagnose.py", "--dataset", "/a/scripts/plays", "--seed", 1]
    assert typed_words({"command": command}) == [
        *("python", "scripts/diagnose.py", "--dataset", "/a/scripts/plays", "--seed", "1")
    ]
    launched = ["deepspeed", "--num_gpus", "2", "scripts/diagnose.py"]
    assert typed_words({"command": launched}) == launched
    assert typed_words({}) == typed_words({"command": None}) == []


def test_large_numbers_stay_short():
    assert [large(value) for value in (1.23456, 1234.5, 2.5e7)] == ["1.23", "1,234", "2.500e+07"]
