"""Keep finished renders between runs."""

from pathlib import Path

from PIL import Image

from stages.common.files import fingerprint, png_bytes, write_atomic
from stages.common.provenance import code_and_weights
from stages.rendering.jobs import Job, RenderInputs


class RenderCache:
    """A folder with one PNG per finished job, named by the fingerprint of everything that decides its pixels."""

    def __init__(self, folder: Path, inputs: RenderInputs) -> None:
        settings = inputs.render.model_dump(mode="json", exclude={"prompts", "seeds"})
        code = code_and_weights(inputs.model.base, ("models", "rendering"))
        self._shared = fingerprint(settings, inputs.model.model_dump(mode="json"), *code)
        self._folder, self._inputs = folder, inputs
        self.paths = {job: folder / f"{self._key(job)}.png" for job in inputs.jobs()}

    def _key(self, job: Job) -> str:
        """Return the fingerprint of a job; it includes the embedding if a text contains the placeholder token.

        That can be the prompt of an initializer job, too. The tokenizers of CLIP ignore case.
        """
        placeholder = self._inputs.concept.placeholder_token
        texts = f"{job.text} {self._inputs.render.negative_prompt}".lower()
        embedding = [placeholder, self._inputs.embedding] if placeholder.lower() in texts else []
        return fingerprint(self._shared, job.text, job.seed, *embedding)

    def missing(self) -> list[Job]:
        """Return the jobs whose render does not exist or cannot be decoded."""
        return [job for job, path in self.paths.items() if not _can_be_decoded(path)]

    def write(self, job: Job, image: Image.Image) -> None:
        """Keep the render of a job."""
        write_atomic(self.paths[job], png_bytes(image))

    def prune(self) -> None:
        """Remove what this run did not use, so that the folder stays as large as one run."""
        for path in set(self._folder.glob("*.png")) - set(self.paths.values()):
            path.unlink()


def _can_be_decoded(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True
