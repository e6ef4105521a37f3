"""Where a run's stages are done, as the command line says it: which executor, with which options."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.core.store import RunStore, is_disk_full
from harness.errors import SpecError, StoreError
from harness.study.executor import LocalExecutor
from harness.study.gpus import usable_gpus
from harness.study.plan import Setting
from harness.study.ray_executor import RayExecutor, check_ray
from harness.study.schedule import Executor
from harness.study.share import Share
from harness.study.slurm_executor import SlurmExecutor, check_slurm
from harness.study.slurm_options import parse_options

EXECUTORS = ("local", "ray", "slurm")


@dataclass(frozen=True)
class Place:
    """An executor to be.

    Args:
        most: `--workers` as given: stages at a time on machines other than this one.
        gpus: this machine's devices that workers share, as CUDA_VISIBLE_DEVICES names them; None until `found` has looked for them.
        use_gpus: whether stages may see a GPU.
    """

    executor: str = "local"
    most: int | None = None
    gpus: tuple[str, ...] | None = ()
    use_gpus: bool = True
    address: str | None = None
    share: Share | None = None
    slurm: Mapping[str, str | bool] = field(default_factory=dict)

    @classmethod
    def of(cls, executor: str, *, workers: int | None, gpus: str, address: str | None, share: str | None, slurm: Sequence[str]) -> Place:
        """The place that options name. `gpus` "none" hides the GPUs from this process too.

        Raises:
            SpecError: there is no such executor, or an option does not go with it.
        """
        if executor not in EXECUTORS:
            raise SpecError("unknown executor", key="--executor", value=executor, valid=EXECUTORS)
        for name, value, wanted in (("--address", address, "ray"), ("--share", share, "ray"), ("--slurm", slurm, "slurm")):
            if value and executor != wanted:
                raise SpecError(f"goes with --executor {wanted} only", key=name, value=value)
        if share and not address:
            raise SpecError("goes with --address only: a cluster of this machine's own sees the run's folder", key="--share", value=share)
        if address and not re.fullmatch(r"auto|[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", address):
            raise SpecError("expected host:port of the cluster's head (6379 by default), or auto", key="--address", value=address)
        remote = bool(address) or executor == "slurm"
        if remote and gpus not in ("auto", "none"):
            instead = "with Slurm say --slurm gres=gpu:1" if executor == "slurm" else "the cluster gives each stage one"
            raise SpecError(f"ids are for this machine's GPUs; {instead}", key="--gpus", value=gpus)
        if gpus == "none":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return cls(
            executor,
            most=workers,
            gpus=() if remote or gpus == "none" else None if gpus == "auto" else _listed(gpus),
            use_gpus=gpus != "none",
            address=address or None,
            share=Share(share) if share else None,
            slurm=parse_options(slurm),
        )

    @property
    def elsewhere(self) -> bool:
        """Whether stages run on other machines than this."""
        return self.executor == "slurm" or self.address is not None

    def found(self) -> Place:
        """The same with the GPUs that torch can use here, if they are to be looked for.

        Raises:
            SpecError: GPUs are named, and torch can use none here.
        """
        if self.gpus is None:
            return replace(self, gpus=usable_gpus())
        if self.gpus and not usable_gpus():
            raise SpecError("PyTorch can use no GPU here; `selfteach doctor` says more", key="--gpus", value=",".join(self.gpus))
        return self

    def check(self) -> None:
        """Raises:
        ExecutorError: a package or command is missing.
        SpecError: the share cannot be used.
        """
        if self.executor == "ray":
            check_ray()
        if self.executor == "slurm":
            check_slurm()
        if self.share is not None:
            self.share.check()

    def setting(self, store: RunStore, threads: int) -> Setting | None:
        """Device and number format of machines other than this one, by asking one; None: stages run here."""
        if self.elsewhere:
            executor = self.open(store, workers=1, threads=threads)
            assert isinstance(executor, RayExecutor | SlurmExecutor)
            return executor.setting()
        return None

    def open(self, store: RunStore, *, workers: int, threads: int) -> Executor:
        """The executor; `workers` counts this machine's processes."""
        if self.executor == "slurm":
            return SlurmExecutor(store, workers=self.most, threads=threads, options=self.slurm)
        if self.executor == "ray":
            most = self.most if self.address else workers
            return RayExecutor(
                store, workers=most, threads=threads, address=self.address, gpus=self.gpus or (), use_gpus=self.use_gpus, share=self.share
            )
        return LocalExecutor(store, workers=workers, threads=threads, gpus=self.gpus or ())

    def fetch_finished(self, stages: Iterable[str], store: RunStore, warn: Callable[[str], None]) -> None:
        """Copies stages that were finished after an earlier driver had gone; warns of those that cannot be copied.

        Raises:
            StoreError: the share does not answer, or the disk is full.
        """
        if self.share is None:
            return
        for stage in stages:
            if not store.finished(stage) and self.share.has(stage):
                try:
                    self.share.fetch(stage, store)
                except StoreError as error:
                    if is_disk_full(error):
                        raise
                    warn(f"not taken from the share: {error}")

    def describe(self, workers: int) -> str:
        """How a line on the terminal calls the workers."""
        if self.executor == "slurm":
            return f"Slurm jobs{f', {self.most} at a time,' if self.most else ''}"
        if self.address:
            return f"Ray at {self.address}{f', {self.most} stages at a time,' if self.most else ''}"
        devices = f" on {len(self.gpus)} GPUs" if self.gpus else ""
        return f"{workers} workers{devices}" + (" under Ray" if self.executor == "ray" else "")


def _listed(text: str) -> tuple[str, ...]:
    ids = tuple(part.strip() for part in text.split(","))
    if not all(ids) or len(set(ids)) < len(ids):
        raise SpecError("expected auto, none, or different ids with commas between them, such as 0,1", key="--gpus", value=text)
    return ids
