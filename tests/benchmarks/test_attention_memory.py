"""The command that measures working memory: what it saves and tells."""

import json
import sys

from benchmarks import attention_memory
from benchmarks.measuring.working_memory import shares_of_published


def test_the_script_tells_how_much_less_than_the_published_algorithm_it_is(measured, monkeypatch, capsys):
    saved = {}
    monkeypatch.setattr(attention_memory, "save_results", lambda folder, name, device, results: saved.update(results))
    words = ["attention_memory.py", "--lengths", "1000", "--repeats", "1", "--dtypes", "float32"]
    monkeypatch.setattr(sys, "argv", words)
    attention_memory.main()
    assert shares_of_published(saved["rows"]) == [("SmolLM2-135M, float32", 1000, 41 / 2000)]
    assert "48.8x" in capsys.readouterr().out
    assert set(saved) == {"title", "quantities", "rows", "lambda_attention"} and json.dumps(saved)
