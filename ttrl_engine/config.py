"""The one description of a run. The form, the command line, the YAML file and the docs are all drawn from it.

A `RunConfig` is frozen, refuses unknown keys, and is stored with the run as it was resolved. Importing this module
loads neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ttrl_engine.errors import ConfigError
from ttrl_engine.patterns import compile_pattern

Share = Annotated[float, Field(ge=0.0, le=1.0)]
TaskKind = Literal["math", "number", "choice", "text", "decision", "pattern"]


class Section(BaseModel):
    """Base of every part: frozen, unknown keys refused, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Section):
    """Which model learns, and which of its weights move."""

    source: str = Field(
        "bundled:abacus-1m",
        min_length=1,
        max_length=4096,
        title="Model",
        description="`bundled:NAME`, a folder with a safetensors model, or a hub name such as Qwen/Qwen2.5-Math-1.5B.",
    )
    revision: str | None = Field(
        None,
        max_length=200,
        title="Revision",
        description="Branch, tag or commit of a hub model; empty takes its default.",
    )
    method: Literal["lora", "full"] = Field(
        "lora",
        title="Weights that learn",
        description="`lora` trains a small adapter beside frozen weights; `full` trains every weight and needs several times the memory.",
    )
    lora_rank: int = Field(
        32, ge=1, le=512, title="LoRA rank", description="Width of the adapter. RL needs little; 8 to 64 is usual."
    )
    lora_alpha: int = Field(
        64, ge=1, le=2048, title="LoRA alpha", description="The adapter's output is scaled by alpha / rank."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        title="Number format",
        description="Of the frozen weights. `auto` is float32 on a CPU and bfloat16 on a GPU that has it; trained weights stay float32.",
    )


class DataConfig(Section):
    """Which problems, and how they are put to the model."""

    problems: str = Field(
        "bundled:sums",
        min_length=1,
        max_length=4096,
        title="Problem set",
        description="`bundled:NAME`, `set:ID` of an uploaded set, or a file (CSV, TSV, JSON, JSONL, Parquet, XLSX, TXT).",
    )
    held_out_share: float = Field(
        0.25,
        ge=0.0,
        le=0.9,
        title="Held out",
        description="Share of the problems that is never trained on, to see whether the gain carries over.",
    )
    max_problems: int | None = Field(
        None,
        ge=2,
        le=1_000_000,
        title="At most",
        description="Use only so many problems, drawn by the seed; empty uses all.",
    )
    benchmarks: tuple[str, ...] = Field(
        (),
        max_length=8,
        title="Benchmarks",
        description="Other labelled problem sets to score the model on before, during and after. Never trained on.",
    )
    prompt: Literal["auto", "chat", "plain"] = Field(
        "auto",
        title="Prompt format",
        description="`chat` uses the model's own chat template, `plain` the bare problem; `auto` takes chat where a template exists.",
    )
    prompt_suffix: str | None = Field(
        None,
        max_length=2000,
        title="Instruction after the problem",
        description="Empty text adds nothing; unset takes what suits the model and the kind of answer.",
    )
    system_prompt: str | None = Field(
        None,
        max_length=8000,
        title="System prompt",
        description="Sent as the system message where the template has one.",
    )
    max_prompt_tokens: int = Field(
        1024,
        ge=8,
        le=131_072,
        title="Longest prompt (tokens)",
        description="A problem whose prompt is longer is left out of the run, and named.",
    )


class Merge(Section):
    """A person's word that some spellings answer one problem alike, whatever the kind of answer says."""

    problem_id: str = Field(min_length=1, max_length=1000)
    answers: tuple[str, ...] = Field(min_length=2, max_length=100)


class Detach(Section):
    """A person's word that one spelling is an answer of its own, whatever the kind of answer says."""

    problem_id: str = Field(min_length=1, max_length=1000)
    answer: str = Field(min_length=1, max_length=1000)


