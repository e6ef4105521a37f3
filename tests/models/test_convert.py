"""GGUF to safetensors on a tiny random llama written here."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.errors import SourceError
from harness.models.sources import resolve, weights_hash

LAYERS, WIDTH, HEADS, INNER = 2, 32, 4, 64
TOKENS = [*(chr(code) for code in range(33, 127)), "Ġ", "Ġa", "<eos>"]


def write_tiny_llama(path: Path) -> dict[str, np.ndarray]:
    """Writes a float32 GGUF with a byte-pair tokenizer; returns its tensors by GGUF name."""
    rng = np.random.default_rng(0)
    shapes = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        shapes |= {f"{block}.attn_{name}.weight": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        shapes |= {f"{block}.ffn_{name}.weight": (INNER, WIDTH) for name in ("gate", "up")}
        shapes |= {f"{block}.ffn_down.weight": (WIDTH, INNER), f"{block}.attn_norm.weight": (WIDTH,), f"{block}.ffn_norm.weight": (WIDTH,)}
    tensors = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * (len(TOKENS) - 1) + [3])
    writer.add_token_merges(["Ġ a"])
    writer.add_eos_token_id(len(TOKENS) - 1)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_gguf_file_becomes_a_folder_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tensors = write_tiny_llama(tmp_path / "tiny.gguf")
    folder = resolve(f"file:{tmp_path / 'tiny.gguf'}", quiet=True)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {np.dtype("float32")}
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], tensors["token_embd.weight"])
    np.testing.assert_array_equal(weights["model.layers.1.mlp.down_proj.weight"], tensors["blk.1.ffn_down.weight"])
    np.testing.assert_array_equal(weights["model.layers.0.self_attn.v_proj.weight"], tensors["blk.0.attn_v.weight"])
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve(f"file:{tmp_path / 'tiny.gguf'}", quiet=True) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert len(weights_hash(folder)) == 64


def test_a_damaged_gguf_file_is_one_message_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    with pytest.raises(SourceError, match=r"^bad.gguf: cannot be converted to safetensors: \w+"):
        resolve(f"file:{tmp_path / 'bad.gguf'}", quiet=True)
    assert not list((tmp_path / "cache" / "selfteach").glob("*bad*"))


def test_the_converter_ends_with_its_parent(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    command = [sys.executable, "-m", "harness.models.convert", str(tmp_path / "tiny.gguf"), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()  # what the converter sees when its parent is killed
    assert process.wait(60) == 1
    assert not (tmp_path / "out").exists()
