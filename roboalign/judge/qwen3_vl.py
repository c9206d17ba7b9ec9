"""The paper's judge: Qwen3-VL with LoRA (Qwen3-VL Technical Report, arXiv 2511.21631; LoRA, arXiv 2106.09685).

The model reads the rubric, the instruction, the initial frame, the video and, if its spec says so, the actions. It
writes a rationale and the scores as JSON. A clip is scored several times at a temperature.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.video_utils import VideoMetadata

from roboalign import checkpoint
from roboalign.io import digest
from roboalign.judge.prompt import AnswerError, parse_answer, system_prompt, user_prompt
from roboalign.judge.qwen3_vl_spec import Qwen3VLJudgeSpec
from roboalign.reward.dimensions import ABSOLUTE, FAITHFUL
from roboalign.reward.spec import RewardSpec
from roboalign.training import fold_in

IGNORED = -100
"""Target of a token that the loss leaves out."""


@dataclass(frozen=True, slots=True)
class ClipPrompt:
    """One clip as the model reads it."""

    system: str
    """The task and the rubric."""
    user: str
    """Instruction and actions."""
    frames: Tensor
    """Frames (K, 3, h, w) in order of time, uint8, already resized; none if the judge is not given the video."""
    frame_numbers: tuple[int, ...]
    """Their numbers in the clip, from which time stamps are computed."""

    def seed(self, seed: int, sample: int, attempt: int) -> int:
        """A seed that depends on what the model reads, the number of the sample and the attempt, below 2**63."""
        state = hashlib.blake2b(self.frames.numpy().tobytes(), digest_size=7)
        for text in (self.system, self.user, str(self.frame_numbers)):
            state.update(f"{len(text.encode())}\0{text}".encode())
        return fold_in(int.from_bytes(state.digest()), seed, sample, attempt)


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """How many answers were generated, for the metrics."""

    answers: int = 0
    """Answers generated, repeated attempts included."""
    unparsed_answers: int = 0
    """Of these, those that could not be parsed."""
    replaced_samples: int = 0
    """Samples without any answer that could be parsed, replaced by the mean of the clip's other samples."""


def frame_numbers(length: int, count: int) -> list[int]:
    """At most `count` evenly spaced frame numbers of a clip of `length` frames, the first and the last among them."""
    if length <= count:
        return list(range(length))
    return torch.linspace(0, length - 1, count, dtype=torch.float64).round().int().tolist()


def resize_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames (K, 3, H, W), uint8 or in [0, 1], as uint8 of `size` (height, width)."""
    pixels = frames.float() if frames.dtype == torch.uint8 else (frames.float() * 255).round()
    if pixels.shape[-2:] != size:
        pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True)
    return pixels.round().clamp(0, 255).to(torch.uint8)


def make_clip_prompt(
    spec: Qwen3VLJudgeSpec, reward: RewardSpec, video: Tensor, instruction: str, actions: Tensor | None
) -> ClipPrompt:
    """The model's input for one clip.

    Args:
        spec: Says which inputs the judge is given, and how many frames of which size.
        reward: Dimensions and rubric.
        video: Clip (T, 3, H, W), uint8 or in [0, 1].
        instruction: What the robot was told to do.
        actions: Actions (T - 1, A) in [-1, 1], NaN beyond the width of the source's actions; or None.

    Raises:
        ValueError: There are not T - 1 actions.
    """
    rows = None
    if "actions" in spec.inputs and actions is not None:
        if len(actions) != len(video) - 1:
            raise ValueError(f"a clip of {len(video)} frames has {len(actions)} actions instead of {len(video) - 1}")
        rows = [row[~row.isnan()].tolist() for row in actions.cpu()]
    numbers = frame_numbers(len(video), spec.frames) if "video" in spec.inputs else []
    text = user_prompt(reward, instruction if "text" in spec.inputs else "(not given)", len(numbers), rows)
    return ClipPrompt(
        system_prompt(reward, actions=rows is not None, rationale=spec.rationale),
        # Control tokens such as <|im_end|> in an instruction would end the user's turn.
        text.replace("<|", "< |"),
        resize_frames(video[numbers].cpu(), spec.image_size),
        tuple(numbers),
    )


class GumbelNoise(LogitsProcessor):
    """Adds Gumbel noise to log probabilities, so that the greedy choice is a sample of the distribution.

    Each row has its own generator: unlike transformers' sampling, a row's noise does not depend on the batch.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores (B, vocabulary) plus noise."""
        noise = torch.stack(
            [
                torch.empty(scores.shape[1], device=scores.device).exponential_(generator=generator)
                for generator in self.generators
            ]
        )
        return cast(torch.FloatTensor, scores.float() - noise.log())


def hash_model(folder: Path) -> str:
    """The hash of a model folder's configuration and weights, for `model_hash`; 32 hex digits."""
    return digest([folder / "config.json", *sorted(folder.glob("*.safetensors"))])


