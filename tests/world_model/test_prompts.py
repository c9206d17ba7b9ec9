import pytest
import torch

from roboalign.world_model.layout import SequenceLayout
from roboalign.world_model.prompts import complete_prompts


def test_prompts_of_two_contexts():
    layout = SequenceLayout(context=4, actions=1, dynamics=1, contexts=2)
    latest, first = torch.tensor([[1, 2, 3]]), torch.tensor([[7, 8, 9]])
    assert complete_prompts(layout, latest, first).tolist() == [[7, 8, 1, 2, 3]]
    assert complete_prompts(layout, latest).tolist() == [
        [1, 2, 1, 2, 3]
    ]  # before the first refresh the two are one frame
    assert complete_prompts(layout, torch.arange(5)[None]).tolist() == [[0, 1, 2, 3, 4]]
    with pytest.raises(ValueError, match="prompts have 4 codes, the model takes 2 of the context and 1 of the same"):
        complete_prompts(layout, torch.zeros(1, 4))


def test_one_context_leaves_no_place_for_the_first_frame():
    layout = SequenceLayout(context=2, actions=1, dynamics=1)
    prompt = torch.tensor([[1, 2, 3]])
    assert complete_prompts(layout, prompt) is prompt
    with pytest.raises(ValueError, match=r"train one with world_model.contexts: 2"):
        complete_prompts(layout, prompt, prompt)
