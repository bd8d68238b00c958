"""How fast the predictor is: `python benchmarks/predictor_speed.py`. One thread, the shipped predictor and its encoder."""

import subprocess
import sys
import time
from collections.abc import Callable

import torch

from amask.predictor.predictor import Predictor

LOAD = (
    "import time; t = time.perf_counter(); from amask.predictor.predictor import Predictor; "
    "Predictor.load(); print(time.perf_counter() - t)"
)


def median(do: Callable[[int], object], times: int = 200) -> float:
    """Milliseconds that a call takes; it is given its number."""
    found = []
    for at in range(times):
        began = time.perf_counter()
        do(at)
        found.append(time.perf_counter() - began)
    return 1000 * sorted(found)[times // 2]


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    loading = [
        float(subprocess.run([sys.executable, "-P", "-c", LOAD], check=True, capture_output=True).stdout) for _ in range(3)
    ]
    print(f"import and load: {sorted(loading)[1]:.2f} s")
    predictor = Predictor.load()
    print(f"an instruction: {median(lambda at: predictor.predict([f'tell me the gender of caller {at}'])):.2f} ms")
    many = median(lambda at: predictor.predict([f"the mood of guest {at} and {number}" for number in range(256)]), 9)
    print(f"one of 256 that are read at once: {many / 256:.2f} ms")
    print(f"one that was just read: {median(lambda _: predictor.predict(['tell me the gender'])):.3f} ms")


if __name__ == "__main__":
    main()
