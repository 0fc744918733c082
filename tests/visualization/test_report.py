"""The page: what it says, that it says it of any trial and label, bad input, and how it behaves in a browser."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.scripts.example_trials import generation_sample, task_sample
from tests.scripts.example_trials import write_trial as write_example_trial
from tests.utils.trials.trial_files import token_sums, write_stream_trial, write_trial
from tests.visualization.chromium import NAMES, Chromium, find_chromium
from utils.errors import UserError
from visualization import report
from visualization.reporting import pictures as report_pictures
from visualization.reporting.columns import compare, differing_arguments
from visualization.reporting.html import FOLDER
from visualization.reporting.trials import load_report_trials
from visualization.reporting.words import large, method_words

LAMBDA = {"local_branch": 4096, "global_branch": 10, "limit_distance": 4096, "top_k": None, "triangle_offset": 0.0}
FLAGS = {"use_lambda_attention": True, "local_branch": 4096, "global_branch": 10, "limit_distance": 4096}
COMMAND = ["python", "scripts/eval_ppl_deepspeed.py", "--model", "a model & more", "--log_dir", "logs/<x>"]
SHOWN = "b9 \\x01\\n\\u202e$x_ \\frac"  # as the third label is
EVIL = "</td><script>alert(1)</script>\"'&amp;"


def extend(folder, name, **fields):
    """Add fields to a JSON file of a trial."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def document_trial(folder, nll, attention=None, **arguments):
    """A whole trial of eval_ppl_deepspeed whose NLL is as given."""
    rng = np.random.default_rng(0)
    write_trial(folder, [rng.gamma(1.0, 3.0, 40), rng.gamma(1.0, 3.0, 30)], **arguments)
    lines = [{"index": i, "id": f"play-{i}", "tokens": 41 - 10 * i, "scored": 40 - 10 * i} for i in range(2)]
    lines = [line | {"nll": nll + line["index"], "bytes": 99} for line in lines]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    buckets = [{"start": 0, "end": 32, "documents": 2, "tokens": 60, "nll": nll, "perplexity": float(np.exp(nll))}]
    extend(folder, "results.json", nll=nll, perplexity=float(np.exp(nll)), buckets=buckets)
    return extend(
        folder,
        "config.json",
        command=COMMAND,
        lambda_attention=attention,
        corpus={"name": "plays", "documents": 2},
        model={"name": "tiny", "dtype": "float32", "pretraining_length": 8, "parameters": 1234},
        versions={"torch": "2.13.0"},
        git_commit="0123abc",
        started="2026-01-31T12:34:56+00:00",
        device="cpu",
    )


def stream_trial(folder, nll=3.0):
    write_stream_trial(folder, [token_sums(np.full(99, nll)), token_sums(np.full(99, nll + 1))])
    streams = [{"stream": place, "nll": nll + place, "tokens": 99} for place in range(2)]
    buckets = [{"start": 0, "end": 100, "tokens": 198, "nll": nll, "perplexity": 20.0, "spread": 0.7}]
    extend(folder, "results.json", streaming_length=100, streams=streams, nll=nll + 0.5, perplexity=33.0)
    extend(folder, "results.json", buckets=buckets)
    return extend(folder, "config.json", corpus={"name": "plays", "documents": 38})


def generation_trial(folder):
    samples = [generation_sample(0, position, "a", "b", parts=2) for position in (30, 60)]
    positions = [
        {"position": position, "documents": 1, "failed": 0, "bleu": bleu, "bleu_standard_error": 0.01}
        for position, bleu in ((30, 0.5), (60, 0.25))
    ]
    return write_example_trial(folder, "eval_generation", samples, {"positions": positions}, documents=1)


def task_trial(folder, task="passkey_retrieval"):
    samples = [task_sample(0, 1.0, task), task_sample(1, 0.0, task), task_sample(2, None, task)]
    results = {"task": task, "metric": "accuracy", "score": 0.5, "standard_error": 0.35, "length": 1001}
    return write_example_trial(folder, "eval_downstream_tasks", samples, results | {"examples": 3, "failed": 1})


