"""Why students make the output head's input contiguous: `python benchmarks/head_slice.py` (one thread, SmolLM2's head, bf16, CPU).

Prints the median seconds of the head on the last position of each row, given as a slice (as transformers does) and as a contiguous copy.
"""

from __future__ import annotations

import statistics
import time

import torch


def main() -> None:
    torch.set_num_threads(1)
    weight = torch.randn(49152, 576).bfloat16()
    for rows in (8, 24, 57):
        hidden = torch.randn(rows, 75, 576).bfloat16()
        for name, last in (("slice", hidden[:, -1:]), ("contiguous", hidden[:, -1:].contiguous())):
            seconds = []
            with torch.inference_mode():
                for _ in range(3):
                    started = time.perf_counter()
                    torch.nn.functional.linear(last, weight)
                    seconds.append(time.perf_counter() - started)
            print(f"{rows} rows, {name}: {statistics.median(seconds):.3f} s")


if __name__ == "__main__":
    main()