class AnswerConfig(Section):
    """How answers are found in a rollout and which of them are the same. What is unset is taken from the problem set."""

    kind: TaskKind | None = Field(
        None,
        title="Kind of answer",
        description="`math` expressions, one `number`, a multiple `choice`, a short `text`, a `decision` out of a closed list, or what a `pattern` finds. Unset takes the kind of the problem set.",
    )
    read: Literal["boxed", "stated"] | None = Field(
        None,
        title="Where answers are read",
        description='`boxed` takes the last \\boxed{} only, as the official code does; `stated` also takes a stated answer ("the answer is …") where nothing is boxed. Unset is `stated`.',
    )
    labels: tuple[str, ...] = Field(
        (),
        max_length=50,
        title="Decisions",
        description="The closed list that a `decision` is out of; empty is yes and no.",
    )
    pattern: str | None = Field(
        None,
        max_length=500,
        title="Pattern",
        description="Regular expression of the kind `pattern`: the last match is the answer, its first group where it has one.",
    )
    unit: str | None = Field(
        None,
        max_length=40,
        title="Unit",
        description="Of the kind `number`: answers in another unit are different answers; unset ignores units.",
    )
    tolerance: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        title="Tolerance",
        description="Of the kind `number`: relative distance within which two numbers are one answer; unset compares exactly, up to rounding.",
    )
    merges: tuple[Merge, ...] = Field(
        (), max_length=1000, title="Merged answers", description="Spellings that a person declared to be one answer."
    )
    detached: tuple[Detach, ...] = Field(
        (),
        max_length=1000,
        title="Split answers",
        description="Spellings that a person declared to be answers of their own.",
    )

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        stripped = tuple(" ".join(label.split()) for label in labels)
        if any(not label or len(label) > 100 for label in stripped):
            raise ValueError("A decision has 1 to 100 characters.")
        if len({label.casefold() for label in stripped}) < len(stripped) or len(stripped) == 1:
            raise ValueError("Name at least two decisions, each once; upper and lower case are the same.")
        return stripped

    @field_validator("pattern")
    @classmethod
    def _pattern_can_be_searched(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compile_pattern(pattern)
        return pattern

    def over(self, rule: AnswerConfig) -> AnswerConfig:
        """This config where it says something, `rule` (that of the problem set) where it does not.

        Raises ConfigError where both together lack something.
        """
        whole = AnswerConfig.model_validate({**rule.model_dump(), **self.model_dump(exclude_defaults=True)})
        if whole.kind == "pattern" and whole.pattern is None:
            raise ConfigError("The kind of answer `pattern` needs a pattern. Set answers.pattern.")
        return whole


class VoteConfig(Section):
    """How the answers are sampled and how they elect a pseudo-label (TTRL, arXiv 2504.16084, section 2)."""

    num_votes: int = Field(
        64,
        ge=2,
        le=1024,
        title="Votes per problem (N)",
        description="Answers sampled per problem to elect its pseudo-label.",
    )
    num_trained: int = Field(
        32,
        ge=2,
        le=1024,
        title="Trained per problem (K)",
        description="Of these, so many enter the update. K = N trains on all.",
    )
    selection: Literal["first", "balanced"] = Field(
        "first",
        title="Which are trained",
        description="`first` takes the first K sampled (TTRL, arXiv 2504.16084); `balanced` takes up to half from the winner and the rest from its rarest dissenters (DDRL, arXiv 2604.21327).",
    )
    reward: Literal["majority", "soft", "random"] = Field(
        "majority",
        title="Reward",
        description="`majority` pays 1 for the winning answer (TTRL); `soft` pays every answer the share of its class (DARE, arXiv 2601.21804); `random` pays by lot: a control that shows what agreement itself adds (arXiv 2506.10947).",
    )
    negative_share: Share = Field(
        0.0,
        title="Negatives under weak consensus",
        description="Where a threshold makes the vote abstain, answers whose class has at most this share earn -1 (SCRL, arXiv 2603.19880). 0 switches it off, as in the paper.",
    )
    early_stop: bool = Field(
        False,
        title="Stop votes early",
        description="Ends votes that are not trained on once the label can no longer change. The label stays exact; the consensus shown is then a lower bound.",
    )
    temperature: float = Field(
        1.0,
        gt=0.0,
        le=4.0,
        title="Sampling temperature",
        description="1.0 for base and math models, 0.6 for instruct models in the paper. Higher gives more diverse votes.",
    )
    max_new_tokens: int = Field(
        1024,
        ge=4,
        le=131_072,
        title="Longest answer (tokens)",
        description="A longer answer is cut; without its final answer it votes for nothing and earns 0.",
    )
    tie: Literal["abstain", "first_sampled"] = Field(
        "abstain",
        title="On a tie",
        description="`abstain` trains nothing on the problem this step; `first_sampled` takes the tied answer sampled first, as the official code does.",
    )
    min_consensus: Share = Field(
        0.0,
        title="Least consensus",
        description="Abstain where the winner has a smaller share of all votes. 0 switches it off, as in the paper.",
    )
    min_margin: Share = Field(
        0.0,
        title="Least margin",
        description="Abstain where the winner leads the second by a smaller share of all votes. 0 switches it off.",
    )

    @model_validator(mode="after")
    def _trained_within_votes(self) -> VoteConfig:
        if self.num_trained > self.num_votes:
            raise ValueError(
                f"Cannot train on {self.num_trained} answers per problem: only {self.num_votes} are sampled. "
                "Lower num_trained or raise num_votes."
            )
        if self.negative_share > 0.0 and self.min_consensus == 0.0 and self.min_margin == 0.0:
            raise ValueError(
                "negative_share acts only where the vote abstains for weak consensus. "
                "Set min_consensus or min_margin above 0, or negative_share to 0."
            )
        needs_all = [
            name
            for name, on in (
                (f"reward = {self.reward}", self.reward != "majority"),
                ("selection = balanced", self.selection == "balanced"),
                ("negative_share", self.negative_share > 0.0),
            )
            if on
        ]
        if self.early_stop and needs_all:
            raise ValueError(f"early_stop cannot go with {', '.join(needs_all)}: it needs every vote. Switch one off.")
        return self


class TrainConfig(Section):
    """The policy update (GRPO)."""

    problems_per_step: int = Field(
        8,
        ge=1,
        le=4096,
        title="Problems per step",
        description="How many problems are sampled, voted on and learned from per step.",
    )
    epochs: int = Field(
        10,
        ge=1,
        le=10_000,
        title="Passes over the problems",
        description="How often each problem is visited, unless a step limit ends it sooner.",
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        title="Step limit",
        description="Ends the run after so many steps; empty lets the passes decide.",
    )
    learning_rate: float = Field(
        1e-5,
        gt=0.0,
        le=1.0,
        title="Learning rate",
        description="Peak of the schedule. LoRA takes about ten times the rate of full weights.",
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", title="Schedule", description="`cosine` falls to 0 at the last step; `constant` stays at the peak."
    )
    warmup_share: float = Field(
        0.03, ge=0.0, lt=1.0, title="Warm-up", description="Share of the updates over which the rate rises from 0."
    )
    advantage: Literal["mean", "standardised"] = Field(
        "mean",
        title="Advantage",
        description="`mean` subtracts the problem's mean reward (Dr. GRPO); `standardised` also divides by its deviation, as the official code does, which favours weak consensus.",
    )
    updates_per_step: int = Field(
        1,
        ge=1,
        le=256,
        title="Updates per step",
        description="Optimizer steps per batch of rollouts; the problems are dealt out among them. 1 is exactly on-policy.",
    )
    clip_low: float = Field(
        0.2, gt=0.0, lt=1.0, title="Clip below", description="The ratio new/old is held above 1 minus this."
    )
    clip_high: float = Field(
        0.2, gt=0.0, le=10.0, title="Clip above", description="The ratio new/old is held below 1 plus this."
    )
    kl_coef: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        title="KL to the base model",
        description="Weight of the penalty for moving away from the base (k3 estimate). 0 switches it off and saves a forward pass.",
    )
    weight_decay: float = Field(0.0, ge=0.0, le=1.0, title="Weight decay", description="Of AdamW.")
    max_grad_norm: float = Field(
        1.0, gt=0.0, le=1000.0, title="Gradient clip", description="Longest gradient; a longer one is scaled down."
    )
    importance_cap: float | None = Field(
        2.0,
        ge=1.0,
        le=1000.0,
        title="Importance cap",
        description="Each token is weighted by trainer probability / sampler probability, held below this, which corrects a sampler that computes a little differently. Unset gives no weights.",
    )
    tokens_per_batch: int | None = Field(
        None,
        ge=64,
        le=10_000_000,
        title="Tokens per micro-batch",
        description="Bounds the memory of the update; it never changes the result. Unset: 1,024 to 4,096 on a CPU, more for narrow models; 16,384 on a GPU.",
    )
    gradient_checkpointing: bool = Field(
        False,
        title="Gradient checkpointing",
        description="Recomputes activations to save memory, at about a third more time.",
    )


