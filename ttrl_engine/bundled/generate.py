"""Seeded arithmetic problems in plain English, their worked solutions, and solutions with slips.

A problem is an expression such as `37 + 45 - 18`, put either as a sum or as a short story. The expression decides
whether a problem may be trained on: a fixed share of all expressions, picked by hash, is reserved for the bundled
problem sets, so that no wording of a problem in a set is ever seen while the bundled model is made.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import NamedTuple

# One expression in so many is kept for the problem sets.
RESERVED_ONE_IN = 12
# The rest of the problems of the model's own kind have two steps.
THREE_STEP_SHARE = 0.4
# Every intermediate result of a problem of the model's own kind lies within these.
SMALLEST_RESULT, LARGEST_RESULT = 2, 150

ANSWER_PREFIX = "So the answer is \\boxed{"
ANSWER_SUFFIX = "}."

NAMES = ("Maya", "Tom", "Ana", "Leo", "Zoe", "Sam", "Ida", "Noah", "Lily", "Omar", "Eva", "Ben")
ITEMS = (
    "apples", "pencils", "stickers", "marbles", "cards", "shells",
    "stamps", "coins", "eggs", "beads", "oranges", "pens",
)  # fmt: skip


class Template(NamedTuple):
    """A story with slots, and the expression over the same slots that answers it."""

    formula: str
    story: str


TWO_STEPS = (
    Template(
        "a + b - c", "{name} has {a} {items}, buys {b} more and gives {c} to {friend}. How many {items} are left?"
    ),
    Template(
        "a + b - c", "A bus sets off with {a} people. {b} get on and {c} get off. How many people are on the bus?"
    ),
    Template("a + b - c", "A shop has {a} {items}. It gets {b} more and sells {c}. How many {items} does it have now?"),
    Template("a + b - c", "{name} saves {a} dollars in May and {b} in June, then spends {c}. How much money is left?"),
    Template("a - b + c", "A train carries {a} people. {b} get off and {c} get on. How many people are on the train?"),
    Template("a - b + c", "{name} has {a} {items}, loses {b} and finds {c}. How many {items} does {name} have now?"),
    Template(
        "a - b + c", "A library has {a} books on a shelf. {b} are lent and {c} come back. How many are there now?"
    ),
    Template(
        "a - b - c", "A rope is {a} metres long. {name} cuts off {b} metres, then {c} more. How long is the rest?"
    ),
    Template(
        "a - b - c", "{name} has {a} {items} and gives {b} to {friend} and {c} to a neighbour. How many are left?"
    ),
    Template("a - b - c", "A book has {a} pages. {name} reads {b} on Monday and {c} on Tuesday. How many are left?"),
    Template("a + b + c", "{name} picks {a} {items} on Friday, {b} on Saturday and {c} on Sunday. How many in all?"),
    Template("a + b + c", "Three classes have {a}, {b} and {c} children. How many children are there together?"),
    Template("x * y + c", "{name} buys {x} boxes of {y} {items} and finds {c} more. How many {items} are there?"),
    Template("x * y + c", "{x} tables seat {y} guests each and {c} guests stand. How many guests are there?"),
    Template("x * y - c", "There are {x} shelves with {y} books each. {c} books are lent. How many books are left?"),
    Template("x * y - c", "{name} packs {x} bags with {y} {items} each and sells {c} {items}. How many are left?"),
    Template("a - x * y", "{name} has {a} dollars and buys {x} tickets at {y} dollars each. How much money is left?"),
    Template("a + x * y", "A jar holds {a} {items}. {name} adds {x} handfuls of {y}. How many {items} are in the jar?"),
)

THREE_STEPS = (
    Template(
        "a + b - c + d",
        "A bus sets off with {a} people. {b} get on, {c} get off and {d} get on. How many people are on the bus?",
    ),
    Template(
        "a - b + c - d",
        "{name} has {a} {items}, loses {b}, finds {c} and gives {d} to {friend}. How many {items} are left?",
    ),
    Template(
        "a + b + c - d",
        "A farm collects {a} eggs on Friday, {b} on Saturday and {c} on Sunday, then sells {d}. How many are left?",
    ),
    Template(
        "a - b - c + d",
        "A shop has {a} {items}. It sells {b} on Monday and {c} on Tuesday and gets {d} more. How many are there now?",
    ),
    Template("x * y + c - d", "{name} buys {x} boxes of {y} {items}, finds {c} more and loses {d}. How many are left?"),
    Template(
        "x * y - c + d", "{x} buses carry {y} people each. {c} get off and {d} get on. How many people are there?"
    ),
    Template(
        "x * y + z * w", "{name} buys {x} bags of {y} apples and {z} bags of {w} pears. How many pieces of fruit?"
    ),
    Template(
        "a - x * y + c",
        "{name} has {a} dollars, buys {x} books at {y} dollars each and earns {c}. How much money is left?",
    ),
)

HARD = (
    Template(
        "p * q + r * s - t * u",
        "A factory makes {p} bolts an hour for {q} hours and {r} nuts an hour for {s} hours, then ships {t} crates of "
        "{u} parts. How many parts are left?",
    ),
    Template(
        "p * q - r + s * t - u - v",
        "A stadium has {p} rows of {q} seats. {r} seats are removed, {s} stands with {t} seats are added, and {u} and "
        "then {v} seats are closed. How many seats are left?",
    ),
    Template(
        "p * q + r - s * t + u - v",
        "A press prints {p} pages a minute for {q} minutes after {r} test pages, bins {s} stacks of {t} pages, prints "
        "{u} more and loses {v}. How many pages are there?",
    ),
)

SUM_FORMULAS_TWO = (
    "a + b - c",
    "a - b + c",
    "a - b - c",
    "a + b + c",
    "x * y + c",
    "x * y - c",
    "a - x * y",
    "a + x * y",
)
SUM_FORMULAS_THREE = (
    "a + b - c + d", "a - b + c - d", "a + b + c - d", "a - b - c + d", "a - b + c + d", "a + b - c - d",
    "x * y + c - d", "x * y - c + d", "x * y + z * w", "a - x * y + c", "a + x * y - c",
)  # fmt: skip
SUM_FORMULAS_HARD = (
    "p * q + r - s * t + u - v", "p * q - r + s * t - u - v", "p * q + r * s - t * u", "p * q - r * s + t * u - v",
)  # fmt: skip
SUM_WORDINGS = ("What is {e}?", "Work out {e}.", "Calculate {e}.", "Find the value of {e}.", "How much is {e}?")

# Slots a-d take two-digit terms, x and z small counts, y and w group sizes; p-v are for hard problems only.
SLOTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys("abcd", (10, 89)), **dict.fromkeys("xz", (2, 9)), **dict.fromkeys("yw", (3, 12)),
    **dict.fromkeys("pr", (112, 978)), **dict.fromkeys("qs", (23, 97)), "t": (13, 88), "u": (113, 489), "v": (102, 897),
}  # fmt: skip


class Step(NamedTuple):
    """One line of a solution. An operand is a number of the problem, or the index of an earlier step if `*_is_step`."""

    left: int
    left_is_step: bool
    operator: str
    right: int
    right_is_step: bool


class Habits(NamedTuple):
    """How carelessly a solution is written: chances per line and per worked number."""

    guess_rate: float
    slip_rate: float


CAREFUL = Habits(0.0, 0.0)
# How far a guess and a slip miss at most.
GUESS_SPREAD, SLIP_SPREAD = 14, 6


@dataclass(frozen=True)
class Problem:
    """A question and the expression, in numbers and `+ - *`, whose value answers it."""

    text: str
    expression: str

    @property
    def answer(self) -> int:
        """The value of the expression."""
        return run_steps(steps_of(self.expression))[-1]

    @property
    def is_sum(self) -> bool:
        """Whether it is put as a bare sum, not as a story."""
        return self.expression.replace("*", "×") in self.text

    @property
    def reserved(self) -> bool:
        """Whether the problem may only appear in a problem set, never in training."""
        return is_reserved(self.expression)


def is_reserved(expression: str) -> bool:
    """Whether an expression belongs to the share kept for problem sets; depends on nothing but its text."""
    digest = hashlib.sha256(expression.encode()).digest()
    return int.from_bytes(digest[:4], "big") % RESERVED_ONE_IN == 0


def steps_of(expression: str) -> list[Step]:
    """The lines of a solution: products first, from left to right, then sums, from left to right."""
    tokens = expression.split()
    steps: list[Step] = []
    terms: list[tuple[int, bool]] = []
    signs: list[str] = []
    position = 0
    while position < len(tokens):
        value = int(tokens[position])
        if tokens[position + 1 : position + 2] == ["*"]:
            steps.append(Step(value, False, "*", int(tokens[position + 2]), False))
            terms.append((len(steps) - 1, True))
            position += 2
        else:
            terms.append((value, False))
        signs += tokens[position + 1 : position + 2]
        position += 2
    left = terms[0]
    for sign, right in zip(signs, terms[1:], strict=True):
        steps.append(Step(*left, sign, *right))
        left = (len(steps) - 1, True)
    return steps


def apply(operator: str, left: int, right: int) -> int:
    """The exact result of `left operator right`."""
    if operator == "*":
        return left * right
    return left + right if operator == "+" else left - right


def operands(step: Step, results: list[int]) -> tuple[int, int]:
    """The two numbers of a step, given the results written so far."""
    left = results[step.left] if step.left_is_step else step.left
    right = results[step.right] if step.right_is_step else step.right
    return left, right


def run_steps(steps: list[Step]) -> list[int]:
    """The exact result of every step."""
    results: list[int] = []
    for step in steps:
        results.append(apply(step.operator, *operands(step, results)))
    return results


def write_solution(steps: list[Step], habits: Habits, rng: random.Random) -> str:
    """One line per step and the boxed last result; whatever a line gets wrong, the later lines build upon.

    A guessed line reads `37 + 45 ≈ 84`, a worked one `37 + 45 = 77 + 5 = 82`.
    """
    lines: list[str] = []
    results: list[int] = []
    for step in steps:
        left, right = operands(step, results)
        line = f"{left} {step.operator} {right}"
        exact = apply(step.operator, left, right)
        if rng.random() < habits.guess_rate:
            exact = off_by(exact, GUESS_SPREAD, rng)
            line = f"{line} ≈ {exact}"
        else:
            split = split_step(step.operator, left, right)
            if split:
                half, operator, rest = split
                half = slip(half, habits, rng)
                line = f"{line} = {half} {operator} {rest}"
                exact = apply(operator, half, rest)
            exact = slip(exact, habits, rng)
            line = f"{line} = {exact}"
        results.append(exact)
        lines.append(line.replace("*", "×"))
    return "\n".join([*lines, f"{ANSWER_PREFIX}{results[-1]}{ANSWER_SUFFIX}"])


def split_step(operator: str, left: int, right: int) -> tuple[int, str, int] | None:
    """The easier half of a step and what remains: tens first, or half the groups; None if the step is easy already."""
    if operator == "*":
        return left * (right // 2), "+", left * (right - right // 2)
    tens, units = right - right % 10, right % 10
    if not tens or not units:
        return None
    return apply(operator, left, tens), operator, units


def slip(value: int, habits: Habits, rng: random.Random) -> int:
    """The value, or with the habit's rate a near miss of it."""
    return off_by(value, SLIP_SPREAD, rng) if rng.random() < habits.slip_rate else value


