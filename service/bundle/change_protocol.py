"""`[change_protocol]` of a manifest: what `temperance refit` may change, decided before any outcome is seen.

Regulators call it a predetermined change control plan.

Tested in tests/bundle/test_change_protocol.py.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.sections import Positive, Rate, Section, refuse_repeats

Updating = Literal["intercept", "slope", "calibrator"]
RowLoss = Literal["log_loss", "brier"]
LEAST_EVENTS = 10
"""With fewer, intervals that hold out-of-fold losses against each other have no basis."""


class ChangeProtocol(Section):
    """Which steps a refit may take, how far, on how much evidence.

    Attributes
    ----------
    steps : tuple of str
        ``intercept``, ``slope`` (intercept and slope) and ``calibrator`` (fitted anew from raw logits).
    temperature : tuple of float
        Least and largest factor on the temperature, all refits since the last `fit` together.
    intercept : float
        Largest size of a bias, in nats, all refits since the last `fit` together.
    least_events : int
        Subjects (rows, where no subjects are known) that the rarest class needs.
    level : float
        Of the closed test.
    must_improve : tuple of str
        Losses whose out-of-fold decrease must exceed its noise.
    flag_rate : float or None
        Largest share of the answers that thresholds in force may flag; None: the declared false-alarm rate.
    """

    steps: Annotated[tuple[Updating, ...], Field(min_length=1)] = ("intercept", "slope", "calibrator")
    temperature: tuple[Positive, Positive] = (0.5, 2.0)
    intercept: Positive = 3.0
    least_events: Annotated[int, Field(strict=True, ge=LEAST_EVENTS)] = 100
    level: Rate = 0.05
    must_improve: Annotated[tuple[RowLoss, ...], Field(min_length=1)] = ("log_loss",)
    flag_rate: Rate | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        refuse_repeats("steps", self.steps)
        refuse_repeats("must_improve", self.must_improve)
        low, high = self.temperature
        if not low <= 1.0 <= high:
            raise ValueError("temperature must be [low, high] with low <= 1 <= high")
        if self.level > 0.5:
            raise ValueError("level must be at most 0.5")
        return self
