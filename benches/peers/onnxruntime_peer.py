"""ONNX Runtime on the inference workloads of `cargo xtask bench`. `python onnxruntime_peer.py THREADS`"""

import sys

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from protocol import serve


def mnist_cnn():
    """The network as an ONNX graph with random weights."""
    random = numpy.random.default_rng(0)
    shapes = {"w1": (32, 1, 3, 3), "b1": (32,), "w2": (5408, 128), "b2": (128,), "w3": (128, 10), "b3": (10,)}
    weights = [
        numpy_helper.from_array(random.uniform(-0.1, 0.1, shape).astype(numpy.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["h"]),
        helper.make_node("Relu", ["h"], ["hr"]),
        helper.make_node("Gemm", ["hr", "w3", "b3"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "mnist_cnn", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def inference(n):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[1])
    session = onnxruntime.InferenceSession(mnist_cnn(), options, providers=["CPUExecutionProvider"])
    x = numpy.random.default_rng(1).uniform(0, 1, (n, 1, 28, 28)).astype(numpy.float32)
    return lambda: session.run(None, {"x": x})


WORKLOADS = {"mnist_cnn_forward_1": lambda: inference(1), "mnist_cnn_forward_1000": lambda: inference(1000)}

if __name__ == "__main__":
    serve(WORKLOADS)
