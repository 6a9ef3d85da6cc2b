"""The frozen table and the rows beside it."""

import torch

from stages.models.embedding import ExtendedEmbedding, placeholder_tokens

TABLE = torch.nn.Embedding(10, 4).requires_grad_(False)


def test_known_ids_give_the_table_and_new_ids_the_vectors():
    words = ExtendedEmbedding(TABLE, 10, 2)
    words.new = torch.arange(8.0).view(2, 4)
    given = words(torch.tensor([[3, 10, 9], [11, 11, 0]]))
    rows = TABLE.weight
    expected = torch.stack([torch.stack([rows[3], words.new[0], rows[9]]), torch.stack([words.new[1]] * 2 + [rows[0]])])
    assert torch.equal(given, expected)


def test_only_the_vectors_get_a_gradient_and_it_is_the_sum_over_their_places():
    words = ExtendedEmbedding(TABLE, 10, 2)
    words.new = torch.zeros(2, 4, requires_grad=True)
    (words(torch.tensor([[10, 10, 1], [2, 11, 10]])) * torch.arange(1.0, 7.0).view(2, 3, 1)).sum().backward()
    assert TABLE.weight.grad is None
    assert words.new.grad[:, 0].tolist() == [1 + 2 + 6, 5]


def test_a_word_of_several_vectors_is_spelt_as_diffusers_does():
    assert placeholder_tokens("<new>", 3) == ["<new>", "<new>_1", "<new>_2"]
