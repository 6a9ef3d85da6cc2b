"""Render one page from the outs of all stages: no request, every image embedded, no script but its own."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from stages.common.read_outs import read_json
from stages.reporting.charts import likeness_positions, panels, snapshot_curves, training_curves
from stages.reporting.inputs import (
    Inputs,
    Metrics,
    NamedRenders,
    TrainMetrics,
    data_uri,
    describe_embedding,
    read_curve,
    read_estimates,
    read_images,
    read_snapshots,
)
from stages.reporting.measures import Value, measures
from stages.reporting.params import Report
from stages.reporting.tables import params_table, provenance_table
from stages.reporting.usage import compatibility, diffusers_example, file_stem, web_uis

KINDS = ("initializer", "word", "real")


def render_page(report: Report, inputs: Inputs, params: dict[str, dict], thumbnail: Callable[[Path], str]) -> str:
    """Return the report page as HTML, with `params` by section; `thumbnail` returns that of an image as a data URI.

    Raises UserError for an input that cannot be read.
    """
    concept, estimates = params["concept"], read_estimates(inputs.estimates)
    stem = file_stem(concept["placeholder_token"])
    renders = read_json(inputs.renders / "index.json", "render", NamedRenders)
    others = renders["subjects"].keys() - renders.get("embeddings", {}).keys() - {"initializer", "word"}
    subjects = ["initializer", "word", *sorted(others)]
    metrics, training = read_json(inputs.metrics, "evaluate", Metrics), read_json(inputs.train, "train", TrainMetrics)
    snapshots = _snapshots(renders.get("embeddings", {}), training["best_step"], metrics.get("chosen"), estimates)
    recommended = Path(snapshots["chosen"].file) if snapshots["chosen"] else inputs.embedding
    embedding = describe_embedding(recommended)
    validation = read_curve(inputs.validation, "step", "relative", "stderr")
    likeness = {kind: estimates[f"image_similarity_{kind}"] for kind in KINDS}
    texts = {row["prompt"]: row["text"] for row in renders["cells"]} | params["render"]["prompts"]
    last_prompt = list(params["render"]["prompts"].values())[-1]
    context = {
        "title": report.title or concept["placeholder_token"],
        "concept": concept,
        "render": params["render"],
        "train": training,
        "closer": metrics["closer_to_real"],
        "estimates": estimates,
        "measures": measures(estimates, subjects),
        "likeness": likeness,
        "positions": likeness_positions(likeness),
        "embedding": embedding,
        "curves": training_curves(validation, read_curve(inputs.loss, "step", "loss")),
        "best": validation.loc[validation["relative"].idxmin()],
        "relative": dict(zip(validation["step"], validation["relative"], strict=True)),
        "recommended": recommended,
        "progress": sorted((inputs.embedding.parent / "progress").glob("step-*.png")),
        "renders": renders,
        "subjects": subjects,
        "prompts": {name: texts[name] for name in [*params["render"]["prompts"], *sorted(texts)]},
        "params": params_table(params),
        "provenance": provenance_table(read_json(inputs.raw, "download"), embedding),
        "example": diffusers_example(recommended, embedding, params, f"{stem}.png"),
        "web_uis": web_uis(embedding, last_prompt, concept["placeholder_token"]),
        "compatibility": compatibility(embedding, params["model"]["base"]),
        "file_stem": stem,
        "inputs": inputs,
        "uri": data_uri,
    }
    return _fill(context | read_images(inputs, thumbnail) | snapshots)


def _snapshots(embeddings: dict[str, str], best_step: int, file: str | None, estimates: dict[str, Value]) -> dict:
    """Return the snapshots on the report page, if any, with their measures, and the one in the chosen file."""
    snapshots = read_snapshots(embeddings, best_step)
    chosen = next((row for row in snapshots if row.file == file), None)
    return {
        "snapshots": snapshots,
        "chosen": chosen,
        "snapshot_measures": measures(estimates, [row.subject for row in snapshots]),
        "snapshot_curves": snapshot_curves(panels(snapshots, estimates, chosen)) if snapshots else {},
    }


def _fill(context: dict) -> str:
    """Fill the template. The policy allows one script by its hash, so that no text on the page can become a script."""
    folder = Path(__file__).parent
    texts = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    script = "//<![CDATA[\n" + texts["js"] + "//]]>"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(texts["html"])
    return template.render(context, style=Markup(texts["css"]), script=Markup(script), digest=digest) + "\n"
