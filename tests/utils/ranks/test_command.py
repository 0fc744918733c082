"""The command that a trial records."""

import subprocess
import sys
from pathlib import Path

import pytest

from utils.ranks import command

ROOT = Path(__file__).resolve().parents[3]
CHILD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from utils.ranks.command import typed_command
print("\\n".join(typed_command()))
"""
CALLS = "import subprocess, sys\nsys.exit(subprocess.call([sys.executable, {script!r}, *{words}]))\n"


@pytest.mark.skipif(not command.PROCESSES.is_dir(), reason="no /proc: this system does not tell a process's command")
@pytest.mark.parametrize("name, launched", [("deepspeed", True), ("other", False)])
def test_the_command_is_that_of_the_launcher(tmp_path, name, launched):
    """As DeepSpeed does: its command starts one process per host, and that one for each rank."""
    (tmp_path / "rank.py").write_text(CHILD)
    (tmp_path / "host.py").write_text(
        CALLS.format(script=str(tmp_path / "rank.py"), words="['--local_rank=0', *sys.argv[1:]]")
    )
    (tmp_path / name).write_text(CALLS.format(script=str(tmp_path / "host.py"), words="sys.argv[4:]"))
    typed = ["--num_gpus", "1", "scripts/diagnose.py", "--title", "two words"]
    line = [sys.executable, tmp_path / name, *typed]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    own = [sys.executable, str(tmp_path / "rank.py"), "--local_rank=0", *typed[3:]]
    assert done.stdout.splitlines() == (["deepspeed", *typed] if launched else own)


def test_a_command_of_its_own_is_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/diagnose.py", "--seed", "1"])
    monkeypatch.setattr(command, "PROCESSES", Path("missing"))
    assert command.typed_command() == [sys.executable, "scripts/diagnose.py", "--seed", "1"]
    monkeypatch.setattr(sys, "argv", ["scripts/diagnose.py", "--local_rank=0"])
    assert command.typed_command() == [sys.executable, "scripts/diagnose.py", "--local_rank=0"]
