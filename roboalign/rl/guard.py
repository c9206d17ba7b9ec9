"""Guards of alignment: which check on validation prompts is best, and when to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

from roboalign.rl.spec import GuardSpec


@dataclass(frozen=True)
class Check:
    """What one check on the validation prompts found; means over prompts."""

    step: int
    proxy: float
    """The reward that is maximised."""
    confirmed: float
    """The faithful total by the guard's scorer."""
    psnr: float
    """dB."""
    gold: float
    """The faithful gold total; NaN if no source has states. Reported, not decided on."""
    kl: float
    """KL divergence from the supervised model, in nats a token."""


@dataclass(frozen=True)
class Decision:
    """What follows from the checks so far; the first of them is before training."""

    best: int
    """Index of the best check."""
    stop: bool
    """Whether `patience` checks in a row were no better."""


def decide(checks: Sequence[Check], spec: GuardSpec) -> Decision:
    """The best check is the one with the highest confirmed score among those that keep PSNR to within
    `max_psnr_loss` of the first. Raises ValueError without checks."""
    if not checks:
        raise ValueError("there is no check to decide on; make the first one before training")
    floor = checks[0].psnr - spec.max_psnr_loss
    allowed = [index for index, check in enumerate(checks) if index == 0 or check.psnr >= floor]
    best = max(allowed, key=lambda index: checks[index].confirmed)
    return Decision(best, len(checks) - 1 - best >= spec.patience)
