"""An exported student as an ONNX graph: user rows in, the best items and their scores out."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.serving.exported import Arrays

OPSET, IR_VERSION = 13, 8  # which runtimes of 2021 and later read
LARGEST = 2**31 - 2**20  # bytes: a graph is one protocol buffer
K = 10  # items where the caller does not say


def onnx_model(arrays: Arrays, name: str) -> Any:
    """The graph.

    | input | shape, dtype | meaning |
    |---|---|---|
    | `user` | [B] int64 | rows of users |
    | `seen` | [B, n] int64, may be left out | rows of items that are not wanted, filled up with -1 |
    | `k` | [1] int64, may be left out | how many items |

    Outputs are `best` [B, k] int64 rows of items, the best first, and `scores` [B, k] float32, -inf where none is left.

    Args:
        arrays: of `Exported.arrays`
        name: of the graph

    Raises:
        UserError: the vectors are larger than a graph can be.
    """
    from onnx import TensorProto, helper, numpy_helper

    if sum(array.nbytes for array in arrays.values()) > LARGEST:
        raise UserError("format: an ONNX graph holds at most 2 GB of vectors; choose safetensors, or a smaller --dtype")
    constants = {
        "users": arrays["users"],
        "items": np.ascontiguousarray(arrays["items"].T),  # [d, I]
        "seen": np.full((1, 1), -1, dtype=np.int64),
        "k": np.array([K], dtype=np.int64),
        "minus_inf": np.array(-np.inf, dtype=np.float32),
        "one": np.array([1], dtype=np.int64),
        "a_column": np.array([0, 0, 0, 1], dtype=np.int64),
    }
    nodes = [helper.make_node("Gather", ["users", "user"], ["user_rows"])]
    users, items = "user_rows", "items"
    if arrays["users"].dtype != np.float32:
        nodes += [
            helper.make_node("Cast", [users], ["user_floats"], to=TensorProto.FLOAT),
            helper.make_node("Cast", [items], ["item_floats"], to=TensorProto.FLOAT),
        ]
        users, items = "user_floats", "item_floats"
    if "users_scale" in arrays:
        constants |= {"users_scale": arrays["users_scale"][:, None], "items_scale": arrays["items_scale"][None]}
        nodes += [
            helper.make_node("Gather", ["users_scale", "user"], ["user_scale"]),
            helper.make_node("Mul", [users, "user_scale"], ["user_vectors"]),
            helper.make_node("Mul", [items, "items_scale"], ["item_vectors"]),
        ]
        users, items = "user_vectors", "item_vectors"
    nodes += [
        helper.make_node("MatMul", [users, items], ["products"]),
        helper.make_node("Pad", ["products", "a_column", "minus_inf"], ["padded"]),  # the column that -1 means
        helper.make_node("Shape", ["user"], ["n_users"]),
        helper.make_node("Concat", ["n_users", "one"], ["a_row_each"], axis=0),
        helper.make_node("Expand", ["seen", "a_row_each"], ["seen_rows"]),
        helper.make_node("Shape", ["seen_rows"], ["seen_shape"]),
        helper.make_node("Expand", ["minus_inf", "seen_shape"], ["masks"]),
        helper.make_node("ScatterElements", ["padded", "seen_rows", "masks"], ["unseen"], axis=1),
        helper.make_node("TopK", ["unseen", "k"], ["scores", "best"], axis=1),
    ]
    described = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [
            described("user", TensorProto.INT64, ["batch"]),
            described("seen", TensorProto.INT64, [None, None]),
            described("k", TensorProto.INT64, [1]),
        ],
        [described("best", TensorProto.INT64, [None, None]), described("scores", TensorProto.FLOAT, [None, None])],
        [numpy_helper.from_array(np.ascontiguousarray(array), constant) for constant, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="recbole_hetcomp")
    made.ir_version = IR_VERSION
    return made
