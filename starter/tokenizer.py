"""The words of the world => the files of a real CLIPTokenizer, byte level, in which each of them is one token."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from starter.captions import vocabulary

LENGTH = 32
END = "</w>"
START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"


def byte_alphabet() -> list[str]:
    """=> the 256 printable characters that stand for the bytes, as in GPT-2 and CLIP."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def train_tokenizer(words: list[str], length: int = LENGTH) -> CLIPTokenizer:
    """words => tokenizer: byte pair encoding (Sennrich et al. 2016) merged until every word is whole."""
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        end_of_word_suffix=END,
        initial_alphabet=byte_alphabet(),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(words, trainer)

    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    alphabet = byte_alphabet()
    tokens = dict.fromkeys(
        [*alphabet, *(c + END for c in alphabet), *(a + b for a, b in merges), START_TOKEN, END_TOKEN]
    )
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=length,
        pad_token=END_TOKEN,
    )


def save_tokenizer(folder: Path) -> CLIPTokenizer:
    """=> the tokenizer of the world, and its files in `folder`."""
    tokenizer = train_tokenizer(vocabulary())
    tokenizer.save_pretrained(folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(state["vocab"], ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in state["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    return tokenizer