class EvalConfig(Section):
    """How a policy is scored. Reference answers are used here and nowhere else."""

    every_steps: int = Field(
        10, ge=0, le=1_000_000, title="Evaluate every (steps)", description="0 scores only before and after the run."
    )
    num_samples: int = Field(
        16,
        ge=1,
        le=1024,
        title="Samples per problem (k)",
        description="pass@1 is the mean over k samples (avg@k); maj@k is their vote.",
    )
    temperature: float = Field(0.6, gt=0.0, le=4.0, title="Temperature", description="The paper scores at 0.6.")
    top_p: float = Field(0.95, gt=0.0, le=1.0, title="Top-p", description="The paper scores at 0.95.")
    max_problems: int | None = Field(
        200,
        ge=1,
        le=1_000_000,
        title="At most (per split)",
        description="Scores a fixed draw of a larger split; empty scores all of it.",
    )


class SafeguardConfig(Section):
    """Alarms that need no reference answers. A threshold of `null` switches its alarm off."""

    action: Literal["note", "pause", "roll_back"] = Field(
        "pause",
        title="When an alarm fires",
        description="`note` marks the chart; `pause` saves and waits for you; `roll_back` ends the run at its last healthy checkpoint.",
    )
    one_answer_share: Share | None = Field(
        0.5,
        title="One answer everywhere",
        description="Fires when so many of the recent problems elect the same answer and that share has doubled since its lowest.",
    )
    unparsed_rise: Share | None = Field(
        0.25,
        title="Answers that cannot be read",
        description="Fires when their share has risen so much since the start.",
    )
    truncated_rise: Share | None = Field(
        0.35, title="Answers that are cut", description="Fires when their share has risen so much since the start."
    )
    false_consensus: Share | None = Field(
        0.3,
        title="False consensus",
        description="Fires when consensus on the trained problems has risen so much and their labels have stopped changing, while agreement on held-out problems has risen less, by so much, or half of the variety of their labels is lost.",
    )
    entropy_floor: Share | None = Field(
        0.02,
        title="Entropy collapse",
        description="Fires when entropy falls under this share of its start while many answers still differ.",
    )
    entropy_rise: float | None = Field(
        3.0,
        gt=1.0,
        le=100.0,
        title="Entropy blow-up",
        description="Fires when entropy exceeds its start by this factor.",
    )
    length_drop: Share | None = Field(
        0.9, title="Length collapse", description="Fires when answers have lost this share of their starting length."
    )
    kl_jump: float | None = Field(
        10.0,
        gt=0.0,
        le=1e6,
        title="KL jump",
        description="Fires when the policy's shift per token in one step exceeds its running median by this factor.",
    )