def three_trials(folder):
    return [
        str(document_trial(folder / "vanilla", 10.0)),
        str(document_trial(folder / "lambda", 9.5, LAMBDA, batch_size=2, **FLAGS)),
        str(task_trial(folder / "passkey")),
    ]


@pytest.fixture
def trials(tmp_path):
    return three_trials(tmp_path)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
    report.main()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of three trials, written once: pictures take their time."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        labels = ["--labels", "b10", EVIL, "b9 \x01\n\u202e$x_ \\frac"]
        run(patch, *three_trials(folder), *labels, "--title", EVIL, "--out", folder / "page.html")
    return folder / "page.html"


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def column(log_dirs, heading):
    """The texts of one column of the comparison."""
    return next([cell.text for cell in found.cells] for found in compared(log_dirs) if found.heading == heading)


def compared(log_dirs):
    return compare(load_report_trials(log_dirs))


def test_the_script_writes_one_page_and_nothing_else(tmp_path):
    trial = document_trial(tmp_path / "vanilla", 10.0)
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "PYTHONPATH")}
    line = [sys.executable, report.__file__, trial, "--out", tmp_path / "new" / "sweep.html"]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sweep.html"]


def test_the_page_needs_nothing_from_outside(page):
    page = Reader(page.read_text())
    addresses = [found[name] for _, found in page.tags for name in ("src", "href", "srcset", "data") if name in found]
    assert {address[:5] for address in addresses} == {"data:", "#tria"}
    policy = next(found["content"] for _, found in page.tags if "http-equiv" in found)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert not any(name.startswith("on") or name == "style" for _, found in page.tags for name in found)


