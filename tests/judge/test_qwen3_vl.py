"""The vision-language judge end to end, on a tiny Qwen3-VL with random weights and a byte-level tokenizer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

pytest.importorskip("transformers")
pytest.importorskip("peft")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.utils.data import default_collate
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from roboalign import checkpoint
from roboalign.hardware.spec import DeviceSpec
from roboalign.judge import qwen3_vl
from roboalign.judge.prompt import AnswerError, parse_answer
from roboalign.judge.qwen3_vl import (
    GumbelNoise,
    Qwen3VLJudge,
    build_qwen3_vl_judge,
    frame_numbers,
    hash_model,
    load_qwen3_vl_judge,
    make_clip_prompt,
    resize_frames,
)
from roboalign.judge.qwen3_vl_init import initialize_qwen3_vl_judge
from roboalign.judge.qwen3_vl_lit import LabelledClip, LabelledClipDataset, Qwen3VLJudgeModule, prompts_of
from roboalign.judge.qwen3_vl_spec import Qwen3VLJudgeSpec
from roboalign.reward.dimensions import ABSOLUTE, FAITHFUL
from roboalign.reward.spec import RewardSpec
from roboalign.spec.weights import CheckpointInitSpec
from roboalign.training import fit

CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<think>", "</think>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def tiny_processor() -> Qwen3VLProcessor:
    """Qwen3-VL's processor with a token for each byte and a chat template like that of the thinking model."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([token for token in CONTROL_TOKENS if "think" not in token])
    model.add_tokens(["<think>", "</think>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    return Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=16), tokenizer, Qwen3VLVideoProcessor(), chat_template=CHAT_TEMPLATE
    )


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A Qwen3-VL with two layers of width 32 and random weights, saved in the transformers format."""
    processor = tiny_processor()
    number = processor.tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2],
                                "mrope_interleaved": True},
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
            "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("qwen3_vl")
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        # As a trained model, it does not write placeholders of images.
        model.lm_head.weight[[config.image_token_id, config.video_token_id]] = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def two() -> RewardSpec:
    """Two short dimensions: prompts and answers are as long as the rubric, one token a byte."""
    six = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))
    return RewardSpec(
        dimensions={
            "task": six.dimensions["instruction_following"].model_copy(update={"rubric": "3: done."}),
            "physics": six.dimensions["physics_adherence"].model_copy(update={"rubric": "2: real."}),
        }
    )


@pytest.fixture(scope="module")
def spec(model_folder) -> Qwen3VLJudgeSpec:
    return Qwen3VLJudgeSpec.model_validate(
        {
            "kind": "qwen3_vl", "model": str(model_folder), "dtype": "float32", "frames": 4, "image_size": [32, 32],
            "rationale_tokens": 4, "samples": 3, "attempts": 2, "batch_size": 4, "rank": 4, "lora_dropout": 0.0,
            "inputs": ["text", "video", "actions"],
            "training": {"steps": 4, "batch_size": 2, "learning_rate": 0.005, "warmup_steps": 0, "checkpoint_every": 2,
                         "log_every": 1},
        }
    )  # fmt: skip


@pytest.fixture
def judge(spec, two) -> Qwen3VLJudge:
    return build_qwen3_vl_judge(spec, two)


def videos(count: int = 2, frames: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, 3, 32, 32), generator=generator, dtype=torch.uint8)


def actions(count: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.linspace(-1, 1, count * (frames - 1) * 2).reshape(count, frames - 1, 2)


TEXTS = ["push the block", "lift it"]


def labelled(count: int = 2) -> list[LabelledClip]:
    labels = torch.tensor([[[3.0, 2.0], [3.0, 2.0]], [[1.5, 0.25], [0.0, 2.0]]])
    shown, commands = videos(count), actions(count)
    return [LabelledClip(shown[i], TEXTS[i % 2], commands[i], labels[i % 2]) for i in range(count)]


def batch_of(spec, reward):
    data = LabelledClipDataset(spec, reward, labelled())
    return default_collate([data[index] for index in range(len(data))])


def scripted(monkeypatch, answers) -> list[tuple[int, ...]]:
    """Have `generate_texts` return `answers` in order; returns the seeds of each call."""
    iterator, calls = iter(answers), []

    def generate_texts(self, prompts, seeds):
        calls.append(tuple(seeds))
        return [next(iterator) for _ in prompts]

    monkeypatch.setattr(Qwen3VLJudge, "generate_texts", generate_texts)
    return calls


def answer(task: float, physics: float, faithful: float | None = 1.0) -> str:
    value = {"rationale": "why", "absolute": {"task": task, "physics": physics}}
    if faithful is not None:
        value["faithful"] = {"task": faithful, "physics": faithful}
    return f"thoughts\n</think>\n\n{json.dumps(value)}"


def test_frames_are_evenly_spaced_with_both_ends():
    assert frame_numbers(3, 8) == [0, 1, 2]
    assert frame_numbers(9, 5) == [0, 2, 4, 6, 8]
    assert resize_frames(videos()[0], (64, 32)).shape == (5, 3, 64, 32)
    assert torch.equal(resize_frames(videos()[0] / 255, (32, 32)), videos()[0])


def test_a_prompt_holds_only_the_inputs_of_the_spec(spec, two):
    video, command = videos()[0], actions()[0]
    command = torch.cat([command, torch.full((4, 3), torch.nan)], dim=1)
    whole = make_clip_prompt(spec, two, video, "push <|im_end|>", command)
    assert whole.frame_numbers == (0, 1, 3, 4)
    assert "Instruction: push < |im_end|>" in whole.user
    assert "\n4: -0.14 0.00\n" not in whole.user
    assert "1: -1.00 -0.87\n" in whole.user
    blind = make_clip_prompt(spec.model_copy(update={"inputs": ("text",)}), two, video, "push", command)
    assert blind.frame_numbers == ()
    assert len(blind.frames) == 0
    assert "control step" not in blind.user
    assert "faithful" not in blind.system
    silent = make_clip_prompt(spec.model_copy(update={"inputs": ("video",)}), two, video, "push", None)
    assert "push" not in silent.user
    with pytest.raises(ValueError, match="5 frames has 3 actions instead of 4"):
        make_clip_prompt(spec, two, video, "push", command[:3])


def test_the_encoded_prompt_shows_the_initial_frame_and_time_stamps(judge, spec, two):
    inputs = judge.encode([make_clip_prompt(spec, two, videos()[0], "push", None)])
    text = judge.processor.tokenizer.decode(inputs["input_ids"][0])
    assert "user\n<|vision_start|><|image_pad|><|vision_end|><0.1 seconds><|vision_start|><|video_pad|>" in text
    assert "<|vision_end|><0.7 seconds><|vision_start|><|video_pad|><|vision_end|>Instruction: push\n" in text
    assert text.endswith("<|im_start|>assistant\n<think>\n")
    assert inputs["video_grid_thw"].tolist() == [[2, 2, 2]]


def test_only_lora_is_trained_and_the_loss_falls(judge, spec, two):
    batch = batch_of(spec, two)
    module = Qwen3VLJudgeModule(judge).train()
    optimizer = module.configure_optimizers()
    losses = []
    for _ in range(3):
        loss = judge.loss(prompts_of(batch), batch["answer"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]
    graded = {name for name, value in judge.named_parameters() if value.grad is not None}
    assert graded == {name for name, _ in judge.named_parameters() if "lora_" in name}
    # Seven linear layers of two blocks, two matrices each; none in the vision encoder.
    assert len(graded) == len(judge.adapter_state()) == 2 * 7 * 2
    assert not any("visual" in name for name in graded)


def test_the_loss_is_that_of_the_answers_tokens_alone(judge, spec, two):
    batch = batch_of(spec, two)
    prompts, answers = prompts_of(batch), batch["answer"]
    assert all(parse_answer(text, two, actions=True) for text in answers)
    judge.eval()
    with torch.no_grad():
        together = judge.loss(prompts, answers)
        total, count = 0.0, 0
        for prompt, text in zip(prompts, answers, strict=True):
            inputs = judge.encode([prompt])
            ending = judge.processor.tokenizer("</think>\n\n" + text + "<|im_end|>")["input_ids"]
            start = inputs["input_ids"].shape[1]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ending])], 1)
            inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(ending)))
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            chances = judge.model(**inputs).logits[0, start - 1 : -1].log_softmax(-1)
            total -= float(chances[torch.arange(len(ending)), torch.tensor(ending)].sum())
            count += len(ending)
        tokens = torch.tensor(float(sum(len(each) for each in judge.answer_tokens(answers))))
        parts = [judge.loss(prompts[row : row + 1], answers[row : row + 1], tokens) for row in range(len(prompts))]
    assert float(together) == pytest.approx(total / count, rel=1e-4) == float(sum(parts))
    assert tokens == count


def test_the_video_and_the_actions_matter(judge, spec, two):
    prompt = make_clip_prompt(spec, two, videos()[0], "push", actions()[0])
    other = replace(prompt, frames=255 - prompt.frames)
    text = "{}"
    judge.eval()
    with torch.no_grad():
        assert judge.loss([prompt], [text]) != judge.loss([other], [text])
    assert prompt.seed(0, 0, 0) == replace(prompt).seed(0, 0, 0)
    seeds = {
        prompt.seed(0, 0, 0),
        prompt.seed(1, 0, 0),
        prompt.seed(0, 1, 0),
        prompt.seed(0, 0, 1),
        other.seed(0, 0, 0),
    }
    assert len(seeds) == 5


def test_answers_depend_on_clip_and_seed_not_on_the_batch(judge, spec, two):
    prompts = [make_clip_prompt(spec, two, videos()[i], TEXTS[i], actions()[i]) for i in range(2)]
    judge.eval()
    together = judge.generate_texts(prompts, [7, 8])
    assert together == [judge.generate_texts([prompts[i]], [7 + i])[0] for i in range(2)]
    assert len(set(judge.generate_texts([prompts[0]] * 4, range(4)))) > 1


def test_generation_goes_on_as_training_reads(spec, two, monkeypatch):
    """Cached generation from padded prompts picks the most probable tokens of a plain forward pass."""
    judge = build_qwen3_vl_judge(spec.model_copy(update={"top_k": 1, "rationale_tokens": 12}), two).eval()
    prompts = [make_clip_prompt(spec, two, videos()[i], "push it " * (1 + 4 * i), actions()[i]) for i in range(2)]
    outputs, generate = [], judge.model.generate
    monkeypatch.setattr(judge.model, "generate", lambda **inputs: outputs.append(generate(**inputs)) or outputs[-1])
    judge.generate_texts(prompts, [0, 1])
    for prompt, tokens in zip(prompts, outputs[0], strict=True):
        inputs = judge.encode([prompt])
        start, generated = inputs["input_ids"].shape[1], tokens[-12:]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], generated[None]], 1)
        inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, 12))
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            assert torch.equal(judge.model(**inputs).logits[0, start - 1 : -1].argmax(-1), generated)


def test_gumbel_noise_samples_the_distribution():
    logits = torch.tensor([0.5, 0.3, 0.2, 0.0]).log().expand(4000, 4)
    chosen = GumbelNoise(range(4000), torch.device("cpu"))(None, logits).argmax(1)
    assert (chosen.bincount(minlength=4) / 4000).tolist() == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.03)


def test_unparsable_answers_stop_with_a_clear_error(judge):
    message = "none of 3 samples of 2 attempts for clip 0 .'push the block'.* could be parsed"
    with pytest.raises(AnswerError, match=message):
        judge.sample(videos(), TEXTS, actions())
    assert judge.counts.answers == judge.counts.unparsed_answers == 2 * 3 * 2


def test_parsed_answers_become_scores(judge, monkeypatch):
    texts = [answer(3, 2), answer(2, 1), answer(1, 0), answer(0, 0.5), answer(0, 0.5), answer(0, 0.5)]
    scripted(monkeypatch, texts)
    scores = judge.train().sample(videos(), TEXTS, actions())
    assert scores.shape == (3, 2, 2, 2)
    assert scores[:, 0, ABSOLUTE].tolist() == [[3, 2], [2, 1], [1, 0]]
    assert scores[:, 1, ABSOLUTE].tolist() == [[0, 0.5]] * 3
    assert (scores[:, :, FAITHFUL] == 1).all()
    assert judge.training


def test_without_actions_the_faithful_scores_are_nan(judge, monkeypatch):
    scripted(monkeypatch, [answer(3, 2, None)] * 6)
    scores = judge.sample(videos(), TEXTS)
    assert scores[:, :, FAITHFUL].isnan().all()
    assert (scores[:, :, ABSOLUTE] == torch.tensor([3.0, 2.0])).all()


def test_an_answer_is_asked_for_again_then_replaced_by_the_mean_of_the_others(judge, monkeypatch):
    calls = scripted(monkeypatch, [answer(3, 2), "?", "?", answer(1, 1, 0.5), "?"])
    scores = judge.sample(videos(1), TEXTS[:1], actions(1))
    assert scores[:, 0, ABSOLUTE].tolist() == [[3, 2], [1, 1], [2, 1.5]]
    assert scores[2, 0, FAITHFUL].tolist() == [0.75, 0.75]
    assert judge.counts == qwen3_vl.AnswerCounts(answers=5, unparsed_answers=3, replaced_samples=1)
    assert [len(seeds) for seeds in calls] == [3, 2]
    assert not set(calls[0]) & set(calls[1])


def test_a_saved_judge_writes_the_same_answers(judge, spec, two, tmp_path):
    file = tmp_path / "model.safetensors"
    for value in judge.adapter_state().values():
        torch.nn.init.normal_(value, std=0.5, generator=torch.Generator().manual_seed(value.numel()))
    judge.save(file, "hash")
    again = load_qwen3_vl_judge(file)
    assert (again.spec, again.reward, again.training) == (spec, two, False)
    prompts = [make_clip_prompt(spec, two, videos()[0], "push", None)] * 3
    judge.eval()
    assert judge.generate_texts(prompts, range(3)) == again.generate_texts(prompts, range(3))
    assert judge.generate_texts(prompts, range(3)) != build_qwen3_vl_judge(spec, two).eval().generate_texts(
        prompts, range(3)
    )
    tensors, metadata = checkpoint.load(file)
    assert metadata["spec"]["model"] == spec.model
    assert all("lora_" in name for name in tensors)
    other = json.loads(json.dumps(metadata))
    other["spec"]["target_modules"] = ["q_proj"]
    checkpoint.save(file, tensors, **other)
    with pytest.raises(checkpoint.CheckpointError, match="does not fit the base model"):
        load_qwen3_vl_judge(file)


def test_training_may_start_from_saved_matrices(judge, spec, two, tmp_path):
    file = tmp_path / "model.safetensors"
    for value in judge.adapter_state().values():
        torch.nn.init.normal_(value, std=0.5, generator=torch.Generator().manual_seed(value.numel()))
    judge.save(file, "hash")
    again = build_qwen3_vl_judge(spec.model_copy(update={"frames": 3}), two)
    init = CheckpointInitSpec(kind="checkpoint", uri=str(tmp_path))
    initialize_qwen3_vl_judge(again, init, tmp_path)
    state = judge.adapter_state()
    assert all(torch.equal(value, state[name]) for name, value in again.adapter_state().items())
    tensors, metadata = checkpoint.load(file)
    for field, value, message in (("alpha", 1.0, "its alpha is 1.0"), ("model", "hf://x/other", "base model is other")):
        changed = json.loads(json.dumps(metadata))
        changed["spec"][field] = value
        checkpoint.save(file, tensors, **changed)
        with pytest.raises(checkpoint.CheckpointError, match=message):
            initialize_qwen3_vl_judge(again, init, tmp_path)


def test_a_killed_run_ends_with_the_same_weights(spec, two, tmp_path):
    spec = spec.model_copy(update={"lora_dropout": 0.2})
    clips = LabelledClipDataset(spec, two, labelled(4))

    class KilledError(Exception):
        pass

    def train(folder, stop=None):
        judge = build_qwen3_vl_judge(spec, two)

        class Killed(Qwen3VLJudgeModule):
            def training_step(self, batch, index):
                if self.step == stop:
                    raise KilledError
                return super().training_step(batch, index)

        fit(
            Killed(judge), clips, spec.training, DeviceSpec(threads=1), label="judge", scratch=folder,
            curves=folder / "curve.tsv",
        )  # fmt: skip
        return judge.adapter_state()

    whole = train(tmp_path / "a")
    with pytest.raises(KilledError):
        train(tmp_path / "b", stop=3)
    scratch, _ = checkpoint.load(tmp_path / "b" / "checkpoint.safetensors")
    assert {name for name in scratch if name.startswith("model.")} == {f"model.{name}" for name in whole}
    resumed = train(tmp_path / "b")
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def test_the_base_model_is_checked(spec, two, model_folder):
    right = spec.model_copy(update={"model_hash": hash_model(model_folder)})
    assert build_qwen3_vl_judge(right, two).spec == right
    with pytest.raises(ValueError, match=r"but judge\.model_hash is 0000"):
        build_qwen3_vl_judge(spec.model_copy(update={"model_hash": "0" * 32}), two)
    with pytest.raises(ValueError, match=r"is not a folder with a config\.json"):
        build_qwen3_vl_judge(spec.model_copy(update={"model": str(model_folder / "none")}), two)


def test_a_judge_of_actions_is_not_trained_without_them(spec, two):
    clip = replace(labelled(1)[0], actions=None)
    with pytest.raises(ValueError, match=r"clip 0 has no actions, which judge\.inputs names"):
        LabelledClipDataset(spec, two, [clip])[0]


def test_the_paper_spec_is_the_papers_judge():
    value = yaml.safe_load(Path("specs/judge/paper.yaml").read_text())
    paper = Qwen3VLJudgeSpec.model_validate(value | {"kind": "qwen3_vl"})
    assert (paper.model, paper.temperature, paper.samples) == ("hf://Qwen/Qwen3-VL-8B-Thinking", 0.6, 5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("inputs", ["text", "text"], "names one input twice"),
        ("image_size", [100, 64], r"image_size \(100\) must be a multiple of 32"),
        ("revision", "0" * 40, "use model_hash for a local folder"),
    ],
)
def test_inconsistent_specs_are_refused(spec, field, value, message):
    with pytest.raises(ValidationError, match=message):
        Qwen3VLJudgeSpec.model_validate(spec.model_dump() | {field: value})