class CheckpointConfig(Section):
    """How often the run is made safe."""

    every_steps: int = Field(
        10,
        ge=1,
        le=1_000_000,
        title="Save every (steps)",
        description="A run that is killed loses at most so many steps.",
    )
    keep: int = Field(
        3,
        ge=1,
        le=1000,
        title="Keep",
        description="How many resumable checkpoints stay on disk; older ones are removed.",
    )


class HardwareConfig(Section):
    """Where and with what the run computes."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", title="Device", description="`auto` takes a CUDA GPU where one is free, else the CPU."
    )
    sampler: Literal["auto", "torch", "vllm"] = Field(
        "auto",
        title="Sampler",
        description="`auto` takes vLLM where it is installed and a GPU is used, else the torch sampler.",
    )
    gpus: int = Field(
        1,
        ge=1,
        le=64,
        title="GPUs",
        description="Processes that share the run, one per GPU; the problems of a step are dealt out among them. On a CPU each takes its share of the cores.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        title="CPU threads",
        description="0 takes all cores but one. Kept with the run, since it affects rounding.",
    )


class RunConfig(Section):
    """One TTRL run: everything that decides its result."""

    name: str = Field(
        "", max_length=120, title="Name", description="Shown in lists; empty gets one from the model and the data."
    )
    seed: int = Field(
        0, ge=0, le=2**31 - 1, title="Seed", description="Decides the split, the order and every sampled token."
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    answers: AnswerConfig = AnswerConfig()
    vote: VoteConfig = VoteConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvalConfig = EvalConfig()
    safeguards: SafeguardConfig = SafeguardConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    hardware: HardwareConfig = HardwareConfig()

    def total_steps(self, num_adapt: int) -> int:
        """Steps of the whole run for so many adapt problems; the last short batch of an epoch counts."""
        per_epoch = -(-num_adapt // self.train.problems_per_step)
        planned = per_epoch * self.train.epochs
        return min(planned, self.train.max_steps or planned)

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over what differs from the defaults, so that a setting added later does not
        change it; the name is left out, it decides nothing."""
        data = self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The config as YAML that `parse_config` reads back to an equal one."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        return text

    def with_changes(self, **changes: Any) -> RunConfig:
        """A validated copy; nested fields by dotted name, e.g. `with_changes(**{"vote.num_votes": 32})`.

        Raises ConfigError where a name does not exist or the values cannot work together.
        """
        data = self.model_dump(mode="json")
        for dotted, value in changes.items():
            *parents, leaf = dotted.split(".")
            part: dict[str, Any] = data
            for parent in parents:
                inner = part.get(parent)
                part = inner if isinstance(inner, dict) else {}
            if leaf not in part:
                raise ConfigError(f"There is no setting named {dotted!r}. `ttrl-studio config` lists them all.")
            part[leaf] = value
        return parse_config(data)


