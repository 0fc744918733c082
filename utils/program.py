"""The frame of a script: settings from before torch is imported, and its end, errors included."""

import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from utils.errors import GOES_ON, LostRankError, NothingDoneError, SharedError, Stopped, Unfinished, UserError
from utils.ranks.launch import announced_rank
from utils.ranks.stopping import stopping

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = -1
LOST_RANK_STATUS = NOTHING_DONE_STATUS = 1
USER_ERROR_STATUS = 2
UNFINISHED_STATUS = 75  # EX_TEMPFAIL: try again
INTERRUPTED_STATUS = 130
SIGNAL_STATUS = 128  # and the signal's number, as a shell reports it
OUTPUT_CLOSED_STATUS = 141  # as a shell reports a program that SIGPIPE ended
FIRST_RANK_SPEAKS_SECONDS = 5.0
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


SPINS = {"GOMP_SPINCOUNT": "2000"}
"""Read when torch is imported: threads that spin for long starve each other on busy cores."""


def prepare_processor() -> None:
    """Threads that do not spin for long, and freed memory that is kept: both only where the user has set nothing.

    glibc gives tensors of more than 32 MiB back to the system as soon as they are freed, and the next one's pages are
    then found and zeroed anew, which costs such an element-wise operation most of its time.
    """
    for variable, value in SPINS.items():
        os.environ.setdefault(variable, value)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for variable, option, value in (
            ("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, NEVER),
            ("MALLOC_MMAP_MAX_", M_MMAP_MAX, 0),
        ):
            if variable not in os.environ:
                libc.mallopt(option, value)


def keep_compiled_code() -> None:
    """Have torch.compile keep what it makes in the user's cache folder, where the user has named no other.

    Its own place is lost with /tmp, and each run would compile anew. It stays there where that folder cannot be made.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base, "lm-infinite")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if folder.is_absolute() and existing.is_dir() and os.access(existing, os.W_OK):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
        os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))


def run_main(main: Callable[[], None], resumes: bool = False, tuned: bool = True) -> None:
    """Run a script's `main`; a UserError becomes one line on stderr and exit status 2, never a traceback.

    A disk that fills up is reported the same way, and Ctrl-C ends with status 130. Under a launcher of
    several ranks the sentence is said once, unless it concerns one rank alone. Where the terminal cannot show
    a character, its code is printed instead. A run that was told to end early ends with status 75, one that a signal
    ends with 128 and its number.

    resumes: whether the same command goes on where one was stopped. tuned: whether the process is prepared for work on
    the processor, or stays as the system has it.
    """
    keep_compiled_code()
    if tuned:
        prepare_processor()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else pages of torch's own stand before our one sentence
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    next_time = f"; {GOES_ON}" if resumes else ""
    try:
        if resumes:
            stopping.listen()
        main()
        sys.stdout.flush()
    except LostRankError as error:
        stopping.release()
        if error.said:
            time.sleep(FIRST_RANK_SPEAKS_SECONDS)
        end_process(None if error.said else str(error), LOST_RANK_STATUS)
    except Unfinished:
        end_process(None, UNFINISHED_STATUS)
    except NothingDoneError as error:
        _leave(str(error), NOTHING_DONE_STATUS, shared=True)
    except UserError as error:
        _leave(str(error), USER_ERROR_STATUS, shared=isinstance(error, SharedError))
    except KeyboardInterrupt:
        _outlive_command()
        _leave(f"interrupted{next_time}", INTERRUPTED_STATUS, shared=True)
    except Stopped as stop:
        _outlive_command()  # on Ctrl-C, deepspeed's launcher sends SIGTERM, which may be here first
        _leave(f"ended by {signal.Signals(stop.number).name}{next_time}", SIGNAL_STATUS + stop.number, shared=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        _leave("the program that read the output has ended" if resumes else None, OUTPUT_CLOSED_STATUS)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        _leave(f"no space left to write {error.filename or 'a file'}: {error.strerror}", USER_ERROR_STATUS)


def _outlive_command() -> None:
    if announced_rank() == 0:
        stopping.outlive_command()


def end_process(sentence: str | None, status: int) -> NoReturn:
    """Say why on stderr, unless that is said already, and end at once, whatever other threads wait for."""
    if sentence is not None:
        rank = announced_rank()
        where = f" (rank {rank})" if rank else ""
        print(f"error{where}: {sentence}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)  # an orderly exit would wait for, or abort on, ranks that are in the middle of something


def _leave(sentence: str | None, status: int, shared: bool = False) -> None:
    """Report and exit. A launcher ends every rank as soon as one exits, so the others let the first speak."""
    stopping.release()
    rank = announced_rank()
    if rank:
        time.sleep(FIRST_RANK_SPEAKS_SECONDS)
    end_process(sentence if rank == 0 or not shared else None, status)
