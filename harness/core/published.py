"""The files of a published run: a run folder fit for git, without weights, that every command reads as it reads any run.

What differs from a run as it was computed:
    texts.parquet                    prompts and targets of all samples, each once; a sample names its row in column `text`
    stages/<id>/meta.json            sealed anew, with `shared_files` (texts.parquet → sha256) and `published`: seal and checksums before
                                     publishing. What is in `published.files` and not in `files` was left out.
    study.json                       provenance.published: when, by which rule, whether the run was finished
Left out are weights (all of model/ and checkpoints/, every .safetensors) and the texts for membership inference; their checksums stay,
so that whoever trains again can compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

TEXTS = "texts.parquet"
TEXT = "text"
"""Column of a published samples.parquet: the row of TEXTS with the sample's prompt and target."""
TEXT_COLUMNS = ("prompt", "target")
WEIGHTS = ".safetensors"
MODEL = "model/"


def is_published(study: Mapping[str, Any]) -> bool:
    """Whether a study.json is that of a published run."""
    return "published" in (study.get("provenance") or {})


def with_texts(samples: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Samples as they were before publishing: prompt and target back in their places. Others are returned as they are.

    Args:
        root: the run's folder.
    Raises:
        OSError, ValueError: the texts are missing or damaged.
    """
    if TEXT not in samples:
        return samples
    import pandas as pd

    texts, rows = pd.read_parquet(root / TEXTS), samples[TEXT].to_numpy()
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(texts):
        raise ValueError(f"{root / TEXTS} has not all of its texts")
    texts = texts.take(rows).set_axis(samples.index)
    columns = [column for column in samples.columns if column != TEXT]
    place = columns.index("output")
    filled = pd.concat([samples[columns], texts[list(TEXT_COLUMNS)]], axis=1)
    return filled[[*columns[:place], *TEXT_COLUMNS, *columns[place:]]]


def original_files(meta: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of a stage's files as they were computed, whether published since or not."""
    return dict((meta.get("published") or {}).get("files") or meta["files"])


def left_out(meta: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the files that publishing left out of a stage."""
    return {name: checksum for name, checksum in original_files(meta).items() if name not in meta["files"]}


def weights_sha256(meta: Mapping[str, Any]) -> str | None:
    """One sha256 for the weights that a train stage ended with (see `joined_sha256`); None if it kept none."""
    found = {name: checksum for name, checksum in original_files(meta).items() if name.startswith(MODEL) and name.endswith(WEIGHTS)}
    return joined_sha256({name.removeprefix(MODEL): checksum for name, checksum in found.items()})


def joined_sha256(checksums: Mapping[str, str]) -> str | None:
    """The checksum of one file, or a sha256 over the names and checksums of several; None of none."""
    if len(checksums) <= 1:
        return next(iter(checksums.values()), None)
    return hashlib.sha256("".join(f"{name}\0{checksums[name]}\n" for name in sorted(checksums)).encode()).hexdigest()
