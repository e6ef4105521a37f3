"""Stages copied through a URI: whole or not at all, compared with their checksums, damage noticed."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from harness.core.store import META, RunStore
from harness.errors import SpecError, StoreError
from harness.study.place import Place
from harness.study.plan import Stage
from harness.study.ray_executor import RayExecutor
from harness.study.remote import RemoteTask
from harness.study.schedule import Ended
from harness.study.share import Share
from harness.study.worker import StageResult
from tests.study.cheap_stages import CheapTask, stage


def filled(folder: Path) -> dict[str, object]:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(bytes(range(256)) * 9)
    (folder / "a name with spaces, ü and #").write_text("text")
    return {"wall_s": 1.0}


@pytest.fixture
def stores(tmp_path: Path) -> tuple[RunStore, RunStore]:
    found = RunStore(tmp_path / "here"), RunStore(tmp_path / "there")
    for store in found:
        store.make()
    return found


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_stage_arrives_as_it_was_and_is_copied_once(tmp_path: Path, stores: tuple[RunStore, RunStore], kind: str) -> None:
    here, there = stores
    share = Share(f"{kind}://{tmp_path}/share/inner")
    if kind == "file":
        share.check()
    meta = here.write_stage("s1", filled)
    assert not share.has("s1")
    with pytest.raises(StoreError, match="s1 is not whole"):
        share.fetch("s1", there)
    share.publish("s1", here)
    assert share.has("s1")
    assert share.fetch("s1", there) == meta
    there.verify("s1")
    assert {path.relative_to(there.stages) for path in there.stages.rglob("*")} == {
        path.relative_to(here.stages) for path in here.stages.rglob("*")
    }
    files, root = fsspec.core.url_to_fs(share.uri)
    (weights,) = files.glob(f"{root}/stages/s1/*/model/weights")
    files.rm_file(weights)
    share.publish("s1", here)
    assert share.fetch("s1", there) == meta, "what is there is not asked for again"


def test_a_damaged_torn_or_escaping_copy_is_refused_and_leaves_nothing(tmp_path: Path, stores: tuple[RunStore, RunStore]) -> None:
    here, there = stores
    share, place = Share(f"file://{tmp_path}/share"), tmp_path / "share" / "stages" / "s1"
    meta = here.write_stage("s1", filled)
    for damage, told in (
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x00"), "weights does not match its checksum"),
        (Path.unlink, "weights is missing"),
    ):
        share.publish("s1", here)
        attempt = json.loads((place / META).read_text())["attempt"]
        damage(place / attempt / "model" / "weights")
        with pytest.raises(StoreError, match=told):
            share.fetch("s1", there)
        assert not there.finished("s1")
        assert not list(there.stages.glob(".tmp-*"))
        assert not share.has("s1"), "what is damaged counts as absent"
    share.publish("s1", here)
    assert share.fetch("s1", there) == meta, "and is copied there once more"
    there.discard("s1")

    text = (place / META).read_text()
    (place / META).write_text(text[: len(text) // 2])
    assert not share.has("s1"), "a copy that broke off is none"
    share.publish("s1", here)
    assert share.fetch("s1", there)["wall_s"] == 1.0

    def escaping(folder: Path) -> dict[str, object]:
        return {"wall_s": 1.0}

    here.write_stage("s2", escaping)
    meta = here.meta("s2") | {"files": {"../../evil": "0" * 64}}
    from harness.core import store as store_module

    meta["checksum"] = store_module._seal(meta)
    store_module.write_json(here.folder("s2") / META, meta)
    (tmp_path / "share" / "stages" / "s2").mkdir()
    (tmp_path / "share" / "stages" / "s2" / META).write_text(json.dumps({"attempt": "x", "meta": meta}))
    with pytest.raises(StoreError, match="lies outside the stage"):
        share.fetch("s2", there)


def test_a_copy_that_arrives_wrong_is_noticed_at_once(
    tmp_path: Path, stores: tuple[RunStore, RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = stores
    here.write_stage("s1", filled)
    share = Share(f"file://{tmp_path}/share")
    real = fsspec.get_filesystem_class("file").put_file
    monkeypatch.setattr(
        fsspec.get_filesystem_class("file"),
        "put_file",
        lambda self, source, place, **options: (real(self, source, place, **options), Path(place).write_bytes(b"?")),
    )
    with pytest.raises(StoreError, match="was not copied correctly"):
        share.publish("s1", here)
    assert not share.has("s1")


def test_logs_travel_too(tmp_path: Path) -> None:
    share = Share(f"file://{tmp_path}/share")
    (tmp_path / "log").write_text("said")
    share.fetch_log("s1", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    share.publish_log("s1", tmp_path / "log")
    share.fetch_log("s1", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_text() == "said"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("nonsense://x", "Protocol not known"),
        ("file:///proc/no/such", "cannot be used"),
        ("s3://bucket/x", "s3fs"),
        ("memory://x", "no worker sees it"),
    ],
)
def test_a_uri_that_cannot_be_used_is_one_message(uri: str, told: str) -> None:
    if uri.startswith("s3"):
        import importlib.util

        if importlib.util.find_spec("s3fs"):
            pytest.skip("s3fs is installed")
    with pytest.raises(SpecError, match=told) as caught:
        Share(uri).check()
    assert str(caught.value).startswith("--share: ")


def test_twins_that_finish_a_stage_give_one_stage(stores: tuple[RunStore, RunStore]) -> None:
    here, _ = stores

    def slow(folder: Path) -> dict[str, object]:
        (folder / "mine").write_text("late")
        twin = here.stages / "s1"
        twin.mkdir()
        RunStore(here.root / "twin").make()
        RunStore(here.root / "twin").write_stage("s1", filled)
        for path in (here.root / "twin" / "stages" / "s1").iterdir():
            path.rename(twin / path.name)
        return {"wall_s": 2.0}

    assert here.write_stage("s1", slow)["wall_s"] == 1.0, "the faster twin's"
    here.verify("s1")
    assert not list(here.stages.glob(".tmp-*"))


def test_twins_that_are_copied_there_at_once_never_mix(
    tmp_path: Path, stores: tuple[RunStore, RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second twin arrives as a whole while the first is on its way."""
    here, there = stores
    twin = RunStore(tmp_path / "twin")
    for store, seconds in ((here, 1.0), (twin, 2.0)):
        store.make()
        store.write_stage("s1", lambda folder, seconds=seconds: ((folder / "ledger").write_text(str(seconds)), {"wall_s": seconds})[1])
    share = Share(f"file://{tmp_path}/share")
    local = fsspec.get_filesystem_class("file")
    real, met = local.put_file, list[str]()

    def slow(self: Any, source: str, place: str, **options: Any) -> None:
        real(self, source, place, **options)
        if not met:
            met.append(source)
            share.publish("s1", twin)

    monkeypatch.setattr(local, "put_file", slow)
    share.publish("s1", here)
    meta = share.fetch("s1", there)
    assert (there.folder("s1") / "ledger").read_text() == str(meta["wall_s"])


