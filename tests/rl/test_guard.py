import pytest

from roboalign.rl.guard import Check, Decision, decide
from roboalign.rl.spec import GuardSpec

SPEC = GuardSpec(every=5, prompts=2, patience=2, max_psnr_loss=0.3)


def checks(*confirmed: float, psnr: tuple[float, ...] = ()) -> list[Check]:
    losses = psnr or (20.0,) * len(confirmed)
    return [
        Check(5 * n, 9.0, score, loss, 0.0, 0.1) for n, (score, loss) in enumerate(zip(confirmed, losses, strict=True))
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (checks(5.0), Decision(0, False)),
        (checks(5.0, 5.5), Decision(1, False)),
        (checks(5.0, 4.0), Decision(0, False)),  # one worse check is within patience
        (checks(5.0, 4.0, 4.5), Decision(0, True)),  # two are not
        (checks(5.0, 6.0, 5.5, 5.9), Decision(1, True)),
        (checks(5.0, 6.0, 5.5, 6.1), Decision(3, False)),
        (checks(5.0, 5.0, 5.0), Decision(0, True)),  # as good is not better
    ],
)
def test_training_stops_after_checks_without_a_better_one(found: list[Check], expected: Decision) -> None:
    assert decide(found, SPEC) == expected


def test_a_better_score_at_the_cost_of_fidelity_does_not_count() -> None:
    assert decide(checks(5.0, 6.0, psnr=(20.0, 19.71)), SPEC).best == 1
    assert decide(checks(5.0, 6.0, psnr=(20.0, 19.69)), SPEC).best == 0
    assert decide(checks(5.0, 6.0, 7.0, psnr=(20.0, 19.8, 18.0)), SPEC) == Decision(1, False)


def test_what_is_maximised_does_not_decide() -> None:
    before, after = Check(0, 1.0, 5.0, 20.0, 1.0, 0.0), Check(5, 99.0, 4.9, 20.0, 9.0, 1.0)
    assert decide([before, after], SPEC).best == 0


def test_the_first_check_is_made_before_training() -> None:
    with pytest.raises(ValueError, match="no check"):
        decide([], SPEC)
