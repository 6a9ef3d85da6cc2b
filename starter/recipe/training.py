"""What the parts share: the pictures on the device, checkpoints in small shards, one loop with a moving average."""

import copy
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from starter.recipe.distributed import average_gradients, broadcast_seconds

SHARD_BYTES = 15 * 2**20


class ImageDataset:
    """The drawn world (or one process's share of it) on one device: pictures as uint8, picked by counted randomness."""

    def __init__(self, work: Path, device: str, rank: int = 0, world: int = 1):
        def load(name):
            return torch.from_numpy(np.array(np.load(work / f"{name}.npy", mmap_mode="r")[rank::world]))

        self.images = load("images").to(device)
        self.labels = load("labels").to(device)
        self.tokens = load("tokens").to(device)
        self.device = device

    def sample_indices(self, batch: int, rng: torch.Generator) -> torch.Tensor:
        """=> B indices."""
        return torch.randint(len(self.images), (batch,), generator=rng, device=self.device)

    def load(self, index: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """B => B x 3 x 128 x 128 in -1..1, channels last; half of them mirrored if there is a generator."""
        x = self.images[index].permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        if rng is None:
            return x
        flip = torch.rand(len(index), 1, 1, 1, generator=rng, device=self.device) < 0.5
        return torch.where(flip, x.flip(3), x)


def step_generator(seed: int, step: int, options) -> torch.Generator:
    """=> a generator that depends on step and process alone: a run that goes on draws what the straight one would."""
    return torch.Generator(options.device).manual_seed((seed * 64 + options.rank) * 10**9 + step)


def maybe_compile(function: Callable, options) -> Callable:
    """=> the function compiled for fixed shapes; where that fails, the function itself from then on."""
    if not options.compile:
        return function
    now = [torch.compile(function, dynamic=False)]

    def call(*inputs, **named):
        try:
            return now[0](*inputs, **named)
        except Exception as error:
            if now[0] is function:
                raise
            print(f"not compiled: {str(error)[:200]}", flush=True)
            now[0] = function
            return function(*inputs, **named)

    return call


def save_shards(folder: Path, tensors: dict[str, torch.Tensor], note: dict) -> None:
    """Writes the tensors in files of at most 15 MiB (a single larger tensor gets its own), then swaps the folder in."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    shard, size, number = {}, 0, 0
    for key, tensor in tensors.items():
        room = tensor.numel() * tensor.element_size()
        if shard and size + room > SHARD_BYTES:
            save_file(shard, fresh / f"{number:03}.safetensors")
            shard, size, number = {}, 0, number + 1
        shard[key] = tensor.detach().cpu().contiguous()
        size += room
    save_file(shard, fresh / f"{number:03}.safetensors")
    (fresh / "note.json").write_text(json.dumps(note))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def load_shards(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """=> the tensors of `save_shards` and its note."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors, json.loads((folder / "note.json").read_text())


class Trainer:
    """AdamW, warm-up, linear decay over the last part of the planned time, moving average, checkpoints."""

    def __init__(self, name: str, module: nn.Module, options, *, rate: float, decay: float, warmup: int = 200):
        self.name, self.module, self.options, self.rate, self.warmup = name, module, options, rate, warmup
        self.decay, self.step, self.seconds = decay, 0, 0.0
        self.folder = options.work / f"{name}.checkpoint"
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        fused = options.device == "cuda"
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=fused)
        self.average = copy.deepcopy(module).requires_grad_(False)
        if self.folder.exists():
            self._resume()

    @torch.no_grad()
    def _resume(self) -> None:
        tensors, note = load_shards(self.folder)
        self.step, self.seconds = note["step"], note["seconds"]

        def part(prefix):
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.module.load_state_dict(part("module."))
        self.average.load_state_dict(part("average."))
        state = self.optimizer.state_dict()
        state["state"] = {
            i: {"step": tensors[f"adam.{i}.step"]}
            # Laid out in memory as the parameter is: the fused optimizer takes nothing else.
            | {key: torch.empty_like(p).copy_(tensors[f"adam.{i}.{key}"]) for key in ("exp_avg", "exp_avg_sq")}
            for i, p in enumerate(self.parameters)
            if f"adam.{i}.step" in tensors
        }
        self.optimizer.load_state_dict(state)
        print(f"{self.name}: goes on at step {self.step}", flush=True)

    def save(self) -> None:
        """Everything that the next run needs, as safetensors."""
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
        save_shards(self.folder, tensors, {"step": self.step, "seconds": self.seconds})

    def _set_rate(self, seconds: float) -> None:
        progress = seconds / (60 * self.options.planned)
        fade = min(1.0, max(0.02, (1 - progress) / 0.35))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * fade * min(1.0, (self.step + 1) / self.warmup)

    def fit(self, compute_loss: Callable[[int], tuple[torch.Tensor, dict]], every: int = 250) -> nn.Module:
        """Steps until the time or the number of steps is up => the module with averaged weights."""
        before, start = self.seconds, time.monotonic()
        averaged = list(self.average.parameters())
        module = list(self.module.parameters())
        while self.step < self.options.steps and self.seconds - before < 60 * self.options.minutes:
            self._set_rate(self.seconds)
            loss, shown = compute_loss(self.step)
            loss.backward()
            average_gradients(self.parameters)
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            weight = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(averaged, module, weight)
            self.step += 1
            if (self.step % every == 0 or self.step < 3) and self.options.rank == 0:
                shown = {k: round(float(v.detach() if torch.is_tensor(v) else v), 4) for k, v in shown.items()}
                print(
                    f"{self.name} {self.step} {time.monotonic() - start:.0f}s loss {loss.item():.4f} {shown}",
                    flush=True,
                )
            if self.step % 16 == 0:
                self.seconds = broadcast_seconds(before + time.monotonic() - start, self.options.device)
        self.seconds = broadcast_seconds(before + time.monotonic() - start, self.options.device)
        self.average.load_state_dict(
            {**self.module.state_dict(), **dict(self.average.named_parameters())}  # buffers come from the module
        )
        if self.options.rank == 0:
            self.save()
            print(f"{self.name}: {self.step} steps in {self.seconds:.0f} s", flush=True)
        return self.average
