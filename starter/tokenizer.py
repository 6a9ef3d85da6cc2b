"""Train a byte-level CLIPTokenizer in which every word of the world's captions is one token, and write its files."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

LENGTH = 32
END_OF_WORD = "</w>"
START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(words: list[str], length: int = LENGTH) -> CLIPTokenizer:
    """Train byte pair encoding (Sennrich et al. 2016) until every word is one token; equal words give equal ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # the 256 characters that stand for the bytes, as in GPT-2
    base = [*alphabet, *(character + END_OF_WORD for character in alphabet)]
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        end_of_word_suffix=END_OF_WORD,
        initial_alphabet=alphabet,
        special_tokens=base,  # fixes their ids, which decide between pairs of equal frequency; hash order would not
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    tokens = dict.fromkeys([*base, *(a + b for a, b in merges), START_TOKEN, END_TOKEN])
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=length,
        pad_token=END_TOKEN,
    )


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tokenizer with vocab.json and merges.txt, which older versions of transformers read."""
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
