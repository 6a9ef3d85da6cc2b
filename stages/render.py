"""Render every prompt with the placeholder token and with the initializer token, from the same noise."""

from pathlib import Path

from tqdm import tqdm

from stages import UserError
from stages.common.files import folder_atomic, png_bytes, write_atomic, write_json
from stages.common.outs import read_image, read_json
from stages.common.params import load
from stages.common.stage import stage
from stages.models.device import configure_torch
from stages.models.loading import resolve
from stages.rendering.cache import RenderCache
from stages.rendering.grid import draw_grid
from stages.rendering.jobs import RenderInputs
from stages.rendering.sampling import ImageSampler

EMBEDDING, CURATED = Path("data/embedding/learned_embeds.safetensors"), Path("data/curated")
RENDERS, GRID, SCRATCH = Path("data/renders"), Path("data/grid.png"), Path(".scratch/render")


@stage
def main() -> str:
    """Write data/renders and data/grid.png."""
    params = load("render", "model", "concept", "runtime")
    if not EMBEDDING.is_file():
        raise UserError(f"{EMBEDDING} does not exist; run `dvc repro train`.")
    model = resolve(params.model)
    inputs = RenderInputs(model, params.concept, params.render, EMBEDDING)
    training = [CURATED / row["file"] for row in read_json(CURATED / "index.json", "curate")["train"]]
    cache = RenderCache(SCRATCH, inputs)
    if missing := cache.missing():
        sampler = ImageSampler(inputs, configure_torch(params.runtime))
        for job in tqdm(missing, "render", unit="image"):
            cache.write(job, sampler(job))
    with folder_atomic(RENDERS) as folder:
        for job, path in cache.paths.items():
            write_atomic(folder / job.file, path.read_bytes())
        write_json(folder / "index.json", inputs.index())
    images = {job: read_image(path, "render") for job, path in cache.paths.items()}
    grid = draw_grid(inputs, images, [read_image(path, "curate") for path in training])
    write_atomic(GRID, png_bytes(grid))
    cache.prune()
    return f"{len(images)} images in {RENDERS}; grid in {GRID}"


if __name__ == "__main__":
    main()
