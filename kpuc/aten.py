"""The ATen table: every overload the compiler lowers, and what the others are called.

A lowering takes the site and the overload's schema arguments in order, so that none can be
forgotten: each is honoured or refused by name.
"""

from collections.abc import Mapping

from torch._ops import OpOverload

from kpuc.lowering import index, linear, pad, pointwise, pool, reduce, resample, shape
from kpuc.lowering.site import Table

ATEN: Table = {
    **linear.TABLE,
    **pointwise.TABLE,
    **pool.TABLE,
    **resample.TABLE,
    **shape.TABLE,
    **pad.TABLE,
    **index.TABLE,
    **reduce.TABLE,
}

# ATen packet -> the name a user knows. Ops named here are never decomposed into others, so that a
# refusal speaks of what stands in the model.
REFUSED_NAMES: Mapping[str, str] = {
    "aten::instance_norm": "InstanceNorm",
    "aten::group_norm": "GroupNorm",
    "aten::native_group_norm": "GroupNorm",
    "aten::layer_norm": "LayerNorm",
    "aten::native_layer_norm": "LayerNorm",
    "aten::rms_norm": "RMSNorm",
    "aten::local_response_norm": "LocalResponseNorm",
    "aten::conv_transpose1d": "ConvTranspose",
    "aten::conv_transpose2d": "ConvTranspose",
    "aten::conv_transpose3d": "ConvTranspose",
    "aten::lstm": "LSTM",
    "aten::gru": "GRU",
    "aten::rnn_tanh": "RNN",
    "aten::rnn_relu": "RNN",
    "aten::elu": "Elu",
    "aten::celu": "Celu",
    "aten::selu": "Selu",
    "aten::mish": "Mish",
    "aten::softplus": "Softplus",
    "aten::log_softmax": "LogSoftmax",
    "aten::log_sigmoid": "LogSigmoid",
    "aten::exp": "Exp",
    "aten::log": "Log",
    "aten::sqrt": "Sqrt",
    "aten::rsqrt": "Rsqrt",
    "aten::erf": "Erf",
    "aten::sin": "Sin",
    "aten::cos": "Cos",
    "aten::floor": "Floor",
    "aten::ceil": "Ceil",
    "aten::round": "Round",
    "aten::trunc": "Trunc",
    "aten::sign": "Sign",
    "aten::where": "Where",
    "aten::eq": "Equal",
    "aten::ne": "NotEqual",
    "aten::gt": "Greater",
    "aten::ge": "GreaterOrEqual",
    "aten::lt": "Less",
    "aten::le": "LessOrEqual",
    "aten::logical_and": "And",
    "aten::logical_or": "Or",
    "aten::logical_not": "Not",
    "aten::bitwise_and": "BitwiseAnd",
    "aten::bitwise_or": "BitwiseOr",
    "aten::bitwise_not": "BitwiseNot",
    "aten::maximum": "Max",
    "aten::minimum": "Min",
    "aten::argmax": "ArgMax",
    "aten::argmin": "ArgMin",
    "aten::topk": "TopK",
    "aten::sort": "Sort",
    "aten::cumsum": "CumSum",
    "aten::prod": "ReduceProd",
    "aten::std": "ReduceStd",
    "aten::linalg_vector_norm": "ReduceL2",
    "aten::gather": "GatherElements",
    "aten::scatter": "ScatterElements",
    "aten::index_put": "ScatterND",
    "aten::nonzero": "NonZero",
    "aten::grid_sampler": "GridSample",
    "aten::upsample_bicubic2d": "Resize",
    "aten::_upsample_bilinear2d_aa": "Resize(antialias)",
    "aten::_upsample_bicubic2d_aa": "Resize(antialias)",
    "aten::_upsample_lanczos2d_aa": "Resize(antialias)",
    "aten::pow": "Pow",
    "aten::floor_divide": "FloorDivide",
    "aten::remainder": "Mod",
    "aten::fmod": "Mod",
    "aten::dropout": "Dropout",
    "aten::feature_dropout": "Dropout",
    "aten::alpha_dropout": "Dropout",
    "aten::feature_alpha_dropout": "Dropout",
    "aten::rand": "RandomUniform",
    "aten::rand_like": "RandomUniform",
    "aten::randn": "RandomNormal",
    "aten::randn_like": "RandomNormal",
    "aten::bernoulli": "Bernoulli",
    "torchvision::nms": "NonMaxSuppression",
    "torchvision::roi_align": "RoiAlign",
    "torchvision::deform_conv2d": "DeformConv",
}


def plain_name(target: OpOverload) -> str:
    """What to call an op in a message: the row of REFUSED_NAMES, else its qualified name."""
    qualified = target._schema.name
    return REFUSED_NAMES.get(qualified, str(target).removesuffix(".default"))
