"""Render every prompt with the placeholder token and with the initializer token, from the same noise."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import PartialState

from stages import UserError
from stages.common.files import folder_atomic, png_bytes, write_atomic, write_json
from stages.common.params import load
from stages.common.progress import progress
from stages.common.read_outs import CuratedIndex, read_embedding, read_image, read_json
from stages.common.runtime import Runtime
from stages.common.snapshots import choose_snapshots
from stages.common.stage import stage
from stages.common.trackers import publish
from stages.models.device import configure_torch, select_device
from stages.models.hub import resolve
from stages.rendering.cache import RenderCache, prune
from stages.rendering.compared_models import PipelineSampler, compared_inputs
from stages.rendering.grid import draw_grid
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.pipeline import choose_precision
from stages.rendering.sampling import ImageSampler

EMBEDDING, CURATED = Path("data/embedding/learned_embeds.safetensors"), Path("data/curated")
RENDERS, GRID, SCRATCH = Path("data/renders"), Path("data/grid.png"), Path(".scratch/render")


@stage
def main() -> str:
    """Run the stage render: write data/renders and data/grid.png; processes share the images."""
    params = load("render", "model", "concept", "runtime")
    processes = PartialState(cpu=select_device(params.runtime.device).type != "cuda")
    rank, count = processes.process_index, processes.num_processes
    device = configure_torch(params.runtime, processes=count, local_rank=processes.local_process_index)
    curated = read_json(CURATED / "index.json", "curate", CuratedIndex)
    inputs = _resolve_inputs(params, curated["class"], device)
    training = [CURATED / row["file"] for row in curated["train"]]
    paths = {}
    for part in (inputs, *inputs.compared):
        cache = RenderCache(SCRATCH, part)
        if missing := cache.missing(part.jobs()[rank::count]):
            sampler = ImageSampler if part is inputs else PipelineSampler
            _render(missing, cache, sampler(part, params.runtime, device), params.runtime, is_main=rank == 0)
        paths |= cache.paths
    processes.wait_for_everyone()
    if rank == 0:
        _write_outs(inputs, paths, training)
        if run := publish(params.runtime.trackers, SCRATCH.parent, EMBEDDING.parent, grid=GRID):
            run.remember(SCRATCH.parent, RENDERS)
    processes.destroy_process_group()
    return f"{len(paths)} images in {RENDERS}; grid in {GRID}"


def _resolve_inputs(params: SimpleNamespace, class_name: str, device: torch.device) -> RenderInputs:
    """Return the stage's params with the models' commits and the precision that they stand for here."""
    model = resolve(params.model)
    render = params.render.model_copy(update={"precision": choose_precision(params.render, model, device)})
    compared = compared_inputs(params.render, class_name, device)
    snapshots = choose_snapshots(EMBEDDING.parent / "snapshots", render.snapshots)
    inputs = RenderInputs(model, params.concept, render, EMBEDDING, compared, snapshots)
    for token, file in inputs.embeddings().items():
        if file != EMBEDDING and not file.is_file():
            raise UserError(f"{file} does not exist; correct `render.subjects.{token[1:-1]}`.")
        read_embedding(file)
    return inputs


def _render(
    jobs: list[Job], cache: RenderCache, sampler: ImageSampler | PipelineSampler, runtime: Runtime, *, is_main: bool
) -> None:
    """Render jobs by a sampler; PNG files are compressed and cached while the next batch is rendered."""
    with (
        ThreadPoolExecutor(min(16, runtime.cores)) as threads,
        progress("render", len(jobs), "image", is_shown=is_main) as bar,
    ):
        for warning in sampler.prepare(jobs):
            bar.write(f"render: {warning}")
        written = []
        for batch in sampler.batches(jobs):
            written += [threads.submit(cache.write, job, image, sampler.parameters(job, image)) for job, image in batch]
            bar.update(len(batch))
        for future in written:
            future.result()


def _write_outs(inputs: RenderInputs, paths: dict[Job, Path], training: list[Path]) -> None:
    with folder_atomic(RENDERS) as folder:
        for job, path in paths.items():
            write_atomic(folder / job.file, path.read_bytes())
        write_json(folder / "index.json", inputs.index())
    images = {job: read_image(path, "render") for job, path in paths.items()}
    grid = draw_grid(inputs, images, [read_image(path, "curate") for path in training])
    write_atomic(GRID, png_bytes(grid))
    prune(SCRATCH, used=set(paths.values()))


if __name__ == "__main__":
    main()