def off_by(value: int, spread: int, rng: random.Random) -> int:
    """A number around `value` by at most `spread`, nearer ones likelier; never below 1."""
    while True:
        offset = rng.randint(0, spread) - rng.randint(0, spread)
        if value < 1 or (offset and value + offset >= 1):
            return value + offset


def solve(problem: Problem) -> str:
    """The right worked solution."""
    return write_solution(steps_of(problem.expression), CAREFUL, random.Random(0))


def solve_sloppily(problem: Problem, habits: Habits, rng: random.Random) -> str:
    """A solution with guesses and slips at the rates of `habits`."""
    return write_solution(steps_of(problem.expression), habits, rng)


def make_problem(rng: random.Random) -> Problem:
    """A problem of the model's own kind: two or three steps, half sums and half stories."""
    three = rng.random() < THREE_STEP_SHARE
    if rng.random() < 0.5:
        return _from_sum(rng, SUM_FORMULAS_THREE if three else SUM_FORMULAS_TWO, SMALLEST_RESULT, LARGEST_RESULT)
    template = rng.choice(THREE_STEPS if three else TWO_STEPS)
    return _from_story(rng, template, SMALLEST_RESULT, LARGEST_RESULT)


def make_hard_problem(rng: random.Random) -> Problem:
    """A problem out of the model's depth: five or six steps with three-digit numbers and long products."""
    if rng.random() < 0.5:
        return _from_sum(rng, SUM_FORMULAS_HARD, 100, 999_999)
    return _from_story(rng, rng.choice(HARD), 100, 999_999)


def _from_sum(rng: random.Random, formulas: tuple[str, ...], smallest: int, largest: int) -> Problem:
    formula = rng.choice(formulas)
    expression = _fill(rng, formula, smallest, largest)[0]
    return Problem(rng.choice(SUM_WORDINGS).format(e=expression.replace("*", "×")), expression)


def _from_story(rng: random.Random, template: Template, smallest: int, largest: int) -> Problem:
    expression, slots = _fill(rng, template.formula, smallest, largest)
    name, friend = rng.sample(NAMES, 2)
    text = template.story.format(name=name, friend=friend, items=rng.choice(ITEMS), **slots)
    return Problem(text, expression)


def _fill(rng: random.Random, formula: str, smallest: int, largest: int) -> tuple[str, dict[str, int]]:
    """Numbers for the slots of a formula such that every step stays in range."""
    letters = [token for token in formula.split() if token.isalpha()]
    while True:
        slots = {letter: rng.randint(*SLOTS[letter]) for letter in letters}
        expression = " ".join(str(slots[token]) if token in slots else token for token in formula.split())
        if all(smallest <= result <= largest for result in run_steps(steps_of(expression))):
            return expression, slots
