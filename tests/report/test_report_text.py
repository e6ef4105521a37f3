import json
import re

import pytest
from report_helpers import unpacked

from harness.report.text import packed, script_json, shorten, visible

HOSTILE = "<script>alert(1)</script></SCRIPT><!--\u2028\u2029\x1b[31m\x00\x07\x9b\u202e]]>&amp;\ud800"


def test_visible_names_every_control_and_reordering_character():
    shown = visible(HOSTILE)
    assert "⟨U+001B⟩[31m⟨U+0000⟩⟨U+0007⟩⟨U+009B⟩⟨U+202E⟩" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)


def test_visible_keeps_ordinary_text():
    text = "línea\n\t日本語 👩‍💻 <b> & \"'"
    assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"
    assert visible(12) == "12"


@pytest.mark.parametrize("length", [10, 11, 500])
def test_shorten_says_how_much_is_missing(length):
    text = "".join(chr(97 + index % 26) for index in range(length))
    short = shorten(text, 10)
    if length <= 10:
        assert short == text
    else:
        assert short.startswith(text[:5])
        assert short.endswith(text[-5:])
        assert f"{length - 10} characters" in short


def test_script_json_cannot_end_its_element_and_reads_back():
    payload = {HOSTILE.replace("\ud800", ""): [HOSTILE.replace("\ud800", ""), None, 1.5]}
    text = str(script_json(payload))
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == payload


def test_script_json_refuses_nan():
    with pytest.raises(ValueError, match="JSON"):
        script_json([float("nan")])


def test_packed_reads_back_and_is_deterministic():
    payload = {"texts": [HOSTILE.replace("\ud800", ""), "é" * 1000]}
    assert unpacked(packed(payload)) == payload
    assert packed(payload) == packed(payload)
    assert re.fullmatch("[A-Za-z0-9+/=]*", packed(payload)["data"])
