"""A frozen token embedding with a few new rows beside it.

Legend: V vectors of the new token, D width, B batch, L tokens of a prompt.
"""

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
    """Return the tokens that diffusers gives to an embedding of several vectors: `<new>`, `<new>_1`, `<new>_2`, ..."""
    return [placeholder, *(f"{placeholder}_{i}" for i in range(1, vectors))]
