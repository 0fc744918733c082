"""ZeroSCROLLS' published files, in miniature, plain and zipped."""

import json
import zipfile
from pathlib import Path

import pytest

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import TASKS
from data.tasks.task import TaskRequest, open_examples
from tests.data.sample_files import write_bytes, write_jsonl
from utils.errors import UserError

HEAD, DOCUMENT, TAIL = "Read the story.\n\nStory:\n", "Once.", "\n\nQuestion:\nWhen?\n\nAnswer:\n"


def line(identifier: str, output: str | None, **changed) -> dict:
    """A published line; a field that is changed to Ellipsis is left out."""
    fields = {
        "id": identifier,
        "pid": f"{identifier}_0",
        "input": HEAD + DOCUMENT + TAIL,
        "output": output,
        "document_start_index": len(HEAD),
        "document_end_index": len(HEAD + DOCUMENT),
        "query_start_index": len(HEAD + DOCUMENT) + 2,
        "query_end_index": len(HEAD + DOCUMENT + TAIL),
        "truncation_seperator": "...",
    }
    return {name: value for name, value in {**fields, **changed}.items() if value is not ...}


LINES = [line("1", "Once"), line("2", "Long ago"), line("1", "At one time"), line("3", None)]


def open_zero_scrolls(folder: Path | None, task: str = "qasper", split: str = "validation"):
    name = f"zero_scrolls/{task}"
    return open_examples(TASKS[name], TaskRequest(name, dataset_dir=folder, split=split))


@pytest.fixture(params=["plain", "zipped"])
def published(request, folder):
    if request.param == "plain":
        write_jsonl(folder / "qasper" / "validation.jsonl", LINES)
    else:
        with zipfile.ZipFile(folder / "qasper.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("qasper/validation.jsonl", "\n".join(map(json.dumps, LINES)))
            archive.writestr("qasper/test.jsonl", json.dumps(line("4", None)) + "\n")
    return folder


def test_lines_of_one_id_are_one_example(published):
    examples = open_zero_scrolls(published)
    assert [example.id for example in examples] == ["1", "2"]
    assert [example.targets for example in examples] == [["Once", "At one time"], ["Long ago"]]
    assert examples[0].prompt.parts() == (HEAD, f"{DOCUMENT}\n\n", TAIL.lstrip())
    assert open_zero_scrolls(published)[1] == examples[1]


def test_the_end_of_the_document_goes_and_the_question_stays(folder, tokenizer):
    """As the benchmark's own code cuts: tokens of all before the question, then those of separator and question."""
    text = {"input": HEAD + "Once upon. " * 40 + TAIL, "document_end_index": len(HEAD) + 440}
    long = line("1", "Once", **text, query_start_index=len(HEAD) + 442, truncation_seperator="... [cut]\n\n")
    write_jsonl(folder / "qasper" / "validation.jsonl", [long])
    (example,) = open_zero_scrolls(folder)
    suffix = tokenizer("... [cut]\n\n" + TAIL.lstrip())["input_ids"]
    whole = tokenizer(HEAD + "Once upon. " * 40 + "\n\n")["input_ids"]
    encoder = PromptEncoder(tokenizer)
    assert encoder.encode_within(example.prompt, 200) == whole[: 200 - len(suffix)] + suffix
    assert encoder.encode_within(example.prompt, 10_000) == encoder.encode(example.prompt)
    chat = tokenizer.decode(PromptEncoder(tokenizer, chat=True).encode_within(example.prompt, 200))
    assert chat.startswith(f"<user>{HEAD}Once upon. Once") and chat.endswith(
        f"... [cut]\n\n{TAIL.lstrip()}\n<assistant>\n"
    )
    with pytest.raises(UserError, match=r"--max_length 20 is too short: what follows the document has \d+ tokens"):
        encoder.encode_within(example.prompt, 20)


def test_published_answer_lengths():
    lengths = {name.partition("/")[2]: task.max_generation_length for name, task in TASKS.items() if "scrolls/" in name}
    assert lengths == {
        "gov_report": 1024,
        "summ_screen_fd": 512,
        "qmsum": 512,
        "squality": 512,
        "qasper": 128,
        "narrative_qa": 64,
        "musique": 32,
        "quality": 10,
        "space_digest": 36,
        "book_sum_sort": 256,
    }


def test_private_references(folder):
    write_jsonl(folder / "qasper" / "test.jsonl", [line("4", None)])
    with pytest.raises(UserError, match="has no example left: no line of --split test has a reference"):
        open_zero_scrolls(folder, split="test")


@pytest.mark.parametrize(
    "task, output, target",
    [
        ("gov_report", "It is large.", "It is large."),
        ("squality", "A story", "A story"),
        ("qasper", "the answer", "answer"),
        ("quality", "(B) is right", "(B) Because"),
        ("space_digest", "about 40%", "40%"),
        ("book_sum_sort", "2, 1, 3", "2,1,3"),
    ],
)
def test_metrics(task, output, target):
    metric = TASKS[f"zero_scrolls/{task}"].metric
    assert metric(output, [target]) == metric(output, ["other", target]) == pytest.approx(1)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"id": ...}, "line 2 has no field 'id'; it has: pid, input"),
        ({"output": 3}, "line 2, field 'output', must be a string of text, not a number"),
        ({"output": ...}, "line 2 has no field 'output'"),
    ],
)
def test_wrong_fields_are_found_at_once(folder, bad, message):
    path = write_jsonl(folder / "qasper" / "validation.jsonl", [LINES[0], line("2", **{"output": "x", **bad})])
    with pytest.raises(UserError) as error:
        open_zero_scrolls(folder)
    assert str(error.value).startswith(f"{path} {message}")


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"input": None}, "line 2, field 'input', must be a string of text, not null"),
        ({"document_start_index": ...}, "line 2 has no field 'document_start_index'"),
        ({"document_start_index": True}, "line 2, field 'document_start_index', must be a whole number"),
        ({"document_end_index": 999}, "line 2 has a document from 24 to 999 in an input of"),
    ],
)
def test_wrong_prompts_are_found_when_read(folder, bad, message):
    path = write_jsonl(folder / "qasper" / "validation.jsonl", [LINES[0], line("2", "x", **bad)])
    examples = open_zero_scrolls(folder)
    with pytest.raises(UserError) as error:
        examples[1]
    assert str(error.value).startswith(f"{path} {message}")


