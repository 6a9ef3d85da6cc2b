"""The images to render: one job per prompt, subject, seed, and setting."""

from dataclasses import dataclass
from pathlib import Path

from stages.common.snapshots import step_of
from stages.models.params import Concept, Model
from stages.rendering.params import Compare, Render, Setting


@dataclass(frozen=True)
class Job:
    """One image: the name of its prompt, its subject, the prompt with the subject's token in it, seed and setting."""

    prompt: str
    subject: str
    text: str
    seed: int
    setting: Setting

    @property
    def file(self) -> str:
        """Return the path in data/renders."""
        setting = f"-{self.setting.name.replace(', ', '-').replace(' ', '')}" if self.setting.name else ""
        return f"{self.prompt}/{self.subject}-{self.seed}{setting}.png"

    def row(self) -> dict:
        """Return the row of data/renders/index.json; it has the setting if the params list several."""
        row = {"prompt": self.prompt, "subject": self.subject, "text": self.text, "seed": self.seed, "file": self.file}
        steps, guidance_scale, name = self.setting
        return row | ({"steps": steps, "guidance_scale": guidance_scale} if name else {})


@dataclass(frozen=True)
class ComparedInputs:
    """Everything that decides the renders of another model; `render.compare` has `compare` among others."""

    model: Model
    render: Render
    compare: Compare
    class_name: str

    def embeddings_in(self, job: Job) -> dict[str, Path]:
        """Return the embeddings that decide a job of a compared model: none."""
        return {}

    def jobs(self) -> list[Job]:
        """Return a job for every prompt, setting and seed, in that order."""
        prompts = self.render.prompts if self.compare.prompts == "same" else self.compare.prompts
        return _jobs(self.render, prompts, {self.compare.subject: self.class_name})


@dataclass(frozen=True)
class RenderInputs:
    """Everything that decides the renders: three sections of params.yaml and the file of the learned embedding.

    A subject of `render.subjects` is plain text, or an embedding that is called <name> in the prompts. So is each of
    the `snapshots`, whose name is that of its file. `compared` has the inputs of the other models.
    """

    model: Model
    concept: Concept
    render: Render
    embedding: Path
    compared: tuple[ComparedInputs, ...] = ()
    snapshots: tuple[Path, ...] = ()

    def tokens(self) -> dict[str, str]:
        """Return the token or plain text that stands for each subject in the prompts of jobs."""
        tokens = {"word": self.concept.placeholder_token, "initializer": self.concept.initializer_token}
        tokens |= {file.stem: f"<{file.stem}>" for file in self.snapshots}
        return tokens | {name: f"<{name}>" if _is_file(text) else text for name, text in self.render.subjects.items()}

    def titles(self) -> dict[str, str]:
        """Return the title of every subject of the jobs, for the columns of the grid."""
        steps = {file.stem: f"step {step_of(file):,}" for file in self.snapshots}
        return self.tokens() | steps | {other.compare.subject: other.compare.title for other in self.compared}

    def embeddings(self) -> dict[str, Path]:
        """Return the embedding file of every token in the jobs' prompts that the base model does not have."""
        files = {f"<{name}>": Path(text) for name, text in self.render.subjects.items() if _is_file(text)}
        snapshots = {f"<{file.stem}>": file for file in self.snapshots}
        return {self.concept.placeholder_token: self.embedding} | snapshots | files

    def embeddings_in(self, job: Job) -> dict[str, Path]:
        """Return the embeddings that decide a job: those whose token is in its prompt or in the negative prompt.

        That can be the prompt of an initializer job, too. The tokenizers of CLIP ignore case.
        """
        texts = f"{job.text} {self.render.negative_prompt}".lower()
        return {token: file for token, file in self.embeddings().items() if token.lower() in texts}

    def jobs(self) -> list[Job]:
        """Return a job of the base model for every prompt, setting, subject and seed, in that order."""
        return _jobs(self.render, self.render.prompts, self.tokens())

    def index(self) -> dict:
        """Return the jobs as data/renders/index.json has them; with snapshots, also the file of each, and of `word`."""
        rows = [job.row() for inputs in (self, *self.compared) for job in inputs.jobs()]
        index = {"subjects": self.titles(), "prompts": self.render.prompts, "cells": rows}
        files = {"word": self.embedding} | {file.stem: file for file in self.snapshots}
        return index | ({"embeddings": {n: f.as_posix() for n, f in files.items()}} if self.snapshots else {})


def _jobs(render: Render, prompts: dict[str, str], tokens: dict[str, str]) -> list[Job]:
    return [
        Job(name, subject, prompt.replace("{}", token), seed, setting)
        for name, prompt in prompts.items()
        for setting in render.settings()
        for subject, token in tokens.items()
        for seed in render.seeds
    ]


def _is_file(subject: str) -> bool:
    return subject.endswith(".safetensors")
