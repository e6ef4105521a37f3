"""Two Ray nodes on one machine, the second of which can be lost: Ray's own `cluster_utils.Cluster` as a context manager."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from harness.study.ray_executor import load_ray
from harness.study.ray_head import OBJECT_STORE_BYTES, authenticate


class TwoNodes:
    """A head and a second node with `cpus` each."""

    def __init__(self, *, cpus: int) -> None:
        self._cpus = cpus
        self._cluster: Any = None
        self._second: Any = None

    def __enter__(self) -> TwoNodes:
        authenticate()
        load_ray()
        from ray.cluster_utils import Cluster

        settings = {"num_cpus": self._cpus, "num_gpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        # A node counts as lost after this many checks without an answer, one a second.
        system = {"health_check_failure_threshold": 3, "health_check_period_ms": 1000}
        self._cluster = Cluster(initialize_head=True, head_node_args={**settings, "_system_config": system})
        self._second = self._cluster.add_node(**{key: value for key, value in settings.items() if key != "include_dashboard"})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """Where drivers join."""
        return str(self._cluster.address)

    @property
    def second_alive(self) -> bool:
        """Whether the second node is still there."""
        return self._second is not None

    def kill_second(self) -> None:
        """Kills the second node's processes, and with them the workers on it."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None
