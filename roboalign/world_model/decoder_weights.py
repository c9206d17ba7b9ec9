"""A world model's weights in the form in which sampling multiplies them."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.world_model.cached_layer import (
    LayerWeights,
    Span,
    apply_cached_layer,
    blocked_matmul,
    pad_rows,
    transpose_for_matmul,
)
from roboalign.world_model.kv_cache import LayerCache
from roboalign.world_model.model import Layer, WorldModel


class DecoderWeights:
    """Embedding tables, transposed matrices and norms; follows the model's weights by `update`."""

    def __init__(self, model: WorldModel, dtype: torch.dtype, *, fixed: bool) -> None:
        """`dtype` is that of the layers' matrices. `fixed` keeps copies at fixed addresses, as CUDA graphs need it."""
        self.model, self.dtype, self.fixed = model, dtype, fixed
        self.epsilon = model.spec.norm_epsilon
        self.tables: dict[str, Tensor] = {}
        """Embeddings (codes, hidden): `context`, `dynamics` and, if the model has them, `previous`; `head`, (hidden,
        codes), and `norm` before it; `cosines` and `sines` of all positions."""
        self.layers: list[LayerWeights] = []
        self._versions: list[tuple[int, int]] = []
        self.update()

    def update(self) -> None:
        """Take up the model's weights if they have changed."""
        versions = [(parameter.data_ptr(), parameter._version) for parameter in self.model.parameters()]
        if versions == self._versions:
            return
        tables, layers = self._tables(), [self._layer(layer) for layer in self.model.layers]
        if self.fixed and self.tables and self.tables["norm"].device == tables["norm"].device:
            for old, new in zip(self.tensors(), _tensors(tables, layers), strict=True):
                old.copy_(new)
        elif self.fixed:
            self.tables = {name: table.clone() for name, table in tables.items()}
            self.layers = [_copy_layer(layer) for layer in layers]
        else:
            self.tables, self.layers = tables, layers
        self._versions = versions

    def tensors(self) -> Iterator[Tensor]:
        """All tensors."""
        return _tensors(self.tables, self.layers)

    def read(self, x: Tensor, cache: list[LayerCache], span: Span, block: int) -> Tensor:
        """Read (B, t, hidden) behind the cached tokens, write their keys and values, return the last ones (B, hidden).

        `block` rows are multiplied at a time; 0 takes all at once.
        """
        batch, count, hidden = x.shape
        rows = batch * count
        x = pad_rows(x.reshape(rows, hidden), block)
        for weights, layer in zip(self.layers, cache, strict=True):
            x = apply_cached_layer(x, weights, layer, span, batch, block)
        return x[:rows].view(batch, count, hidden)[:, -1]

    def logits(self, x: Tensor, block: int) -> Tensor:
        """The logits (B, codes) of the last layer's output (B, hidden)."""
        normed = F.rms_norm(x, x.shape[1:], self.tables["norm"], self.epsilon)
        return blocked_matmul(pad_rows(normed, block), self.tables["head"], block)[: len(x)]

    def angles(self, positions: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (t, 1, width) of `positions` (t,)."""
        return self.tables["cosines"][positions, None], self.tables["sines"][positions, None]

    def _tables(self) -> dict[str, Tensor]:
        model = self.model
        tables = {"context": model.context.table(), "dynamics": model.dynamics.table()}
        if model.previous is not None:
            tables["previous"] = model.previous.table()
        tables["head"] = transpose_for_matmul(model.output_matrix())
        tables |= {"norm": model.norm, "cosines": model.cosines.to(self.dtype), "sines": model.sines.to(self.dtype)}
        return {name: tensor.detach() for name, tensor in tables.items()}

    def _layer(self, layer: torch.nn.Module) -> LayerWeights:
        assert isinstance(layer, Layer)
        matrices = (layer.qkv.weight, layer.out.weight, layer.up.weight, layer.down.weight)
        qkv, out, up, down = (transpose_for_matmul(matrix.detach().to(self.dtype)) for matrix in matrices)
        norms = layer.attention_norm.detach(), layer.ffn_norm.detach()
        return LayerWeights(qkv, out, up, down, *norms, layer.epsilon, layer.heads, layer.kv_heads)


def _tensors(tables: dict[str, Tensor], layers: list[LayerWeights]) -> Iterator[Tensor]:
    yield from tables.values()
    for layer in layers:
        yield from (value for value in layer if isinstance(value, Tensor))


def _copy_layer(layer: LayerWeights) -> LayerWeights:
    qkv, out, up, down, attention_norm, ffn_norm = (value.clone() for value in layer if isinstance(value, Tensor))
    return LayerWeights(qkv, out, up, down, attention_norm, ffn_norm, layer.epsilon, layer.heads, layer.kv_heads)
