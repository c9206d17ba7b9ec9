"""Early stopping of alignment: chooses the best check on validation prompts, and decides when to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

from roboalign.rl.spec import GuardSpec


@dataclass(frozen=True)
class Check:
    """The results of one check on the validation prompts; means over prompts."""

    step: int
    proxy: float
    """The reward that is maximised."""
    confirmed: float
    """The faithful total score by the guard's scorer."""
    psnr: float
    """PSNR of the predicted frames in dB."""
    gold: float
    """The faithful total of the gold scorer; NaN if no source has states. Reported only; not used for decisions."""
    kl: float
    """KL divergence from the supervised model, in nats per token."""


@dataclass(frozen=True)
class Decision:
    """The decision after the checks so far."""

    best: int
    """Index of the best check."""
    stop: bool
    """Whether the last `patience` checks were not better than the best one."""


def decide(checks: Sequence[Check], spec: GuardSpec) -> Decision:
    """Decide after `checks`, of which the first was made before training.

    The best check has the highest confirmed score of those whose PSNR is at most `max_psnr_loss` below that of the
    first. Raises ValueError without checks.
    """
    if not checks:
        raise ValueError("there are no checks to decide on; make the first one before training")
    floor = checks[0].psnr - spec.max_psnr_loss
    allowed = [index for index, check in enumerate(checks) if index == 0 or check.psnr >= floor]
    best = max(allowed, key=lambda index: checks[index].confirmed)
    return Decision(best, len(checks) - 1 - best >= spec.patience)
