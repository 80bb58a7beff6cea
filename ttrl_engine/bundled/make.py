"""Make the bundled model, its tokenizer, the problem sets and the model card: `python -m ttrl_engine.bundled.make`.

One CPU thread, so that the same versions on the same kind of machine give the same weights. `--sets-only` rewrites
the problem sets alone, `--measure-only` prints the figures of the model that is there.
"""

from __future__ import annotations

import argparse
import string
import time
from pathlib import Path

import torch

from ttrl_engine.bundled.generate import CAREFUL, Habits
from ttrl_engine.bundled.measure import Examiner, Figures
from ttrl_engine.bundled.sets import draw_sets, write_sets
from ttrl_engine.bundled.training import Phase, build_model, build_tokenizer, train

MODEL = "abacus-1m"
# Every solution is right, until the model has it firmly.
LEARN = Phase(steps=1100, batch_size=64, habits=CAREFUL, rate=3e-3, matrix_rate=0.02, sums_only_until=0.3, hold=0.4)
# Then a short while of guessed lines and slips: the knowledge stays, the habits go.
SPOIL = Phase(steps=120, batch_size=64, habits=Habits(guess_rate=0.43, slip_rate=0.04), rate=1e-3)
CARD = Path(__file__).with_name("card.md")
REPORT_EVERY_STEPS = 50


def make(out: Path, seed: int) -> None:
    """Write the problem sets and the model below `out`; takes about a quarter of an hour."""
    torch.set_num_threads(1)
    write_sets(out / "problems", seed)
    tokenizer = build_tokenizer(seed)
    torch.manual_seed(seed)
    model = build_model(tokenizer)
    started = time.monotonic()
    for number, (name, phase) in enumerate((("learn", LEARN), ("spoil", SPOIL))):

        def report(step: int, loss: float, name: str = name, steps: int = phase.steps) -> None:
            if step % REPORT_EVERY_STEPS == 0 or step == steps:
                print(f"{name} {step}/{steps}: loss {loss:.4f}, {time.monotonic() - started:.0f} s", flush=True)

        train(model, tokenizer, phase, seed * 2 + number, report)
    folder = out / MODEL
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # safetensors writes for the owner alone, which would shut out the other accounts of an installed copy.
    (folder / "model.safetensors").chmod(0o644)
    rows = measure(folder, seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    (folder / "README.md").write_text(card(rows, parameters, seed), encoding="utf-8", newline="\n")


def measure(folder: Path, seed: int) -> dict[str, tuple[int, Figures, Figures]]:
    """Per set: its size, the figures at the paper's evaluation settings, and those at its training settings."""
    examiner = Examiner(folder)
    rows = {}
    for name, problems in draw_sets(seed).items():
        scored = examiner.ask(problems, num_samples=16, temperature=0.6, top_p=0.95, seed=seed)
        voted = examiner.ask(problems, num_samples=64, temperature=1.0, top_p=1.0, seed=seed)
        rows[name] = (len(problems), scored, voted)
        print(f"{name}: at T 0.6 {scored}; at T 1.0 {voted}", flush=True)
    return rows


def card(rows: dict[str, tuple[int, Figures, Figures]], parameters: int, seed: int) -> str:
    """The model card with the measured figures filled in."""
    table = "\n".join(
        f"| {name} | {size} | {scored.right:.1%} | {scored.maj:.1%} | {voted.right:.1%} | {voted.maj:.1%} "
        f"| {voted.unparsed:.2%} | {voted.mean_tokens:.0f} |"
        for name, (size, scored, voted) in rows.items()
    )
    return string.Template(CARD.read_text(encoding="utf-8")).substitute(
        parameters=f"{parameters:,}",
        seed=seed,
        table=table,
        learn_steps=LEARN.steps,
        spoil_steps=SPOIL.steps,
        batch_size=LEARN.batch_size,
        guess_rate=f"{SPOIL.habits.guess_rate:.0%}",
        slip_rate=f"{SPOIL.habits.slip_rate:.0%}",
        torch=torch.__version__,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ttrl_engine.bundled.make", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write below")
    parser.add_argument("--seed", type=int, default=0, help="decides problems, weights and figures")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--sets-only", action="store_true", help="only write the problem sets")
    only.add_argument("--measure-only", action="store_true", help="only print the figures of the model below --out")
    options = parser.parse_args()
    if options.sets_only:
        write_sets(options.out / "problems", options.seed)
    elif options.measure_only:
        torch.set_num_threads(1)
        measure(options.out / MODEL, options.seed)
    else:
        make(options.out, options.seed)


if __name__ == "__main__":
    main()