def parse_config(data: Any) -> RunConfig:
    """A RunConfig from plain data. Raises ConfigError that names every offending field in one message."""
    if not isinstance(data, dict):
        raise ConfigError("A config is a mapping of settings, such as `vote: {num_votes: 64}`; this one is not.")
    try:
        return RunConfig.model_validate(data)
    except ValidationError as failure:
        raise ConfigError(_explain(failure)) from None


def load_config(path: Path) -> RunConfig:
    """A RunConfig from a YAML or JSON file. Raises ConfigError with the reason if it cannot be read or is invalid."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise ConfigError(f"Cannot read the config {path}: {failure.strerror}.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as failure:
        raise ConfigError(f"The config {path} is not valid YAML: {failure}") from None
    return parse_config(data or {})


def _explain(failure: ValidationError) -> str:
    lines = []
    for error in failure.errors(include_url=False):
        where = ".".join(str(part) for part in error["loc"]) or "config"
        why = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            why = "there is no setting of this name"
        lines.append(f"{where}: {why}")
    return "The config cannot be used. " + "; ".join(lines)


class Preset(Section):
    """A named starting point. `changes` are dotted names and values laid over the defaults."""

    name: str
    summary: str
    changes: dict[str, Any]

    def config(self) -> RunConfig:
        """The complete config of this preset."""
        return RunConfig().with_changes(**self.changes)


# The published objective (official scripts, commit 5806e11): 64 votes, first 32 trained, std-normalised advantage,
# clip 0.2, KL 0.001, 8 optimizer steps per batch of rollouts, tie to the first sampled, cosine with 3 % warm-up.
_OFFICIAL: dict[str, Any] = {
    "vote.num_votes": 64,
    "vote.num_trained": 32,
    "vote.tie": "first_sampled",
    "answers.read": "boxed",
    "train.advantage": "standardised",
    "train.kl_coef": 0.001,
    "train.updates_per_step": 8,
    "train.weight_decay": 0.01,
    "train.importance_cap": None,
}

_PAPER: dict[str, Any] = {
    **_OFFICIAL,
    "model.source": "Qwen/Qwen2.5-Math-1.5B",
    "model.method": "full",
    "data.held_out_share": 0.0,
    "vote.temperature": 1.0,
    "vote.max_new_tokens": 3072,
    "train.learning_rate": 5e-7,
    "evaluate.every_steps": 20,
    "evaluate.num_samples": 16,
    "evaluate.max_problems": None,
}

PRESETS: dict[str, Preset] = {
    "quick-look": Preset(
        name="Quick look",
        summary="The bundled model on the bundled problems: minutes on a laptop without a GPU.",
        changes={
            "data.benchmarks": ("bundled:sums-benchmark", "bundled:sums-hard"),
            "vote.max_new_tokens": 160,
            "train.learning_rate": 2e-4,
            "train.epochs": 2,
            "evaluate.every_steps": 6,
            "evaluate.num_samples": 8,
            "evaluate.max_problems": 64,
            "checkpoint.every_steps": 4,
        },
    ),
    "fast": Preset(
        name="Fast",
        summary="A LoRA adapter on one GPU: mean-centred, on-policy, no KL, decided votes end early.",
        changes={"train.learning_rate": 1e-5, "vote.max_new_tokens": 2048, "vote.early_stop": True},
    ),
    "official": Preset(
        name="Official objective",
        summary="The published update for any model: standardised advantage, KL 0.001, 8 mini-steps, clip 0.2.",
        changes={**_OFFICIAL, "train.learning_rate": 5e-6, "vote.max_new_tokens": 3072},
    ),
    "paper-aime": Preset(
        name="Paper: AIME",
        summary="The published settings for 30 AIME problems: 8 problems per step, 80 passes.",
        changes={
            **_PAPER,
            "train.problems_per_step": 8,
            "train.updates_per_step": 8,
            "train.epochs": 80,
            "data.max_prompt_tokens": 512,
        },
    ),
    "paper-amc": Preset(
        name="Paper: AMC",
        summary="The published settings for 83 AMC problems: 8 problems per step, 30 passes.",
        changes={**_PAPER, "train.problems_per_step": 8, "train.updates_per_step": 8, "train.epochs": 30},
    ),
    "paper-math": Preset(
        name="Paper: MATH",
        summary="The published settings for MATH-500: 32 problems per step, 10 passes.",
        changes={**_PAPER, "train.problems_per_step": 32, "train.updates_per_step": 32, "train.epochs": 10},
    ),
}
