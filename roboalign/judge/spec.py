"""The judge, RoboAlign-Judge: the teacher that scores videos in every dimension of the reward."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.reward.spec import EncoderSpec
from roboalign.spec.base import Fraction, Positive, Spec
from roboalign.spec.training import TrainingSpec

Samples = Annotated[int, Field(ge=1, le=100)]
"""How often a clip is scored; the mean is reported, and the spread as stability."""


class RegressionJudgeSpec(Spec):
    """A visual-text encoder with one head a dimension, trained in place on the bench's labels. Our stand-in for the
    paper's vision-language judge where no pretrained model is at hand."""

    kind: Literal["regression"]
    encoder: EncoderSpec
    """What looks at the clip and reads the instruction."""
    head: Annotated[int, Field(ge=1, le=8192)] = 64
    """Inner width of each dimension's head."""
    samples: Samples = 5
    """Scorings of a clip (5: paper), each with frames shifted at random and features dropped at random."""
    sample_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the frame features dropped in each scoring; the counterpart of a sampling temperature. Our choice."""
    sample_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of those scorings: the same clip gets the same scores."""
    delta: Positive = 0.5
    """Where the Huber loss on shares of full marks turns from squared to linear. Our choice."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    """Clips scored at once; changes the speed, not the scores."""
    training: TrainingSpec
    """Optimisation."""


class VlmJudgeSpec(Spec):
    """A vision-language model with LoRA that writes a rationale, then the scores (paper). This version has no trainer
    for it: the stage says so and stops."""

    kind: Literal["vlm"]
    model: Annotated[str, Field(min_length=1, max_length=1000)] = "hf://Qwen/Qwen3-VL-8B-Thinking"
    """URI of the pretrained model (paper: Qwen3-VL-8B-Thinking)."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the LoRA matrices (our choice: the paper does not give it)."""
    alpha: Positive = 32.0
    """LoRA's scale; alpha / rank multiplies the update (our choice)."""
    lora_dropout: Fraction = 0.05
    """Dropout before the LoRA matrices (our choice)."""
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    """Frames shown of each clip."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.6
    """Sampling temperature (paper)."""
    samples: Samples = 5
    """Scorings of a clip (paper)."""
    rationale_tokens: Annotated[int, Field(ge=1, le=65_536)] = 1024
    """Longest rationale in tokens (our choice)."""
    training: TrainingSpec
    """Optimisation."""


JudgeSpec = Annotated[RegressionJudgeSpec | VlmJudgeSpec, Field(discriminator="kind")]
"""The judge, by kind."""
