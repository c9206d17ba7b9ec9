from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from roboalign.checkpoint import CheckpointError
from roboalign.store import Corpus
from roboalign.video import frames_to_video
from roboalign.world_model.segment_spec import SegmentSpec
from roboalign.world_model.segments import (
    Segment,
    encode_shard,
    list_segments,
    open_segments,
    refreshes,
    split_into_shards,
)
from tests.world_model.token_cache import encode_segments

SIZE = (32, 32)


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

    def decode(self, context: Mean, tokens: Tensor) -> Tensor:
        levels = (tokens + context.tokens[:, None] - 1000).float().add(0.5) / 1000
        quadrants = levels.view(*tokens.shape[:2], 1, 2, 2).expand(-1, -1, 3, -1, -1)
        return torch.nn.functional.interpolate(quadrants.flatten(0, 1), SIZE).unflatten(0, tokens.shape[:2])


@pytest.fixture
def corpus(toy_episodes):
    return Corpus.of(toy_episodes).filter(split="train")


def test_segments_start_where_all_their_frames_fit(corpus):
    found = list_segments(corpus, 5, 3)
    assert {(s.episode, s.start) for s in found} == {(e, start) for e in range(12) for start in (0, 3, 6)}
    assert list_segments(corpus, 12, 1) == []
    assert len(list_segments(corpus, 11, 1)) == 12


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


def test_shards_hold_whole_episodes_whoever_encodes_them(corpus):
    segments = list_segments(corpus, 4, 2)
    shards = split_into_shards(segments, 18)
    assert [len(shard.segments) for shard in shards] == [20, 20, 8]
    assert [segment for shard in shards for segment in shard.segments] == segments
    assert [{s.episode for s in shard.segments} for shard in shards] == [set(range(5)), set(range(5, 10)), {10, 11}]
    assert [shard.file for shard in shards] == [f"segments-0000{number}.safetensors" for number in range(3)]
    assert split_into_shards([], 18) == []


def test_nothing_is_encoded_twice_and_a_killed_run_goes_on(corpus, tmp_path):
    spec, first, second = SegmentSpec(frames=4, stride=2), Means(), Means()
    whole = encode_segments(first, corpus, spec, tmp_path)
    assert first.frames == 48 * 4
    contents = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / "segments-00001.safetensors").unlink()
    again = encode_segments(second, corpus, spec, tmp_path)
    assert second.frames == 20 * 4
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == contents
    for index in range(48):
        assert all(torch.equal(a, b) for a, b in zip(whole[index].values(), again[index].values(), strict=True))


def test_a_damaged_file_of_the_cache_is_set_aside_and_encoded_again(corpus, tmp_path):
    spec = SegmentSpec(frames=4, stride=2)
    encode_segments(Means(), corpus, spec, tmp_path)
    file = tmp_path / "segments-00001.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="is damaged"):
        open_segments(tmp_path)
    again, shard = Means(), split_into_shards(list_segments(corpus, 4, 2), 20)[1]
    message = encode_shard(again, corpus, spec, shard, tmp_path)
    assert again.frames == 20 * 4
    assert file.read_bytes() == whole
    assert message.startswith(f"{file} is damaged (")
    assert message.endswith("renamed to segments-00001.safetensors.damaged, its segments are encoded again")


