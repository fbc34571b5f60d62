"""What a deployment system wants to know of a network, from real counts instead of guesses."""

from collections import Counter
from typing import Any

from formats.profile import Profile

MEGABYTE = 2**20
ACTIVATIONS = "Relu Clip Sigmoid Tanh Swish HardSwish HardSigmoid LeakyRelu Softmax".split()
POOLS = "MaxPool AveragePool GlobalAveragePool GlobalMaxPool".split()

# Our op type -> what that system calls it; any other op is called by its own name in lower case.
KINDS = {
    "Conv": "convolution",
    "ConvTranspose": "convolution",
    "MatMul": "matrix_multiply",
    "Gemm": "matrix_multiply",
    "BatchNormalization": "batch_norm",
    **dict.fromkeys(ACTIVATIONS, "activation"),
    **dict.fromkeys(POOLS, "pooling"),
}


def workload(profile: Profile) -> dict[str, Any]:
    """The workload profile of one inference, JSON values.

    total_estimated_gflops: 2 per multiply-accumulate, in 10^9. estimated_memory_mb: what DRAM and
    L2 hold at their peaks, weights included, in MiB. operators: how often each kind is computed,
    epilogues included, the most frequent first; dominant_op: the kind with the most
    multiply-accumulates, of a network without them with the most lane operations.
    """
    program = profile.program
    macs = sum(row["macs"] for row in profile.metrics.op_metrics.values())
    gflops = 2 * macs / 1e9
    megabytes = (program.peak_dram_bytes + program.peak_sram_bytes) / MEGABYTE
    operators = [{"type": kind, "count": count} for kind, count in _counts(profile).most_common()]
    common = {"estimated_gflops": gflops, "estimated_memory_mb": megabytes, "operators": operators}
    return {
        **common,
        "total_estimated_gflops": gflops,
        "total_estimated_memory_mb": megabytes,
        "dominant_op": _dominant(profile),
        "workload_count": 1,
        "workloads": [
            {
                "name": program.name,
                "model_class": program.name,
                "scheduling": "concurrent",
                **common,
            }
        ],
        "source": "kpuprof",
    }


def _kind(op_type: str) -> str:
    return KINDS.get(op_type, op_type.lower())


def _counts(profile: Profile) -> Counter[str]:
    computed = [
        op_type
        for op in profile.program.get_ops_in_order()
        for op_type in (op.op_type, *(stage.op_type for stage in op.epilogue))
        if op_type != "Identity"  # a copy, or what carries an epilogue
    ]
    return Counter(map(_kind, computed))


def _dominant(profile: Profile) -> str:
    for figure in ("macs", "lane_ops"):
        spent: Counter[str] = Counter()
        for op in profile.program.get_ops_in_order():
            spent[_kind(op.op_type)] += int(profile.metrics.op_metrics[op.id][figure])
        ((kind, most),) = spent.most_common(1) or [("unknown", 0)]
        if most:
            return kind
    return "unknown"
