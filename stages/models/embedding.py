"""A frozen table of word vectors with a few rows beside it that are not frozen.

Legend: N known tokens, V vectors of the new word, D width, B batch, L tokens of a caption.
"""

import torch
from torch import nn
from torch.nn import functional as F


class ExtendedEmbedding(nn.Module):
    """ids (B L) => vectors (B L D): rows of a frozen table (N D), and `self.new` (V D) from id `first` on.

    Takes the place of a text encoder's embedding, so that the table is never copied, resized or written to.
    """

    def __init__(self, table: nn.Embedding, first: int, vectors: int) -> None:
        super().__init__()
        self.table = table
        self.first = first
        self.new = torch.zeros(vectors, table.embedding_dim)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen table, under the name that encoders look for."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (B L) => (B L D), at the table's precision.

        The new rows come through a product with one-hot rows: its gradient is a matrix product, which, unlike that
        of an index, gives the same bytes every time and can be captured in a CUDA graph.
        """
        place = ids - self.first
        known = F.embedding(ids.clamp(max=self.first - 1), self.table.weight)
        one_hot = (place.unsqueeze(-1) == torch.arange(len(self.new), device=ids.device)).to(self.new.dtype)
        return torch.where((place >= 0).unsqueeze(-1), (one_hot @ self.new).to(known.dtype), known)


def placeholder_tokens(placeholder: str, vectors: int) -> list[str]:
    """`<word>`, 3 => `<word>`, `<word>_1`, `<word>_2`: the tokens that diffusers gives a word of several vectors."""
    return [placeholder, *(f"{placeholder}_{i}" for i in range(1, vectors))]
