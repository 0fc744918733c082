"""How this process uses the processor and its memory; to be set before torch is imported."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = -1


def prepare_processor() -> None:
    """Threads that do not spin for long, and freed memory that is kept: both only where the user has set nothing.

    glibc gives tensors of more than 32 MiB back to the system as soon as they are freed, and the next one's pages are
    then found and zeroed anew, which costs such an element-wise operation most of its time.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # threads that spin for long starve each other on busy cores
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for variable, option, value in (
            ("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, NEVER),
            ("MALLOC_MMAP_MAX_", M_MMAP_MAX, 0),
        ):
            if variable not in os.environ:
                libc.mallopt(option, value)