def test_missing_and_broken_files(folder):
    with pytest.raises(UserError, match=r"holds neither qasper/validation.jsonl nor qasper.zip, for --dataset zero_sc"):
        open_zero_scrolls(folder)
    write_bytes(folder / "qasper.zip", b"no zip")
    with pytest.raises(UserError, match="qasper.zip has no readable file qasper/validation.jsonl: File is not a zip"):
        open_zero_scrolls(folder)
    with zipfile.ZipFile(folder / "qasper.zip", "w") as archive:
        archive.writestr("other.txt", "x")
    with pytest.raises(UserError, match="qasper.zip has no readable file qasper/validation.jsonl: "):
        open_zero_scrolls(folder)
    with pytest.raises(UserError, match="--split train is none of --dataset zero_scrolls/qasper's: test, validation"):
        open_zero_scrolls(folder, split="train")


def test_hub(monkeypatch, published):
    """What is downloaded is read as a local .zip is; without a network one sentence says what to do."""
    import huggingface_hub

    with pytest.raises(UserError, match="zero_scrolls/qmsum cannot be had from the Hugging Face hub .* --dataset_dir"):
        open_zero_scrolls(None, "qmsum")
    if not (published / "qasper.zip").exists():
        return
    asked = []

    def downloaded(repository, file, repo_type):
        asked.append((repository, file, repo_type))
        return str(published / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", downloaded)
    assert len(open_zero_scrolls(None)) == 2
    assert asked == [("tau/zero_scrolls", "qasper.zip", "dataset")]
