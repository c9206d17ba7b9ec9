"""The judge behind an OpenAI-compatible server: which server and model, what it is shown, and what it may cost."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from roboalign.judge.base_spec import JudgeSpecBase
from roboalign.reward.spec import Input
from roboalign.spec.base import FieldError, Positive, Seed, items

Side = Annotated[int, Field(ge=8, le=4096)]
"""Height or width of an image in pixels."""

Price = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
"""Currency units per million tokens."""


class OpenAIJudgeSpec(JudgeSpecBase):
    """A vision-language model behind any server with OpenAI's chat completions (vLLM, SGLang, a vendor).

    Defaults are our choice unless a field names a source.
    """

    kind: Literal["openai_api"]
    base_url: Annotated[str, Field(min_length=8, max_length=1000)]
    """Address of the API, usually ending in `/v1`; requests go to `<base_url>/chat/completions`. http or https."""
    model: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
    """Name of the model on the server. The response cache knows a model only by this name, not by its server."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=64)] | None = None
    """Name of the environment variable that holds the API key, in capitals, such as OPENAI_API_KEY. null: no key is
    sent. The key itself never stands in YAML."""
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    """Frames shown of each clip, evenly spaced, the first and the last among them; shorter clips are shown whole."""
    image_size: Annotated[tuple[Side, Side], items(2, 2)] | None = None
    """Height and width in pixels that frames are resized to (bicubic) before they are sent; null: as they are."""
    inputs: Annotated[tuple[Input, ...], items(1, 3)] = ("text", "video", "actions")
    """Inputs of the model: `video` always, `text` for the instruction, `actions` for the commands. Without
    actions it gives no faithful scores (NaN)."""
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = 0.6
    """Sampling temperature (0.6: paper). null: the server's default, for models that refuse the parameter."""
    samples: Annotated[int, Field(ge=1, le=100)] = 5
    """Answers asked for each clip (5: paper)."""
    seed: Seed | None = 0
    """Seed of the answers; each sample of a clip gets its own. null: none is sent, for servers that refuse it. Servers
    promise no more than to try to repeat an answer; the response cache repeats it."""
    max_tokens: Annotated[int, Field(ge=16, le=262_144)] = 4096
    """Longest answer in tokens, thinking included."""
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of that limit in the request. OpenAI's reasoning models take only `max_completion_tokens`."""
    structured_output: Literal["json_schema", "json_object", "none"] = "json_schema"
    """How the server is made to answer in JSON (`response_format`): by a schema, as any JSON object, or by the prompt
    alone. Answers are checked in the same way in all three cases."""
    timeout_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 300.0
    """Seconds that one request may take, from connecting to the last byte."""
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    """Further requests for an answer after a failed one: time-out, connection error, status 408, 409, 425, 429 or 5xx,
    or an answer that is cut off or not valid."""
    backoff_s: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 1.0
    """Seconds before the first retry, doubled for each further one and shortened by up to half at random."""
    max_wait_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 60.0
    """Longest pause in seconds before a retry. A server that asks for more (`Retry-After`) ends the run."""
    requests_per_minute: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    """Requests started per minute, retries included, evenly spaced; null: no limit."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Requests under way at once; changes the speed, not the order of the scores."""
    input_price: Price = 0.0
    """Price of a million input tokens in currency units; 0 for a server of one's own."""
    output_price: Price = 0.0
    """Price of a million output tokens in currency units."""
    max_cost: Positive | None = None
    """Cost in currency units at which a run stops, by the token counts that the server reports; cached answers cost
    nothing. It is exceeded by at most about the price of one request. null: no cap."""
    max_requests: Annotated[int, Field(ge=1)] | None = None
    """Requests, retries included, after which a run stops; null: no cap."""
    cache: Annotated[str, Field(min_length=1, max_length=400)] | None = ".scratch/openai_api"
    """Folder below the project that keeps valid answers, so that no answer is paid for twice; null: no cache."""

    @model_validator(mode="after")
    def _address(self) -> Self:
        if problem := _url_problem(self.base_url):
            raise FieldError("base_url", f"base_url {problem}; write it as http://host:port/v1 or https://host/v1")
        if self.cache is not None:
            path = PurePosixPath(self.cache)
            if path.is_absolute() or not path.parts or ".." in path.parts or any(c in self.cache for c in "\\:\0"):
                raise FieldError("cache", "cache must be a relative path below the project, without '..', '\\' or ':'")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.inputs)) < len(self.inputs):
            raise FieldError("inputs", "inputs names an entry twice; drop one")
        if "video" not in self.inputs:
            raise FieldError("inputs", "inputs lacks video, which every dimension is scored on; add it")
        if self.temperature == 0 and self.samples > 1:
            raise FieldError(
                "samples", f"samples is {self.samples} at temperature 0, where all samples are alike; set it to 1"
            )
        if self.max_cost is not None and self.input_price == self.output_price == 0:
            raise FieldError("max_cost", "max_cost needs prices; set input_price and output_price, or max_cost to null")
        return self

    @property
    def scores_faithfulness(self) -> bool:
        """Only if it is shown the actions."""
        return "actions" in self.inputs

    @property
    def note(self) -> str:
        """Which model is asked where."""
        return f"{self.model} behind {self.base_url}; nothing is trained"


def _url_problem(url: str) -> str:
    """The reason why `url` cannot be the address of an API, or ''. Never quotes the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a valid URL"
    if any(not "!" <= character <= "~" for character in url):
        return "holds a space or a character outside ASCII"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must begin with http:// or https:// and a host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password (the key's place is the variable named by api_key_env)"
    if "?" in url or "#" in url:
        return "must not hold a query ('?') or fragment ('#')"
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return "must end before /chat/completions"
    return ""
