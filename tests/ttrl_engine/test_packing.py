import random

import pytest
import torch

from ttrl_engine.attention import ragged, side_by_side
from ttrl_engine.packing import TrainRow, pack, packed_batches, pad, padded_batches

CPU = torch.device("cpu")


def some_rows(num_problems: int = 5, num_rows: int = 8) -> list[TrainRow]:
    draw = random.Random(0)
    rows = []
    for problem in range(num_problems):
        prompt = (problem, *(draw.randrange(9) for _ in range(draw.randrange(1, 9))))
        for _ in range(num_rows):
            tokens = tuple(draw.randrange(100, 200) for _ in range(draw.randrange(1, 20)))
            rows.append(TrainRow(prompt, tokens, (0.0,) * len(tokens), 1.0))
    draw.shuffle(rows)
    return rows


def test_padded_batches_hold_every_row_once_within_the_budget() -> None:
    rows = some_rows()
    batches = list(padded_batches(rows, 60))
    assert sorted(map(id, rows)) == sorted(id(row) for batch in batches for row in batch)
    assert all(len(batch) * max(row.length for row in batch) <= 60 or len(batch) == 1 for batch in batches)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("budget", [1, 30, 100, 10_000])
def test_packed_batches_hold_every_row_once_within_the_budget(share: bool, budget: int) -> None:
    rows = some_rows()
    batches = list(packed_batches(rows, budget, share))
    assert sorted(map(id, rows)) == sorted(id(row) for batch in batches for row in batch)
    sizes = [pack(batch, share, CPU).ids.shape[1] for batch in batches]
    assert all(size <= budget or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))
    assert budget > 1000 or len(batches) > 1


def test_a_shared_prompt_counts_once() -> None:
    rows = some_rows()
    (batch,) = packed_batches(rows, 10_000, share=True)
    prompts = {row.prompt_ids for row in rows}
    expected = sum(map(len, prompts)) + sum(len(row.tokens) - 1 for row in rows)
    assert pack(batch, True, CPU).ids.shape[1] == expected


@pytest.mark.parametrize("share", [False, True])
def test_every_target_is_predicted_from_the_token_before_it(share: bool) -> None:
    rows = list(next(packed_batches(some_rows(), 10_000, share)))
    for layout in (pack(rows, share, CPU), pad(rows, CPU)):
        before = layout.ids.flatten()[layout.places].tolist()
        expected = [(row.prompt_ids[-1:] + row.tokens)[j] for row in rows for j in range(len(row.tokens))]
        assert before == expected
        assert layout.targets.tolist() == [token for row in rows for token in row.tokens]


def test_positions_go_on_from_the_prompt_wherever_it_lies() -> None:
    rows = [TrainRow((7, 8, 9), (1, 2, 3), (0.0,) * 3, 1.0), TrainRow((7, 8, 9), (4, 5), (0.0,) * 2, 1.0)]
    shared, alone = pack(rows, True, CPU), pack(rows, False, CPU)
    assert shared.ids.tolist() == [[7, 8, 9, 1, 2, 4]]
    assert shared.positions.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert alone.ids.tolist() == [[7, 8, 9, 1, 2, 7, 8, 9, 4]]
    assert alone.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    layout = ragged(shared.segments, CPU)
    assert layout.keys.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 5]
    assert layout.starts_q.tolist() == [0, 3, 5, 6]
    assert layout.starts_k.tolist() == [0, 3, 8, 12]
    assert (layout.max_q, layout.max_k) == (3, 5)


@pytest.mark.parametrize("share", [False, True])
def test_side_by_side_puts_every_token_in_one_place(share: bool) -> None:
    (rows,) = packed_batches(some_rows(), 10_000, share)
    packed = pack(rows, share, CPU)
    layout = side_by_side(packed.segments, CPU)
    size = packed.ids.shape[1]
    assert len(set(layout.gathered.tolist())) == size
    assert layout.spread[layout.gathered].tolist() == list(range(size))
    assert sum(block.count * block.width for block in layout.blocks) == len(layout.spread) <= 1.7 * size
