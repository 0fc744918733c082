"""How a script ends: one sentence and a status, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(body, stdout=subprocess.PIPE, options="", **variables):
    """A script whose `main` is `body`."""
    imports = "import errno\nfrom utils.errors import *\nfrom utils.program import *\n"
    code = f"{imports}def main():\n    {body}\nrun_main(main{options})"
    environment = {"PATH": "", **variables}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.PIPE, check=False
    )


@pytest.mark.parametrize(
    "body, status, sentence",
    [
        ("raise UserError('--model x: is not there')", 2, b"error: --model x: is not there\n"),
        ("raise NothingDoneError('all failed')", 1, b"error: all failed\n"),
        ("raise OSError(errno.ENOSPC, 'No space left', 'f')", 2, b"error: no space left to write f: No space left\n"),
        ("raise KeyboardInterrupt", 130, b"error: interrupted\n"),
    ],
)
def test_one_sentence_and_a_status(body, status, sentence):
    done = run(body)
    assert done.returncode == status and done.stderr.startswith(sentence) and done.stderr.count(b"\n") == 1


def test_a_script_that_can_go_on_says_so():
    done = run("raise KeyboardInterrupt", options=", resumes=True")
    assert done.returncode == 130
    assert done.stderr == b"error: interrupted; the same command without --overwrite goes on where it stopped\n"


def test_an_unforeseen_error_keeps_its_traceback():
    done = run("raise OSError(errno.EIO, 'Input/output error')")
    assert done.returncode == 1 and b"Traceback" in done.stderr


def test_a_reader_that_has_left_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    done = run("print('a line')", stdout=writer, options=", resumes=True")
    other = run("print('a line')", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"error: the program that read the output has ended\n")
    assert (other.returncode, other.stderr) == (141, b"")


def test_a_terminal_without_unicode_gets_codes():
    done = run("print('Λ'); raise UserError('no Λ')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"\\u039b\n", b"error: no \\u039b\n")


FAULTS = """
import resource, sys
from utils.program import prepare_processor
if sys.argv[1] == "prepared":
    prepare_processor()
import torch
def faults_of_tensors():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults_of_tensors()
print(faults_of_tensors())
"""


def faults(state: str, **environment: str) -> int:
    command = [sys.executable, "-c", FAULTS, state]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_large_tensors_are_made_of_memory_that_was_freed():
    plain = faults("plain")
    assert faults("prepared") < plain / 10
    assert faults("prepared", MALLOC_MMAP_MAX_="65536", MALLOC_TRIM_THRESHOLD_="131072") > plain / 2


CACHES = "print(os.environ.get('TORCHINDUCTOR_CACHE_DIR'), os.environ.get('TRITON_CACHE_DIR'))"


def test_compiled_code_is_kept_in_the_users_cache(tmp_path):
    for variables, cache in (({"XDG_CACHE_HOME": tmp_path / "xdg"}, "xdg"), ({"HOME": tmp_path}, ".cache")):
        done = run(f"import os; {CACHES}", **{name: str(path) for name, path in variables.items()})
        folder = tmp_path / cache / "lm-infinite"
        assert done.stdout.decode() == f"{folder / 'inductor'} {folder / 'triton'}\n"


def test_where_the_user_or_the_machine_has_it_otherwise_it_stays_so(tmp_path):
    done = run(f"import os; {CACHES}", HOME=str(tmp_path), TORCHINDUCTOR_CACHE_DIR="here", TRITON_CACHE_DIR="there")
    assert done.stdout == b"here there\n"
    (tmp_path / "file").touch()
    done = run(f"import os; {CACHES}", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 0 and done.stdout == b"None None\n"
