"""The command line that every part of the recipe shares; under torchrun, several GPUs of one machine share a part."""

import argparse
import os
from pathlib import Path


def parse_options(doc: str, arguments: list[str] | None = None) -> argparse.Namespace:
    """=> work folder, limits and sizes. A part goes on from its own checkpoint in the work folder."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--work", type=Path, default=Path(".scratch/starter"), help="folder of arrays and checkpoints")
    parser.add_argument("--minutes", type=float, default=4.0, help="stop and save after this long")
    parser.add_argument("--planned", type=float, help="minutes of all runs together (for the decay of the rate)")
    parser.add_argument("--steps", type=int, default=10**9, help="stop and save at this step")
    parser.add_argument("--batch", type=int, help="pictures a step")
    parser.add_argument("--count", type=int, default=98_304, help="pictures to draw")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    parser.add_argument("--device", default=None, help="cuda or cpu; by default what is there")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--tiny", action="store_true", help="the smallest nets, for a rehearsal")
    parser.add_argument(
        "--out", type=Path, default=Path("starter"), help="folder that gets model/, clip/ and classifier/"
    )
    options = parser.parse_args(arguments)
    options.planned = options.planned or options.minutes
    if options.device is None:
        import torch

        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.compile is None:
        options.compile = options.device == "cuda"
    options.rank, options.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if options.world > 1:
        from starter.recipe.distributed import init_process_group

        init_process_group(options)
    return options
