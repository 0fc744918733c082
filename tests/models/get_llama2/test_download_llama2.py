"""download_llama2.sh against a local server of a made-up release, with wget and with curl."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.models.get_llama2.release_server import SHARD_BYTES, SHARDS, SIGNATURE, ReleaseServer

SCRIPT = Path(__file__).resolve().parents[3] / "models" / "get_llama2" / "download_llama2.sh"
PROGRAMS = "bash cat md5sum cut awk tr mkdir mv rm sleep".split()
SHARD = "llama-2-7b/consolidated.00.pth"
ALWAYS = {"LICENSE", "USE_POLICY.md", "tokenizer_checklist.chk", "tokenizer.model"}


@pytest.fixture
def server():
    with ReleaseServer() as server:
        yield server


def programs(folder, *downloaders):
    """A folder for PATH with nothing but what the script may use."""
    folder.mkdir()
    for name in (*PROGRAMS, *downloaders):
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture(params=["wget", "curl"])
def downloader(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture
def download(tmp_path, downloader):
    """Runs the script into tmp_path/llama2 with only that downloader there."""
    path = programs(tmp_path / "bin", downloader)

    def run(*flags, stdin="", **variables):
        return call(path, *flags, "--target", tmp_path / "llama2", stdin=stdin, **variables)

    return run


def call(path, *flags, stdin="", **variables):
    environment = {"PATH": str(path), "HOME": str(path), "LLAMA2_RETRY_SECONDS": "0", **variables}
    line = [shutil.which("bash"), SCRIPT, *map(str, flags)]
    return subprocess.run(line, env=environment, input=stdin, capture_output=True, text=True, timeout=120)


def got(tmp_path):
    """Path and content of every file that arrived."""
    root = tmp_path / "llama2"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def released(server, *sizes):
    """What a download of those sizes must leave."""
    folders = tuple(f"llama-2-{size}/" for size in sizes)
    return {name: content for name, content in server.files.items() if name in ALWAYS or name.startswith(folders)}


def assert_error(done, sentence):
    """One sentence, behind whatever the downloader itself says."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1 and sentence in errors[0], done.stderr


def test_sizes_arrive_whole_and_are_not_fetched_twice(server, download, tmp_path):
    flags = ("--url", server.link, "--sizes", "7B,13B-chat")
    for _ in range(2):
        done = download(*flags)
        assert done.returncode == 0, done.stderr
        assert got(tmp_path) == released(server, "7b", "13b-chat")
    assert server.sent(SHARD) == [(0, SHARD_BYTES)]
    assert f"--input_dir {tmp_path / 'llama2'} --model_size 13B-chat" in done.stdout


def test_asks_for_link_and_sizes(server, download, tmp_path):
    done = download(stdin=f"{server.link}\n7B-chat\n")
    assert done.returncode == 0, done.stderr
    assert got(tmp_path) == released(server, "7b-chat")


def test_enter_means_all_sizes(server, download, tmp_path):
    done = download(stdin=f"{server.link}\n\n")
    assert done.returncode == 0, done.stderr
    assert got(tmp_path) == released(server, *SHARDS)


def test_link_is_in_no_argument_of_a_process(server, downloader, tmp_path):
    """Given in the environment, the signed link is not in the list of processes."""
    path = programs(tmp_path / "bin")
    wrapper = path / downloader
    wrapper.write_text(f'#!{path}/bash\necho "$@" >>"{path}/arguments"\nexec {shutil.which(downloader)} "$@"\n')
    wrapper.chmod(0o755)
    variables = {"LLAMA2_URL": server.link, "LLAMA2_SIZES": "7B"}
    done = call(path, "--target", tmp_path / "llama2", **variables)
    assert done.returncode == 0, done.stderr
    assert got(tmp_path) == released(server, "7b")
    arguments = (path / "arguments").read_text()
    assert SHARD in arguments and SIGNATURE not in arguments


def test_lost_connection_is_resumed_at_once(server, download, tmp_path):
    server.cuts[SHARD] = 2
    done = download("--url", server.link, "--sizes", "7B")
    assert done.returncode == 0, done.stderr
    assert got(tmp_path) == released(server, "7b")
    half, quarter = SHARD_BYTES // 2, SHARD_BYTES // 4
    assert server.sent(SHARD) == [(0, half), (half, quarter), (half + quarter, quarter)]


def test_interrupted_download_is_resumed_by_the_next_run(server, download, tmp_path):
    server.cuts[SHARD] = 5
    assert_error(download("--url", server.link, "--sizes", "7B"), f"{SHARD} did not arrive in 5 attempts")
    there = len(got(tmp_path)[f"{SHARD}.part"])
    assert SHARD not in got(tmp_path) and SHARD_BYTES / 2 < there < SHARD_BYTES
    server.requests.clear()
    assert download("--url", server.link, "--sizes", "7B").returncode == 0
    assert server.sent(SHARD) == [(there, SHARD_BYTES - there)]
    assert got(tmp_path) == released(server, "7b")


