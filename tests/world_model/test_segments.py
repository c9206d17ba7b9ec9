from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from roboalign.store import Corpus
from roboalign.world_model import segments as module
from roboalign.world_model.segments import encode_segments, segments_of
from roboalign.world_model.spec import SegmentSpec


@dataclass
class Mean:
    tokens: Tensor


class Means:
    """Codes that tell which frame they came from: mean brightness over quadrants, relative to the context's."""

    def __init__(self):
        self.frames = 0

    def encode_context(self, frames: Tensor) -> Mean:
        return Mean(torch.nn.functional.adaptive_avg_pool2d(frames.mean(1), 2).flatten(1).mul(1000).long())

    def encode(self, context: Mean, frames: Tensor) -> Tensor:
        self.frames += frames.shape[0] * frames.shape[1]
        tokens = self.encode_context(frames.flatten(0, 1)).tokens.view(*frames.shape[:2], 4)
        return tokens - context.tokens[:, None] + 1000


@pytest.fixture
def corpus(toy_episodes):
    return Corpus.of(toy_episodes).where(split="train")


def test_segments_start_where_all_their_frames_fit(corpus):
    found = segments_of(corpus, 5, 3)
    assert {(s.episode, s.start) for s in found} == {(e, start) for e in range(12) for start in (0, 3, 6)}
    assert segments_of(corpus, 12, 1) == []
    assert len(segments_of(corpus, 11, 1)) == 12


def test_a_sample_pairs_each_frame_with_the_action_that_leads_to_it(corpus, tmp_path):
    data = encode_segments(Means(), corpus, SegmentSpec(frames=4, stride=2), tmp_path)
    assert len(data) == 12 * 4
    for index in (0, 5, 47):
        sample = data[index]
        episode, start = int(sample["episode"]), int(sample["start"])
        assert (episode, start) == (index // 4, index % 4 * 2)
        frames = torch.from_numpy(corpus.frames(episode)[start : start + 5]).permute(0, 3, 1, 2)[None].float() / 255
        context = Means().encode_context(frames[:, 0])
        assert torch.equal(sample["context"], context.tokens[0])
        assert torch.equal(sample["dynamics"], Means().encode(context, frames[:, 1:])[0])
        assert torch.equal(sample["actions"], torch.from_numpy(corpus.actions(episode)[start : start + 4]))
        assert torch.equal(sample["action_mask"], torch.from_numpy(corpus.action_mask(episode)))
        assert sample["dynamics"].dtype == sample["context"].dtype == torch.int64


def test_nothing_is_encoded_twice_and_a_killed_run_goes_on(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 20)
    first, said = Means(), []
    whole = encode_segments(first, corpus, SegmentSpec(frames=4, stride=2), tmp_path, say=said.append)
    assert first.frames == 48 * 4
    assert said == ["encoded 20 of 48 segments", "encoded 40 of 48 segments", "encoded 48 of 48 segments"]
    contents = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / "segments-00001.safetensors").unlink()
    second = Means()
    again = encode_segments(second, corpus, SegmentSpec(frames=4, stride=2), tmp_path)
    assert second.frames == 20 * 4
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == contents
    for index in range(48):
        assert all(torch.equal(a, b) for a, b in zip(whole[index].values(), again[index].values(), strict=True))


def test_batches_of_another_size_give_the_same_tokens(corpus, tmp_path):
    one = encode_segments(Means(), corpus, SegmentSpec(frames=3, stride=3), tmp_path / "a", batch=1)
    many = encode_segments(Means(), corpus, SegmentSpec(frames=3, stride=3), tmp_path / "b", batch=7)
    assert all(torch.equal(one[i]["dynamics"], many[i]["dynamics"]) for i in range(len(one)))


def test_an_index_out_of_range(corpus, tmp_path):
    data = encode_segments(Means(), corpus, SegmentSpec(frames=4, stride=2), tmp_path)
    with pytest.raises(IndexError):
        data[48]


def test_too_short_episodes_leave_nothing(corpus, tmp_path):
    assert len(encode_segments(Means(), corpus, SegmentSpec(frames=50, stride=1), tmp_path)) == 0
