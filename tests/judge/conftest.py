"""The server that judges ask."""

import pytest

from tests.judge.openai_judges import SIX
from tests.judge.openai_server import serve_openai


@pytest.fixture
def server():
    with serve_openai(list(SIX.names), list(SIX.max_scores)) as running:
        yield running
