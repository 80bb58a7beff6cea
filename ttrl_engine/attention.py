"""Attention over packed rows, handed to transformers under a name of its own.

Each segment of a pack sees itself causally and the prompt that it shares, nothing else. On a GPU in half precision
this is PyTorch's variable-length flash attention; elsewhere the segments are laid side by side for the ordinary
kernel. Nothing goes through a key-value cache.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from ttrl_engine.packing import Segment

NAME = "ttrl_packed"
# Segments stand side by side as long as the shortest has this share of the longest's length; less would be padding.
SIDE_BY_SIDE = 0.6
# What the flash kernels compute in, and their widest head.
HALF = (torch.bfloat16, torch.float16)
MAX_FLASH_WIDTH = 256


@dataclass(frozen=True)
class Block:
    """`count` segments padded to `width`. With a prefix, which is block number `prefix`, `mask` is what each segment
    sees, (width, prefix + width); without, each is causal."""

    count: int
    width: int
    prefix: int | None
    mask: Tensor | None


@dataclass(frozen=True)
class SideBySide:
    """Where a pack's tokens stand in padded blocks: `spread` (S,) holds the packed position of each padded place,
    `gathered` (T,) the padded place of each packed position. Padding repeats token 0 and nobody sees it."""

    blocks: tuple[Block, ...]
    spread: Tensor
    gathered: Tensor


@dataclass(frozen=True)
class Ragged:
    """A pack for a variable-length kernel: segment i has queries `starts_q[i]:starts_q[i + 1]`, and keys likewise
    among the packed positions `keys` (a shared prompt's keys once per segment that sees it)."""

    starts_q: Tensor
    starts_k: Tensor
    max_q: int
    max_k: int
    keys: Tensor


Layout = SideBySide | Ragged


@contextlib.contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """The model's attention set to one that is registered under this name."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def side_by_side(segments: Sequence[Segment], device: torch.device) -> SideBySide:
    """Neighbours with the same prefix and similar lengths in one block; every shared prompt in a block of its own."""
    shared = {segment.prefix for segment in segments}
    groups: list[list[Segment]] = []
    block_of: dict[int, int] = {}
    for number, segment in enumerate(segments):
        longest = groups[-1][0] if groups else None
        if (
            longest is None
            or number in shared
            or longest.prefix != segment.prefix
            or not SIDE_BY_SIDE * longest.length <= segment.length <= longest.length
            or len(groups) - 1 in block_of.values()
        ):
            groups.append([])
        groups[-1].append(segment)
        if number in shared:
            block_of[number] = len(groups) - 1
    blocks, spread, at = [], [], 0
    gathered = torch.empty(sum(segment.length for segment in segments), dtype=torch.long)
    for group in groups:
        width, prefix = group[0].length, group[0].prefix
        mask = None
        if prefix is not None:
            seen = torch.ones(width, segments[prefix].length + width, dtype=torch.bool)
            mask = seen.tril(segments[prefix].length).to(device)
        blocks.append(Block(len(group), width, None if prefix is None else block_of[prefix], mask))
        places = torch.zeros(len(group), width, dtype=torch.long)
        for index, segment in enumerate(group):
            packed = torch.arange(segment.start, segment.start + segment.length)
            places[index, : segment.length] = packed
            gathered[packed] = torch.arange(segment.length) + (at + index * width)
        spread.append(places.flatten())
        at += len(group) * width
    return SideBySide(tuple(blocks), torch.cat(spread).to(device), gathered.to(device))


def ragged(segments: Sequence[Segment], device: torch.device) -> Ragged:
    """Queries as they are packed; keys with each segment's prefix before it."""
    lengths_q = [segment.length for segment in segments]
    keys = []
    for segment in segments:
        if segment.prefix is not None:
            prefix = segments[segment.prefix]
            keys.append(torch.arange(prefix.start, prefix.start + prefix.length))
        keys.append(torch.arange(segment.start, segment.start + segment.length))
    lengths_k = [
        segment.length + (0 if segment.prefix is None else segments[segment.prefix].length) for segment in segments
    ]

    def starts(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)

    return Ragged(starts(lengths_q), starts(lengths_k), max(lengths_q), max(lengths_k), torch.cat(keys).to(device))


def varlen_kernel() -> Callable[..., Tensor] | None:
    """PyTorch's variable-length attention, where this PyTorch has it."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return None
    kernel: Callable[..., Tensor] | None = getattr(
        importlib.import_module("torch.nn.attention.varlen"), "varlen_attn", None
    )
    return kernel


def packed_attention(
    module: torch.nn.Module,  # noqa: ARG001  # the interface's
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  # the layout says who sees whom
    scaling: float | None = None,
    layout: Layout | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (1, heads, T, width) in, (1, T, heads, width) out.

    Raises NotImplementedError for what a layout cannot say: caps on the scores, biases by position, sinks.
    """
    if layout is None:
        raise NotImplementedError("the model does not hand its options on to the attention")
    if any(extra.get(name) is not None for name in ("softcap", "position_bias", "s_aux")):
        raise NotImplementedError("packed attention has plain softmax scores only")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    attend = _attend_ragged if isinstance(layout, Ragged) else _attend_side_by_side
    return attend(q, k, v, layout, scaling)[None], None


def _attend_side_by_side(q: Tensor, k: Tensor, v: Tensor, layout: Any, scaling: float | None) -> Tensor:
    """(T, heads, width) in and out."""
    sizes = [block.count * block.width for block in layout.blocks]
    spread_q, spread_k, spread_v = (torch.split(_spread(x, layout), sizes) for x in (q, k, v))
    parts = []
    for block, flat_q, flat_k, flat_v in zip(layout.blocks, spread_q, spread_k, spread_v, strict=True):
        shape = (block.count, block.width, -1)
        bq, bk, bv = (x.reshape(*shape, x.shape[-1]).transpose(1, 2) for x in (flat_q, flat_k, flat_v))
        if block.prefix is not None:
            pk, pv = (
                x[block.prefix].transpose(0, 1)[None].expand(block.count, -1, -1, -1) for x in (spread_k, spread_v)
            )
            bk, bv = torch.cat([pk, bk], dim=2), torch.cat([pv, bv], dim=2)
        grouped = bq.shape[1] != bk.shape[1]
        if grouped and not groups_heads(bv.device, bv.dtype, block.mask is not None, bv.shape[-1]):
            bk, bv = (x.repeat_interleave(bq.shape[1] // x.shape[1], dim=1) for x in (bk, bv))
            grouped = False
        out = F.scaled_dot_product_attention(
            bq,
            bk,
            bv,
            attn_mask=block.mask,
            is_causal=block.mask is None,
            scale=scaling,
            enable_gqa=grouped,
        )
        parts.append(out.transpose(1, 2).flatten(0, 1))
    whole: Tensor = _Gather.apply(torch.cat(parts), layout.gathered)  # type: ignore[no-untyped-call]
    return whole


def groups_heads(device: torch.device, dtype: torch.dtype, masked: bool, width: int) -> bool:
    """Whether the ordinary attention lets query heads share keys and values. Of a GPU's kernels only flash does, which
    knows no mask; where it cannot be used, PyTorch would take the one that holds all scores."""
    return device.type != "cuda" or (dtype in HALF and not masked and width <= MAX_FLASH_WIDTH)


def _spread(x: Tensor, layout: Any) -> Tensor:
    spread: Tensor = _Spread.apply(x, layout.spread, layout.gathered)  # type: ignore[no-untyped-call]
    return spread


def _attend_ragged(q: Tensor, k: Tensor, v: Tensor, layout: Any, scaling: float | None) -> Tensor:
    """(T, heads, width) in and out. Queries are the last of their keys, as the kernel aligns a causal mask."""
    kernel = varlen_kernel()
    assert kernel is not None, "the layout was made for a kernel that this PyTorch has"
    # Rotary positions lift queries and keys to the format of the hidden states; the kernel wants them alike and half.
    half = v.dtype if v.dtype in HALF else HALF[0]
    q, k, v = (x.to(half) for x in (q, _repeat(k, layout.keys), _repeat(v, layout.keys)))
    return kernel(
        q,
        k,
        v,
        layout.starts_q,
        layout.starts_k,
        layout.max_q,
        layout.max_k,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _repeat(x: Tensor, places: Tensor) -> Tensor:
    repeated: Tensor = _Repeat.apply(x, places)  # type: ignore[no-untyped-call]
    return repeated


class _Repeat(torch.autograd.Function):
    """`x[places]`, some of them many times: a shared prompt once per rollout. The gradients of all that read one are
    added up in float32 and rounded once; the ordinary backward of a GPU rounds after each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.num_places = len(x)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        exact = torch.promote_types(grad.dtype, torch.float32)
        total = grad.new_zeros(ctx.num_places, *grad.shape[1:], dtype=exact)
        return total.index_add_(0, places, grad.to(exact)).to(grad.dtype), None


class _Spread(torch.autograd.Function):
    """Packed to padded, `x[spread]`. Padding gets no gradient, so that of x is `grad[gathered]`; adding up by index, as
    the ordinary backward does, costs several times more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spread: Tensor, gathered: Tensor) -> Tensor:
        ctx.save_for_backward(gathered)
        return x.index_select(0, spread)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gathered,) = ctx.saved_tensors
        return grad.index_select(0, gathered), None, None


class _Gather(torch.autograd.Function):
    """Padded to packed, `x[gathered]`, each place once or never; the rest has a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gathered: Tensor) -> Tensor:
        ctx.save_for_backward(gathered)
        ctx.num_places = len(x)
        return x.index_select(0, gathered)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gathered,) = ctx.saved_tensors
        return grad.new_zeros(ctx.num_places, *grad.shape[1:]).index_copy_(0, gathered, grad), None


def longest_packable(config: PretrainedConfig) -> int | None:
    """Rows up to which length may be packed: a model with a sliding window sees all of a row only so far. None where
    there is no limit; 0 where the layers attend in another way."""
    layers = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if layers is None:
        return int(window) if window else None
    if set(layers) - {"full_attention", "sliding_attention"}:
        return 0
    return int(window) if window and "sliding_attention" in layers else None


AttentionInterface.register(NAME, packed_attention)
