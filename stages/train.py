"""data/curated => data/embedding, data/train.json, data/loss.csv, data/validation.csv: the word is learnt."""

import contextlib
import shutil
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from stages.common import files
from stages.common.locks import lock
from stages.common.params import load
from stages.common.provenance import provenance
from stages.common.signals import StopSignal
from stages.common.stage import stage
from stages.common.trackers import Trackers
from stages.inversion import checkpoint, results
from stages.inversion.callbacks import surroundings
from stages.inversion.dataset import examples
from stages.inversion.loop import PausedError
from stages.inversion.train import hasten, teach
from stages.models import device as machine
from stages.models.backbone import open_backbone

CURATED, EMBEDDING, SCRATCH = Path("data/curated"), Path("data/embedding"), Path(".scratch")
FIGURES, LOSS, OBJECTIVE = Path("data/train.json"), Path("data/loss.csv"), Path("data/validation.csv")


@stage
def main() -> str:
    """data/curated and the base model => the word, its curves and its figures."""
    params, stop = load("train", "model", "concept", "runtime"), StopSignal()
    recipe, runtime = params.train, params.runtime
    accelerator = Accelerator(
        cpu=machine.select_device(runtime.device).type != "cuda", log_with=list(runtime.trackers) or None
    )
    device = machine.configure_torch(
        runtime,
        processes=accelerator.num_processes,
        local_rank=accelerator.local_process_index,
        tf32=recipe.mixed_precision == "tf32",
    )
    pictures = examples(CURATED)
    tracked = {name: getattr(params, name) for name in ("train", "model", "concept")}
    source = provenance(tracked, CURATED, params.model.base, ("inversion", "models"))
    folder, first = SCRATCH / "train" / source.run, accelerator.is_main_process
    with lock(folder, "training") if first else contextlib.nullcontext():
        found = [checkpoint.latest(folder, source.run, print) if first else None]
        found = (broadcast_object_list(found) if accelerator.num_processes > 1 else found)[0]
        backbone = open_backbone(params.model, params.concept, device, machine.DTYPES[recipe.mixed_precision])
        how, unmet = hasten(backbone, recipe.steps, runtime)
        trackers = Trackers(accelerator, source.params, SCRATCH, source.run, bool(found))
        with tqdm(total=recipe.steps, initial=found.step if found else 0, unit="step", disable=not first) as bar:
            around = surroundings(
                folder if first else None,
                source.run,
                seconds=runtime.checkpoint_seconds,
                write=files.write_atomic,
                stop=stop,
                log=trackers.log,
                show=trackers.image,
                bar=bar,
            )
            if first and unmet:
                bar.write(f"train: {unmet}")
            try:
                state = teach(
                    backbone, params.concept, recipe, pictures, how=how, crew=accelerator, found=found, around=around
                )
            except PausedError as pause:
                if first:
                    bar.write(f"train: stopped at step {pause.step} and saved; the same command goes on from there")
                raise SystemExit(128 + (stop.received or 15)) from None
            finally:
                trackers.close()
        if first:
            with files.folder_atomic(EMBEDDING) as embedding:
                for name, content in results.word_files(params, state, source).items():
                    files.write_atomic(embedding / name, content)
                if (folder / "progress").is_dir():
                    shutil.copytree(folder / "progress", embedding / "progress")
            files.write_json(FIGURES, results.metrics(recipe, state))
            files.write_atomic(LOSS, results.loss_rows(recipe, state))
            files.write_atomic(OBJECTIVE, results.objective_rows(state))
            shutil.rmtree(folder)
    accelerator.wait_for_everyone()
    return f"{results.sentence(recipe, state)}; {EMBEDDING}"


if __name__ == "__main__":
    main()
