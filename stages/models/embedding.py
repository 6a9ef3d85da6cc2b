"""A frozen token embedding with a few new rows beside it, and the embedding of a model with several such tables.

Legend: V vectors of the new token, D width, B batch, L tokens of a prompt, N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


class ExtendedEmbedding(nn.Module):
    """A frozen table of token embeddings, extended by `new` (V D), the rows from id `first` on.

    It replaces a text encoder's input embedding, so that the table is never copied, resized or written to. Callers pass
    the rows of each call with `torch.func.functional_call`.
    """

    def __init__(self, table: nn.Embedding, vectors: int) -> None:
        super().__init__()
        self.table, self.first = table, table.num_embeddings
        self.new = nn.Parameter(torch.zeros(vectors, table.embedding_dim), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen table, under the name that text encoders look up."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up ids (B L), and return embeddings (B L D) at the table's precision.

        The new rows are a product with one-hot rows: unlike the gradient of an index, the gradient of a matrix product
        gives the same bytes every time and can be captured in a CUDA graph.
        """
        row = ids - self.first
        existing = F.embedding(ids.clamp(max=self.first - 1), self.table.weight)
        one_hot = (row.unsqueeze(-1) == torch.arange(len(self.new), device=ids.device)).to(self.new.dtype)
        return torch.where((row >= 0).unsqueeze(-1), (one_hot @ self.new).to(existing.dtype), existing)


def placeholder_tokens(placeholder: str, vectors: int) -> list[str]:
    """Return the tokens of an embedding of several vectors, named as by diffusers: `<new>`, `<new>_1`, ..."""
    return [placeholder, *(f"{placeholder}_{i}" for i in range(1, vectors))]


@dataclass(frozen=True)
class Tables:
    """The widths of a model's tables of token embeddings, by the names that they have in an embedding file.

    A vector of the new token has a part in every table. The parts stand side by side in one vector, in this order, so
    that D is the sum of the widths.
    """

    widths: dict[str, int]

    def split(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the part (N D) of vectors (N D) in every table."""
        return dict(zip(self.widths, vectors.split(list(self.widths.values()), dim=1), strict=True))

    def map(self, function: Callable[..., torch.Tensor], *vectors: torch.Tensor) -> torch.Tensor:
        """Call a function with the parts of `vectors` (N D) in each table, and set what it returns side by side."""
        return torch.cat(
            [function(*parts) for parts in zip(*(self.split(v).values() for v in vectors), strict=True)], 1
        )

    def normalize(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return vectors (N D) whose part in every table has unit length."""
        return self.map(F.normalize, vectors)

    def norms(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the norms of embeddings (N D) in every table, in all its columns (N D)."""
        return self.map(lambda part: part.norm(dim=1, keepdim=True).expand_as(part), vectors)

    def mean_norms(self, vectors: torch.Tensor) -> list[float]:
        """Return the mean norm of vectors (N D) in every table."""
        return [part.norm(dim=1).mean().item() for part in self.split(vectors).values()]
