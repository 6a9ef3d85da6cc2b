"""The start of training: the initializer token, random draws, and words of the vocabulary.

Legend: V vectors of the embedding, D width, N tokens of the vocabulary, K samples of the search batch.
"""

from dataclasses import dataclass

import torch

from stages.inversion.params import Train
from stages.inversion.validation import FixedLoss
from stages.models.params import Concept
from stages.models.philox import normal
from stages.models.text_encoders import TextEncoders

NEAREST = 5


@dataclass(frozen=True)
class Start:
    """An embedding (V D) to start from, and its name in results."""

    name: str
    vectors: torch.Tensor


def starts(text: TextEncoders, concept: Concept, recipe: Train, loss: FixedLoss) -> list[Start]:
    """Return the start that `concept.initialization` names, or those to search: initializer, words, random draws.

    `loss` is that of the search batch.
    """
    initializer = Start(f"initializer token {concept.initializer_token}", text.initializer_vectors())
    if concept.initialization == "random":
        return [random_start(text, concept.vectors, recipe.seed, 0)]
    if concept.initialization != "search":
        return [initializer]
    words = word_starts(text, initializer.vectors, loss, recipe.search_words)[: (recipe.search_starts - 1) // 2]
    draws = range(recipe.search_starts - 1 - len(words))
    return [initializer, *words, *(random_start(text, concept.vectors, recipe.seed, draw) for draw in draws)]


def random_start(text: TextEncoders, vectors: int, seed: int, draw: int) -> Start:
    """Draw vectors from the distribution of all token embeddings, every dimension on its own."""
    table = text.token_embeddings()
    noise = torch.from_numpy(normal(seed, "initial", draw, 0, (vectors, table.shape[1])))
    return Start(f"random draw {draw}", table.mean(0) + table.std(0) * noise)


def word_starts(text: TextEncoders, initializer: torch.Tensor, loss: FixedLoss, count: int) -> list[Start]:
    """Return initial embeddings: the `count` words that the gradient at the initializer (V D) favours, by their loss.

    The first-order change of the loss, if all V vectors move to a word, is one matrix product for all words.
    """
    table, words = text.token_embeddings(), text.words()
    change = table @ loss.gradient(initializer).sum(0)
    rows = [row for row in change.argsort(stable=True).tolist() if words[row]][:count]
    found = [Start(f"word {words[row]}", table[row].expand(len(initializer), -1).clone()) for row in rows]
    return sorted(found, key=lambda start: loss(start.vectors).mean().item())


def nearest_words(text: TextEncoders, vectors: torch.Tensor) -> str:
    """Return the words nearest to an initial or learned embedding, by the cosine to the mean of its vectors (V D).

    The model's tables count equally.
    """
    table, mean = (text.tables.normalize(x) for x in (text.token_embeddings(), vectors.mean(0, keepdim=True)))
    similarity = table @ mean[0]
    words = text.words()
    rows = [row for row in similarity.argsort(descending=True, stable=True).tolist() if words[row]]
    return ", ".join(words[row] for row in rows[:NEAREST])
