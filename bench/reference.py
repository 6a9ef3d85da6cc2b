"""The reference script, by path, with a clock at its optimiser steps: python -m bench.reference RESULT SCRIPT ARGS...

Nothing of the script is changed: the clock sits in `Accelerator.log`, which it calls after every micro-step, and it is
given a stand-in for torchvision (of which it uses a flip) where there is none.
"""

import importlib.util
import itertools
import json
import random
import runpy
import sys
import time
import types
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import ImageOps


def stand_in() -> None:
    """Put a torchvision in place that has the one class the script uses."""

    class RandomHorizontalFlip:
        def __init__(self, p: float) -> None:
            self._p = p

        def __call__(self, image: object) -> object:
            return ImageOps.mirror(image) if random.random() < self._p else image

    module, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    transforms.RandomHorizontalFlip = RandomHorizontalFlip
    module.transforms = transforms
    module.__spec__ = importlib.util.spec_from_loader("torchvision", None)
    sys.modules |= {"torchvision": module, "torchvision.transforms": transforms}


def main() -> None:
    """Run the script; write the time of each optimiser step, the start, and the peak of memory."""
    result, script, *arguments = sys.argv[1:]
    begun, clock = time.time(), {}
    # transformers and diffusers ask for torchvision when they are imported: they must see the truth.
    import diffusers  # noqa: F401
    import transformers  # noqa: F401

    if importlib.util.find_spec("torchvision") is None:
        stand_in()

    def log(self: Accelerator, values: dict, step: int | None = None, **_: object) -> None:
        clock[step] = time.perf_counter()

    Accelerator.log = log
    Accelerator.init_trackers = lambda self, *_, **__: None
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    times = [clock[step] for step in sorted(clock) if step]
    said = {"steps_s": [b - a for a, b in itertools.pairwise(times)], "total_s": time.time() - begun}
    if torch.cuda.is_available():
        said["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        said["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    Path(result).write_text(json.dumps(said))


if __name__ == "__main__":
    main()
