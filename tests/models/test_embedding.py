"""The frozen table of embeddings with new rows."""

import torch
from torch.func import functional_call

from stages.models.embedding import ExtendedEmbedding, placeholder_tokens

TABLE = torch.nn.Embedding(10, 4).requires_grad_(False)


def look_up(ids: list[list[int]], new: torch.Tensor) -> torch.Tensor:
    return functional_call(ExtendedEmbedding(TABLE, 2), {"new": new}, (torch.tensor(ids),))


def test_ids_beyond_the_table_are_the_new_rows():
    new, rows = torch.arange(8.0).view(2, 4), TABLE.weight
    expected = torch.stack([torch.stack([rows[3], new[0], rows[9]]), torch.stack([new[1], new[1], rows[0]])])
    assert torch.equal(look_up([[3, 10, 9], [11, 11, 0]], new), expected)


def test_gradient_is_the_sum_over_the_positions_of_a_new_row():
    new = torch.zeros(2, 4, requires_grad=True)
    (look_up([[10, 10, 1], [2, 11, 10]], new) * torch.arange(1.0, 7.0).view(2, 3, 1)).sum().backward()
    assert TABLE.weight.grad is None
    assert new.grad[:, 0].tolist() == [1 + 2 + 6, 5]


def test_tokens_of_several_vectors_are_named_as_in_diffusers():
    assert placeholder_tokens("<new>", 3) == ["<new>", "<new>_1", "<new>_2"]
