"""Instructions as word numbers, and the small transformer that reads them; shared by the judge and the student.

Words are the lower-case words of the training instructions. One that training never saw is `UNKNOWN`, and training
hides some known words behind it too, so that new words do not throw a scorer off. The vocabulary travels in the
checkpoint's metadata.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PADDING, UNKNOWN, RESERVED = 0, 1, 2
"""Number of the empty place, of an unknown word, and of the first known word."""


def words(instruction: str) -> list[str]:
    """The lower-case words and numbers of an instruction, without punctuation."""
    return re.findall(r"[^\W_]+", instruction.lower())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The known words, in alphabetical order, and the longest instruction in words."""

    known: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, instructions: Iterable[str], length: int) -> "Vocabulary":
        """The vocabulary of `instructions`; longer ones than `length` words are cut."""
        return cls(tuple(sorted({word for text in instructions for word in words(text)})), length)

    def __len__(self) -> int:
        return len(self.known) + RESERVED

    def encode(self, instructions: Sequence[str]) -> Tensor:
        """Word numbers (B, length), int64, PADDING after the end. An instruction without words is one UNKNOWN."""
        numbers = {word: index + RESERVED for index, word in enumerate(self.known)}
        rows = torch.full((len(instructions), self.length), PADDING)
        for row, text in zip(rows, instructions, strict=True):
            codes = [numbers.get(word, UNKNOWN) for word in words(text)][: self.length] or [UNKNOWN]
            row[: len(codes)] = torch.tensor(codes)
        return rows


def transformer(width: int, layers: int, heads: int, dropout: float) -> nn.TransformerEncoder:
    """A pre-norm transformer over (B, N, width), with a feed-forward network of four times the width."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)


class TextEncoder(nn.Module):
    """Word numbers (B, L) to features (B, L, width); masked places come out as they may and must not be read."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int, hide: float) -> None:
        super().__init__()
        self.hide = hide
        self.words = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        self.body = transformer(width, layers, heads, 0.0)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, L, width), and which places are empty (B, L). Hides words at random in training mode."""
        empty = numbers == PADDING
        if self.training and self.hide > 0:
            hidden = torch.rand(numbers.shape, device=numbers.device) < self.hide
            numbers = torch.where(hidden & ~empty, UNKNOWN, numbers)
        features: Tensor = self.body(self.words(numbers) + self.places, src_key_padding_mask=empty)
        return features, empty


def mean(features: Tensor, empty: Tensor) -> Tensor:
    """The mean of features (B, L, width) over the places that are not empty: (B, width)."""
    kept = (~empty).to(features.dtype).unsqueeze(-1)
    return (features * kept).sum(1) / kept.sum(1).clamp(min=1)
