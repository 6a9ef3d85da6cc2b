"""Learn the embedding of the placeholder token from the curated images."""

import contextlib
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from stages.common.files import folder_atomic, write_atomic, write_json
from stages.common.params import load
from stages.common.progress import progress
from stages.common.provenance import Provenance, provenance
from stages.common.signals import StopSignal
from stages.common.stage import stage
from stages.common.trackers import TrackedRun, Trackers, accelerator_options
from stages.inversion import results
from stages.inversion.callbacks import Callbacks
from stages.inversion.checkpoint import Checkpoints
from stages.inversion.dataset import curated_images
from stages.inversion.loop import PausedError
from stages.inversion.train import Result, train
from stages.models.acceleration import apply_kernels
from stages.models.device import DTYPES, configure_torch, select_device
from stages.models.hub import resolve
from stages.models.loading import open_backbone
from stages.models.sharding import shard, sharding_plugin

CURATED, EMBEDDING, SCRATCH = Path("data/curated"), Path("data/embedding"), Path(".scratch")
METRICS, LOSS, VALIDATION = Path("data/train.json"), Path("data/loss.csv"), Path("data/validation.csv")


@stage
def main() -> str:
    params, stop = load("train", "model", "concept", "runtime"), StopSignal()
    recipe, runtime, params.model = params.train, params.runtime, resolve(params.model)
    on_cpu = select_device(runtime.device).type != "cuda"
    images = curated_images(CURATED)
    sections = {name: getattr(params, name) for name in ("train", "model", "concept")}
    plugin = sharding_plugin(params.model, runtime)
    source = provenance(sections, CURATED, params.model.base, ("inversion", "models"))
    accelerator = Accelerator(cpu=on_cpu, **accelerator_options(runtime.trackers, SCRATCH, source.run))
    is_main, rank = accelerator.is_main_process, accelerator.local_process_index
    tf32 = recipe.mixed_precision == "tf32"
    device = configure_torch(runtime, processes=accelerator.num_processes, local_rank=rank, tf32=tf32)
    scratch = SCRATCH / "train" / source.run
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(scratch, source.run, runtime.checkpoint_seconds)
        resumed = [checkpoints.latest(print) if is_main else None]
        (resumed,) = broadcast_object_list(resumed) if accelerator.num_processes > 1 else resumed
        prepare, dtype = partial(shard, device=device, plugin=plugin), DTYPES[recipe.mixed_precision]
        backbone = open_backbone(params.model, params.concept, device, dtype, prepare=prepare, offload=runtime.offload)
        warnings = apply_kernels(backbone, runtime, recipe.steps)
        first = resumed.step if resumed else None
        trackers = Trackers(accelerator, source.params, SCRATCH, source.run, first)
        stack.callback(trackers.close)  # last: it ends the process group
        bar = stack.enter_context(progress("train", recipe.steps, "step", initial=first or 0, is_shown=is_main))
        for line in warnings + trackers.locations() if is_main else ():
            bar.write(f"train: {line}")
        callbacks = Callbacks(checkpoints, trackers, bar, stop, is_main)
        try:
            result = train(
                backbone,
                params.concept,
                recipe,
                runtime,
                images,
                accelerator=accelerator,
                callbacks=callbacks,
                resumed=resumed,
            )
        except PausedError as pause:
            if is_main:
                bar.write(f"train: stopped at step {pause.step}; run the same command to continue")
            raise SystemExit(128 + (stop.received or 15)) from None
        if is_main:
            _write_outs(params, result, source, scratch)
            trackers.metrics(results.metrics(recipe, result))
            TrackedRun(source.run, result.state.step).remember(SCRATCH, EMBEDDING)
    return f"{results.summary(recipe, result)}; {EMBEDDING}"


def _write_outs(params: SimpleNamespace, result: Result, source: Provenance, scratch: Path) -> None:
    with folder_atomic(EMBEDDING) as folder:
        for name, content in results.embedding_files(params, result, source).items():
            write_atomic(folder / name, content)
        if (scratch / "progress").is_dir():
            shutil.copytree(scratch / "progress", folder / "progress")
    write_json(METRICS, results.metrics(params.train, result))
    write_atomic(LOSS, results.loss_csv(params.train, result))
    write_atomic(VALIDATION, results.validation_csv(result))
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