def damage(tmp_path: Path, stage_id: str) -> None:
    for path in (tmp_path / "share" / "stages" / stage_id).glob("*/result.txt"):
        path.write_text("?")


def test_a_stage_that_is_damaged_there_is_computed_by_a_worker_and_told_of_by_a_driver(
    tmp_path: Path, stores: tuple[RunStore, RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = stores
    share = Share(f"file://{tmp_path}/share")
    CheapTask(here.root, stage("a"), tmp_path).run()
    task = RemoteTask(CheapTask(there.root, stage("a"), tmp_path), str(tmp_path), {}, share)
    monkeypatch.chdir(tmp_path)

    share.publish("a", here)
    damage(tmp_path, "a")
    told: list[str] = []
    place = Place(executor="ray", address="h:1", share=share)
    place.fetch_finished(["a", "b"], there, told.append)
    assert [text.startswith("not taken from the share: stage a: ") for text in told] == [True]
    place.fetch_finished(["a"], there, told.append)
    assert len(told) == 1, "it is not there any more"

    share.publish("a", here)
    damage(tmp_path, "a")
    result = task()
    assert result.meta is not None
    assert share.fetch("a", there)["pid"] == result.meta["pid"]


def ended(executor: RayExecutor, result: StageResult, stage_: Stage) -> Ended:
    """What the driver makes of a Ray task's result."""
    error = type("RayError", (Exception,), {})
    ray = SimpleNamespace(get=lambda reference: result, exceptions=SimpleNamespace(RayTaskError=error, RayError=error))
    return executor._ended(ray, None, stage_)


def test_a_stage_whose_input_was_damaged_there_is_tried_again(tmp_path: Path, stores: tuple[RunStore, RunStore]) -> None:
    here, there = stores
    share = Share(f"file://{tmp_path}/share")
    CheapTask(here.root, stage("a"), tmp_path).run()
    share.publish("a", here)
    damage(tmp_path, "a")
    task = RemoteTask(CheapTask(there.root, stage("b", "a"), tmp_path), str(tmp_path), {}, share)
    result = task()
    assert "does not match its checksum" in result.error
    executor = RayExecutor(here, workers=1, threads=1, address="h:1", share=share)
    found = ended(executor, result, stage("b", "a"))
    assert found.again
    assert "of its inputs a was damaged" in found.death
    share.publish("a", here)
    assert task().meta is not None
    assert not ended(executor, StageResult("b", None, "its own fault"), stage("b", "a")).again


class ClientError(Exception):
    """As botocore's and paramiko's: of no standard class."""


def breaks(monkeypatch: pytest.MonkeyPatch, error: Exception, *names: str) -> None:
    """From now on these of fsspec's methods raise."""

    def broken(*args: Any, **options: Any) -> None:
        raise error

    for name in names:
        monkeypatch.setattr(fsspec.get_filesystem_class("file"), name, broken)


@pytest.mark.parametrize("error", [TimeoutError("late"), ConnectionResetError("gone"), ClientError("throttled")])
def test_whatever_the_network_does_is_one_message_and_no_damage(
    tmp_path: Path, stores: tuple[RunStore, RunStore], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    here, there = stores
    share = Share(f"file://{tmp_path}/share")
    here.write_stage("s1", filled)
    here.write_stage("s2", filled)
    share.publish("s1", here)
    (tmp_path / "log").touch()
    told = rf"the share at file://.* failed \({type(error).__name__}: {error}\)"
    with monkeypatch.context() as patch:
        breaks(patch, error, "get_file", "put_file")
        with pytest.raises(StoreError, match=told):
            share.fetch("s1", there)
        with pytest.raises(StoreError, match=told):
            share.publish("s2", here)
        with pytest.raises(StoreError, match=told):
            share.publish_log("s1", tmp_path / "log")
    assert share.has("s1"), "what cannot be read now is not damaged"
    with monkeypatch.context() as patch:
        breaks(patch, error, "cat_file", "makedirs", "exists")
        with pytest.raises(StoreError, match=told):
            share.has("s1")
        with pytest.raises(StoreError, match=told):
            share.fetch_log("s1", tmp_path / "log")
        with pytest.raises(SpecError, match=r"--share: .*cannot be used"):
            share.check()


def test_a_share_that_fails_costs_a_stage_and_not_the_driver(
    tmp_path: Path, stores: tuple[RunStore, RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = stores
    share = Share(f"file://{tmp_path}/share")
    meta = CheapTask(here.root, stage("a"), tmp_path).run()
    executor = RayExecutor(there, workers=1, threads=1, address="h:1", share=share)
    share.publish("a", here)
    result = StageResult("a", meta)
    with monkeypatch.context() as patch:
        breaks(patch, ClientError("throttled"), "get_file")
        found = ended(executor, result, stage("a")).result
        assert found is not None
        assert "ClientError: throttled" in found.error
        assert not found.disk_full
    with monkeypatch.context() as patch:
        breaks(patch, OSError(errno.ENOSPC, "No space left on device"), "get_file")
        found = ended(executor, result, stage("a")).result
        assert found is not None
        assert found.disk_full, "that is every stage's trouble"
    with monkeypatch.context() as patch:
        breaks(patch, ClientError("throttled"), "exists")
        assert ended(executor, result, stage("a")).result == result, "a log is not worth a stage"
    assert there.finished("a")

    monkeypatch.setattr("harness.study.ray_executor.load_ray", lambda: None)
    breaks(monkeypatch, ClientError("throttled"), "cat_file")
    executor.submit(stage("b", "a"), None)
    ((unsent,), nothing) = executor.collect(0.0), executor.collect(0.0)
    assert unsent.result is not None
    assert "ClientError: throttled" in unsent.result.error
    assert nothing == []
