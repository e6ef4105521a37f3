import hashlib

from harness.core.records import Constraint
from harness.instructions.ngrams import ngram_hashes
from harness.instructions.render import compose, without_answers

NO_COMMAS = Constraint("no_commas")


def test_text_is_body_and_constraint_sentences() -> None:
    plain = compose(pool="instructions", family="home", body="Say hello.", constraints=[NO_COMMAS, Constraint("max_words", {"n": 9})])
    assert plain.text == "Say hello. Do not use any commas. Use at most 9 words."
    assert compose(pool="p", family="f", body="Look:\n| a |", constraints=[NO_COMMAS]).text == "Look:\n| a |\nDo not use any commas."
    assert compose(pool="p", family="f", body="Say hello.").text == "Say hello."


def test_ids_depend_on_content_and_lineage_but_not_on_answers() -> None:
    seed = compose(pool="p", family="f", body="b", payload={"reference": "x"}, seed_id="seed-1")
    assert seed.id == compose(pool="p", family="f", body="b", payload={"reference": "y"}).id
    assert seed.id != compose(pool="p", family="f", body="b", constraints=[NO_COMMAS]).id
    child = compose(pool="p", family="f", body="b", parent=seed, operation="deepen")
    assert child.id not in (seed.id, compose(pool="p", family="f", body="b", parent=seed, operation="breadth").id)
    assert (child.seed_id, child.parent_id, child.step) == ("seed-1", seed.id, 1)


def test_answers_are_taken_off_and_the_rest_stays() -> None:
    item = compose(pool="p", family="f", body="b", payload={"gold": "7", "generator": "gcd"})
    assert without_answers(item).payload == {"generator": "gcd"}


def test_ngrams_of_short_texts_and_reformatted_copies() -> None:
    text = "one two three four five six seven eight nine"
    assert ngram_hashes("one two three four five six seven") == set()
    assert len(ngram_hashes(text)) == 2
    assert ngram_hashes(text) == ngram_hashes("One, two;\nTHREE four five — six seven eight: nine!")
    assert ngram_hashes("zero " + text) > ngram_hashes(text)
    assert not ngram_hashes(text) & ngram_hashes("nine eight seven six five four three two one")
    assert ngram_hashes("a b", n=2) == {ngram_hashes("A  b.", n=2).pop()}
    assert all(0 <= value < 2**64 for value in ngram_hashes(text))


def test_ngram_hashes_are_the_same_in_every_process() -> None:
    assert ngram_hashes("a b", n=2) == {int.from_bytes(hashlib.blake2b(b"a b", digest_size=8).digest(), "big")}
