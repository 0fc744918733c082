"""Pass keys: the generator's published command, its files, and reading them and published ones."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from data.passkey_retrieval.create_passkey_data import main
from data.tasks.passkey_retrieval import TASK
from data.tasks.prompt import PromptEncoder
from data.tasks.task import TaskRequest, open_examples
from tests.data.sample_files import write_bytes, write_jsonl
from tests.tiny_models import tiny_tokenizer
from utils.errors import UserError

FOLDER = Path(__file__).resolve().parents[3] / "data" / "passkey_retrieval"
INSTRUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there."
)
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
KEY = "The pass key is 71432. Remember it. 71432 is the pass key."
PUBLISHED = {"input": " ".join([INSTRUCTION, NOISE, NOISE, KEY, NOISE, NOISE]), "target": "71432"}
LONGEST_SENTENCE = 23  # tokens of the noise, one for each letter or so
LENGTH = 2000


def run(*command: object) -> subprocess.CompletedProcess:
    """A command as a user gives it, in an activated environment."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300)


def create(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """The same command in this process, which has imported the libraries already."""
    monkeypatch.setattr(sys, "argv", ["create_passkey_data.py", *map(str, arguments)])
    main()


def open_file(folder: Path, **flags):
    return open_examples(TASK, TaskRequest(TASK.name, dataset_dir=folder, **flags))


def generate(**flags):
    count = PromptEncoder(tiny_tokenizer()).count
    return open_examples(TASK, TaskRequest(TASK.name, count=count, length=LENGTH, **flags))


@pytest.fixture(scope="module")
def created(tmp_path_factory, tiny_tokenizer_dir):
    """The file that the published command writes."""
    folder = tmp_path_factory.mktemp("passkeys") / str(LENGTH)
    options = {"--token-length": LENGTH, "--dump-file-path": folder, "--num-samples": 12}
    options["--tokenizer-path"] = tiny_tokenizer_dir
    script = FOLDER / "create_passkey_data.py"
    done = run("python", script, *(item for pair in options.items() for item in pair), "--first-half")
    assert done.returncode == 0, done.stderr
    return done, folder / "test.jsonl"


def test_published_command(created):
    done, path = created
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert re.search(r"test.jsonl: 12 prompts of 1,9\d\d to [12],\d{3} tokens\n$", done.stdout)
    assert [child.name for child in path.parent.iterdir()] == ["test.jsonl"]
    assert len({line["target"] for line in lines}) == 12
    for line in lines:
        key = f"The pass key is {line['target']}. Remember it. {line['target']} is the pass key."
        before, _, after = line["input"].partition(f" {key}")
        assert before.startswith(INSTRUCTION)
        rounds = before.removeprefix(INSTRUCTION).count(NOISE)
        assert before == " ".join([INSTRUCTION, *[NOISE] * rounds])
        assert (after + f" {NOISE}").startswith(f" {NOISE}")
        share = rounds / line["input"].count(NOISE)
        assert line["depth"] == pytest.approx(share, abs=0.05)


def test_length_is_that_of_the_prompt_in_the_model(created):
    lengths = [json.loads(line)["length"] for line in created[1].read_text().splitlines()]
    encoder = PromptEncoder(tiny_tokenizer())
    assert [encoder.count(example.prompt) for example in open_file(created[1].parent)] == lengths
    assert all(LENGTH - LONGEST_SENTENCE < length <= LENGTH for length in lengths)


def test_depth_that_is_recorded_is_the_one_that_is_read(created):
    recorded = [json.loads(line)["depth"] for line in created[1].read_text().splitlines()]
    assert [example.depth for example in open_file(created[1].parent)] == pytest.approx(recorded, abs=1e-6)
    assert all(depth < 0.5 for depth in recorded), "--first-half"
    assert len(set(recorded)) > 3


def test_same_seed_same_file(tmp_path, tiny_tokenizer_dir, created, monkeypatch):
    common = ["--token-length", LENGTH, "--tokenizer-path", tiny_tokenizer_dir, "--num-samples", 3, "--first-half"]
    for seed in (0, 1):
        create(monkeypatch, *common, "--dump-file-path", tmp_path / str(seed), "--seed", seed)
    again, other = ((tmp_path / seed / "test.jsonl").read_text() for seed in ("0", "1"))
    assert created[1].read_text().startswith(again)
    assert again != other


def test_shell_loop(tmp_path, tiny_tokenizer_dir):
    loop = FOLDER / "create_passkey_data.sh"
    done = run(loop, tmp_path / "out", tiny_tokenizer_dir, 600, 900, "--", "--num-samples", 2)
    assert done.returncode == 0, done.stderr
    encoder = PromptEncoder(tiny_tokenizer())
    for length in (600, 900):
        examples = open_file(tmp_path / "out", length=length)
        assert len(examples) == 2
        assert all(length - LONGEST_SENTENCE < encoder.count(example.prompt) <= length for example in examples)


def test_shell_loop_without_arguments():
    done = run(FOLDER / "create_passkey_data.sh")
    assert (done.returncode, done.stderr.split()[0]) == (2, "usage:")


@pytest.mark.parametrize(
    "changed, message",
    [
        (["--token-length", "100"], "--token-length 100 is too short for --dataset passkey_retrieval"),
        (["--token-length", "0"], "argument --token-length: must be at least 1, not 0"),
        (["--num-samples", "some"], "argument --num-samples: must be a whole number, not 'some'"),
        (["--tokenizer-path", "./missing"], "--tokenizer-path ./missing: there is no such folder"),
        (["--dump-file-path", str(FOLDER / "create_passkey_data.py")], "--dump-file-path .* cannot be written"),
    ],
)
def test_bad_arguments_leave_nothing(tmp_path, tiny_tokenizer_dir, changed, message, monkeypatch):
    common = ["--dump-file-path", tmp_path / "out", "--tokenizer-path", tiny_tokenizer_dir, "--num-samples", 1]
    with pytest.raises(UserError, match=message):
        create(monkeypatch, *common, "--token-length", LENGTH, *changed)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path, tiny_tokenizer_dir, monkeypatch):
    old = write_bytes(tmp_path / "test.jsonl", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    common = ["--dump-file-path", tmp_path, "--tokenizer-path", tiny_tokenizer_dir, "--num-samples", 1]
    with pytest.raises(UserError, match=f"--dump-file-path {tmp_path} cannot be written: No space left on device"):
        create(monkeypatch, *common, "--token-length", LENGTH)
    assert [path.name for path in tmp_path.iterdir()] == ["test.jsonl"]
    assert old.read_bytes() == b"old"


def test_published_file(tmp_path):
    """Without the fields that only ours has; the group is the folder of a length."""
    write_jsonl(tmp_path / "4096" / "test.jsonl", [PUBLISHED])
    for flags in ({"dataset_group": "4096"}, {"length": 4096}):
        (example,) = open_file(tmp_path, **flags)
        assert example.prompt.text() == f"{PUBLISHED['input']} What is the pass key? The pass key is "
        assert (example.id, example.targets) == ("4096:0", ["71432"])
        assert example.depth == pytest.approx(0.5, abs=0.01)
        assert example.prompt.head == f"{INSTRUCTION} "
    structured = example.prompt.text(structured=True)
    system = "You are a helpful, concise and honest assistant."
    assert structured.startswith(f"[INST] <<SYS>> \n {system} <</SYS>> \n There is an important")
    assert structured.endswith(" What is the pass key? Do not provide any explanation. [/INST] \n The pass key is ")


@pytest.mark.parametrize("begun", [False, True])
def test_nominal_lengths_are_those_of_the_published_generator(begun):
    """Which takes 2 for the tokens of the instruction, none for the question, and a beginning token in each round."""
    tokenizer = tiny_tokenizer()
    if begun:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    request = TaskRequest(TASK.name, **PromptEncoder(tokenizer).counts(), length=LENGTH, nominal_length=True)
    key = "The pass key is {KEY}. Remember it. {KEY} is the pass key."
    of_noise, of_key = (len(tokenizer(text)["input_ids"]) for text in (NOISE, key))
    rounds = (LENGTH - of_key - 2) // of_noise
    for example in open_examples(TASK, request):
        assert example.prompt.context.count(NOISE) == rounds and 0 <= example.depth < 1
        assert example.length == len(tokenizer(example.prompt.text())["input_ids"])
    with pytest.raises(UserError, match="--max_length 100 is too short: the noise would have less than two rounds"):
        open_examples(TASK, replace(request, length=100))
    with pytest.raises(UserError, match="--nominal_length means nothing to the files of --dataset_dir"):
        open_file(FOLDER, nominal_length=True)


def test_depths_and_halves():
    depths = (0.0, 0.5, 1.0)
    assert [example.depth for example in generate(num_samples=3, depths=depths)] == pytest.approx(depths, abs=0.05)
    anywhere = [example.depth for example in generate(num_samples=20)]
    assert min(anywhere) < 0.3 and max(anywhere) > 0.7
    assert all(example.depth < 0.5 for example in generate(num_samples=20, first_half=True))


BAD_LINES = [
    ({"input": "text"}, "line 2 has no field 'target'; it has: input"),
    ({"target": "1"}, "line 2 has no field 'input'; it has: target"),
    ({"input": "text", "target": 71432}, "line 2, field 'target', must be a string of text, not a number"),
    ({"input": "text", "target": "no key"}, "line 2, field 'target', must be a pass key of digits, not 'no key'"),
    ({"input": None, "target": "1"}, "line 2, field 'input', must be a string of text, not null"),
    (["text"], "line 2 must be an object with the field 'input', not a list"),
]


@pytest.mark.parametrize("line, message", BAD_LINES)
def test_bad_lines(tmp_path, line, message):
    path = write_jsonl(tmp_path / "test.jsonl", [PUBLISHED, line])
    examples = open_file(tmp_path)
    assert examples[0].targets == ["71432"]
    with pytest.raises(UserError) as error:
        examples[1]
    assert str(error.value) == f"{path} {message}"


def test_malformed_line(tmp_path):
    path = write_bytes(tmp_path / "test.jsonl", b'\n{"input": "te')
    with pytest.raises(UserError, match=f"{path} line 2 is malformed JSON"):
        open_file(tmp_path)[0]


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"dataset_group": "2048"}, "2048/test.jsonl is not there: give in --dataset_dir"),
        ({"num_samples": 3}, "--num_samples 3 means nothing to the files of --dataset_dir"),
        ({"first_half": True}, "--first_half means nothing to the files of --dataset_dir"),
        ({"needles": 2}, "--needles 2 means nothing to --dataset passkey_retrieval"),
    ],
)
def test_bad_flags_with_files(tmp_path, flags, message):
    write_jsonl(tmp_path / "test.jsonl", [PUBLISHED])
    with pytest.raises(UserError, match=message):
        open_file(tmp_path, **flags)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"dataset_group": "4096"}, "--dataset_group 4096 means nothing to .* without --dataset_dir"),
        ({"first_half": True, "depths": (0.2,)}, "--first_half contradicts --depths"),
    ],
)
def test_bad_flags_without_files(flags, message):
    with pytest.raises(UserError, match=message):
        generate(**flags)


def test_missing_folder_and_empty_file(tmp_path):
    with pytest.raises(UserError, match="--dataset_dir .*missing is not a folder: give the one with test.jsonl"):
        open_file(tmp_path / "missing")
    write_bytes(tmp_path / "test.jsonl", b"\n")
    with pytest.raises(UserError, match="--dataset passkey_retrieval holds no example"):
        open_file(tmp_path)
