import json
from pathlib import Path

from roboalign.report.blocks import Gallery, Prose, Table
from roboalign.report.data_card import card_blocks
from roboalign.report.inputs import CardFiles, Inputs
from roboalign.report.page import render

TEXT = {
    "tables": [{"title": "Labels <&>", "note": "By rule.", "head": ["kind", "n"], "rows": [["freeze", "**-50 ✓**"]]}],
    "pictures": [{"title": "freeze", "note": "Severity .7.", "file": "freeze.png"}],
    "limits": ["Nobody has looked at them."],
}


def test_the_card_of_the_bench_is_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps(TEXT))
    (tmp_path / "freeze.png").write_bytes(b"pixels")
    card = CardFiles.read(tmp_path)
    table, gallery, heading, limits = card_blocks(card)
    assert isinstance(table, Table)
    assert (table.rows[0][1].text, table.rows[0][1].tone) == ("-50 ✓", "strong")
    assert isinstance(gallery, Gallery)
    assert isinstance(heading, Prose)
    assert isinstance(limits, Prose)
    page = render(Inputs({}, {}, {}, {}, card=card))
    assert page.files == {"images/freeze.png": b"pixels"}
    for text in ("Labels &lt;&amp;&gt;", "By rule.", "Severity .7.", "images/freeze.png", "Nobody has looked at them."):
        assert text in page.html
    assert "**" not in page.html.partition('<main id="main">')[2].partition("</main>")[0]
