"""Every file that a trial of each script leaves, damaged in every way: one sentence, or the right numbers."""

import random
import shutil
from contextlib import suppress

import numpy as np
import pytest

from tests.scripts.running import flip_a_bit, results, run_command
from tests.scripts.streaming.stream_trials import killed_at
from utils.errors import UserError
from utils.trials.experiments import SCORED
from utils.trials.files import RESULTS
from utils.trials.finished import read_log_dir
from utils.trials.trial import Trial

WORDS = (60, 25, 40, 70)
SMALL = ("--num_queries", 8, "--num_bins", 6, "--num_positions", 4, "--num_hidden", 8)
FLAGS = {
    "eval_ppl_deepspeed": ("--max_length", 40),
    "eval_infinite_ppl": ("--streaming_length", 150, "--max_length", 30, "--save_steps", 1, "--save_token_nll"),
    "eval_generation": ("--evaluate_positions", 12, 24, "--max_generation_length", 3),
    "eval_downstream_tasks": ("--max_length", 400, "--num_samples", 4, "--max_generation_length", 3),
    "diagnose": ("--max_length", 40, *SMALL),
}
SHAPES = {"empty": b"", "object": b"{}", "list": b"[]", "number": b"5", "other": b'{"a": 1}', "index": b'{"index": 0}'}


def run_here(script, *flags):
    run_command(f"scripts.{script}", *flags)


def plain(value):
    """Without what differs from run to run."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items() if not volatile(name)}
    return [plain(part) for part in value] if isinstance(value, list) else value


def volatile(name):
    return name in ("sha256", "computed_from", "environments") or any(
        part in name for part in ("second", "memory", "prefill_tokens")
    )


class Trials:
    """Of one script: finished, killed half-way, and both of another seed."""

    def __init__(self, script, flags, folder):
        self.script, self.flags, self.folder = script, flags, folder
        for name, seed in (("own", 3), ("other", 4)):
            run_here(script, *flags, "--seed", seed, "--log_dir", folder / name / "finished")
            with killed_at(Trial, "append_samples", 3):
                run_here(script, *flags, "--seed", seed, "--log_dir", folder / name / "killed")
        self.numbers = plain(results(folder / "own" / "finished"))

    def copy(self, standing, log_dir):
        shutil.copytree(self.folder / "own" / standing, log_dir)
        return log_dir

    def files(self, standing):
        folder = self.folder / "own" / standing
        return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())

    def go_on(self, log_dir, *more):
        run_here(self.script, *self.flags, "--seed", 3, "--log_dir", log_dir, *more)


@pytest.fixture(scope="module", params=FLAGS)
def trials(request, tiny_llama_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    words = random.Random(0)
    (folder / "texts").mkdir()
    for place, length in enumerate(WORDS):
        text = " ".join(words.choice(["the", "and", "a", "wörd", "that"]) for _ in range(length))
        (folder / "texts" / f"{place}.txt").write_text(text)
    dataset = "passkey_retrieval" if request.param == "eval_downstream_tasks" else folder / "texts"
    flags = ("--model", tiny_llama_dir, "--dataset", dataset, *FLAGS[request.param])
    return Trials(request.param, flags, folder)


def damages(path, others):
    """{a way of damage: the content that it leaves}. others: the same file of another trial, where it has one."""
    content, found = path.read_bytes(), dict(SHAPES)
    found["truncated"] = content[: len(content) // 2]
    for share in (0.2, 0.5, 0.9):
        flipped = bytearray(content)
        flipped[int(share * len(content))] ^= 1
        found[f"bit at {share}"] = bytes(flipped)
    if path.name.endswith(".npz"):
        np.savez(path.with_name("none.npz"), a=np.arange(3))
        found["no arrays"] = path.with_name("none.npz").read_bytes()
        path.with_name("none.npz").unlink()
    if path.suffix == ".jsonl":
        lines = content.splitlines(keepends=True)
        found["a line inserted"] = b"".join([*lines[:1], b"5\n", *lines[1:]])
        found["a line torn"] = b"".join([lines[0][:20] + b"\n", *lines[1:]])
        found["lines exchanged"] = b"".join([*lines[1::-1], *lines[2:]])
    if others.exists() and others.read_bytes() != content:
        found["another trial's"] = others.read_bytes()
    return found


@pytest.mark.parametrize("standing", ["finished", "killed"])
def test_damage_is_named_or_changes_no_number(trials, standing, tmp_path):
    named = 0
    for number, name in enumerate(trials.files(standing)):
        own = trials.folder / "own" / standing / name
        for way, content in damages(own, trials.folder / "other" / standing / name).items():
            log_dir = trials.copy(standing, tmp_path / str(number) / way)
            (log_dir / name).write_bytes(content)
            try:
                trials.go_on(log_dir)
            except UserError as error:
                named += 1
                assert name.name in str(error) or "log_dir" in str(error), (name, way, error)
            else:
                assert plain(results(log_dir)) == trials.numbers, (name, way)
            shutil.rmtree(log_dir)
    assert named > 8


def test_readers_name_damage_or_read_the_right_numbers(trials, tmp_path):
    whole = read_log_dir(trials.folder / "own" / "finished")
    for number, name in enumerate(trials.files("finished")):
        own = trials.folder / "own" / "finished" / name
        for way, content in damages(own, trials.folder / "other" / "finished" / name).items():
            log_dir = trials.copy("finished", tmp_path / str(number) / way)
            (log_dir / name).write_bytes(content)
            try:
                found = read_log_dir(log_dir)
                assert found.read_samples() == whole.read_samples(), (name, way)
            except UserError as error:
                foreign = name.name == "config.json" and way == "another trial's"  # then all others are foreign
                assert (RESULTS if foreign else name.name) in str(error), (name, way, error)
            else:
                assert found.results == whole.results and found.arguments == whole.arguments, (name, way)
                assert name.name not in whole.results["computed_from"], (name, way)
            shutil.rmtree(log_dir)


def test_tables_and_reports_name_a_flipped_bit(trials, tmp_path):
    evidence = results(trials.folder / "own" / "finished")["computed_from"]
    commands = ["visualization.report", *(["scripts.combine_results"] if trials.script in SCORED else [])]
    for name in evidence:
        log_dir = flip_a_bit(trials.copy("finished", tmp_path / name), name)
        for command in commands:
            with pytest.raises(UserError, match=f"{name} .*nothing is computed from it"):
                run_command(command, log_dir, "--out", tmp_path / "out.html")
    assert evidence and not (tmp_path / "out.html").exists()


@pytest.mark.parametrize("standing", ["finished", "killed"])
def test_what_is_damaged_is_repaired(trials, standing, tmp_path, capsys):
    for number, name in enumerate(trials.files(standing)):
        if name.name in ("config.json", "log.txt"):
            continue
        own = trials.folder / "own" / standing / name
        ways = damages(own, trials.folder / "other" / standing / name)
        for way in {"bit at 0.5", "number", "another trial's"} & set(ways):
            log_dir = trials.copy(standing, tmp_path / str(number) / way)
            (log_dir / name).write_bytes(ways[way])
            with suppress(UserError):
                trials.go_on(log_dir)
                continue
            capsys.readouterr()
            trials.go_on(log_dir, "--repair")
            assert plain(results(log_dir)) == trials.numbers, (name, way)
            said = capsys.readouterr().out
            assert name.parts[0] in said or name.name in said, (name, way)
            trials.go_on(log_dir)
            shutil.rmtree(log_dir)
