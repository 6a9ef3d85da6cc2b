"""Say in one line whether the embedding was learned, by the test loss and by the renders."""

import math

from stages.scoring.bootstrap import Estimate
from stages.scoring.score import Scores


def summary(scores: Scores, learned: bool, classes: int, chosen: str | None) -> str:
    """Return the verdict of the test loss (`learned`) and that of the renders, with what decides the latter.

    `classes` is the number of other classes in the gallery, and `chosen` the file with the best tradeoff.
    """
    estimates, closer = scores.estimates, scores.metrics()["closer_to_real"]
    verdicts = {
        (True, True): "learned, by the test loss and by the renders",
        (True, False): "learned by the test loss, but the renders are not closer to the real images",
        (False, True): "not learned by the test loss, but the renders are closer to the real images",
        (False, False): "not learned, neither by the test loss nor by the renders",
    }
    word, initializer, real = (estimates[f"image_similarity_{key}"] for key in ("word", "initializer", "real"))
    line = (
        f"{verdicts[learned, closer]}: image similarity {_interval(word)} with the learned embedding, "
        f"{initializer.value:.3f} with the initializer token, {real.value:.3f} for real images"
    )
    if classes:
        shares = [f"{100 * estimates[f'image_gallery_recall_{key}'].value:.0f} %" for key in ("word", "initializer")]
        line += f"; recognized among {classes} other class{'es' * (classes > 1)} in {shares[0]} ({shares[1]}) of them"
    return f"{line}; best tradeoff: {chosen}" if chosen else line


def _interval(estimate: Estimate) -> str:
    interval = "" if math.isnan(estimate.low) else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.value:.3f}{interval}"
