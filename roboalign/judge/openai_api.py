"""The judge behind an OpenAI-compatible server: clips go out as PNG frames, scores come back as JSON."""

import asyncio
import base64
import hashlib
import io
import json
import os
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from roboalign import checkpoint
from roboalign.judge.chat_completions import ChatClient, Completion, JudgeServerError, TransientError
from roboalign.judge.openai_api_spec import OpenAIJudgeSpec
from roboalign.judge.prompt import AnswerError, ParsedAnswer, answer_schema, parse_answer, system_prompt, user_prompt
from roboalign.judge.request_limits import RateLimiter, Spending
from roboalign.judge.response_cache import ResponseCache, request_hash
from roboalign.reward.spec import RewardSpec
from roboalign.types import Json, UInt8

NO_INSTRUCTION = "(not given)"
"""Stands for the instruction if `inputs` lacks `text`."""
MAX_TOKEN_LENGTH = 16
"""Characters per token, on average, that no honest answer reaches; bounds the time that parsing takes."""


@dataclass(frozen=True)
class _Clip:
    """The content of one request: frames (K, H, W, 3), uint8, and the text beside them."""

    frames: UInt8
    prompt: str


@dataclass(frozen=True, slots=True)
class _Job:
    """One answer to ask for: sample `sample` of clip `clip`, under the cache key `key`."""

    clip: int
    sample: int
    key: str


