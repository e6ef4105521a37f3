"""Members of a zip file from a stranger: bounded in size before anything is unpacked, zstandard members included."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa

from harness.errors import SpecError

LARGEST_MEMBER = 2**31
LARGEST_RATIO = 1000
"""A log's JSON shrinks 5 to 50 times; 1000 times is a bomb."""
_ZSTANDARD = 93
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, struct.error)
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class Archive:
    """A zip file opened for reading; `with Archive(path) as archive`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise SpecError(f"is not a whole zip file: {error}", file=path) from None
        except OSError as error:
            raise SpecError(f"cannot be read: {error.strerror}", file=path) from None
        self._members = {info.filename: info for info in self._zip.infolist()}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        """The members' names."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            SpecError: it is damaged, encrypted, packed by an unknown method, or would unpack to more than LARGEST_MEMBER or LARGEST_RATIO.
        """
        info = self._members[name]
        where = f"{self.path}: {name}"
        if info.file_size > LARGEST_MEMBER or (info.file_size > 2**20 and info.file_size > LARGEST_RATIO * max(info.compress_size, 1)):
            raise SpecError(
                f"would unpack {info.compress_size:,} bytes to {info.file_size:,}, which no log does; it is not unpacked", file=where
            )
        try:
            if info.compress_type == _ZSTANDARD:
                return self._zstandard(info)
            return self._zip.read(info)
        except (*_DAMAGED, pa.ArrowException) as error:
            raise SpecError(f"cannot be unpacked: {error}", file=where) from None

    def _zstandard(self, info: zipfile.ZipInfo) -> bytes:
        """Python's zipfile knows zstandard from 3.14 on only."""
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size:
                raise EOFError("its header is cut off")
            signature, name_size, extra_size = _LOCAL_HEADER.unpack(header)
            if signature != b"PK\x03\x04":
                raise zipfile.BadZipFile("its header is damaged")
            file.seek(name_size + extra_size, 1)
            packed = file.read(info.compress_size)
        with pa.input_stream(pa.BufferReader(packed), compression="zstd") as stream:
            content: bytes = stream.read(info.file_size + 1)
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise zipfile.BadZipFile("its content does not match its checksum")
        return content
