"""The command line of every part of the recipe. Under torchrun, several GPUs of one machine train one part."""

import argparse
import os
from pathlib import Path

import torch

from starter.recipe.distributed import init_process_group


def parse_options(doc: str, arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line. A part that has a checkpoint in the work folder resumes from it."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--work", type=Path, default=Path(".scratch/starter"), help="folder of arrays and checkpoints")
    parser.add_argument("--out", type=Path, default=Path("starter"), help="parent of model/, clip/ and classifier/")
    parser.add_argument("--minutes", type=float, default=4.0, help="stop and save after this time")
    parser.add_argument("--planned", type=float, help="minutes of all runs of this part together (default: --minutes)")
    parser.add_argument("--steps", type=int, default=10**9, help="stop and save at this step")
    parser.add_argument("--batch", type=int, help="images per step and process")
    parser.add_argument("--count", type=int, default=98_304, help="images to draw")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile (default: on CUDA)")
    parser.add_argument("--tiny", action="store_true", help="use the smallest models, for a rehearsal")
    options = parser.parse_args(arguments)
    options.planned = options.planned or options.minutes
    if options.compile is None:
        options.compile = options.device == "cuda"
    options.rank, options.world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if options.world_size > 1:
        init_process_group(options.device)
    return options