class OpenAIJudge:
    """A vision-language model behind an OpenAI-compatible server; a `Scorer`.

    Args:
        spec: Server, model, inputs and limits.
        reward: Dimensions to score.
        root: Folder of the project, which `spec.cache` lies below.
        progress: Called with (answers so far, answers in all) after each answer of a `sample` call.
    """

    def __init__(
        self,
        spec: OpenAIJudgeSpec,
        reward: RewardSpec,
        *,
        root: Path = Path(),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.spec, self.reward = spec, reward
        self.spending = Spending(spec.input_price, spec.output_price, spec.max_cost, spec.max_requests)
        self._cache = ResponseCache(None if spec.cache is None else root / spec.cache)
        self._limiter = RateLimiter(spec.requests_per_minute)
        self._progress = progress

    def __repr__(self) -> str:
        return f"OpenAIJudge(model={self.spec.model!r}, base_url={self.spec.base_url!r})"

    def sample(self, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
        """Raw scores (spec.samples, B, 2, D) on the CPU; see `Scorer.sample`.

        FAITHFUL scores are NaN if no actions are given or `spec.inputs` lacks them. Answers in the cache are not asked
        for again.

        Raises:
            JudgeServerError: The server cannot be used, an answer failed `spec.retries` times over, or a cap is reached
                (`BudgetExceededError`). Requests under way are completed first, and their answers cached.
            ValueError: Shapes disagree, or an action is not finite.
        """
        _check_shapes(videos, instructions, actions)
        given = actions if "actions" in self.spec.inputs else None
        asked = _SampleCall(self, videos, instructions, given)
        answers = _run_coroutine(asked.run())
        count = len(self.reward.dimensions)
        rows = [(answer.absolute, answer.faithful or (float("nan"),) * count) for answer in answers]
        return torch.tensor(rows, dtype=torch.float32).reshape(len(videos), self.spec.samples, 2, count).transpose(0, 1)

    def save(self, path: Path, provenance: str) -> None:
        """Write the spec and the reward; this judge has nothing else."""
        spec, reward = self.spec.model_dump(mode="json"), self.reward.model_dump(mode="json")
        checkpoint.save(path, {}, spec=spec, provenance=provenance, reward=reward)


class _SampleCall:
    """One call of `OpenAIJudge.sample`: the clips, the answers so far, and the requests under way."""

    def __init__(self, judge: OpenAIJudge, videos: Tensor, instructions: Sequence[str], actions: Tensor | None) -> None:
        self.judge, self.spec, self.reward = judge, judge.spec, judge.reward
        self.spending, self.limiter, self.cache = judge.spending, judge._limiter, judge._cache
        self.videos, self.instructions, self.actions = videos, instructions, actions
        self.faithful = actions is not None
        self.system = system_prompt(self.reward, actions=self.faithful)
        self.answers: dict[tuple[int, int], ParsedAnswer] = {}
        self.errors: list[Exception] = []
        self.changed = asyncio.Condition()
        """Notified when a request has ended or a job has failed."""
        self.failed = asyncio.Event()

    async def run(self) -> list[ParsedAnswer]:
        """All answers, by clip and then by sample."""
        jobs = self.load_cached()
        if jobs:
            client = ChatClient(self.spec.base_url, self.api_key(), self.spec.timeout_s, self.spec.concurrency)
            pending = self.pending(jobs)
            async with client:
                workers = min(self.spec.concurrency, len(jobs))
                await asyncio.gather(*(self.work(client, pending) for _ in range(workers)))
        if self.errors:
            error = self.errors[0]
            if isinstance(error, JudgeServerError) and self.spec.cache is not None:
                raise type(error)(f"{error}; {len(self.answers)} answers are kept in {self.spec.cache}")
            raise error
        return [self.answers[clip, sample] for clip in range(len(self.videos)) for sample in range(self.spec.samples)]

    def load_cached(self) -> list[_Job]:
        """Take the answers that the cache has, and list the others."""
        jobs = []
        for number in range(len(self.videos)):
            request = self.request(self.clip(number), encode=_pixel_hash)
            for sample in range(self.spec.samples):
                job = _Job(number, sample, request_hash(request | {"sample": sample}))
                text = self.cache.load(job.key)
                answer = None if text is None else self.parse(text)
                if isinstance(answer, ParsedAnswer):
                    self.answers[number, sample] = answer
                    self.spending.cached_answers += 1
                else:
                    jobs.append(job)
        return jobs

    def pending(self, jobs: Sequence[_Job]) -> Iterator[tuple[_Job, dict[str, Json]]]:
        """Jobs and their requests; frames are encoded once per clip, when its first request is due."""
        encoded, request = -1, dict[str, Json]()
        for job in jobs:
            if job.clip != encoded:
                encoded, request = job.clip, self.request(self.clip(job.clip), encode=_data_url)
            yield job, request

    def clip(self, number: int) -> _Clip:
        """The frames and the text of a clip that a request contains."""
        video = self.videos[number]
        indices = evenly_spaced_indices(len(video), self.spec.frames)
        frames = to_uint8(video[indices]).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        if self.spec.image_size is not None:
            frames = np.stack([_resize(frame, self.spec.image_size) for frame in frames])
        instruction = self.instructions[number] if "text" in self.spec.inputs else NO_INSTRUCTION
        actions = None if self.actions is None else self.actions[number].tolist()
        return _Clip(frames, user_prompt(self.reward, instruction, len(frames), actions))

    def request(self, clip: _Clip, encode: Callable[[UInt8], str]) -> dict[str, Json]:
        """The body of a request but for its seed, each frame written by `encode`."""
        spec = self.spec
        images = [{"type": "image_url", "image_url": {"url": encode(frame)}} for frame in clip.frames]
        request: dict[str, Json] = {
            "model": spec.model,
            "messages": [
                {"role": "system", "content": self.system},
                {"role": "user", "content": [*images, {"type": "text", "text": clip.prompt}]},
            ],
            spec.max_tokens_parameter: spec.max_tokens,
        }
        if spec.temperature is not None:
            request["temperature"] = spec.temperature
        if spec.seed is not None:
            request["seed"] = spec.seed
        if spec.structured_output == "json_object":
            request["response_format"] = {"type": "json_object"}
        elif spec.structured_output == "json_schema":
            schema = answer_schema(self.reward, actions=self.faithful)
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "clip_scores", "strict": True, "schema": schema},
            }
        return request

    def api_key(self) -> str | None:
        """The API key from the environment. Raises JudgeServerError if it is missing or cannot be sent."""
        variable = self.spec.api_key_env
        if variable is None:
            return None
        key = os.environ.get(variable, "")
        if not key:
            raise JudgeServerError(
                f"the environment variable {variable} (judge.api_key_env) is not set; "
                f"set it to the API key of {self.spec.base_url}"
            )
        if any(not "!" <= character <= "~" for character in key):
            raise JudgeServerError(
                f"the environment variable {variable} (judge.api_key_env) holds a space, line break or character "
                "outside ASCII, which no API key has"
            )
        return key

    async def work(self, client: ChatClient, pending: Iterator[tuple[_Job, dict[str, Json]]]) -> None:
        """Answer jobs until none is left or one fails."""
        try:
            for job, request in pending:
                answer = await self.ask(client, job, request)
                if answer is None:
                    return
                self.answers[job.clip, job.sample] = answer
                if self.judge._progress is not None:
                    self.judge._progress(len(self.answers), len(self.videos) * self.spec.samples)
                if self.errors:
                    return
        except Exception as error:
            self.errors.append(error)
            self.failed.set()
            async with self.changed:
                self.changed.notify_all()

    async def sleep(self, seconds: float) -> bool:
        """Sleep for `seconds`, or until a job has failed; whether one has."""
        try:
            await asyncio.wait_for(self.failed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def ask(self, client: ChatClient, job: _Job, request: dict[str, Json]) -> ParsedAnswer | None:
        """The answer to a job, asked again while it fails in ways that may pass; None if another job has failed."""
        draw, problem = 0, ""
        for attempt in range(self.spec.retries + 1):
            if attempt and await self.sleep(self.backoff(attempt)):
                return None
            body = dict(request)
            if self.spec.seed is not None:
                body["seed"] = sample_seed(self.spec.seed, job.sample, draw)
            try:
                completion = await self.send(client, json.dumps(body).encode())
            except TransientError as error:
                problem = str(error)
                if error.retry_after is not None:
                    self.postpone(error.retry_after, problem)
                continue
            if completion is None:
                return None
            answer = self.check(completion, client)
            if isinstance(answer, ParsedAnswer):
                self.cache.store(job.key, completion.text, self.spec.model)
                return answer
            problem, draw = answer, draw + 1
        raise JudgeServerError(
            f"{client.base_url} gave no usable answer to sample {job.sample} of clip {job.clip} in "
            f"{self.spec.retries + 1} requests; the last one: {problem}. Check the server, or raise judge.retries"
        )

    async def send(self, client: ChatClient, body: bytes) -> Completion | None:
        """Send a request as soon as the caps and the rate limit allow it; None if another job has failed."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.failed.is_set() or self.spending.may_start())
            if self.failed.is_set():
                return None
            self.spending.start()
        sent = False
        try:
            while pause := self.limiter.take():
                if await self.sleep(pause):
                    return None
            sent = True
            completion = await client.complete(body)
            self.spending.add(completion.usage)
            return completion
        finally:
            async with self.changed:
                self.spending.end(sent=sent)
                self.changed.notify_all()

    def check(self, completion: Completion, client: ChatClient) -> ParsedAnswer | str:
        """The scores in a completion, or what is wrong with it."""
        if completion.finish_reason == "length":
            return f"the answer was cut off at judge.max_tokens ({self.spec.max_tokens}), which could be raised"
        if completion.finish_reason == "content_filter":
            return "the server's content filter withheld the answer"
        if client.redact(completion.text) != completion.text:
            return "the answer holds the API key"
        return self.parse(completion.text)

    def parse(self, text: str) -> ParsedAnswer | str:
        """The scores in an answer's text, or what is wrong with it."""
        if len(text) > MAX_TOKEN_LENGTH * self.spec.max_tokens:
            return (
                f"the answer has {len(text)} characters, more than judge.max_tokens ({self.spec.max_tokens}) can hold"
            )
        try:
            text.encode()
            return parse_answer(text, self.reward, actions=self.faithful)
        except UnicodeEncodeError:
            return "the answer holds characters that are not valid Unicode"
        except AnswerError as error:
            return str(error)

    def backoff(self, attempt: int) -> float:
        """Seconds to wait before retry `attempt` (from 1). The random share keeps workers from retrying in step."""
        return min(self.spec.backoff_s * 2.0 ** (attempt - 1), self.spec.max_wait_s) * random.uniform(0.5, 1.0)

    def postpone(self, seconds: float, problem: str) -> None:
        """Hold all requests back for `seconds`. Raises JudgeServerError if that is longer than `spec.max_wait_s`."""
        if seconds > self.spec.max_wait_s:
            raise JudgeServerError(
                f"{problem}, and asks for a pause of {seconds:.0f} s, longer than judge.max_wait_s "
                f"({self.spec.max_wait_s:g}); run again later"
            )
        self.limiter.pause(seconds)


def sample_seed(seed: int, sample: int, draw: int) -> int:
    """The seed of draw `draw` of sample `sample`: a rejected answer is drawn again with another one."""
    digest = hashlib.sha256(f"{seed} {sample} {draw}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2**31


def evenly_spaced_indices(length: int, count: int) -> list[int]:
    """Up to `count` distinct frame numbers of a clip of `length` frames, the first and the last among them."""
    if count >= length:
        return list(range(length))
    return [round(index * (length - 1) / (count - 1)) for index in range(count)]


def to_uint8(videos: Tensor) -> Tensor:
    """Videos as uint8; floats in [0, 1] are scaled and rounded."""
    return videos if videos.dtype == torch.uint8 else (videos.float().clamp(0, 1) * 255).round().to(torch.uint8)


def encode_png(frame: UInt8) -> bytes:
    """A frame (H, W, 3) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def _data_url(frame: UInt8) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode_png(frame)).decode()}"


def _pixel_hash(frame: UInt8) -> str:
    """A frame's content for the cache key; the bytes of a PNG file depend on the version of zlib."""
    return f"{frame.shape} {hashlib.sha256(frame.tobytes()).hexdigest()}"


def _resize(frame: UInt8, size: tuple[int, int]) -> UInt8:
    height, width = size
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def _check_shapes(videos: Tensor, instructions: Sequence[str], actions: Tensor | None) -> None:
    """Raise ValueError if clips, instructions and actions do not belong together."""
    if videos.ndim != 5 or videos.shape[2] != 3 or videos.shape[1] < 1:
        raise ValueError(f"videos must have the shape (B, T, 3, H, W), not {tuple(videos.shape)}")
    if len(instructions) != len(videos):
        raise ValueError(f"{len(videos)} clips need as many instructions, not {len(instructions)}")
    if actions is not None and (actions.ndim != 3 or actions.shape[:2] != (len(videos), videos.shape[1] - 1)):
        raise ValueError(
            f"actions must have the shape (B, T - 1, A) with B = {len(videos)} and T = {videos.shape[1]}, "
            f"not {tuple(actions.shape)}"
        )


def _run_coroutine(coroutine: Coroutine[Any, Any, list[ParsedAnswer]]) -> list[ParsedAnswer]:
    """Run a coroutine to its end, in a thread of its own if this one runs an event loop already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()
