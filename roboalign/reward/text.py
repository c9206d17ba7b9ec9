"""Instructions as word numbers, and a small transformer over them; used by the judge and the student.

The vocabulary is the lower-case words of the training instructions, and is stored in the checkpoint's metadata. Other
words are `UNKNOWN`. Training also replaces some known words by it (word dropout), for robustness to unseen words.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PADDING, UNKNOWN, RESERVED = 0, 1, 2
"""Numbers of padding, of an unknown word, and of the first known word."""


def words(instruction: str) -> list[str]:
    """The lower-case words and numbers of an instruction, without punctuation."""
    return re.findall(r"[^\W_]+", instruction.lower())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The known words in alphabetical order, and the length in words to which instructions are padded or truncated."""

    known: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, instructions: Iterable[str], length: int) -> "Vocabulary":
        """Build the vocabulary of the words of `instructions`."""
        return cls(tuple(sorted({word for text in instructions for word in words(text)})), length)

    def __len__(self) -> int:
        return len(self.known) + RESERVED

    def encode(self, instructions: Sequence[str]) -> Tensor:
        """Word numbers (B, length), int64, padded with PADDING. An instruction without words is one UNKNOWN."""
        numbers = {word: index + RESERVED for index, word in enumerate(self.known)}
        rows = torch.full((len(instructions), self.length), PADDING)
        for row, text in zip(rows, instructions, strict=True):
            codes = [numbers.get(word, UNKNOWN) for word in words(text)][: self.length] or [UNKNOWN]
            row[: len(codes)] = torch.tensor(codes)
        return rows


def transformer(width: int, layers: int, heads: int, dropout: float) -> nn.TransformerEncoder:
    """A pre-norm transformer over (B, N, width) with feed-forward layers of 4 * width."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)


class TextEncoder(nn.Module):
    """Encodes word numbers (B, L) to features (B, L, width). Features at padding are undefined and must be masked."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int, hide: float) -> None:
        super().__init__()
        self.hide = hide
        self.words = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        self.body = transformer(width, layers, heads, 0.0)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, L, width), and a mask (B, L) that is true for padding. Applies word dropout in training mode."""
        empty = numbers == PADDING
        if self.training and self.hide > 0:
            hidden = torch.rand(numbers.shape, device=numbers.device) < self.hide
            numbers = torch.where(hidden & ~empty, UNKNOWN, numbers)
        features: Tensor = self.body(self.words(numbers) + self.places, src_key_padding_mask=empty)
        return features, empty
