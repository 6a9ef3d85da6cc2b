"""Keep finished renders between runs."""

from pathlib import Path

from PIL import Image

from stages.common.files import png_bytes, write_atomic
from stages.common.hashing import fingerprint
from stages.common.provenance import code_and_weights
from stages.rendering.jobs import ComparedInputs, Job, RenderInputs

# Params that a job has its share of.
OF_JOBS = {"prompts", "seeds", "subjects", "snapshots", "compare", "steps", "guidance_scale"}


class RenderCache:
    """A folder with one PNG per finished job, named by the fingerprint of everything that decides its pixels."""

    def __init__(self, folder: Path, inputs: RenderInputs | ComparedInputs) -> None:
        settings = inputs.render.model_dump(mode="json", exclude=OF_JOBS)
        code = code_and_weights(inputs.model.base, ("models", "rendering"))
        self._shared = fingerprint(settings, inputs.model.model_dump(mode="json"), *code)
        self._inputs = inputs
        self.paths = {job: folder / f"{self._key(job)}.png" for job in inputs.jobs()}

    def _key(self, job: Job) -> str:
        embeddings = (value for item in self._inputs.embeddings_in(job).items() for value in item)
        setting = job.setting.steps, job.setting.guidance_scale
        return fingerprint(self._shared, job.text, job.seed, *setting, *embeddings)

    def missing(self, jobs: list[Job]) -> list[Job]:
        """Return the jobs whose render does not exist or cannot be decoded."""
        return [job for job in jobs if not _can_be_decoded(self.paths[job])]

    def write(self, job: Job, image: Image.Image, parameters: str) -> None:
        """Keep the render of a job, with a text chunk of its `parameters`."""
        write_atomic(self.paths[job], png_bytes(image, parameters=parameters))


def prune(folder: Path, used: set[Path]) -> None:
    """Remove what a run did not use, so that the folder stays as large as one run."""
    for path in set(folder.glob("*.png")) - used:
        path.unlink()


def _can_be_decoded(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True
