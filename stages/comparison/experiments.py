"""Read the params, metrics, curves and renders of experiments from git and DVC's cache, without a checkout."""

import base64
import io
import json
from dataclasses import dataclass, field

import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.index import DataIndexError
from PIL import Image
from pydantic import BaseModel

from stages import UserError
from stages.common.read_outs import RendersIndex

SIDE = 256  # px of the images on the page
VALIDATION, RENDERS, ESTIMATES = "data/validation.csv", "data/renders", "data/estimates.csv"


class PromptedRenders(RendersIndex):
    """data/renders/index.json, with the prompts by name."""

    prompts: dict[str, str]


class Curve(BaseModel):
    """data/validation.csv, by columns."""

    step: list[float]
    relative: list[float]
    stderr: list[float]


@dataclass(frozen=True)
class Experiment:
    """One experiment; `intervals` are the 95% intervals of metrics by name, `renders` data URIs by prompt and seed, and
    `missing` the outs that the cache does not have.
    """

    name: str
    params: dict[str, str]
    metrics: dict[str, float | str]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    curve: Curve | None = None
    renders: dict[tuple[str, int], str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def describe_missing(self) -> str:
        """Return which outs of this experiment cannot be shown, and how to fetch them."""
        return (
            f"{', '.join(self.missing)} of {self.name} cannot be read from DVC's cache; fetch the outs of an "
            f"experiment with `dvc exp pull <git remote> {self.name}`, those of a commit with `dvc pull`."
        )


def find_revisions(names: list[str]) -> dict[str, str | None]:
    """Return the git revision of each name: an experiment, a branch, a tag or a commit; None is the workspace.

    Without names: the last commit, all its experiments, and the workspace if its results are not those of a commit.
    """
    with Repo(".") as repo:
        experiments = {name: rev for pairs in repo.experiments.ls().values() for name, rev in pairs}
        if names:
            return {name: None if name == "workspace" else experiments.get(name, name) for name in names}
        found = {"HEAD": "HEAD"} | experiments
        locks = {_read_lock(rev) for rev in found.values()}
        return found if _read_lock(None) in locks else {"workspace": None} | found


def read_experiment(name: str, rev: str | None) -> Experiment:
    """Return an experiment at a revision. Outs that cannot be read are `missing`."""
    try:
        with Repo(".", rev=rev) as repo:
            params, metrics = (_values(shown) for shown in (repo.params.show(deps_only=True), repo.metrics.show()))
            if not params:
                raise UserError(f"{name} has no params.yaml; name an experiment, or a commit with results.")
            outs, missing = {}, []
            for out, read in ((ESTIMATES, _read_intervals), (VALIDATION, _read_curve), (RENDERS, _read_renders)):
                try:
                    outs[out] = read(repo.dvcfs)
                except (OSError, ValueError, DvcException, DataIndexError):
                    missing.append(out)
    except DvcException as error:
        raise UserError(f"{name}: {error}; `dvc exp list` shows the experiments.") from None
    shown = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
    intervals, curve, renders = outs.get(ESTIMATES, {}), outs.get(VALIDATION), outs.get(RENDERS, {})
    return Experiment(name, shown, metrics, intervals, curve, renders, tuple(missing))


def _read_lock(rev: str | None) -> str:
    with Repo(".", rev=rev) as repo:
        return repo.dvcfs.read_text("dvc.lock") if repo.dvcfs.exists("dvc.lock") else ""


def _values(shown: dict) -> dict:
    """Return the params or metrics of one revision, of all files, by dotted names."""
    (revision,) = shown.values()
    files = [file.get("data", {}) for file in revision.get("data", {}).values()]
    return {key: value for data in files for key, value in pd.json_normalize(data).to_dict("records")[0].items()}


def _read_intervals(files: DVCFileSystem) -> dict[str, tuple[float, float]]:
    table = pd.read_csv(io.StringIO(files.read_text(ESTIMATES)), index_col="name").dropna()
    return {str(name): (float(row.low), float(row.high)) for name, row in table.iterrows()}


def _read_curve(files: DVCFileSystem) -> Curve:
    return Curve.model_validate(pd.read_csv(io.StringIO(files.read_text(VALIDATION))).to_dict("list"))


def _read_renders(files: DVCFileSystem) -> dict[tuple[str, int], str]:
    """Return the renders of an experiment with its learned embedding."""
    index = PromptedRenders.model_validate_json(files.read_text(f"{RENDERS}/index.json"))
    return {
        (index.prompts[row.prompt], row.seed): _data_uri(files.read_bytes(f"{RENDERS}/{row.file}"))
        for row in index.renders
        if row.subject == "word"
    }


def _data_uri(content: bytes) -> str:
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
