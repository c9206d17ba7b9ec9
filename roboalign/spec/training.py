"""Training fields shared by all trained parts. Defaults are our choice unless a field names a source."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from roboalign.spec.base import FieldError, Fraction, Positive, Seed, Spec


class TrainingSpec(Spec):
    """Training of one model by AdamW or Muon, with linear warm-up and cosine decay."""

    steps: Annotated[int, Field(ge=0, le=10_000_000)]
    """Optimizer steps; 0 takes the weights of the part's `init` as they are."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    """Samples per step, over all devices."""
    learning_rate: Positive
    """Peak learning rate of AdamW."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` trains hidden matrices and convolutions by Muon (roboalign/optimizer.py) and the rest by AdamW. The paper
    uses AdamW; in our trials, Muon gave the default tokenizer the same quality in half the steps."""
    muon_scale: Positive = 1.0
    """Learning rate of Muon as a multiple of `learning_rate`."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Steps of linear warm-up."""
    min_lr_ratio: Fraction = 0.0
    """Learning rate of the last step as a fraction of the peak; 1 keeps it constant after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Decoupled weight decay, applied to matrices and convolutions only."""
    gradient_clip: Annotated[float, Field(ge=0)] = 1.0
    """Maximum norm of the gradient; 0 disables clipping."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 100
    """Steps between scratch checkpoints, from which an interrupted training resumes."""
    log_every: Annotated[int, Field(ge=1)] = 20
    """Steps between rows of the training curve."""
    seed: Seed = 0
    """Seed of the initial weights, the batches and all sampling in training."""


def _refuse_no_steps(training: TrainingSpec) -> TrainingSpec:
    if training.steps == 0:
        raise FieldError("steps", "this part has no initial weights to take as they are; give 1 or more")
    return training


RequiredTraining = Annotated[TrainingSpec, AfterValidator(_refuse_no_steps)]
"""The training of a part without `init`."""
