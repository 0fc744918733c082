"""The pages say what is there: links, paths, scripts, flags, messages and the code that they show."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, read_pages
from tests.docs.sources import FOLDERS, PLACEHOLDER, commands, flags, texts

PAGES = {page.path: page for page in read_pages()}
EXPERIMENTS = {
    "scripts/eval_ppl_deepspeed.py": "docs/perplexity.md",
    "scripts/eval_infinite_ppl.py": "docs/streaming.md",
    "scripts/eval_generation.py": "docs/generation.md",
    "scripts/eval_downstream_tasks.py": "docs/downstream.md",
    "scripts/eval_lm_harness.py": "docs/lm_eval.md",
    "scripts/diagnose.py": "docs/diagnosis.md",
}
SHARED = "docs/flags.md"
OTHERS = {
    "scripts/compare_ppl.py": "docs/perplexity.md",
    "visualization/plot_nll.py": "docs/perplexity.md",
    "scripts/combine_results.py": "docs/sweeps_and_tables.md",
    "scripts/combine_evaluate_generation.py": "docs/sweeps_and_tables.md",
    "scripts/sweep.py": "docs/sweeps_and_tables.md",
    "scripts/prepare_sample.py": "docs/models.md",
    "visualization/score_by_length.py": "docs/sweeps_and_tables.md",
    "visualization/score_heatmap.py": "docs/sweeps_and_tables.md",
    "visualization/cost_by_length.py": "docs/sweeps_and_tables.md",
    "visualization/report.py": "docs/sweeps_and_tables.md",
    "visualization/three_factors.py": "docs/diagnosis.md",
    "visualization/relative_attention_explosion.py": "docs/diagnosis.md",
    "visualization/attention_entropy.py": "docs/diagnosis.md",
    "visualization/attention_mass.py": "docs/diagnosis.md",
    "visualization/position_pca.py": "docs/diagnosis.md",
    "visualization/benchmark.py": "docs/results.md",
    "data/split_pile_file.py": "docs/data.md",
    "data/passkey_retrieval/create_passkey_data.py": "docs/data.md",
    "models/get_llama2/convert_llama_weights_to_hf.py": "docs/models.md",
}
BRING_DATA = ("scripts/eval_lm_harness.py",)
"""Experiments whose tasks bring their own data."""
NO_PARSER = ("scripts/prepare_sample.py",)
OF_OTHER_PROGRAMS = {
    "--num_gpus": "deepspeed",
    "--log_level": "deepspeed",
    "--site": "pip",
    "--hostfile": "deepspeed",
    "--node_rank": "torchrun",
    "--ntasks": "srun",
    "--signal": "sbatch",
    "--all": "benchmarks/stream_200m.sh",
    "--url": "models/get_llama2/download_llama2.sh",
    "--sizes": "models/get_llama2/download_llama2.sh",
    "--target": "models/get_llama2/download_llama2.sh",
    "--help": "every script",
}
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def described(page: Page) -> set[str]:
    """The flags that the tables of a page have in their first cell, and those that a sentence gives a meaning."""
    rows = [line.split(" | ")[0] for line in page.text.splitlines() if line.startswith("| `--")]
    return set(FLAG.findall(" ".join(rows)))


def named(page: Page) -> set[str]:
    return set(FLAG.findall(page.prose))


def test_readme_is_short():
    assert len(PAGES["README.md"].text.splitlines()) < 200


@pytest.mark.parametrize("path", PAGES)
def test_links_and_pictures_are_there(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[path].prose):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (ROOT / path).parent / file if file else ROOT / path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """Those that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES)
def test_paths_are_there(path):
    """Words in backticks that begin with a folder of the repository and are no pattern."""
    folders = "|".join((*FOLDERS, "configs", "tests", "docs"))
    for name in re.findall(rf"`((?:{folders})/[\w./]*)`", PAGES[path].prose):
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_index():
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\((\w+\.md)", PAGES["docs/README.md"].text))


def test_every_command_has_a_page():
    """Those of benchmarks/ are told about in docs/results.md, and each by its --help."""
    paged = [path for path in commands() if not path.startswith("benchmarks/")]
    assert sorted(paged) == sorted({**EXPERIMENTS, **OTHERS})
    for script, path in {**EXPERIMENTS, **OTHERS}.items():
        assert Path(script).name in PAGES[path].text, script
    for script in commands():
        assert any(Path(script).name in page.text for page in PAGES.values()), script


@pytest.mark.parametrize("script", EXPERIMENTS)
def test_flags_of_an_experiment_are_described(script):
    page, own = PAGES[EXPERIMENTS[script]], flags(script)
    assert set(own) - described(page) - described(PAGES[SHARED]) == set()
    assert f"({Path(SHARED).name})" in page.text


def test_shared_flags_are_shared():
    """What is said once for all is a flag of all of them."""
    shared = PAGES[SHARED]
    for script in EXPERIMENTS:
        page = shared if script not in BRING_DATA else Page(SHARED, without(shared.text, "## Data"))
        assert described(page) - set(flags(script)) == set(), script


def without(text: str, heading: str) -> str:
    """A page without the part under a heading."""
    before, found, rest = text.partition(f"\n{heading}\n")
    assert found
    return before + rest[rest.index("\n## ") :]


@pytest.mark.parametrize("script", [script for script in OTHERS if script not in NO_PARSER])
def test_flags_of_other_scripts_are_described(script):
    assert flags(script), "its parser was not found"
    assert set(flags(script)) - named(PAGES[OTHERS[script]]) == set()


@pytest.mark.parametrize("path", PAGES)
def test_no_flag_is_named_that_is_not_there(path):
    known = {flag for script in commands() if script not in NO_PARSER for flag in flags(script)}
    assert named(PAGES[path]) - known - set(OF_OTHER_PROGRAMS) == set()


def test_flags_of_other_programs_are_needed():
    used = {flag for page in PAGES.values() for flag in named(page)}
    assert set(OF_OTHER_PROGRAMS) - used == set()


def test_quoted_messages_are_in_the_sources():
    rows = re.findall(r"^\| `(.+?)` \|", PAGES["docs/troubleshooting.md"].text, re.MULTILINE)
    assert len(rows) > 50
    assert [message for message in rows if not any(message in text for text in messages())] == []


def messages() -> list[str]:
    """The sources' texts; where a whole sentence is filled in, what fills it in is a text too."""
    return [re.sub(f"{PLACEHOLDER}+", PLACEHOLDER, text) for text in texts()]


def diffs() -> list[tuple[str, list[str]]]:
    """(path, consecutive lines) of every piece of code that docs/extending.md shows."""
    found = []
    for block in PAGES["docs/extending.md"].blocks("diff"):
        for piece in re.split(r"^\+\+\+ b/", block.code, flags=re.MULTILINE)[1:]:
            path, *lines = piece.splitlines()
            found.append((path, [line[1:] for line in lines]))
    return found


@pytest.mark.parametrize(("path", "lines"), diffs())
def test_code_shown_is_that_of_the_tree(path, lines):
    assert "\n".join(lines).strip("\n") in (ROOT / path).read_text(encoding="utf-8")


def test_model_types_are_those_of_the_registry():
    from models.model_base import supported_model_types

    rows = re.findall(r"^\| .*\(`models/\w+\.py`\) \| (.*) \|$", PAGES["docs/models.md"].text, re.MULTILINE)
    assert sorted(", ".join(rows).split(", ")) == supported_model_types()
