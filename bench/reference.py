"""Time diffusers' textual_inversion.py, unchanged: python -m bench.reference RESULT SCRIPT [ARGUMENTS OF THE SCRIPT]

`Accelerator.log`, which the script calls at every step, records the time. torchvision, of which the script needs a flip
only, is replaced by a stand-in where it is not installed.
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


def main() -> None:
    if len(sys.argv) < 3 or "--help" in sys.argv[1:2]:
        raise SystemExit(__doc__)
    result, script, *arguments = sys.argv[1:]
    # transformers and diffusers look for torchvision when they are imported, and must not find the stand-in.
    import diffusers  # noqa: F401
    import transformers  # noqa: F401

    if importlib.util.find_spec("torchvision") is None:
        _install_torchvision_stand_in()
    start, times = time.time(), {}
    Accelerator.log = lambda self, values, step=None, **_: times.update({step: time.perf_counter()})
    Accelerator.init_trackers = lambda self, *_, **__: None
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    steps = [1000 * (b - a) for a, b in itertools.pairwise(times[step] for step in sorted(times) if step)]
    row = {"steps_ms": steps, "total_s": time.time() - start}
    if torch.cuda.is_available():
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    Path(result).write_text(json.dumps(row))


def _install_torchvision_stand_in() -> None:
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


if __name__ == "__main__":
    main()
