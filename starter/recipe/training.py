"""The training loop that the parts share: AdamW, a moving average of the weights, and checkpoints in small shards."""

import argparse
import copy
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from starter.recipe.distributed import average_gradients, broadcast_seconds

SHARD_BYTES = 15 * 2**20
DECAY_SHARE = 0.35  # of the planned time, at its end, in which the learning rate decays


def step_generator(seed: int, step: int, options: argparse.Namespace) -> torch.Generator:
    """Return a generator that depends on seed, step and rank only, so that a resumed run draws the same numbers."""
    return torch.Generator(options.device).manual_seed((seed * 64 + options.rank) * 10**9 + step)


def maybe_compile(function: Callable, options: argparse.Namespace) -> Callable:
    """Compile the function for fixed shapes if the options say so; run it eagerly where compilation fails."""
    if not options.compile:
        return function
    torch._dynamo.config.suppress_errors = True
    return torch.compile(function, dynamic=False)


def save_shards(folder: Path, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    """Write the tensors to files of at most 15 MiB (a larger tensor gets a file of its own), then replace `folder`."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shard, size, number = {}, 0, 0
    for key, tensor in tensors.items():
        if shard and size + tensor.nbytes > SHARD_BYTES:
            save_file(shard, new / f"{number:03}.safetensors")
            shard, size, number = {}, 0, number + 1
        shard[key] = tensor.detach().cpu().contiguous()
        size += tensor.nbytes
    save_file(shard, new / f"{number:03}.safetensors")
    (new / "metadata.json").write_text(json.dumps(metadata))
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def load_shards(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Load the tensors and the metadata that `save_shards` wrote."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors, json.loads((folder / "metadata.json").read_text())


class Trainer:
    """Train a module with AdamW, warm-up, linear decay at the end of the planned time, EMA and a checkpoint."""

    def __init__(self, name: str, module: nn.Module, options, *, lr: float, ema_decay: float, warmup_steps: int = 200):
        self.name, self.module, self.options = name, module, options
        self.lr, self.ema_decay, self.warmup_steps = lr, ema_decay, warmup_steps
        self.step, self.seconds = 0, 0.0
        self.checkpoint = options.work / f"{name}.checkpoint"
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        fused = options.device == "cuda"
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=fused)
        self.ema = copy.deepcopy(module).requires_grad_(False)
        if self.checkpoint.exists():
            self._resume()

    @torch.no_grad()
    def _resume(self) -> None:
        tensors, metadata = load_shards(self.checkpoint)
        self.step, self.seconds = metadata["step"], metadata["seconds"]
        for prefix, module in (("module.", self.module), ("ema.", self.ema)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        state = self.optimizer.state_dict()
        state["state"] = {
            i: {"step": tensors[f"adam.{i}.step"]}
            # The fused optimizer needs the memory format of the parameter.
            | {key: torch.empty_like(p).copy_(tensors[f"adam.{i}.{key}"]) for key in ("exp_avg", "exp_avg_sq")}
            for i, p in enumerate(self.parameters)
            if f"adam.{i}.step" in tensors
        }
        self.optimizer.load_state_dict(state)
        print(f"{self.name}: resumed at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint: weights, EMA weights and optimizer state."""
        tensors = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"ema.{key}": value for key, value in self.ema.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
        save_shards(self.checkpoint, tensors, {"step": self.step, "seconds": self.seconds})

    def _set_lr(self) -> None:
        progress = self.seconds / (60 * self.options.planned)
        decay = min(1.0, max(0.02, (1 - progress) / DECAY_SHARE))
        warmup = min(1.0, (self.step + 1) / self.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * decay * warmup

    @torch.no_grad()
    def _update_ema(self) -> None:
        weight = 1 - min(self.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.module.parameters()), weight)

    def _log(self, loss: torch.Tensor, metrics: dict, seconds: float) -> None:
        metrics = {k: round(float(v.detach() if torch.is_tensor(v) else v), 4) for k, v in metrics.items()}
        print(f"{self.name} {self.step} {seconds:.0f}s loss {loss.item():.4f} {metrics}", flush=True)

    def fit(self, compute_loss: Callable[[int], tuple[torch.Tensor, dict]], log_every: int = 250) -> nn.Module:
        """Train until the time or the number of steps is reached; return the module with the EMA weights."""
        before, start = self.seconds, time.monotonic()
        while self.step < self.options.steps and self.seconds - before < 60 * self.options.minutes:
            self._set_lr()
            loss, metrics = compute_loss(self.step)
            loss.backward()
            average_gradients(self.parameters)
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self._update_ema()
            self.step += 1
            elapsed = time.monotonic() - start
            if (self.step % log_every == 0 or self.step < 3) and self.options.rank == 0:
                self._log(loss, metrics, elapsed)
            if self.step % 16 == 0:
                self.seconds = broadcast_seconds(before + elapsed, self.options.device)
        self.seconds = broadcast_seconds(before + time.monotonic() - start, self.options.device)
        self.ema.load_state_dict({**self.module.state_dict(), **dict(self.ema.named_parameters())})  # buffers: module
        if self.options.rank == 0:
            self.save()
            print(f"{self.name}: {self.step} steps in {self.seconds:.0f} s", flush=True)
        return self.ema
