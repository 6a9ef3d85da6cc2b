"""data/embedding, data/curated => data/renders, data/grid.png: what the model draws with the word, and without it."""

import json
from pathlib import Path
from types import SimpleNamespace

from PIL import Image
from tqdm import tqdm

from stages import UserError
from stages.common import files
from stages.common.locks import lock
from stages.common.params import load
from stages.common.provenance import code_and_weights
from stages.common.stage import stage
from stages.models import device as machine
from stages.rendering.draw import draw_all, png
from stages.rendering.grid import GridContent, grid
from stages.rendering.jobs import Job, index, list_jobs
from stages.rendering.pipeline import add_embedding, open_pipeline
from stages.rendering.sampling import DTYPES, ImageSampler

WORD, CURATED = Path("data/embedding/learned_embeds.safetensors"), Path("data/curated")
RENDERS, GRID, SCRATCH = Path("data/renders"), Path("data/grid.png"), Path(".scratch/render")


@stage
def main() -> str:
    """The word and the base model => a picture for every prompt, subject and seed, and one picture of them all."""
    params = load("render", "model", "concept", "runtime")
    if not WORD.is_file():
        raise UserError(f"{WORD} is not here; run `dvc repro train`.")
    wanted, known = list_jobs(params.render, params.concept), _known(params)

    def place(cell: Job) -> Path:
        # Tokenizers of CLIP ignore case.
        texts, token = f"{cell.text} {params.render.negative_prompt}".lower(), params.concept.placeholder_token.lower()
        embedding = WORD if token in texts else None
        return SCRATCH / f"{files.fingerprint(known, cell.text, cell.seed, embedding)}.png"

    with lock(SCRATCH, "rendering"):
        draw_all(tqdm(wanted, "render", unit="picture"), place, lambda: _painter(params), files.write_atomic)
        with files.folder_atomic(RENDERS) as folder:
            for cell in wanted:
                files.write_atomic(folder / cell.file, place(cell).read_bytes())
            files.write_json(folder / "index.json", index(params.render, params.concept))
        files.write_atomic(GRID, png(grid(_story(params, wanted))))
        # What this run did not use, a later one is unlikely to: the folder stays as large as one run.
        for path in set(SCRATCH.glob("*.png")) - {place(cell) for cell in wanted}:
            path.unlink()
    return f"{len(wanted)} pictures in {RENDERS}; look at {GRID}"


def _painter(params: SimpleNamespace) -> ImageSampler:
    """Params => the model with the word in it, ready to draw."""
    device = machine.configure_torch(params.runtime)
    pipeline = open_pipeline(params.model, params.render.scheduler, device, DTYPES[params.render.precision])
    add_embedding(pipeline, params.concept.placeholder_token, WORD)
    return ImageSampler(pipeline, params.render, params.concept.placeholder_token)


def _known(params: SimpleNamespace) -> str:
    """Params => a fingerprint of all that decides every cell alike."""
    settings = params.render.model_dump(mode="json", exclude={"prompts", "seeds"})
    model = params.model.model_dump(mode="json")
    return files.fingerprint(settings, model, *code_and_weights(params.model.base, ("models", "rendering")))


def _story(params: SimpleNamespace, wanted: list[Job]) -> GridContent:
    """The pictures that were drawn, and those that the word was learnt from => what the grid tells."""
    try:
        shown = [CURATED / row["file"] for row in json.loads((CURATED / "index.json").read_text())["train"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{CURATED}/index.json cannot be read ({error}); run `dvc repro curate`.") from None
    drawn = {(cell.prompt, cell.subject, cell.seed): Image.open(RENDERS / cell.file) for cell in wanted}
    subjects = {"initializer": params.concept.initializer_token, "word": params.concept.placeholder_token}
    return GridContent(
        params.render.prompts, subjects, params.render.seeds, drawn, [Image.open(path) for path in shown]
    )


if __name__ == "__main__":
    main()
