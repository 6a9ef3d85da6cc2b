"""Time diffusers' textual_inversion.py, unchanged: python -m bench.reference RESULT SCRIPT [ITS ARGUMENTS]

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

import diffusers  # noqa: F401 - before the stand-in, because it looks for torchvision when it is imported
import torch
from accelerate import Accelerator
from PIL import Image, ImageOps

from bench.common import parser


def main() -> None:
    options = parser(__doc__)
    options.add_argument("result", type=Path, help="a JSON file")
    options.add_argument("script", help="diffusers' examples/textual_inversion/textual_inversion.py")
    args, arguments = options.parse_known_args()
    if importlib.util.find_spec("torchvision") is None:
        _install_torchvision_stand_in()
    start, times = time.time(), {}
    Accelerator.log = lambda self, values, step=None, **_: times.update({step: time.perf_counter()})
    Accelerator.init_trackers = lambda self, *_, **__: None
    sys.argv = [args.script, *arguments]
    runpy.run_path(args.script, run_name="__main__")
    steps = [1000 * (b - a) for a, b in itertools.pairwise(times[step] for step in sorted(times) if step)]
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0
    args.result.write_text(json.dumps({"steps_ms": steps, "peak_gib": peak, "total_s": time.time() - start}))


def _flip(image: Image.Image) -> Image.Image:
    return ImageOps.mirror(image) if random.random() < 0.5 else image


def _install_torchvision_stand_in() -> None:
    module, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    transforms.RandomHorizontalFlip = lambda p: _flip
    module.transforms = transforms
    module.__spec__ = importlib.util.spec_from_loader("torchvision", None)
    sys.modules |= {"torchvision": module, "torchvision.transforms": transforms}


if __name__ == "__main__":
    main()