def test_the_same_trials_give_the_same_bytes(monkeypatch, trials, tmp_path):
    for name in ("a.html", "b.html"):
        run(monkeypatch, *trials[:2], "--out", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_each_trial_tells_its_command_arguments_versions_and_buckets(page):
    page = Reader(page.read_text())
    said = " ".join(page.text.split())
    for words in (
        "python scripts/eval_ppl_deepspeed.py --model 'a model & more' --log_dir 'logs/<x>'",
        "lm_infinite: the nearest 4,096 tokens, the first 10, distances up to 4,096",
        "torch 2.13.0",
        "0123abc",
        "plays, 2 documents",
        "0 – 31",
        "How to read this.",
        "1,001",
    ):
        assert words in said, words
    ids = {found["id"] for _, found in page.tags if "id" in found}
    links = [found["href"] for tag, found in page.tags if tag == "a"]
    assert links and {link[1:] for link in links} <= ids
    pictures = [found["src"] for tag, found in page.tags if tag == "img"]
    assert len(pictures) == 4 and len(set(pictures)) == 4
    assert b"<svg" in base64.b64decode(pictures[0].split(",")[1])


def test_trials_of_other_versions_are_marked(monkeypatch, trials, tmp_path):
    run(monkeypatch, *trials[:2], "--out", tmp_path / "alike.html")
    assert "Versions differ" not in (tmp_path / "alike.html").read_text()
    extend(Path(trials[0]), "config.json", versions={"torch": "2.11.0"}, continued=[{"versions": {"torch": "2.13.0"}}])
    run(monkeypatch, *trials[:2], "--out", tmp_path / "other.html")
    said = " ".join(Reader((tmp_path / "other.html").read_text()).text.split())
    assert "Versions differ" in said and "torch 2.11.0 then 2.13.0" in said and "Went on with" in said


def test_whatever_a_label_is_it_is_text(page):
    page = Reader(page.read_text())
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert EVIL in page.text and SHOWN in page.text


def test_a_row_per_trial_with_numbers_that_any_trial_has(trials, tmp_path):
    trials += [str(stream_trial(tmp_path / "stream")), str(generation_trial(tmp_path / "generation"))]
    shown = [text.split(" ± 0.")[0] for text in column(trials, "NLL")]
    assert shown == ["10.0000", "9.5000", "", "3.5000", ""]
    assert column(trials, "Score") == ["", "", "0.5000 ± 0.3500", "", ""]
    assert column(trials, "BLEU") == ["", "", "", "", "0.2500 ± 0.0100"]
    assert column(trials, "Length (tokens)") == ["41", "41", "1,001", "100", "60"]
    assert column(trials, "Texts") == ["2", "2", "2", "2", "1"]
    assert column(trials, "Failed") == ["", "", "1", "", ""]
    assert column(trials, "Started (UTC)")[0] == "2026-01-31 12:34"
    assert "Bits/byte" not in [found.heading for found in compared(trials)]
    assert "Measures" not in [found.heading for found in compared(trials[:2])]


def test_what_differs_is_told_of_trials_of_one_script_only(trials):
    loaded = load_report_trials(trials)
    assert set(differing_arguments(loaded)) == {"batch_size", *FLAGS}
    assert differing_arguments(loaded[1:]) == []


def test_methods_in_words():
    def words(attention, **arguments):
        return method_words({"script": "eval_generation", "arguments": arguments, "lambda_attention": attention})

    shown = words(LAMBDA | {"top_k": {"k": 5, "from_layer": 4}}, use_lambda_attention=True)
    assert "the best 5 in between from layer 4 on" in shown
    assert "no first tokens, distances not capped" in words(LAMBDA | {"global_branch": 0, "limit_distance": None})
    assert "positions counted inside the cache" in words(LAMBDA | {"sink_positions": "cache", "limit_distance": None})
    assert "RoPE scaled by 2.0 (dynamic)" in words(None, rope_scaling="dynamic", rope_factor=2.0)
    assert "of the last 4,096 tokens only" in words(None, method="truncate", runtime_truncation=4096)


def test_trials_of_different_tasks_have_pictures_of_their_own(tmp_path):
    folders = [str(task_trial(tmp_path / name, task)) for name, task in (("a", "one"), ("b", "two"), ("c", "one"))]
    pictures = report_pictures.draw_pictures(load_report_trials(folders))
    by_length = [picture for picture in pictures if picture.heading.startswith("Score by length:")]
    assert [(picture.heading, picture.labels) for picture in by_length] == [
        ("Score by length: one", ["a", "c"]),
        ("Score by length: two", ["b"]),
    ]


def test_a_picture_too_large_as_svg_is_a_png(monkeypatch, trials):
    monkeypatch.setattr(report_pictures, "MOST_SVG_BYTES", 10)
    picture = report_pictures.draw_pictures(load_report_trials(trials[:1]))[0]
    assert picture.source.startswith("data:image/png;base64,iVBOR")


def test_large_numbers_stay_short():
    assert [large(value) for value in (1.23456, 1234.5, 2.5e7)] == ["1.23", "1,234", "2.500e+07"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("results.json", None, "has no results.json: the trial is not finished"),
        ("config.json", "{}", "holds no arguments: it is damaged, or no trial's config"),
        ("config.json", '{"script": "train", "arguments": {}}', "is of the script 'train': give trials of eval_ppl"),
        ("config.json", '{"script": "eval_ppl_deepspeed", "arguments": {}}', "holds no model as a trial's does"),
        ("results.json", "{", "cannot be read as JSON"),
        ("results.json", '{"documents": 2, "nll": "3"}', "has 'nll' '3', which must be a number"),
        ("results.json", '{"documents": 2, "nll": NaN}', "has 'nll' nan, which must be a number"),
        ("results.json", '{"documents": 2, "nll": 3.0}', "lacks 'buckets', which must be a list of objects"),
        ("results.json", '{"documents": 2, "nll": 3.0, "buckets": [{}]}', "has a bucket without start or end"),
        ("samples.jsonl", "", "has 0 lines where results.json counts 2"),
        ("nll.npz", "x", "cannot be read as an npz file of arrays"),
    ],
)
def test_a_trial_that_is_not_whole_is_told_in_one_sentence(monkeypatch, trials, tmp_path, name, content, message):
    path = tmp_path / "vanilla" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError) as caught:
        run(monkeypatch, *trials, "--out", tmp_path / "a.html")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "report.pdf"], "--out report.pdf: unsupported suffix, a page ends in .html"),
        (["--labels", "a"], "--labels: 1 given for 3 log dirs"),
        (["missing"], "log dir missing is not a folder"),
    ],
)
def test_bad_arguments_are_told_in_one_sentence(monkeypatch, trials, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UserError, SystemExit)) as caught:
        run(monkeypatch, *trials, *arguments)
    assert message in str(caught.value)
    assert not list(tmp_path.glob("*.html"))


