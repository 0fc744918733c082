"""Reading Zstandard-compressed files as streams."""

import io
from typing import BinaryIO

from utils.errors import UserError

# Small, because a chunk is decompressed whole: 4 bytes can stand for 128 KiB, so 1 KiB for 32 MiB at most.
CHUNK_BYTES = 1 << 10
# Archives made with `zstd --long=31` need this much; the library's own limit is 128 MiB.
MAX_WINDOW_BYTES = 1 << 31


class ZstdReader(io.RawIOBase):
    """The decompressed bytes of an open .zst file, all its frames.

    Raises OSError if the data are no Zstandard or end early, which `zstandard.open` passes over in silence.
    """

    def __init__(self, compressed: BinaryIO):
        try:
            import zstandard
        except ImportError as error:
            raise UserError(".zst files need the package zstandard: `pip install zstandard`") from error
        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._compressed = compressed
        self._frame = None
        self._rest = b""  # compressed bytes read but not yet given to a frame
        self._ready = memoryview(b"")  # decompressed bytes not yet handed out

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._ready and self._decompress_some():
            pass
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decompress_some(self) -> bool:
        """Decompress one more chunk into `_ready` (maybe to nothing yet); False at the end of the file."""
        chunk = self._rest or self._compressed.read(CHUNK_BYTES)
        if not chunk:
            if self._frame is not None:
                raise OSError("the compressed data end early")
            return False
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(chunk))
        except self._error as error:
            raise OSError(f"bad compressed data: {error}") from error
        self._rest = self._frame.unused_data
        if self._frame.eof:
            self._frame = None
        return True