def test_damaged_file_is_removed_and_fetched_anew(server, download, tmp_path):
    whole = server.files[SHARD]
    server.files[SHARD] = b"x" + whole[1:]
    assert_error(download("--url", server.link, "--sizes", "7B"), f"{SHARD} arrived damaged")
    assert not {SHARD, f"{SHARD}.part"} & got(tmp_path).keys()
    server.files[SHARD] = whole
    assert download("--url", server.link, "--sizes", "7B").returncode == 0
    assert got(tmp_path) == released(server, "7b")


def leave(tmp_path, name, content):
    path = tmp_path / "llama2" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_file_damaged_on_disk_is_replaced(server, download, tmp_path):
    leave(tmp_path, SHARD, b"damaged")
    assert download("--url", server.link, "--sizes", "7B").returncode == 0
    assert got(tmp_path) == released(server, "7b")


def test_killed_before_the_check(server, download, tmp_path):
    """The whole file is there under its temporary name: nothing of it is sent again."""
    leave(tmp_path, f"{SHARD}.part", server.files[SHARD])
    assert download("--url", server.link, "--sizes", "7B").returncode == 0
    assert sum(count for _, count in server.sent(SHARD)) == 0
    assert got(tmp_path) == released(server, "7b")


def test_damaged_remainder_does_not_stay(server, download, tmp_path):
    """One that is as long as the file, or longer: no range is left to ask for."""
    leave(tmp_path, f"{SHARD}.part", bytes(SHARD_BYTES))
    assert_error(download("--url", server.link, "--sizes", "7B"), f"{SHARD} arrived damaged")
    assert download("--url", server.link, "--sizes", "7B").returncode == 0
    assert got(tmp_path) == released(server, "7b")


def test_refused_link(server, download):
    link = server.link.replace("Signature=a", "Signature=b")
    assert_error(download("--url", link, "--sizes", "7B"), "the server refused LICENSE: the link may have expired")


def test_link_that_does_not_cover_a_model(server, download):
    del server.files[SHARD]
    assert_error(download("--url", server.link, "--sizes", "7B"), f"the server refused {SHARD}: the link may have")


def test_page_instead_of_files(server, download):
    server.files["tokenizer_checklist.chk"] = b"<html>sign in</html>"
    done = download("--url", server.link, "--sizes", "7B")
    assert_error(done, "tokenizer_checklist.chk has no checksum of tokenizer.model")


def test_no_server(download):
    link = "http://127.0.0.1:9/*?a=b"  # the discard port: nothing listens
    assert_error(download("--url", link, "--sizes", "7B"), "LICENSE did not arrive in 5 attempts")


LINK = "https://example.invalid/*?a=b"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--url", LINK, "--sizes", "8B"), "8B is no size of Llama 2: give some of 7B,13B,70B,7B-chat"),
        (("--url", LINK, "--sizes", "7B,7b"), "7b is no size of Llama 2"),
        (("--url", LINK, "--sizes", ","), "--sizes is empty: give some of 7B"),
        (("--url", LINK), "there are no sizes: give them when asked, with --sizes or in LLAMA2_SIZES"),
        (("--sizes", "7B"), "there is no link: give it when asked, with --url or in LLAMA2_URL"),
        (("--url", "https://example.invalid/file", "--sizes", "7B"), "the link is not one of Meta's"),
        (("--url", "*", "--sizes", "7B"), "the link is not one of Meta's"),
        (("--url", LINK, "--sizes"), "--sizes needs a value"),
        (("--model", "7B"), "--model is no flag of this script"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_arguments(tmp_path, flags, sentence):
    path = programs(tmp_path / "bin", "wget")
    assert_error(call(path, "--target", tmp_path / "llama2", *flags), sentence)
    assert not (tmp_path / "llama2").exists()


def test_neither_wget_nor_curl(tmp_path):
    done = call(programs(tmp_path / "bin"), "--url", LINK, "--sizes", "7B")
    assert_error(done, "neither wget nor curl is installed")


def test_target_that_cannot_be(tmp_path, server):
    (tmp_path / "file").touch()
    path = programs(tmp_path / "bin", "wget")
    done = call(path, "--url", server.link, "--sizes", "7B", "--target", tmp_path / "file" / "llama2")
    assert_error(done, "cannot be made: give another folder")


def test_help(tmp_path):
    done = call(programs(tmp_path / "bin"), "--help")
    assert done.returncode == 0 and "--target FOLDER" in done.stdout


def test_is_executable():
    assert os.access(SCRIPT, os.X_OK)
