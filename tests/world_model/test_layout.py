import torch

from roboalign.world_model.layout import SequenceLayout


def test_positions_follow_one_another():
    layout = SequenceLayout(context=6, actions=2, dynamics=4)
    order = list(range(6))
    for frame in range(3):
        assert layout.start(frame) == len(order)
        order += [layout.start(frame), layout.start(frame) + 1]
        order += [layout.token(frame, place) for place in range(4)]
    assert order == list(range(layout.length(3)))


def test_the_slots_of_still_tokens_come_before_the_first_frame():
    layout = SequenceLayout(context=6, actions=2, dynamics=4, still=4)
    assert (layout.prefix, layout.start(0), layout.token(0, 0), layout.length(1)) == (10, 10, 12, 16)
    assert layout.prompt == 10  # codes, whether or not the last four have slots
    assert [layout.frames(tokens) for tokens in (9, 10, 16)] == [-1, 0, 1]


def test_each_dynamics_token_is_predicted_from_the_slot_before_it():
    layout = SequenceLayout(context=6, actions=2, dynamics=4)
    slots = torch.arange(layout.length(3))[6:].view(3, layout.frame)
    for frame in range(3):
        predicting = slots[frame, layout.predicting].tolist()
        assert predicting == [layout.token(frame, place) - 1 for place in range(4)]


def test_whole_frames_of_a_length():
    layout = SequenceLayout(context=6, actions=2, dynamics=4)
    assert [layout.frames(tokens) for tokens in (6, 11, 12, 18)] == [0, 0, 1, 2]
    assert layout.frames(5) < 0
