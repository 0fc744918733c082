"""Every command in README, CONTRIBUTING and docs/ is run as it stands there, on tiny models and shorter texts.

The ```bash blocks of a page are one session, as for a reader who goes from top to bottom: a variable that an earlier
page set is not there. The ```python blocks of a page are one program. stand_ins.py says what is cut down, and what is
not run; workspace.py what is there instead of models and data.
"""

import re
import shlex

import pytest

from tests.docs.pages import Block, Page, read_pages
from tests.docs.stand_ins import ELSEWHERE, NOT_RUN, PARSED_ONLY
from tests.docs.workspace import Desk

PAGES = {page.path: page for page in read_pages()}
LANGUAGES = {"bash", "python", "text", "diff", "json", "bibtex"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    desk = Desk(tmp_path_factory.mktemp("desk"))
    with desk.programs():
        yield desk


def runnable(page: Page) -> list[Block]:
    """The Python blocks of a page that are run."""
    return [block for block in page.blocks("python") if not any(words in block.code for words in ELSEWHERE)]


def bash_session(page: Page) -> str:
    """The page's bash blocks, each announced."""
    blocks = page.blocks("bash")
    return "\n".join(f"echo {shlex.quote(f'== {page.path}:{block.line}')}\n{block.code}" for block in blocks)


@pytest.mark.parametrize("path", [path for path, page in PAGES.items() if page.blocks("bash") or runnable(page)])
def test_a_page_runs(desk, path):
    page, workspace = PAGES[path], desk.workspace(path.replace("/", "-"))
    status, output = workspace.run(bash_session(page))
    assert status == 0, output[-5000:]
    (workspace.root / "page.py").write_text("\n".join(block.code for block in runnable(page)))
    status, output = workspace.run("python page.py")
    assert status == 0, output[-5000:]


@pytest.mark.parametrize(
    "command",
    [
        "python scripts/compare_ppl.py --label vanilla logs/nothing",
        "python scripts/compare.py logs/nothing",
        "python benchmarks/growth.py --length 4096",
        "deepspeed --gpus 1 scripts/eval_ppl_deepspeed.py",
        "torchrun --nprocs 2 scripts/eval_ppl_deepspeed.py",
        "bash models/get_llama2/download_llama2.sh --size 7B",
        "make testing",
    ],
)
def test_a_wrong_command_fails(desk, wrong_workspace, command):
    assert wrong_workspace.run(command)[0] != 0


@pytest.fixture(scope="module")
def wrong_workspace(desk):
    return desk.workspace("wrong")


@pytest.mark.parametrize("path", PAGES)
def test_blocks_say_what_they_are(path):
    """A block of another kind, or an indented one, would not be run."""
    text = PAGES[path].text
    openings = [line.strip() for line in text.splitlines() if line.lstrip().startswith("```")][::2]
    assert {opening.removeprefix("```") for opening in openings} <= LANGUAGES
    assert not re.findall(r"\n\n    (?:python|deepspeed|make|bash|torchrun) .*", PAGES[path].prose)


def test_exceptions_are_needed():
    """A script, program or block that no page uses any more is no exception."""
    bash = "\n".join(block.code for page in PAGES.values() for block in page.blocks("bash"))
    named = bash + "make test python -m pytest" * ("make test" in bash) + "ruff" * ("make lint" in bash)
    named += "pip" * ("make setup" in bash)
    suite = " ".join(PARSED_ONLY) if "make bench" in bash else ""
    assert [script for script in PARSED_ONLY if script not in bash + suite] == []
    assert [program for program in NOT_RUN if program not in named] == []
    python = "\n".join(block.code for page in PAGES.values() for block in page.blocks("python"))
    assert [words for words in ELSEWHERE if words not in python] == []
