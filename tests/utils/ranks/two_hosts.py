"""Two hosts on one machine: network namespaces with an address each, joined by a cable, and a name and an sshd each.

They share the disk and the processors, and nothing else that ranks use: what goes from one to the other goes through
the cable, which can be cut. Everything is taken down at the end, also of a test that fails.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.scripts.running import BIN, ROOT, environment

NETWORK = "10.213.77"
SSH_PORT = 2222
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


def path_of(program):
    """Where a program is, on the system's own PATH too; None where it is missing."""
    return shutil.which(program, path=f"{os.environ['PATH']}:{SYSTEM}")


def why_not(*programs):
    """The reason why there can be no two hosts here, or no one of these programs; None where there can."""
    missing = [program for program in ("ip", "unshare", *programs) if path_of(program) is None]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    if os.geteuid():
        return "network namespaces need root"
    probe = f"lmi-{os.getpid()}-probe"
    made = _ip("netns", "add", probe, check=False)
    if made.returncode == 0:
        made = _ip("netns", "exec", probe, "unshare", "--uts", "true", check=False)
        _ip("netns", "del", probe)
    return f"no network namespaces here: {made.stderr.strip()}" if made.returncode else None


def _ip(*words, check=True):
    return subprocess.run([path_of("ip"), *words], capture_output=True, text=True, check=check)


@dataclass(frozen=True)
class Host:
    """One of the two. interface: its end of the cable. folder: what its processes print."""

    name: str
    namespace: str
    interface: str
    address: str
    folder: Path

    def start(self, *words, label, **variables):
        """Start a program there; what it prints is in `said(label)`. variables: of its environment."""
        inside = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *map(str, words)]
        given = environment() | {"GLOO_SOCKET_IFNAME": self.interface} | variables
        with open(self.folder / f"{self.name}-{label}", "w") as output:
            return subprocess.Popen(
                [path_of("ip"), "netns", "exec", self.namespace, *inside],
                cwd=ROOT,
                env={name: str(value) for name, value in given.items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self, label):
        return (self.folder / f"{self.name}-{label}").read_text()

    def die(self):
        """Cut the cable, then end every process: no other host hears that its connections are closed."""
        _ip("-n", self.namespace, "link", "set", self.interface, "down")
        _end_processes(self.namespace)


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """The hosts; `folder` takes what their processes print."""
    number = os.getpid()
    hosts = [
        Host(f"lmi-host-{end}", f"lmi-{number}-{end}", f"lmi{number}-{end}", f"{NETWORK}.{end}", folder)
        for end in (1, 2)
    ]
    names = "127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in hosts)
    _remove_left_behind()
    with ExitStack() as stack:
        for host in hosts:
            stack.callback(_remove, host.namespace)
            own = Path("/etc/netns") / host.namespace
            own.mkdir(parents=True)
            (own / "hosts").write_text(names)
            (own / "resolv.conf").write_text("nameserver 127.0.0.1\n")
            _ip("netns", "add", host.namespace)
        first, second = hosts
        cable = ["link", "add", first.interface, "netns", first.namespace, "type", "veth"]
        _ip(*cable, "peer", "name", second.interface, "netns", second.namespace)
        for host in hosts:
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", host.interface)
            for interface in ("lo", host.interface):
                _ip("-n", host.namespace, "link", "set", interface, "up")
        yield first, second


def _remove_left_behind():
    """The hosts of a test run that was killed."""
    for match in re.finditer(r"^lmi-(\d+)-\d\b", _ip("netns", "list").stdout, re.MULTILINE):
        if not Path("/proc", match[1]).exists():
            _remove(match[0])


def _remove(namespace):
    if namespace in _ip("netns", "list").stdout.split():
        _end_processes(namespace)
        _ip("netns", "del", namespace)
    shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)
    with suppress(OSError):  # there are others
        Path("/etc/netns").rmdir()


def _end_processes(namespace):
    for number in _ip("netns", "pids", namespace).stdout.split():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(int(number), signal.SIGKILL)


@contextmanager
def reached_by_ssh(hosts, folder: Path) -> Iterator[dict[str, str]]:
    """An sshd on each host; gives the variables with which `ssh HOST` finds them, with keys of its own."""
    folder.mkdir(mode=0o700)
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text("".join(f"[{host.name}]:{SSH_PORT} {public}" for host in hosts))
    (folder / "ssh_config").write_text(
        f"Port {SSH_PORT}\nUser root\nBatchMode yes\nIdentitiesOnly yes\nIdentityFile {folder}/user_key\n"
        f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n"
        "ServerAliveInterval 5\n"
    )
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {path_of("ssh")} -F {folder}/ssh_config "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    apart = Path("/run/sshd")  # where sshd insists on locking its children in
    is_there = apart.exists()
    apart.mkdir(exist_ok=True)
    daemons = [
        host.start(path_of("sshd"), "-D", "-e", "-f", _sshd_config(host, folder), label="sshd") for host in hosts
    ]
    try:
        _wait_until_they_listen(hosts, daemons)
        yield {"PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}"}
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
        if not is_there:
            with suppress(OSError):  # another run of these tests has removed it
                apart.rmdir()


def _sshd_config(host, folder):
    # SetEnv: what ranks need there, as a user's shell would set it on a cluster
    given = {name: environment()[name] for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE")}
    given["GLOO_SOCKET_IFNAME"] = host.interface
    path = folder / f"sshd_config_{host.name}"
    path.write_text(
        f"Port {SSH_PORT}\nListenAddress {host.address}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/user_key.pub\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        f"StrictModes no\nSetEnv {' '.join(f'{name}={value}' for name, value in given.items())}\n"
    )
    return path


def _wait_until_they_listen(hosts, daemons):
    end = time.monotonic() + 20
    while not all("Server listening" in host.said("sshd") for host in hosts):
        said = "".join(host.said("sshd") for host in hosts)
        assert time.monotonic() < end and all(daemon.poll() is None for daemon in daemons), said
        time.sleep(0.05)


def torchrun(place, hosts, *script):
    """The command for host number `place`."""
    meeting = ["--master_addr", hosts[0].name, "--master_port", "29500"]
    return ["torchrun", "--nnodes", "2", "--node_rank", place, "--nproc_per_node", "1", *meeting, *script]


def srun(place):
    """The variables that srun would set in the one task on host number `place`."""
    return {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "lmi-host-[1-2]",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": place,
        "SLURM_LOCALID": "0",
    }