def load_base_model(spec: Qwen3VLJudgeSpec) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """The pretrained model and its processor, from a local folder or the Hugging Face hub.

    Raises:
        ValueError: The folder does not exist, or its hash is not the spec's.
        OSError: The hub cannot be reached, or does not have the model.
    """
    options: dict[str, Any] = {}
    if spec.model.startswith("hf://"):
        source = spec.model.removeprefix("hf://")
        options["revision"] = spec.revision or "main"
    else:
        source = spec.model
        folder = Path(source)
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"judge.model ({source}) is not a folder with a config.json; download a model in the transformers "
                "format, or name one on the hub as hf://owner/name"
            )
        options["local_files_only"] = True
        if spec.model_hash is not None and (found := hash_model(folder)) != spec.model_hash:
            raise ValueError(f"judge.model ({source}) has the hash {found}, but judge.model_hash is {spec.model_hash}")
    model = Qwen3VLForConditionalGeneration.from_pretrained(
        source, dtype=getattr(torch, spec.dtype), use_safetensors=True, **options
    )
    return model, Qwen3VLProcessor.from_pretrained(source, **options)


class Qwen3VLJudge(nn.Module):
    """Qwen3-VL with LoRA as a judge of clips; see roboalign/reward/dimensions.py."""

    def __init__(
        self,
        spec: Qwen3VLJudgeSpec,
        reward: RewardSpec,
        base_model: Qwen3VLForConditionalGeneration,
        processor: Qwen3VLProcessor,
    ) -> None:
        """Freezes `base_model` and adds untrained LoRA matrices to it, drawn from `spec.training.seed`."""
        super().__init__()
        self.spec, self.reward, self.processor = spec, reward, processor
        self.counts = AnswerCounts()
        self._tokenizer: Any = cast(Any, processor).tokenizer
        # Prompts end at the same position of a batch: generation goes on there.
        self._tokenizer.padding_side = "left"
        # Templates of thinking models open a <think> block in the prompt. The answer closes it: the rationale that it
        # is trained to write is in the JSON.
        prompt_end = self._apply_template([{"role": "user", "content": [{"type": "text", "text": ""}]}]).rstrip()
        self._answer_prefix = "</think>\n\n" if prompt_end.endswith("<think>") else ""
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=spec.rank,
            lora_alpha=cast(int, spec.alpha),
            lora_dropout=spec.lora_dropout,
            target_modules=list(spec.target_modules),
        )
        if spec.gradient_checkpointing:
            cast(Any, base_model).gradient_checkpointing_enable({"use_reentrant": False})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold_in(spec.training.seed, 4))
            self.model: PeftModel = get_peft_model(base_model, config)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    def adapter_state(self) -> dict[str, Tensor]:
        """The LoRA matrices by the names that peft saves them under."""
        # Without save_embedding_layers=False peft asks the hub for the base model's configuration.
        state: dict[str, Tensor] = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return state

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        """Set the LoRA matrices. Raises ValueError if their names are not those of this judge."""
        if state.keys() != self.adapter_state().keys():
            raise ValueError("the adapter has other layers than judge.target_modules of this base model")
        set_peft_model_state_dict(self.model, state)

    def encode(self, prompts: Sequence[ClipPrompt]) -> dict[str, Tensor]:
        """The model's inputs for a batch of prompts, padded on the left."""
        texts, images, videos, metadata = [], [], [], []
        for prompt in prompts:
            content: list[dict[str, str]] = []
            if len(prompt.frames):
                content += [{"type": "image"}, {"type": "video"}]
                images.append(prompt.frames[0])
                videos.append(prompt.frames)
                metadata.append(
                    VideoMetadata(
                        total_num_frames=len(prompt.frames),
                        fps=self.spec.fps,
                        frames_indices=list(prompt.frame_numbers),
                    )
                )
            text = self._apply_template(
                [
                    {"role": "system", "content": [{"type": "text", "text": prompt.system}]},
                    {"role": "user", "content": [*content, {"type": "text", "text": prompt.user}]},
                ]
            )
            # The processor puts vision tokens around each pair of frames; some versions leave the template's outside.
            texts.append(text.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>"))
        visual: dict[str, Any] = {}
        if videos:
            visual = {"images": images, "videos": videos, "video_metadata": metadata}
        encoded = self.processor(
            text=texts,
            padding=True,
            return_tensors="pt",
            do_resize=False,
            do_sample_frames=False,
            return_mm_token_type_ids=True,
            **visual,
        )
        return {key: cast(Tensor, value).to(self.device) for key, value in encoded.items()}

    def _apply_template(self, messages: list[dict[str, Any]]) -> str:
        """The text of a conversation, up to where the model goes on."""
        processor = cast(Any, self.processor)  # annotated for messages without images
        return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def answer_tokens(self, answers: Sequence[str]) -> list[Tensor]:
        """The tokens (L,) of each answer, with the end of the text."""
        # The answers are tokenized by themselves: joined texts could merge tokens at the place where generation begins.
        return [
            torch.tensor(self._tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (self._answer_prefix + answer + self._tokenizer.eos_token for answer in answers)
        ]

    def loss(self, prompts: Sequence[ClipPrompt], answers: Sequence[str], count: Tensor | None = None) -> Tensor:
        """The mean cross entropy of the answers' tokens, with gradients of the LoRA matrices; `count` replaces their
        number as the divisor."""
        inputs = self.encode(prompts)
        tokens = self.answer_tokens(answers)
        labels = nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=IGNORED).to(self.device)
        mask = labels != IGNORED
        inputs["input_ids"] = torch.cat(
            [inputs["input_ids"], labels.masked_fill(~mask, self._tokenizer.pad_token_id)], dim=1
        )
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask.to(inputs["attention_mask"])], dim=1)
        types = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(labels).to(types)], dim=1)
        # Logits of the prompt would take gigabytes: they are computed from its last token on.
        logits = self.model(**inputs, use_cache=False, logits_to_keep=labels.shape[1] + 1).logits[:, :-1]
        total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total / (mask.sum() if count is None else count)

    @torch.no_grad()
    def generate_texts(self, prompts: Sequence[ClipPrompt], seeds: Sequence[int]) -> list[str]:
        """One answer for each prompt, sampled with the seed of that prompt, at most `batch_size` at a time."""
        texts: list[str] = []
        for start in range(0, len(prompts), self.spec.batch_size):
            inputs = self.encode(prompts[start : start + self.spec.batch_size])
            processors = LogitsProcessorList(
                [
                    TemperatureLogitsWarper(self.spec.temperature),
                    TopKLogitsWarper(self.spec.top_k),
                    TopPLogitsWarper(self.spec.top_p),
                    GumbelNoise(seeds[start : start + self.spec.batch_size], self.device),
                ]
            )
            config = cast(Any, GenerationConfig)(
                do_sample=False,
                max_new_tokens=self.spec.rationale_tokens,
                eos_token_id=self._tokenizer.eos_token_id,
                pad_token_id=self._tokenizer.pad_token_id,
            )
            tokens = cast(Any, self.model).generate(**inputs, generation_config=config, logits_processor=processors)
            texts += self._tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    def sample(self, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
        """Raw scores (S, B, 2, D) of clips (B, T, 3, H, W), in evaluation mode; see `Scorer.sample`.

        FAITHFUL scores are NaN without actions, or if `spec.inputs` does not name them. A sample whose answers cannot
        be parsed is the mean of the clip's other samples; `counts` counts those.

        Raises:
            AnswerError: No answer for one of the clips could be parsed.
        """
        prompts = [
            make_clip_prompt(self.spec, self.reward, video, instruction, None if actions is None else actions[index])
            for index, (video, instruction) in enumerate(zip(videos, instructions, strict=True))
        ]
        with_actions = actions is not None and "actions" in self.spec.inputs
        scores = torch.full((self.spec.samples, len(prompts), 2, len(self.reward.dimensions)), torch.nan)
        pending = [(clip, sample) for clip in range(len(prompts)) for sample in range(self.spec.samples)]
        errors: dict[int, str] = {}
        training = self.training
        self.eval()
        try:
            for attempt in range(self.spec.attempts):
                texts = self.generate_texts(
                    [prompts[clip] for clip, _ in pending],
                    [prompts[clip].seed(self.spec.seed, sample, attempt) for clip, sample in pending],
                )
                failed = []
                for (clip, sample), text in zip(pending, texts, strict=True):
                    try:
                        answer = parse_answer(text, self.reward, actions=with_actions)
                    except AnswerError as error:
                        failed.append((clip, sample))
                        errors[clip] = f"{error}; it begins with {text[:80]!r}"
                        continue
                    scores[sample, clip, ABSOLUTE] = torch.tensor(answer.absolute)
                    if answer.faithful is not None:
                        scores[sample, clip, FAITHFUL] = torch.tensor(answer.faithful)
                self.counts = replace(
                    self.counts,
                    answers=self.counts.answers + len(pending),
                    unparsed_answers=self.counts.unparsed_answers + len(failed),
                )
                pending = failed
                if not pending:
                    break
        finally:
            self.train(training)
        for clip in sorted({clip for clip, _ in pending}):
            missing = scores[:, clip, ABSOLUTE].isnan().any(-1)
            if missing.all():
                raise AnswerError(
                    f"none of {self.spec.samples} samples of {self.spec.attempts} attempts for clip {clip} "
                    f"({instructions[clip]!r}) could be parsed; the last: {errors[clip]}. Train the judge for longer, "
                    f"or raise judge.rationale_tokens ({self.spec.rationale_tokens})"
                )
            scores[missing, clip] = scores[~missing, clip].mean(0)
        self.counts = replace(self.counts, replaced_samples=self.counts.replaced_samples + len(pending))
        return scores

    def save(self, path: Path, provenance: str) -> None:
        """Write the LoRA matrices with the spec, which names the base model, and the reward."""
        checkpoint.save(
            path,
            self.adapter_state(),
            spec=self.spec.model_dump(mode="json"),
            provenance=provenance,
            reward=self.reward.model_dump(mode="json"),
        )


def build_qwen3_vl_judge(spec: Qwen3VLJudgeSpec, reward: RewardSpec) -> Qwen3VLJudge:
    """A judge with the pretrained base model and untrained LoRA matrices. See `load_base_model` for what it raises."""
    return Qwen3VLJudge(spec, reward, *load_base_model(spec))


def load_qwen3_vl_judge(path: Path) -> Qwen3VLJudge:
    """The judge in a file, frozen, in evaluation mode; its base model is loaded from where the spec says.

    Raises:
        CheckpointError: The file is damaged, of another kind, or does not fit the base model.
    """
    spec, metadata = checkpoint.load_spec(path, Qwen3VLJudgeSpec), checkpoint.load_metadata(path)
    try:
        reward = RewardSpec.model_validate_json(json.dumps(metadata["reward"]))
    except (KeyError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{path}: has no valid RewardSpec; run `dvc repro judge`") from error
    judge = build_qwen3_vl_judge(spec, reward)
    try:
        judge.load_adapter_state(checkpoint.load_weights(path, judge.adapter_state()))
    except checkpoint.CheckpointError as error:
        raise checkpoint.CheckpointError(f"{path}: does not fit the base model {spec.model} ({error})") from error
    return judge.requires_grad_(False).eval()
