"""Insertion and deletion games: pixels appear on an empty or blurred image, or vanish into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field, field_validator

from auditcore.contracts.checks.check import CheckNeed, CurveLine, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.checks.ranking import StepCurveCheck
from auditcore.contracts.image_colors import ImageColor, is_image_color
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.counts.removal_steps import proportional_step, removal_counts

PAPERS_STEP_PX = 224
"""Pixels per step at 224 x 224 pixels where a plan gives none."""

Game = Literal[
    "deletion_zero", "deletion_black", "deletion_blur", "insertion_zero", "insertion_black", "insertion_blur"
]

BLUR_OF_GAMES = "blur of 11 pixels"
"""Fill of the games towards blur; the baseline `blur` is a Gaussian of 31 pixels."""

FILLS_OF_GAMES = {"zero": "mean", "black": "black", "blur": BLUR_OF_GAMES}
"""What a game removes pixels towards, by the second half of its name."""

METRICS: Mapping[str, Metric] = {
    "deletion_zero": Metric(
        unit="probability",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Mean target probability while pixels turn into the mean color, most relevant first.",
    ),
    "deletion_zero_accuracy": Metric(
        unit="share of steps",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Share of steps that predict the target as pixels turn into the mean color, most relevant first.",
    ),
    "deletion_black": Metric(
        unit="probability",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Mean target probability while pixels turn black, most relevant first.",
    ),
    "deletion_black_accuracy": Metric(
        unit="share of steps",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Share of steps that predict the target as pixels turn black, most relevant first.",
    ),
    "deletion_blur": Metric(
        unit="probability",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Mean target probability while pixels are blurred, most relevant first.",
    ),
    "deletion_blur_accuracy": Metric(
        unit="share of steps",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Share of steps that predict the target as pixels blur, most relevant first.",
    ),
    "insertion_zero": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Mean target probability while pixels appear on the mean color, most relevant first.",
    ),
    "insertion_zero_accuracy": Metric(
        unit="share of steps",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Share of steps that predict the target as pixels appear on the mean color, most relevant first.",
    ),
    "insertion_black": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Mean target probability while pixels appear on black, most relevant first.",
    ),
    "insertion_black_accuracy": Metric(
        unit="share of steps",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Share of steps that predict the target as pixels appear on black, most relevant first.",
    ),
    "insertion_blur": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Mean target probability while pixels come into focus, most relevant first.",
    ),
    "insertion_blur_accuracy": Metric(
        unit="share of steps",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Share of steps that predict the target as pixels come into focus, most relevant first.",
    ),
}


@final
class InsertionDeletionCheck(StepCurveCheck):
    """Pixels deleted from the image, or inserted into nothing, most relevant first."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Petsiuk et al. 2018; Li et al. 2021"
    question: ClassVar[Question] = "faithfulness"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = (
        "deletion_zero",
        "deletion_black",
        "deletion_blur",
        "insertion_zero",
        "insertion_black",
        "insertion_blur",
    )
    lines: ClassVar[Mapping[str, CurveLine]] = {
        "insertion_zero": CurveLine("insertion on the mean color", "one"),
        "insertion_black": CurveLine("insertion on black", "five"),
        "insertion_blur": CurveLine("insertion on blur", "three"),
        "deletion_zero": CurveLine("deletion to the mean color", "two"),
        "deletion_black": CurveLine("deletion to black", "six"),
        "deletion_blur": CurveLine("deletion to blur", "four"),
    }
    axis: ClassVar[str] = "share of pixels changed"
    kind: Literal["insertion_deletion"] = "insertion_deletion"
    games: tuple[Game, ...] = Field(
        default=("deletion_zero", "deletion_blur", "insertion_zero", "insertion_blur"),
        min_length=1,
        description="Zero is zero after normalization, the model's mean color; black is black; blur is Gaussian, "
        "11 pixels, sigma 5. Each game has two areas: under the target probability, and under whether the target is "
        "predicted (`deletion_zero_accuracy`), which needs `curve` exact.",
    )
    pixels_per_step: int | None = Field(
        default=None, ge=1, description="224 for 224 x 224 pixels, and as many in proportion for others, if null."
    )

    @field_validator("games")
    @classmethod
    def _games_differ(cls, games: tuple[Game, ...]) -> tuple[Game, ...]:
        if len(set(games)) < len(games):
            msg = "a game is listed twice"
            raise ValueError(msg)
        return games

    @property
    def listed_metrics(self) -> Mapping[str, Metric]:
        """The two areas of every game that is played."""
        return {name: self.metrics[name] for game in self.games for name in (game, accuracy_metric(game))}

    @property
    def measured_metrics(self) -> Mapping[str, Metric]:
        """The same; adaptive curves give no accuracy."""
        if self.curve == "adaptive":
            return {game: self.metrics[game] for game in self.games}
        return self.listed_metrics

    def replaced(self, height: int, width: int) -> tuple[int, ...]:
        """How many pixels are replaced after each step, from none to all.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        step_px = self.pixels_per_step or proportional_step(PAPERS_STEP_PX, height, width)
        return removal_counts(height * width, step_px)

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Every step between the ends of each curve, and the blurred image once for all games."""
        inner = self.steps_passed(len(self.replaced(case.shape.height, case.shape.width)) - 2)
        blurs = any(fill == BLUR_OF_GAMES for fill in self.fills.values())
        return LOGITS.times(rows * (len(self.games) * inner * self.orders(case.explained) + blurs))

    @property
    def colors(self) -> frozenset[ImageColor]:
        """The fills of the games that are one color."""
        return frozenset(fill for fill in self.fills.values() if is_image_color(fill))

    @property
    def fills(self) -> Mapping[str, str]:
        """Game -> what it removes pixels towards, or inserts them into."""
        return {game: FILLS_OF_GAMES[game.partition("_")[2]] for game in self.games}

    def ways_to_fill(self, baseline: str) -> tuple[str, ...]:
        """The games that have this fill already."""
        alike = [f"`{game}`" for game, fill in self.fills.items() if fill == baseline]
        return (f"`games` of {self.label} to {', '.join(alike)}",) if alike else ()

    def advice_on_fills(self, baseline_field: str) -> str:
        """No baseline is the blur of the games."""
        return (
            f"No baseline is a {BLUR_OF_GAMES}; keep only the games toward zero, and set `{baseline_field}` to `mean`."
        )


def accuracy_metric(game: Game) -> str:
    """Name of the area under whether the target is predicted along a game, such as `deletion_zero_accuracy`."""
    return f"{game}_accuracy"
