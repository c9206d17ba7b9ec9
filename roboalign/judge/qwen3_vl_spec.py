"""The paper's judge: Qwen3-VL with LoRA, which writes a rationale and then the scores."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.judge.base_spec import JudgeSpecBase
from roboalign.reward.spec import Input
from roboalign.spec.base import FieldError, Fraction, Positive, Seed, items
from roboalign.spec.training import TrainingSpec
from roboalign.spec.weights import CheckpointInitSpec, require_weights

PATCH = 32
"""Side in pixels of what becomes one visual token: patches of 16 pixels, merged two by two (Qwen3-VL)."""


class Qwen3VLJudgeSpec(JudgeSpecBase):
    """Qwen3-VL-8B-Thinking with LoRA, fine-tuned on the bench's labels.

    Values without a source are our choice: the paper gives model, LoRA, temperature and number of samples only.
    Needs the extra `vlm`; in bfloat16 the base model takes 18 GB of memory.
    """

    kind: Literal["qwen3_vl"]
    model: Annotated[str, Field(min_length=1, max_length=1000)] = "hf://Qwen/Qwen3-VL-8B-Thinking"
    """Base model in the transformers format: a local folder, or `hf://owner/name` on the Hugging Face hub (paper:
    Qwen3-VL-8B-Thinking)."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Commit of a model on the hub. Without one the newest is taken, which may change between two runs."""
    model_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Hash of a local folder's weights and configuration (`roboalign.judge.qwen3_vl.hash_model`); None skips the
    check."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Type of the base model's weights; LoRA's are float32."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the LoRA matrices."""
    alpha: Positive = 32.0
    """LoRA's scale: alpha / rank multiplies the update."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout of the input of the LoRA matrices, in training."""
    target_modules: Annotated[tuple[str, ...], items()] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Names of the linear layers that get LoRA: those of the language model. `qkv`, `proj`, `linear_fc1`, `linear_fc2`
    are those of the vision encoder."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass of training: less memory, a third more time."""
    inputs: Annotated[tuple[Input, ...], items(maximum=3)] = ("text", "video")
    """Inputs of the judge. With `actions` it also scores how faithful the video is to them."""
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    """Most frames shown of each clip, evenly spaced, the first and the last among them."""
    image_size: Annotated[tuple[int, int], items(2, 2)] = (256, 256)
    """Height and width in pixels that frames are resized to, multiples of 32: a pair of frames becomes
    height * width / 1024 tokens."""
    fps: Positive = 5.0
    """Frames per second that the time stamps of the prompt assume, for every source."""
    rationale: bool = True
    """Whether the judge is trained to write a rationale before the scores (paper: yes)."""
    rationale_tokens: Annotated[int, Field(ge=1, le=65_536)] = 1024
    """Longest answer in tokens, rationale and scores together."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.6
    """Sampling temperature (paper)."""
    top_k: Annotated[int, Field(ge=1)] = 20
    """Number of most probable tokens that are sampled from (Qwen3's recommendation for thinking models)."""
    top_p: Annotated[Fraction, Field(gt=0)] = 0.95
    """Probability of the smallest set of most probable tokens that is sampled from (Qwen3's recommendation)."""
    samples: Annotated[int, Field(ge=1, le=100)] = 5
    """Answers for each clip, whose mean is its score (paper: 5)."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How often an answer that cannot be parsed is generated, the first time included."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8
    """Answers generated at once."""
    seed: Seed = 0
    """Seed of the answers: with the clip and the number of the sample it determines the answer, up to rounding."""
    training: TrainingSpec
    """Optimisation of the LoRA matrices."""
    init: CheckpointInitSpec | None = None
    """Origin of the initial LoRA matrices; null starts from the base model."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require_weights(self.training, self.init)
        if len(set(self.inputs)) < len(self.inputs):
            raise FieldError("inputs", "inputs names one input twice; remove one of the two")
        for index, pixels in enumerate(self.image_size):
            if pixels < PATCH or pixels % PATCH:
                raise FieldError(f"image_size.{index}", f"image_size ({pixels}) must be a multiple of {PATCH} pixels")
        hub = self.model.startswith("hf://")
        if self.revision is not None and not hub:
            raise FieldError("revision", "revision is for models on the hub; use model_hash for a local folder")
        if self.model_hash is not None and hub:
            raise FieldError("model_hash", "model_hash is for local folders; use revision for a model on the hub")
        return self

    @property
    def scores_faithfulness(self) -> bool:
        """Only if it is shown the actions."""
        return "actions" in self.inputs

    @property
    def note(self) -> str:
        """Training steps, and the model that gets LoRA."""
        steps = f"{self.training.steps} steps of {self.training.batch_size} sets of clips"
        return f"{steps}, LoRA of {self.model.rsplit('/', 1)[-1]}"