def test_a_folder_given_twice_is_refused(trials):
    with pytest.raises(UserError, match="is given twice"):
        load_report_trials([trials[0], trials[0] + "/"])


def test_a_failed_write_leaves_the_old_page(monkeypatch, trials, tmp_path):
    def disk_full(source, target):
        raise OSError(28, "No space left on device")

    page = tmp_path / "a.html"
    page.write_text("old")
    monkeypatch.setattr(os, "replace", disk_full)
    monkeypatch.setattr(report, "draw_pictures", lambda *given: [])
    with pytest.raises(UserError, match="a.html cannot be written"):
        run(monkeypatch, *trials, "--out", page)
    assert page.read_text() == "old" and not list(tmp_path.glob("*.partial"))


SORTED = [
    (["10", "9", "", "-1.5", "1e-7"], True, False, [3, 4, 1, 0, 2]),
    (["10", "9", "", "-1.5", "1e-7"], True, True, [0, 1, 4, 3, 2]),
    (["", "1", "", "0"], True, True, [1, 3, 0, 2]),
    (["b10", "b9", "", "a"], False, False, [3, 1, 0, 2]),
    (["x", "y", "x"], False, True, [1, 0, 2]),
    ([], True, False, []),
]
"""Keys of rows, whether they are numbers, whether descending, and the order of rows that this gives."""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on the PATH to run the page's script")
def test_the_order_that_the_script_sorts_rows_in():
    program = """
        const document = { querySelectorAll: () => [] };
        const scope = require("vm").createContext({ document, addEventListener() {} });
        require("vm").runInContext(require("fs").readFileSync(process.argv[1], "utf8"), scope);
        const cases = JSON.parse(process.argv[2]);
        console.log(JSON.stringify(cases.map((given) => scope.sortedOrder(...given.slice(0, 3)))));
    """
    line = ["node", "-e", program, FOLDER / "report.js", json.dumps(SORTED)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [expected for *_, expected in SORTED]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    executable = find_chromium()
    if executable is None:
        pytest.skip(f"no Chromium: neither $CHROMIUM nor any of {', '.join(NAMES)} on the PATH")
    with Chromium(executable, tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


ROWS = "[...document.querySelectorAll('.sortable tbody tr')].map((row) => row.cells[0].textContent)"
SORTS = "[...document.querySelectorAll('.sortable th[aria-sort]')].map((th) => [th.innerText.trim(), th.ariaSort])"


def heading(name):
    return f"[...document.querySelectorAll('.sortable thead button')].find((button) => button.textContent === '{name}')"


def test_the_page_in_a_browser(browser, page):
    browser.open(page)
    assert browser.evaluate(ROWS) == ["b10", EVIL, SHOWN]
    browser.click(heading("NLL"))
    assert browser.evaluate(ROWS) == [EVIL, "b10", SHOWN]  # 9.5, 10 and none
    assert browser.evaluate(SORTS) == [["NLL", "ascending"]]
    browser.click(heading("NLL"))
    assert browser.evaluate(ROWS) == ["b10", EVIL, SHOWN]
    assert browser.evaluate(SORTS) == [["NLL", "descending"]]
    browser.evaluate(f"{heading('Trial')}.focus()")
    browser.press("Enter", 13, "\r")
    assert browser.evaluate(ROWS) == [EVIL, SHOWN, "b10"]
    browser.press(" ", 32, " ")
    assert browser.evaluate(ROWS) == ["b10", SHOWN, EVIL]
    assert browser.evaluate(SORTS) == [["Trial", "descending"]]
    browser.click("document.querySelector('[data-copies]')")
    assert "a model & more" in browser.evaluate("getSelection().toString()")
    assert browser.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not re.match("data:", url)] == [page.as_uri()]


def test_the_page_fits_a_telephone_and_opens_all_for_print(browser, page):
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1, mobile=True)
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") > 0
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_a_browser_error_would_be_seen(browser, tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<script>missing()</script><script>console.error('x')</script>")
    browser.open(page)
    assert len(browser.complaints()) == 2
