"""data/curated => data/embedding, data/train.json, data/loss.csv, data/objective.csv: the word is learnt."""

import contextlib
import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import diffusers
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from stages import UserError
from stages.common import files
from stages.common.entry import stage
from stages.common.locks import lock
from stages.common.params import load
from stages.common.signals import Stop
from stages.common.trackers import Trackers
from stages.inversion import checkpoint, outcome, word
from stages.inversion.checkpoint import State
from stages.inversion.compute import Speed
from stages.inversion.loop import PausedError, Surroundings
from stages.inversion.run import Examples, teach
from stages.models import device as machine
from stages.models import speed
from stages.models.backbone import Backbone, open_backbone

CURATED, EMBEDDING, SCRATCH = Path("data/curated"), Path("data/embedding"), Path(".scratch")
DTYPES = {"no": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@stage
def main() -> str:
    """data/curated and the base model => the word, its curves and its figures."""
    params, stop = load("train", "model", "concept", "runtime"), Stop()
    recipe, runtime = params.train, params.runtime
    accelerator = Accelerator(cpu=machine.pick(runtime.device).type != "cuda", log_with=list(runtime.trackers) or None)
    device = machine.pick(runtime.device, accelerator.local_process_index)
    machine.prepare(
        device,
        threads=None if runtime.threads == "auto" else runtime.threads,
        processes=accelerator.num_processes,
        deterministic=runtime.deterministic,
        memory_gib=runtime.memory_gib,
        tf32=recipe.mixed_precision == "tf32",
    )
    examples, origin = _examples(), _origin(params)
    folder = SCRATCH / "train" / origin["fingerprint"]
    first = accelerator.is_main_process
    with lock(folder, "training") if first else contextlib.nullcontext():
        found = [checkpoint.latest(folder, print) if first else None]
        found = (broadcast_object_list(found) if accelerator.num_processes > 1 else found)[0]
        backbone = open_backbone(params.model, params.concept, device, DTYPES[recipe.mixed_precision])
        how = _speed(runtime, backbone, recipe.steps - (found.step if found else 0))
        trackers = Trackers(accelerator, origin["params"], SCRATCH, origin["fingerprint"], bool(found))
        with tqdm(total=recipe.steps, initial=found.step if found else 0, unit="step", disable=not first) as bar:
            around = _surroundings(
                folder if first else None, runtime.checkpoint_seconds, trackers=trackers, bar=bar, stop=stop
            )
            try:
                state = teach(
                    backbone, params.concept, recipe, examples, speed=how, crew=accelerator, found=found, around=around
                )
            except PausedError as pause:
                trackers.finish()
                bar.write(f"train: stopped at step {pause.step} and saved; the same command goes on from there")
                raise SystemExit(128 + (stop.received or 15)) from None
        trackers.finish()
        if first:
            _write(params, state, origin)
            shutil.rmtree(folder)
    accelerator.wait_for_everyone()
    return f"{outcome.sentence(recipe, state)}; {EMBEDDING}"


def _examples() -> Examples:
    """data/curated => its pictures, with the text files beside those to learn from."""
    try:
        index = json.loads((CURATED / "index.json").read_text(encoding="utf-8"))
        train, holdout = ([CURATED / row["file"] for row in index[part]] for part in ("train", "holdout"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{CURATED}/index.json cannot be read ({error}); run `dvc repro curate`.") from None
    texts = [path.with_suffix(".txt") for path in train]
    return Examples(train, [t.read_text(encoding="utf-8") if t.is_file() else None for t in texts], holdout)


def _origin(params: SimpleNamespace) -> dict:
    """Params => where the word comes from, and the fingerprint of all that decides it."""
    tracked = {name: getattr(params, name).model_dump(mode="json") for name in ("train", "model", "concept")}
    weights = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(params.model.base).rglob("*.*"))]
    code = sorted(p for room in ("inversion", "models") for p in Path(__file__).parent.joinpath(room).glob("*.py"))
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
    data = files.fingerprint(CURATED)
    return {
        "params": tracked,
        "versions": versions,
        "curated": data,
        "fingerprint": files.fingerprint(tracked, weights, versions, data, *code),
    }


def _speed(runtime: object, backbone: Backbone, steps: int) -> Speed:
    """`runtime` and the steps to come => how the denoiser is run."""
    speed.attend(backbone.denoiser, runtime.attention, backbone.device, backbone.dtype)
    speed.compile_denoiser(backbone.denoiser, speed.choose_compile(runtime.compile, backbone.device, steps))
    auto = {"auto": None}
    return Speed(
        micro_batch=auto.get(runtime.micro_batch, runtime.micro_batch),
        gradient_checkpointing=auto.get(runtime.gradient_checkpointing, runtime.gradient_checkpointing),
        graph=backbone.device.type == "cuda",
    )


def _surroundings(folder: Path | None, seconds: float, *, trackers: Trackers, bar: tqdm, stop: Stop) -> Surroundings:
    """The world, as far as the loop may see it; a process without a folder writes nothing."""
    saved = time.monotonic()

    def due() -> bool:
        return time.monotonic() - saved >= seconds

    def save(state: State) -> None:
        nonlocal saved
        if folder is not None:
            checkpoint.save_in(folder, state, files.write_atomic)
        saved = time.monotonic()

    def show(step: int, text: str) -> None:
        bar.set_postfix_str(text, refresh=False)
        bar.update(step - bar.n)

    return Surroundings(due, stop, save, trackers.log, lambda vectors, step: None, show)


def _write(params: SimpleNamespace, state: State, origin: dict) -> None:
    """A finished state => every out of the stage."""
    placeholder = params.concept.placeholder_token
    header = {
        "base_model": params.model.base,
        "revision": params.model.revision,
        "token": placeholder,
        "initializer": params.concept.initializer_token,
        "steps": state.step,
        "step": state.best_step,
        "seed": params.train.seed,
        "curated": origin["curated"],
        "params": files.fingerprint(origin["params"]),
        "versions": json.dumps(origin["versions"], sort_keys=True),
    }
    with files.folder_atomic(EMBEDDING) as folder:
        files.write_atomic(folder / "learned_embeds.safetensors", word.dump(state.best, placeholder, header))
        for step, vectors in zip(state.snapped, state.snapshots, strict=True):
            snapshot = word.dump(vectors, placeholder, header | {"step": step})
            files.write_atomic(folder / "snapshots" / word.snapshot_name(step), snapshot)
    files.write_json(Path("data/train.json"), outcome.metrics(params.train, state))
    files.write_atomic(Path("data/loss.csv"), outcome.loss_rows(params.train, state))
    files.write_atomic(Path("data/objective.csv"), outcome.objective_rows(state))


if __name__ == "__main__":
    main()
