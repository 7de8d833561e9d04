"""Tiny ONNX models of sentences, and a tokenizer of words: each word is a vector in a plane, by its angle."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

# A word's angle in degrees. Words of other meanings lie at right angles.
WORDS = {
    "[unk]": 45.0, "[cls]": 20.0, "sort": 0.0, "order": 5.0, "list": 2.0, "array": 6.0, "a": 3.0, "an": 3.0,
    "how": 4.0, "lose": 90.0, "forget": 95.0,
}  # fmt: skip
BROKEN = "broken"  # a word of the tokenizer's for which the model has no row


def tokenizer(path: Path, *, cls: bool = False, first: int = 0) -> Path:
    """first: the number of its first word, which is 0 for the models here."""
    words = {word: at for at, word in enumerate([*WORDS, BROKEN], first)}
    made = Tokenizer(WordLevel(words, unk_token="[unk]"))
    made.normalizer, made.pre_tokenizer = Lowercase(), Whitespace()
    if cls:
        made.post_processor = TemplateProcessing(single="[cls] $A", special_tokens=[("[cls]", words["[cls]"])])
    made.save(str(path))
    return path


def model(
    path: Path,
    *,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    pools: bool = False,
    turns: float = 0.0,
    slow: int = 0,
    kind: int = TensorProto.INT64,
) -> Path:
    """pools: into `sentence_embedding`, by itself. turns: all vectors by so many degrees. slow: so many products of
    large matrices before the answer."""
    rows = [[math.cos(math.radians(at + turns)), math.sin(math.radians(at + turns))] for at in WORDS.values()]
    weights = [numpy_helper.from_array(np.array(rows, dtype=np.float32), "rows")]
    nodes = [helper.make_node("Gather", ["rows", "input_ids"], ["words"])]
    at = "words"
    if "token_type_ids" in inputs:  # which are all 0 in one text: what is added is 0, and the input is used
        weights.append(numpy_helper.from_array(np.zeros((2, 2), dtype=np.float32), "types"))
        nodes.append(helper.make_node("Gather", ["types", "token_type_ids"], ["typed"]))
        nodes.append(helper.make_node("Add", [at, "typed"], ["both"]))
        at = "both"
    if slow:
        size = 1024
        weights.append(numpy_helper.from_array(np.array([size, size], dtype=np.int64), "size"))
        weights.append(numpy_helper.from_array(np.array([0, 1], dtype=np.int64), "axes"))
        # Of numbers that depend on the input, so that nothing is worked out when the model is loaded.
        nodes.append(helper.make_node("ReduceMean", [at], ["mean"], keepdims=0))
        nodes.append(helper.make_node("Expand", ["mean", "size"], ["product0"]))
        for place in range(slow):
            nodes.append(helper.make_node("MatMul", [f"product{place}"] * 2, [f"wide{place}"]))
            nodes.append(helper.make_node("Sigmoid", [f"wide{place}"], [f"product{place + 1}"]))
        nodes.append(helper.make_node("ReduceMean", [f"product{slow}"], ["last"], keepdims=0))
        nodes.append(helper.make_node("Mul", [at, "last"], ["slowly"]))
        at = "slowly"
    shape: list[Any] = ["texts", "tokens", 2]
    if pools:
        weights.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
        nodes.append(helper.make_node("ReduceMean", [at, "axis"], ["sentence_embedding"], keepdims=0))
        out, shape = "sentence_embedding", ["texts", 2]
    else:
        out = "last_hidden_state"
        nodes.append(helper.make_node("Identity", [at], [out]))
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info(name, kind, ["texts", "tokens"]) for name in inputs],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, shape)],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    onnx.save(made, str(path))
    return path