def test_a_cache_whose_files_are_not_those_of_its_index_is_refused(corpus, tmp_path):
    encode_segments(Means(), corpus, SegmentSpec(frames=4, stride=2), tmp_path)
    file = tmp_path / "segments-00002.safetensors"
    file.write_bytes((tmp_path / "segments-00001.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"00002\.safetensors: does not hold the 8 segments .*dvc repro tokens"):
        open_segments(tmp_path)


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


def test_refreshes_end_at_the_start_and_are_drawn_by_the_segment_alone():
    spec = SegmentSpec(frames=4, reencoded=0.5, refreshes=3)
    chains = {(e, start): refreshes(Segment(e, start, 4), spec) for e in range(40) for start in range(20)}
    for (episode, start), chain in chains.items():
        assert chain == refreshes(Segment(episode, start, 4), spec)
        assert chain[-1] == start
        assert all(0 < b - a <= 4 for a, b in pairwise(chain))
        assert chain[0] >= 0
    lengths = [len(chain) for (_, start), chain in chains.items() if start >= 12]
    assert sum(length == 1 for length in lengths) / len(lengths) == pytest.approx(0.5, abs=0.1)
    assert {2, 3, 4} <= set(lengths)
    assert refreshes(Segment(3, 9, 4), SegmentSpec(frames=4)) == [9]


def test_a_share_of_the_contexts_is_the_tokenizers_own_output(corpus, tmp_path):
    spec = SegmentSpec(frames=3, stride=1, reencoded=0.7, refreshes=2)
    data = encode_segments(Means(), corpus, spec, tmp_path)
    changed = 0
    for index in range(len(data)):
        sample = data[index]
        segment = Segment(int(sample["episode"]), int(sample["start"]), 3)
        video = frames_to_video(corpus.frames(segment.episode))
        picture, *later = refreshes(segment, spec)
        context = video[picture][None]
        for frame in later:
            encoded = Means().encode_context(context)
            context = Means().decode(encoded, Means().encode(encoded, video[frame][None, None]))[:, 0]
        encoded = Means().encode_context(context)
        assert torch.equal(sample["context"], encoded.tokens[0])
        truth = video[segment.start + 1 : segment.start + 4]
        assert torch.equal(sample["dynamics"], Means().encode(encoded, truth[None])[0])
        changed += bool(later)
    assert 0.3 < changed / len(data) < 0.7


class Prompts:
    """`Means` with prompts like a real tokenizer's: behind the context's codes, the frame's as a later frame."""

    def __init__(self):
        self.means = Means()

    def encode_context(self, frames: Tensor) -> Mean:
        codes = self.means.encode_context(frames).tokens
        return Mean(torch.cat([codes, torch.full_like(codes, 1000)], 1))

    def encode(self, context: Mean, frames: Tensor) -> Tensor:
        return self.means.encode(Mean(context.tokens[:, :4]), frames)

    def decode(self, context: Mean, tokens: Tensor) -> Tensor:
        return self.means.decode(Mean(context.tokens[:, :4]), tokens)


def test_of_two_contexts_the_first_is_the_true_frame_that_the_other_comes_from(corpus, tmp_path):
    spec = SegmentSpec(frames=3, stride=1, reencoded=0.7, refreshes=2)
    one = encode_segments(Prompts(), corpus, spec, tmp_path / "one")
    two = encode_segments(Prompts(), corpus, spec, tmp_path / "two", contexts=2)
    differing = 0
    for index in range(len(two)):
        sample = two[index]
        segment = Segment(int(sample["episode"]), int(sample["start"]), 3)
        video = frames_to_video(corpus.frames(segment.episode))
        true = Means().encode_context(video[refreshes(segment, spec)[0]][None]).tokens[0]
        assert torch.equal(sample["context"], torch.cat([true, one[index]["context"]]))
        assert torch.equal(sample["dynamics"], one[index]["dynamics"])
        differing += not torch.equal(sample["context"][:4], sample["context"][4:8])
    assert differing > 0.3 * len(two)


def test_proprioception_is_that_of_a_true_context_frame(corpus, tmp_path):
    data = encode_segments(Means(), corpus, SegmentSpec(frames=3, stride=1, reencoded=0.5), tmp_path)
    known = 0
    for index in range(len(data)):
        sample = data[index]
        episode, start = int(sample["episode"]), int(sample["start"])
        if refreshes(Segment(episode, start, 3), SegmentSpec(frames=3, reencoded=0.5)) == [start]:
            known += 1
            assert sample["proprioception"].tolist() == corpus.proprioception(episode)[start].tolist()
        else:
            assert sample["proprioception"].isnan().all()
    assert 0 < known < len(data)
