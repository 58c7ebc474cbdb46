"""Sample values of every op, computed with numpy alone from the definitions (ONNX, torch, papers), never from src/.

Run from the repository root:
    python3 scripts/samples.py && npx biome format --write test/samples
It writes test/samples/<family>.json: operands rounded to their dtype, results of floats in f64 to 13 digits.
"""

import json
import math
import os
import warnings
from itertools import product

import numpy as np

FOLDER = os.path.join(os.path.dirname(__file__), "..", "test", "samples")
COMMAND = "python3 scripts/samples.py && npx biome format --write test/samples"
NAMES = {
    "float64": "f64", "float32": "f32", "float16": "f16",
    "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8",
    "uint32": "u32", "uint16": "u16", "uint8": "u8", "bool": "bool",
}  # fmt: skip
F, I, B = np.float32, np.int32, np.bool_
nan, inf = math.nan, math.inf
rng = np.random.default_rng(20240607)
families = {}
np.seterr(all="ignore")
warnings.simplefilter("ignore", RuntimeWarning)


def number(x, digits):
    if isinstance(x, (bool, np.bool_)):
        return int(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    return float(f"{x:.{digits}g}")


def shortest(x):
    """The fewest digits that give this f32 (or f16) back."""
    return float(str(x)) if np.isfinite(x) else number(float(x), 9)


def tensor(array, digits=None, dtype=None):
    flat = array.reshape(-1)
    exact = digits is None and array.dtype in (np.float32, np.float16)
    return {
        "dtype": dtype or NAMES[array.dtype.name],
        "shape": list(array.shape),
        "values": [shortest(x) for x in flat] if exact else [number(x, digits or 17) for x in flat.tolist()],
    }


def case(family, op, operands, results, note="", **attrs):
    """Results: one array or several; floats may be f64, then they take the dtype of the first float operand."""
    operands = [np.asarray(x) for x in operands]
    results = results if isinstance(results, (tuple, list)) else (results,)
    kinds = [NAMES[x.dtype.name] for x in operands if x.dtype.kind == "f"]
    made = []
    for result in results:
        result = np.asarray(result)
        dtype = NAMES[result.dtype.name]
        if result.dtype.kind == "f":
            dtype = attrs.get("to") or attrs.get("dtype") or (kinds[0] if kinds else dtype)
        made.append(tensor(result, 13, dtype))
    families.setdefault(family, []).append(
        {
            "op": op,
            **({"note": note} if note else {}),
            "attrs": attrs,
            "operands": [tensor(x) for x in operands],
            "results": made,
        }
    )


def rand(*shape, low=-2.0, high=2.0):
    """f32 numbers of few digits."""
    return np.round(rng.uniform(low, high, shape), 3).astype(F)


def ints(*shape, low=-9, high=9, dtype=I):
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


def f64(x):
    return np.asarray(x, np.float64)


# ---- elementwise


def per_element(fn):
    return lambda *xs: np.array([fn(*v) for v in zip(*[f64(x).reshape(-1) for x in xs])]).reshape(np.shape(xs[0]))


def wrapped(values, dtype):
    """Two's complement of exact integers."""
    bits = np.dtype(dtype).itemsize * 8
    out = []
    for v in values:
        v &= 2**bits - 1
        out.append(v - 2**bits if np.dtype(dtype).kind == "i" and v >= 2 ** (bits - 1) else v)
    return np.array(out, dtype)


def on_integers(fn):
    return lambda *xs: wrapped([fn(*map(int, v)) for v in zip(*[x.reshape(-1) for x in xs])], xs[0].dtype).reshape(xs[0].shape)


def truncated(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def elementwise():
    def one(op, fn, x, note="", **attrs):
        case("elementwise", op, [x], fn(x), note, **attrs)

    special = np.array([nan, inf, -inf, 0.0, -0.0], F)
    on_floats = {
        "neg": lambda x: -f64(x),
        "abs": lambda x: np.abs(f64(x)),
        "sign": lambda x: np.sign(f64(x)),
        "exp": lambda x: np.exp(f64(x)),
        "expm1": lambda x: np.expm1(f64(x)),
        "sin": lambda x: np.sin(f64(x)),
        "cos": lambda x: np.cos(f64(x)),
        "tanh": lambda x: np.tanh(f64(x)),
        "erf": per_element(math.erf),
        "sigmoid": lambda x: np.where(f64(x) < 0, np.exp(f64(x)) / (1 + np.exp(f64(x))), 1 / (1 + np.exp(-f64(x)))),
        "relu": lambda x: np.maximum(f64(x), 0),
        "floor": lambda x: np.floor(f64(x)),
        "ceil": lambda x: np.ceil(f64(x)),
        "trunc": lambda x: np.trunc(f64(x)),
        "round": lambda x: np.rint(f64(x)),
        "reciprocal": lambda x: 1 / f64(x),
        "log": lambda x: np.log(f64(x)),
        "log1p": lambda x: np.log1p(f64(x)),
        "sqrt": lambda x: np.sqrt(f64(x)),
        "rsqrt": lambda x: 1 / np.sqrt(f64(x)),
        "isNan": lambda x: np.isnan(x),
        "isInf": lambda x: np.isinf(x),
    }
    positive = {"log", "sqrt", "rsqrt", "reciprocal", "log1p"}
    for op, fn in on_floats.items():
        one(op, fn, rand(2, 3, low=0.05, high=9) if op in positive else rand(2, 3, low=-4, high=4))
        one(op, fn, np.array([nan, inf, 0.0, -0.0], F) if op in ("sin", "cos") else special, "special values")
        one(op, fn, rand(1, 1, low=0.5, high=1), "size-1 axes")
        one(op, fn, np.zeros((2, 0), F), "a zero-size axis")
    one("sin", on_floats["sin"], np.array([math.pi, 50.0, -1000.0], F), "beyond one turn")
    for op in ("sin", "cos"):
        one(op, on_floats[op], np.array([inf, -inf], F), "infinities are no angles")
    for op in ("log", "sqrt", "rsqrt"):
        one(op, on_floats[op], np.array([-1.0, -1e-3, 1e-30, 1e30], F), "negative, tiny and huge")
    one("log1p", on_floats["log1p"], np.array([1e-8, -1e-8, -1.0, -2.0], F), "near zero and at the pole")
    one("expm1", on_floats["expm1"], np.array([1e-8, -1e-8, -50.0], F), "near zero")
    one("exp", on_floats["exp"], np.array([-200.0, -100.0, 0.0], F), "underflow")
    one("erf", on_floats["erf"], np.array([-7, -5, -3.5, -3, -2.99, -1, -1e-4, 1e-9, 0.5, 2, 2.5, 3.01, 4.5, 6.01], F), "across the range")
    one("tanh", on_floats["tanh"], np.array([-30, -1e-5, 1e-5, 12], F), "saturation")
    one("sigmoid", on_floats["sigmoid"], np.array([-100, -20, 20, 100], F), "saturation")
    halves = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.49999997, 8388609.0, -8388609.0], F)
    for op in ("round", "floor", "ceil", "trunc"):
        one(op, on_floats[op], halves, "halves, and integers without a fraction to lose")
    for op in ("neg", "abs", "sign", "relu"):
        fn = {"neg": lambda a: -a, "abs": abs, "sign": lambda a: (a > 0) - (a < 0), "relu": lambda a: max(a, 0)}[op]
        one(op, on_integers(fn), np.array([-(2**31), -1, 0, 5, 2**31 - 1], I), "i32 extremes wrap")
        one(op, on_integers(fn), np.array([-128, -1, 0, 127], np.int8), "i8 extremes wrap")
    one("not", np.logical_not, np.array([[True, False]]))
    for dtype in (np.int32, np.uint8, np.uint32, np.int8):
        limits = np.iinfo(dtype)
        x = np.array([limits.min, limits.max, 5, 0], dtype)
        y = np.array([3, limits.max, 6, limits.min], dtype)
        one("bitNot", on_integers(lambda a: ~a), x)
        for op, fn in {"bitAnd": lambda a, b: a & b, "bitOr": lambda a, b: a | b, "bitXor": lambda a, b: a ^ b}.items():
            case("elementwise", op, [x, y], on_integers(fn)(x, y))
        by = np.array([1, limits.bits - 1, 4, 0], dtype)
        case("elementwise", "shiftLeft", [x, by], on_integers(lambda a, b: a << b)(x, by))
        case("elementwise", "shiftRight", [x, by], on_integers(lambda a, b: a >> b)(x, by), "keeps the sign of signed types")
    wide, mask = np.array([2**40 + 5, -1, -(2**45)], np.int64), np.array([2**41 - 1, 2**40, 3 * 2**44], np.int64)
    for op, fn in {"bitAnd": np.bitwise_and, "bitOr": np.bitwise_or, "bitXor": np.bitwise_xor}.items():
        case("elementwise", op, [wide, mask], fn(wide, mask), "i64 beyond 32 bits")
    one("bitNot", np.bitwise_not, wide, "i64 beyond 32 bits")
    by = np.array([3, 40, 1], np.int64)
    case("elementwise", "shiftLeft", [wide, by], np.left_shift(wide, by), "i64 beyond 32 bits")
    case("elementwise", "shiftRight", [wide, by], np.right_shift(wide, by), "i64 beyond 32 bits")
    far = np.array([2**40, 2**62, -(2**62)], np.int64)
    case("elementwise", "mul", [far, far], far * far, "i64 products beyond 2^63 wrap")
    case("elementwise", "add", [far * 2, far], far * 2 + far, "i64 sums wrap")

    numeric = {
        "add": (lambda a, b: a + b, lambda a, b: a + b),
        "sub": (lambda a, b: a - b, lambda a, b: a - b),
        "mul": (lambda a, b: a * b, lambda a, b: a * b),
        "div": (lambda a, b: a / b, truncated),
        "mod": (np.mod, lambda a, b: a % b),
        "min": (np.minimum, min),
        "max": (np.maximum, max),
    }
    lhs = np.array([nan, 1, inf, -inf, inf, 0.0, -0.0, 1], F)
    rhs = np.array([1, nan, inf, inf, -1, -0.0, 2, 0.0], F)
    for op, (real, whole) in numeric.items():
        x, y = rand(2, 3), rand(2, 3, low=0.5, high=3) * np.array([1, -1, 1], F)
        case("elementwise", op, [x, y], real(f64(x), f64(y)))
        if op != "mod":
            case("elementwise", op, [lhs, rhs], real(f64(lhs), f64(rhs)), "special values")
        case("elementwise", op, [np.zeros((0, 3), F)] * 2, np.zeros((0, 3)), "a zero-size axis")
        for dtype in (np.int32, np.uint8, np.int8, np.uint32, np.int64):
            a, b = ints(6, low=1, high=99, dtype=dtype), ints(6, low=1, high=9, dtype=dtype)
            if np.dtype(dtype).kind == "i":
                a, b = a * np.array([1, -1, 1, -1, 1, 1], dtype), b * np.array([1, 1, -1, -1, 1, 1], dtype)
            case("elementwise", op, [a, b], on_integers(whole)(a, b))
        for dtype in (np.int32, np.uint8, np.uint32):
            limits = np.iinfo(dtype)
            a, b = np.array([limits.max, limits.min, limits.max], dtype), np.array([limits.max, limits.max, 2], dtype)
            if op in ("add", "sub", "mul") and dtype == np.uint8 or op in ("add", "sub", "min", "max"):
                case("elementwise", op, [a, b], on_integers(whole)(a, b), "extremes wrap")
    case("elementwise", "mul", [np.array([65536, -70000, 2**31 - 1], I)] * 2, on_integers(lambda a, b: a * b)(*[np.array([65536, -70000, 2**31 - 1], I)] * 2), "i32 products beyond 2^53 wrap")
    a, b = np.array([-(2**31), 7, -7], I), np.array([-1, 2, 2], I)
    case("elementwise", "div", [a, b], on_integers(truncated)(a, b), "toward zero; the least number over -1 wraps")
    a, b = np.array([5.5, -5.5, 5.5, -5.5, 3, -3], F), np.array([2, 2, -2, -2, 3, 3], F)
    case("elementwise", "mod", [a, b], np.mod(f64(a), f64(b)), "the divisor's sign")
    a, b = np.array([5, -5, 5, -5, 0, inf, 1, nan, 1, -6, 6], F), np.array([inf, inf, -inf, -inf, inf, 2, 0, 1, nan, 3, -3], F)
    case("elementwise", "mod", [a, b], np.mod(f64(a), f64(b)), "special values")
    a, b = np.array([2, -2, 4, 0, 0, -8, 9], F), np.array([3, 3, -0.5, 0, 2, 2, 0.5], F)
    case("elementwise", "pow", [a, b], np.power(f64(a), f64(b)))
    a, b = np.array([2, 0.5, -2, 0, nan, inf], F), np.array([inf, inf, 0.5, -1, 0, 0], F)
    case("elementwise", "pow", [a, b], np.power(f64(a), f64(b)), "special values")
    a, b = np.array([1, 1, -1, -1, 1], F), np.array([nan, inf, inf, -inf, -inf], F)
    case("elementwise", "pow", [a, b], np.power(f64(a), f64(b)), "IEEE 754: powers of one")
    comparisons = {
        "equal": np.equal, "notEqual": np.not_equal, "less": np.less,
        "lessEqual": np.less_equal, "greater": np.greater, "greaterEqual": np.greater_equal,
    }  # fmt: skip
    for op, fn in comparisons.items():
        x, y = np.array([1, 2, 3, nan, inf, -0.0, -inf], F), np.array([2, 2, 2, nan, inf, 0.0, inf], F)
        case("elementwise", op, [x, y], fn(x, y), "special values")
        x, y = np.array([-(2**31), 2**31 - 1, 4, 4], I), np.array([2**31 - 1, -(2**31), 4, 5], I)
        case("elementwise", op, [x, y], fn(x, y), "i32 extremes")
        x, y = np.array([0, 2**32 - 1, 2**31], np.uint32), np.array([2**32 - 1, 0, 2**31], np.uint32)
        case("elementwise", op, [x, y], fn(x, y), "u32 extremes")
        if op in ("equal", "notEqual"):
            x, y = np.array([True, True, False]), np.array([True, False, False])
            case("elementwise", op, [x, y], fn(x, y), "booleans")
    x, y = np.array([[True, True], [False, False]]), np.array([[True, False], [True, False]])
    for op, fn in {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.items():
        case("elementwise", op, [x, y], fn(x, y))
    yes, no = rand(2, 2), np.array([[nan, 1], [inf, 2]], F)
    case("elementwise", "select", [x, yes, no], np.where(x, f64(yes), f64(no)), "the other side's NaN does not leak")
    yes, no = ints(2, 2), ints(2, 2)
    case("elementwise", "select", [y, yes, no], np.where(y, yes, no))
    case("elementwise", "select", [x, y, ~y], np.where(x, y, ~y), "booleans")

    def cast(x, to, name, note=""):
        case("elementwise", "cast", [x], x.astype(to), note, to=name)

    cast(np.array([-2.9, -0.5, 0.5, 2.9, 1e6], F), I, "i32", "toward zero")
    cast(np.array([0.9, 3.5, 255], F), np.uint8, "u8")
    cast(np.array([nan, inf, -inf, 0.0, -0.0, 0.3], F), B, "bool", "differs from zero")
    cast(np.array([-(2**31), 256, 300, -1, 2**31 - 1], I), np.uint8, "u8", "integers wrap")
    cast(np.array([-129, 128, 255, -1], I), np.int8, "i8", "integers wrap")
    cast(np.array([2**32 - 1, 2**31, 7], np.uint32), I, "i32", "integers wrap")
    cast(np.array([2**40 + 3, -1], np.int64), I, "i32", "integers wrap")
    cast(np.array([-5, 7], I), np.int64, "i64")
    cast(np.array([-7.5, 1e9], F), np.int64, "i64")
    cast(np.array([True, False]), F, "f32")
    cast(np.array([True, False]), I, "i32")
    cast(np.array([-3, 2**24], I), F, "f32")
    cast(np.array([0.5, -1.25], F), np.float16, "f16", "exactly representable")
    cast(np.array([0.5, -1.25, nan, inf], F), np.float64, "f64")
    cast(np.array([0, 3, -4], I), B, "bool")


# ---- reduce


def reduce():
    def over(op, fn, x, axes, note="", keepDims=False):
        result = fn(f64(x) if x.dtype.kind == "f" else x, tuple(axes), keepDims)
        case("reduce", op, [x], result, note, axes=axes, **({"keepDims": True} if keepDims else {}))

    def lse(x, axes, keep):
        if not axes:
            return x
        peak = np.max(x, axis=axes, keepdims=True, initial=-inf)
        safe = np.where(np.isfinite(peak), peak, 0)
        total = np.log(np.sum(np.exp(x - safe), axis=axes, keepdims=True)) + safe
        return total if keep else np.squeeze(total, axes)

    least = {"f": -inf, "i": -(2**31), "u": 0}
    most = {"f": inf, "i": 2**31 - 1, "u": 255}
    fns = {
        "reduceSum": lambda x, a, k: np.sum(x, axis=a, keepdims=k, dtype=x.dtype),
        "reduceProd": lambda x, a, k: np.prod(x, axis=a, keepdims=k, dtype=x.dtype),
        "reduceMax": lambda x, a, k: np.max(x, axis=a, keepdims=k, initial=least[x.dtype.kind]),
        "reduceMin": lambda x, a, k: np.min(x, axis=a, keepdims=k, initial=most[x.dtype.kind]),
        "reduceMean": lambda x, a, k: np.mean(x, axis=a, keepdims=k) if a else x,
        "logSumExp": lse,
    }
    for op, fn in fns.items():
        x = rand(2, 3, 4)
        for axes in ([0], [1], [2], [0, 2], [0, 1, 2], []):
            over(op, fn, x, axes, "no axes" if not axes else "")
        over(op, fn, x, [1, 2], "kept dimensions", keepDims=True)
        over(op, fn, rand(1, 3), [0], "a size-1 axis")
        over(op, fn, np.zeros((2, 0), F), [1], "nothing to fold")
        over(op, fn, np.zeros((0, 2), F), [1], "no result")
        over(op, fn, np.array([[nan, 1], [-inf, 2], [-inf, -inf]], F), [1], "NaN and minus infinity")
        over(op, fn, np.array([[inf, 1], [inf, inf]], F), [1], "infinity")
        over(op, fn, np.array([[1, inf, 2], [-inf, inf, 0]], F), [1], "infinity in the middle")
        over(op, fn, np.array([1.5], F), [0])
        if op not in ("reduceMean", "logSumExp"):
            over(op, fn, ints(3, 3, low=-5, high=5), [1])
            over(op, fn, ints(2, 3, low=0, high=3, dtype=np.uint8), [0])
            over(op, fn, np.zeros((2, 0), I), [1], "nothing to fold")
    over("reduceSum", fns["reduceSum"], np.array([2**31 - 1, 2**31 - 1, 5], I), [0], "i32 wraps")
    over("reduceSum", fns["reduceSum"], np.array([200, 100, 7], np.uint8), [0], "u8 wraps")
    over("reduceProd", fns["reduceProd"], np.array([65537, 65539, 3], I), [0], "i32 wraps")
    over("reduceProd", fns["reduceProd"], np.array([2**31 - 1, 2**31 - 1, 2**31 - 1], I), [0], "i32 products beyond 2^53 wrap")
    over("reduceMax", fns["reduceMax"], np.array([-(2**31), -(2**31)], I), [0], "i32 extremes")
    over("reduceMin", fns["reduceMin"], np.array([2**31 - 1, 2**31 - 1], I), [0], "i32 extremes")
    over("logSumExp", lse, np.array([1000, 1000, 999], F), [0], "large values do not overflow")
    over("logSumExp", lse, np.array([-1000, -1001], F), [0], "small values do not vanish")

    for op, fn in {"argMax": np.argmax, "argMin": np.argmin}.items():
        def arg(x, axis, note="", keepDims=False):
            result = fn(x, axis=axis).astype(I)
            case("reduce", op, [x], np.expand_dims(result, axis) if keepDims else result, note, axis=axis, **({"keepDims": True} if keepDims else {}))

        arg(rand(3, 4), 0)
        arg(rand(3, 4), 1, keepDims=True)
        arg(rand(2, 3, 2), 1)
        arg(np.array([[3, 1, 3, 1], [2, 2, 2, 2]], F), 1, "the lowest index on ties")
        arg(np.array([[-inf, -inf], [inf, inf], [-0.0, 0.0]], F), 1, "ties of infinities and zeros")
        arg(np.array([-(2**31), 2**31 - 1, 2**31 - 1, -(2**31)], I), 0, "i32 extremes")
        arg(np.array([0, 255, 0, 255], np.uint8), 0)
        arg(rand(1, 1), 1, "a size-1 axis")
        case("reduce", op, [np.zeros((0, 3), F)], np.zeros((0,), I), "no result", axis=1)

    def running(x, axis, exclusive, reverse, note=""):
        y = f64(x) if x.dtype.kind == "f" else x
        y = np.flip(y, axis) if reverse else y
        total = np.cumsum(y, axis=axis, dtype=y.dtype)
        if exclusive:
            total = total - y
        total = np.flip(total, axis) if reverse else total
        case("reduce", "cumsum", [x], total, note, axis=axis, **({"exclusive": True} if exclusive else {}), **({"reverse": True} if reverse else {}))

    for exclusive, reverse in product((False, True), repeat=2):
        running(rand(2, 3, 2), 1, exclusive, reverse)
        running(ints(4), 0, exclusive, reverse)
    running(np.array([2**31 - 1, 1, 5], I), 0, False, False, "i32 wraps")
    running(np.zeros((2, 0), F), 1, True, False, "a zero-size axis")


# ---- shape


def shape():
    for x, to in ((rand(2, 6), [3, 4]), (rand(2, 6), [12]), (rand(1), []), (np.zeros((2, 0), F), [0, 5]), (ints(2, 3), [1, 6, 1]), (np.array([True, False]), [2, 1])):
        case("shape", "reshape", [x], x.reshape(to), shape=to)
    for x, perm in ((rand(2, 3), [1, 0]), (rand(2, 3, 4), [2, 0, 1]), (ints(1, 3, 2), [0, 2, 1]), (rand(), []), (np.zeros((0, 2), F), [1, 0]), (rand(2, 2, 2, 2), [3, 1, 0, 2])):
        case("shape", "transpose", [x], np.transpose(x, perm), perm=perm)
    for x, to, axes in ((rand(), [2, 3], [0, 1]), (rand(3), [2, 3], [0]), (rand(3), [3, 2], [1]), (ints(2, 2), [2, 3, 2, 1], [1, 3]), (rand(2), [2], []), (rand(2), [0, 2], [0]), (np.array([True]), [1, 2], [1])):
        case("shape", "broadcast", [x], np.broadcast_to(np.expand_dims(x, axes), to), shape=to, axes=axes)
    for x, axis, start, end, step in ((rand(5, 2), 0, 1, 4, 1), (rand(5, 2), 0, 0, 5, 2), (rand(2, 7), 1, 1, 7, 3), (rand(4), 0, 2, 2, 1), (rand(4), 0, 4, 4, 1), (ints(3), 0, 0, 3, 5), (np.zeros((0, 2), F), 0, 0, 0, 1), (rand(2, 3, 2), 2, 1, 2, 1)):
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, end, step)
        attrs = {"axis": axis, **({"start": start} if start else {}), "end": end, **({"step": step} if step != 1 else {})}
        case("shape", "slice", [x], x[tuple(index)], "nothing kept" if start == end else "", **attrs)
    for x, axes in ((rand(2, 3), [1]), (rand(2, 3), [0, 1]), (rand(2, 3), []), (ints(3, 1, 2), [0, 1]), (np.zeros((0,), F), [0])):
        case("shape", "reverse", [x], np.flip(x, axes) if axes else x, axes=axes)

    def pad(x, low, high, mode="constant", value=0):
        cropped = x[tuple(slice(max(0, -a), n - max(0, -b)) for a, b, n in zip(low, high, x.shape))]
        widths = [(max(0, a), max(0, b)) for a, b in zip(low, high)]
        extra = {"constant_values": value} if mode == "constant" else {}
        attrs = {"low": low, "high": high, **({"mode": mode} if mode != "constant" else {}), **({"value": number(value, 9)} if value != 0 and math.isfinite(value) else {})}
        case("shape", "pad", [x], np.pad(cropped, widths, mode, **extra) if x.ndim else x, **attrs)

    pad(rand(2, 3), [1, 0], [0, 2])
    pad(rand(2, 3), [1, 1], [1, 1], value=-1.5)
    pad(rand(3, 4), [-1, 2], [1, -2])
    pad(rand(3), [-1], [-1])
    pad(rand(3), [-1], [-2])
    pad(ints(2, 2), [0, 1], [2, 0], value=7)
    pad(np.array([True, False]), [1], [1], value=1)
    pad(rand(), [], [])
    pad(np.zeros((2, 0), F), [0, 2], [0, 1], value=3)
    for mode in ("reflect", "edge"):
        pad(rand(4), [3], [3], mode)
        pad(rand(3, 4), [1, 2], [2, 0], mode)
        pad(ints(2, 3), [0, 1], [1, 2], mode)
        pad(rand(5), [-1], [2], mode)
        pad(rand(2, 3), [0, 0], [0, 0], mode)
        pad(np.zeros((0, 2), F), [0, 1], [0, 1], mode)
    pad(rand(1), [2], [2], "edge")
    for parts, axis in (([rand(2, 2), rand(2, 3)], 1), ([rand(1, 2), rand(3, 2), rand(1, 2)], 0), ([rand(2)], 0), ([ints(2, 0, 2), ints(2, 1, 2)], 1), ([np.array([True]), np.array([False, True])], 0), ([rand(2, 2, 1), rand(2, 2, 2)], 2)):
        case("shape", "concat", parts, np.concatenate(parts, axis), axis=axis)
    for to, axis, dtype in (([4], 0, None), ([2, 3], 1, None), ([2, 3], 0, "f32"), ([3, 1, 2], 2, "i64"), ([0, 2], 1, None), ([5], 0, "u8")):
        kind = {None: I, "f32": F, "i64": np.int64, "u8": np.uint8}[dtype]
        along = np.arange(to[axis], dtype=kind).reshape([-1 if a == axis else 1 for a in range(len(to))])
        case("shape", "iota", [], np.broadcast_to(along, to), shape=to, axis=axis, **({"dtype": dtype} if dtype else {}))


# ---- contraction


def contraction():
    def mm(a, b, note=""):
        result = np.matmul(f64(a), f64(b)) if a.dtype.kind == "f" else np.matmul(a, b)
        case("contraction", "matmul", [a, b], result, note)

    mm(rand(2, 3), rand(3, 4))
    mm(rand(2, 2, 3), rand(2, 3, 2))
    mm(rand(2, 2, 3), rand(3, 2), "rhs is one matrix")
    mm(rand(1, 2, 2, 3), rand(1, 2, 3, 1))
    mm(rand(1, 1), rand(1, 1), "size-1 axes")
    mm(rand(2, 0), rand(0, 3), "nothing to sum")
    mm(rand(0, 2), rand(2, 3), "no rows")
    mm(ints(2, 3), ints(3, 2))
    mm(ints(2, 2, dtype=np.int64), ints(2, 2, dtype=np.int64))
    mm(np.array([[1, nan], [inf, 0]], F), np.array([[1, 2], [0, 1]], F), "special values")
    mm(np.array([[2**31 - 1, 2**31 - 1]], I), np.array([[2], [3]], I), "i32 wraps")
    mm(np.array([[2**31 - 1, 2**31 - 1]], I), np.array([[2**31 - 1], [3]], I), "i32 products beyond 2^53 wrap")
    for spec, left, right in (("ij,jk->ik", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)), ("ij,ij->", (2, 3), (2, 3)), ("i,j->ij", (2,), (3,)), ("ij,ij->ji", (2, 3), (2, 3)), ("ijk,k->ij", (2, 2, 3), (3,)), ("ij,k->k", (2, 3), (2,)), ("bhqd,bhkd->bhqk", (1, 2, 2, 3), (1, 2, 3, 3)), (",a->a", (), (3,)), ("ij,j->i", (2, 0), (0,)), ("abc,cd->dab", (1, 2, 3), (3, 1))):
        a, b = rand(*left), rand(*right)
        case("contraction", "contract", [a, b], np.einsum(spec, f64(a), f64(b)), spec=spec)
    a, b = ints(2, 3), ints(3, 2)
    case("contraction", "contract", [a, b], np.einsum("ij,jk->ki", a, b), spec="ij,jk->ki")


# ---- gather


def gather():
    def take(x, indices, axis, batch=0, note=""):
        if batch == 0:
            result = np.take(x, indices, axis)
        else:
            rows = [np.take(x[i], indices[i], 0) for i in np.ndindex(*x.shape[:batch])]
            result = np.array(rows, x.dtype).reshape(*indices.shape, *x.shape[batch + 1 :])
        case("gather", "gather", [x, indices], result, note, axis=axis, **({"batch": batch} if batch else {}))

    take(rand(4, 2), np.array([3, 0, 0], I), 0, note="a repeated index")
    take(rand(2, 4), np.array([[1, 3], [0, 2]], I), 1)
    take(rand(3), np.array(2, I), 0, note="one index drops the axis")
    take(rand(2, 3, 2), np.array([2], I), 1)
    take(rand(2, 4, 3), ints(2, 3, low=0, high=3), 1, batch=1)
    take(rand(2, 2, 4), ints(2, 2, 2, low=0, high=3), 2, batch=2)
    take(rand(2, 4), ints(2, low=0, high=3), 1, batch=1, note="one index per row")
    take(ints(3, 2), np.array([1, 1], I), 0)
    take(rand(3, 2), np.zeros((0,), I), 0, note="no index")
    take(np.array([True, False]), np.array([1, 0], I), 0)
    take(np.array([nan, inf, -0.0], F), np.array([2, 1, 0], I), 0, note="special values")
    table = rand(5, 3)
    for ids in (np.array([4, 0, 4], I), ints(2, 2, low=0, high=4), np.array(1, I), np.zeros((2, 0), I)):
        case("gather", "embedding", [table, ids], table[ids])

    def scatter(op, x, indices, updates, axis, batch=0, note=""):
        out = f64(x).copy() if x.dtype.kind == "f" else x.copy()
        moved = np.moveaxis(out, axis, batch)
        wide = np.moveaxis(updates, axis, batch)
        at = np.add.at if op == "scatterAdd" else np.maximum.at
        for place in np.ndindex(*moved.shape[:batch]):
            at(moved[place], indices[place], wide[place])
        case("gather", op, [x, indices, updates], out, note, axis=axis, **({"batch": batch} if batch else {}))

    for op in ("scatterAdd", "scatterMax"):
        scatter(op, rand(4, 2), np.array([1, 3, 1], I), rand(3, 2), 0, note="a repeated index adds up" if op == "scatterAdd" else "a repeated index")
        scatter(op, rand(2, 4), np.array([0, 2], I), rand(2, 2), 1)
        scatter(op, rand(2, 3, 2), np.array([2, 2], I), rand(2, 2, 2), 1)
        scatter(op, rand(2, 4, 3), ints(2, 3, low=0, high=3), rand(2, 3, 3), 1, batch=1)
        scatter(op, rand(2, 2, 3), ints(2, 2, 2, low=0, high=2), rand(2, 2, 2), 2, batch=2)
        scatter(op, rand(3), np.zeros((0,), I), np.zeros((0,), F), 0, note="no update")
        scatter(op, ints(4, low=1, high=9), np.array([0, 3, 3], I), ints(3, low=1, high=9), 0)
        scatter(op, np.array([-5, -7], I), np.array([0], I), np.array([-3], I), 0, note="negative integers")
    for indices, depth, dtype in ((np.array([2, 0], I), 3, None), (ints(2, 2, low=0, high=3), 4, None), (np.array(1, I), 2, "i32"), (np.array([5, 1], I), 3, "u8"), (np.zeros((0,), I), 2, None)):
        kind = {None: F, "i32": I, "u8": np.uint8}[dtype]
        result = (indices[..., None] == np.arange(depth)).astype(kind)
        case("gather", "oneHot", [indices], result, "an index past the depth" if np.any(indices >= depth) else "", depth=depth, **({"dtype": dtype} if dtype else {}))

    def order(x, axis, descending):
        rows = np.moveaxis(x, axis, -1)
        out = np.zeros(rows.shape, I)
        for place in np.ndindex(*rows.shape[:-1]):
            row = rows[place].tolist()
            sign = -1 if descending else 1
            out[place] = sorted(range(len(row)), key=lambda i: (row[i] != row[i], 0 if row[i] != row[i] else sign * row[i], i))
        return np.moveaxis(out, -1, axis)

    def ranked(op, x, axis, descending, note="", k=None):
        places = order(x, axis, descending)
        if k is not None:
            places = np.take(places, range(k), axis)
        values = np.take_along_axis(x, places, axis)
        if op == "sort":
            attrs = {"axis": axis, **({"descending": True} if descending else {})}
        else:
            attrs = {"axis": axis, "k": k, **({} if descending else {"largest": False})}
        case("gather", op, [x], (values, places.astype(I)), note, **attrs)

    for descending in (False, True):
        ranked("sort", rand(5), 0, descending)
        ranked("sort", rand(3, 4), 0, descending)
        ranked("sort", rand(2, 3, 2), 1, descending)
        ranked("sort", np.array([2, 1, 2, 1, 2], F), 0, descending, "ties keep their order")
        ranked("sort", np.array([[nan, 1, inf, -inf, nan, 0]], F), 1, descending, "NaN last")
        ranked("sort", np.array([2**31 - 1, -(2**31), 0, 2**31 - 1], I), 0, descending, "i32 extremes")
        ranked("sort", rand(2, 1), 1, descending, "a size-1 axis")
        ranked("sort", np.zeros((0, 2), F), 0, descending, "a zero-size axis")
        ranked("topK", rand(6), 0, descending, k=3)
        ranked("topK", rand(3, 4), 1, descending, k=2)
        ranked("topK", rand(4, 2), 0, descending, k=4)
        ranked("topK", np.array([1, 3, 3, 1, 3], F), 0, descending, "the lowest index first on ties", k=3)
        ranked("topK", ints(5), 0, descending, k=1)
        ranked("topK", rand(3), 0, descending, "nothing kept", k=0)


# ---- window


def convolve(x, w, strides=(1, 1), padding=((0, 0), (0, 0)), dilations=(1, 1), base=(1, 1), groups=1, batch_groups=1):
    """StableHLO convolution, spelt out: x [n, c, h, w], w [o, c / groups, kh, kw]."""
    n, c, h, wd = x.shape
    o, per, kh, kw = w.shape
    wide = np.zeros((n, c, (h - 1) * base[0] + 1, (wd - 1) * base[1] + 1))
    wide[:, :, :: base[0], :: base[1]] = x
    for axis, (low, high) in enumerate(padding):
        widths = [(0, 0)] * 4
        widths[axis + 2] = (max(0, low), max(0, high))
        wide = np.pad(wide, widths)
        index = [slice(None)] * 4
        index[axis + 2] = slice(max(0, -low), wide.shape[axis + 2] - max(0, -high))
        wide = wide[tuple(index)]
    rows = (wide.shape[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (wide.shape[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    share = n // batch_groups
    out = np.zeros((share, o, rows, columns))
    for b, k, i, j in np.ndindex(*out.shape):
        image = (k // (o // batch_groups)) * share + b
        first = (k // (o // groups)) * per
        for ci, y, z in np.ndindex(per, kh, kw):
            out[b, k, i, j] += wide[image, first + ci, i * strides[0] + y * dilations[0], j * strides[1] + z * dilations[1]] * f64(w)[k, ci, y, z]
    return out


def transposed(x, w, strides=(1, 1), padding=((0, 0), (0, 0)), extra=(0, 0), dilations=(1, 1), groups=1):
    """torch.conv_transpose2d: every input element stamps the kernel; x [n, c, h, w], w [c, o / groups, kh, kw]."""
    n, c, h, wd = x.shape
    _, per, kh, kw = w.shape
    full = [(s - 1) * st + (k - 1) * d + 1 + e for s, st, k, d, e in zip((h, wd), strides, (kh, kw), dilations, extra)]
    out = np.zeros((n, per * groups, *full))
    for b, ci, i, j, k, y, z in np.ndindex(n, c, h, wd, per, kh, kw):
        group = ci // (c // groups)
        out[b, group * per + k, i * strides[0] + y * dilations[0], j * strides[1] + z * dilations[1]] += f64(x)[b, ci, i, j] * f64(w)[ci, k, y, z]
    (top, bottom), (left, right) = padding
    return out[:, :, top : full[0] - bottom, left : full[1] - right]


def pooled(x, kernel, strides, padding, dilations, fold, empty):
    wide = np.full((*x.shape[:2], x.shape[2] + sum(padding[0]), x.shape[3] + sum(padding[1])), np.nan)
    wide[:, :, padding[0][0] : padding[0][0] + x.shape[2], padding[1][0] : padding[1][0] + x.shape[3]] = x
    inside = np.zeros(wide.shape[2:], bool)
    inside[padding[0][0] : padding[0][0] + x.shape[2], padding[1][0] : padding[1][0] + x.shape[3]] = True
    size = [(wide.shape[a + 2] - (kernel[a] - 1) * dilations[a] - 1) // strides[a] + 1 for a in (0, 1)]
    out = np.zeros((*x.shape[:2], *size))
    for b, c, i, j in np.ndindex(*out.shape):
        ys = [i * strides[0] + y * dilations[0] for y in range(kernel[0])]
        zs = [j * strides[1] + z * dilations[1] for z in range(kernel[1])]
        seen = [wide[b, c, y, z] for y in ys for z in zs if inside[y, z]]
        out[b, c, i, j] = fold(seen) if seen else empty
    return out


def window():
    def conv(x, w, note="", **options):
        names = {"base": "baseDilation", "batch_groups": "batchGroups"}
        attrs = {names.get(k, k): v if isinstance(v, int) else [list(p) if isinstance(p, tuple) else p for p in v] for k, v in options.items()}
        case("window", "conv2d", [x, w], convolve(x, w, **options), note, **attrs)

    conv(rand(1, 2, 4, 4), rand(3, 2, 3, 3))
    conv(rand(2, 1, 4, 3), rand(2, 1, 2, 1), strides=(2, 1))
    conv(rand(1, 2, 4, 4), rand(2, 2, 3, 3), padding=((1, 1), (1, 1)))
    conv(rand(1, 1, 4, 5), rand(1, 1, 2, 3), "asymmetric padding", padding=((0, 1), (2, 0)), strides=(2, 2))
    conv(rand(1, 1, 5, 5), rand(1, 1, 2, 2), "negative padding crops", padding=((-1, 0), (1, -2)))
    conv(rand(1, 1, 6, 5), rand(1, 1, 2, 2), dilations=(2, 3))
    conv(rand(1, 1, 3, 3), rand(1, 1, 3, 3), base=(2, 2), padding=((2, 2), (2, 1)))
    conv(rand(1, 2, 2, 3), rand(1, 2, 2, 2), "base dilation with cropping", base=(3, 2), padding=((-1, 1), (0, -1)), dilations=(2, 1))
    conv(rand(1, 4, 3, 3), rand(4, 2, 2, 2), groups=2)
    conv(rand(1, 3, 3, 3), rand(6, 1, 2, 2), "depthwise, two outputs per channel", groups=3)
    conv(rand(4, 2, 3, 3), rand(4, 2, 2, 2), batch_groups=2)
    conv(rand(3, 1, 3, 3), rand(3, 1, 3, 3), batch_groups=3, padding=((1, 0), (0, 1)))
    conv(rand(2, 4, 5, 5), rand(2, 2, 3, 2), "everything", strides=(2, 1), padding=((1, 2), (-1, 1)), dilations=(1, 2), base=(1, 2), groups=2)
    conv(rand(1, 1, 1, 1), rand(1, 1, 1, 1), "size-1 axes")
    conv(rand(1, 2, 2, 2), rand(1, 2, 3, 3), "nothing but a border", padding=((1, 1), (1, 1)))
    conv(np.zeros((0, 1, 3, 3), F), rand(2, 1, 2, 2), "no batch")

    def turn(x, w, note="", **options):
        attrs = {{"extra": "outputPadding"}.get(k, k): v if isinstance(v, int) else [list(p) if isinstance(p, tuple) else p for p in v] for k, v in options.items()}
        case("window", "convTranspose2d", [x, w], transposed(x, w, **options), note, **attrs)

    turn(rand(1, 2, 3, 3), rand(2, 3, 2, 2))
    turn(rand(1, 1, 3, 2), rand(1, 2, 3, 3), strides=(2, 2))
    turn(rand(1, 1, 3, 3), rand(1, 1, 3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), extra=(1, 1))
    turn(rand(1, 1, 3, 3), rand(1, 1, 3, 3), "asymmetric", padding=((1, 0), (0, 2)), strides=(2, 3))
    turn(rand(1, 1, 2, 2), rand(1, 1, 2, 2), dilations=(2, 3))
    turn(rand(1, 4, 2, 2), rand(4, 2, 2, 2), groups=2)
    turn(rand(2, 2, 2, 3), rand(2, 1, 2, 3), "everything", strides=(3, 2), padding=((1, 0), (1, 1)), extra=(1, 0), dilations=(1, 2), groups=2)

    def pool(x, kernel, strides=(1, 1), padding=((0, 0), (0, 0)), dilations=(1, 1), note=""):
        attrs = {"kernel": list(kernel)}
        if strides != (1, 1):
            attrs["strides"] = list(strides)
        if padding != ((0, 0), (0, 0)):
            attrs["padding"] = [list(p) for p in padding]
        if dilations != (1, 1):
            attrs["dilations"] = list(dilations)
        y = f64(x)
        case("window", "maxPool2d", [x], pooled(y, kernel, strides, padding, dilations, lambda v: np.max(v), -inf), note, **attrs)
        if not np.isnan(y).any():
            total = pooled(y, kernel, strides, padding, dilations, sum, 0)
            case("window", "sumPool2d", [x], total, note, **attrs)
            case("window", "avgPool2d", [x], total / (kernel[0] * kernel[1]), note, **attrs, countPadding=True)
            case("window", "avgPool2d", [x], pooled(y, kernel, strides, padding, dilations, np.mean, nan), note, **attrs)

    pool(rand(1, 2, 4, 4), (2, 2), (2, 2))
    pool(rand(2, 1, 3, 5), (2, 3))
    pool(rand(1, 1, 4, 4), (3, 3), (2, 2), ((1, 1), (1, 1)))
    pool(rand(1, 1, 4, 4), (3, 2), (1, 2), ((0, 1), (1, 0)), note="asymmetric padding")
    pool(rand(1, 1, 5, 5), (2, 2), (1, 1), ((0, 0), (0, 0)), (2, 3))
    pool(rand(1, 1, 1, 1), (1, 1), note="size-1 axes")
    pool(np.array([[[[nan, 1], [inf, -inf]]]], F), (1, 2), note="special values")
    pool(rand(1, 1, 2, 2, low=-5, high=-1), (2, 2), (2, 2), ((1, 1), (1, 1)), note="negative values keep above the border")
    pool(rand(1, 1, 3, 3), (3, 3), note="one window")

    def source(out, size, to, coordinates):
        if coordinates == "alignCorners":
            return 0.0 if to == 1 else out * (size - 1) / (to - 1)
        return (out + 0.5) * size / to - 0.5 if coordinates == "halfPixel" else out * size / to

    def resize(x, size, mode, coordinates):
        y = f64(x)
        rows, columns = [[source(o, n, to, coordinates) for o in range(to)] for n, to in zip(x.shape[2:], size)]

        def near(at, n):
            return min(max(math.floor(at + 0.5 if coordinates == "halfPixel" else at), 0), n - 1)

        def linear(at, n):
            at = min(max(at, 0), n - 1)
            low = int(math.floor(at))
            return [(low, 1 - (at - low)), (min(low + 1, n - 1), at - low)]

        out = np.zeros((*x.shape[:2], *size))
        for i, j in np.ndindex(*size):
            if mode == "nearest":
                out[:, :, i, j] = y[:, :, near(rows[i], x.shape[2]), near(columns[j], x.shape[3])]
            else:
                for (a, wa), (b, wb) in product(linear(rows[i], x.shape[2]), linear(columns[j], x.shape[3])):
                    out[:, :, i, j] += wa * wb * y[:, :, a, b]
        attrs = {"size": list(size), **({"mode": mode} if mode != "nearest" else {}), **({"coordinates": coordinates} if coordinates != "halfPixel" else {})}
        case("window", "resize2d", [x], out, **attrs)

    for mode, coordinates in product(("nearest", "bilinear"), ("halfPixel", "alignCorners", "asymmetric")):
        resize(rand(1, 2, 3, 4), (5, 7), mode, coordinates)
        resize(rand(1, 1, 5, 4), (3, 2), mode, coordinates)
        resize(rand(2, 1, 1, 2), (2, 2), mode, coordinates)
        resize(rand(1, 1, 3, 3), (1, 6), mode, coordinates)


# ---- nn


def softmaxed(x, axis):
    raised = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def normed(x, axes, epsilon):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)


def nn():
    def over(op, fn, x, axis, note=""):
        case("nn", op, [x], fn(f64(x), axis), note, axis=axis)

    def log_softmax(x, axis):
        shifted = x - np.max(x, axis=axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))

    def l2(x, axis):
        return x / np.sqrt((x * x).sum(axis=axis, keepdims=True))

    for op, fn in {"softmax": softmaxed, "logSoftmax": log_softmax, "l2Normalize": l2}.items():
        over(op, fn, rand(2, 3), 1)
        over(op, fn, rand(2, 3), 0)
        over(op, fn, rand(2, 3, 2), 1)
        over(op, fn, rand(3, 1), 1, "a size-1 axis")
        over(op, fn, np.array([[nan, 1], [2, 3]], F), 1, "NaN stays in its row")
        case("nn", op, [np.zeros((0, 2), F)], np.zeros((0, 2)), "no rows", axis=1)
    for op, fn in {"softmax": softmaxed, "logSoftmax": log_softmax}.items():
        over(op, fn, np.array([[1000, 999, -1000], [-1000, -1000, -1001]], F), 1, "large values do not overflow")
        over(op, fn, np.array([[-inf, 0, 1], [-inf, -inf, 2]], F), 1, "hidden places")
    over("l2Normalize", l2, np.array([[0, 0], [3, 4]], F), 1, "a zero vector has no direction")

    for x in (rand(2, 3), rand(1, 2, 4), rand(2, 1)):
        gain, bias = rand(x.shape[-1]), rand(x.shape[-1])
        for epsilon in (1e-5, 0.1):
            case("nn", "layerNorm", [x, gain, bias], normed(f64(x), -1, epsilon) * gain.astype(np.float64) + bias.astype(np.float64), epsilon=epsilon)
            case("nn", "rmsNorm", [x, gain], f64(x) / np.sqrt((f64(x) ** 2).mean(-1, keepdims=True) + epsilon) * f64(gain), epsilon=epsilon)
    x, gain, bias = np.full((1, 4), 3.5, F), rand(4), rand(4)
    case("nn", "layerNorm", [x, gain, bias], f64(bias)[None], "no variance", epsilon=1e-5)
    x = np.zeros((1, 4), F)
    case("nn", "rmsNorm", [x, gain], np.zeros((1, 4)), "zeros", epsilon=1e-5)

    for x, groups in ((rand(2, 4, 3), 2), (rand(1, 4, 2, 2), 4), (rand(1, 3, 2, 2), 1)):
        gain, bias = rand(x.shape[1]), rand(x.shape[1])
        grouped = f64(x).reshape(x.shape[0], groups, -1)
        column = (1, -1) + (1,) * (x.ndim - 2)
        result = normed(grouped, 2, 1e-5).reshape(x.shape) * f64(gain).reshape(column) + f64(bias).reshape(column)
        case("nn", "groupNorm", [x, gain, bias], result, epsilon=1e-5, groups=groups)
    for x in (rand(2, 3), rand(2, 3, 2, 2), rand(0, 2, 3)):
        gain, bias, mean = rand(x.shape[1]), rand(x.shape[1]), rand(x.shape[1])
        variance = rand(x.shape[1], low=0.1, high=2)
        column = (1, -1) + (1,) * (x.ndim - 2)
        g, b, m, v = [f64(t).reshape(column) for t in (gain, bias, mean, variance)]
        case("nn", "batchNorm", [x, gain, bias, mean, variance], (f64(x) - m) / np.sqrt(v + 1e-3) * g + b, epsilon=1e-3)

    erf = per_element(math.erf)
    sigmoid = lambda x: np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))
    activations = {
        "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
        "silu": lambda x: x * sigmoid(x),
        "quickGelu": lambda x: x * sigmoid(1.702 * x),
        "softplus": lambda x: np.logaddexp(0, x),
    }
    for op, fn in activations.items():
        for x in (rand(2, 3, low=-4, high=4), np.array([-30, -8, 0, 8, 30], F), rand(1, 1), np.zeros((0,), F), np.array([nan, inf], F)):
            case("nn", op, [x], fn(f64(x)), "special values" if np.isnan(x).any() else "")
    for x in (rand(2, 3, low=-4, high=4), np.array([-30, -8, 0, 8, 30], F)):
        y = f64(x)
        case("nn", "gelu", [x], 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))), approximate="tanh")

    for (batch, heads, tokens, channels), half in (((1, 2, 3, 4), 2), ((2, 1, 2, 6), 2), ((1, 1, 1, 2), 1), ((1, 1, 3, 8), 4)):
        x = rand(batch, heads, tokens, channels)
        angle = rand(tokens, half, low=-3, high=3)
        cos, sin = np.cos(angle).astype(F), np.sin(angle).astype(F)
        for interleaved in (False, True):
            y = f64(x).copy()
            for t, c in np.ndindex(tokens, half):
                i, j = (2 * c, 2 * c + 1) if interleaved else (c, c + half)
                z = (f64(x)[:, :, t, i] + 1j * f64(x)[:, :, t, j]) * (float(cos[t, c]) + 1j * float(sin[t, c]))
                y[:, :, t, i], y[:, :, t, j] = z.real, z.imag
            case("nn", "rotaryEmbedding", [x, cos, sin], y, "later channels pass" if 2 * half < channels else "", **({"interleaved": True} if interleaved else {}))


# ---- attention


def attention():
    def run(note="", sizes=(1, 2, 3, 4, 2), key_heads=None, value_channels=None, mask=None, bias=None, log_size=False, scale=0.5, causal=False, left=-1, right=-1, past=0, lse=False):
        batch, heads, queries, keys, channels = sizes
        key_heads = key_heads or heads
        query = rand(batch, heads, queries, channels)
        key = rand(batch, key_heads, keys, channels)
        value = rand(batch, key_heads, keys, value_channels or channels)
        extras, more = [], []
        scores = np.zeros((batch, heads, queries, keys))
        for b, h, i, j in np.ndindex(*scores.shape):
            scores[b, h, i, j] = scale * np.dot(f64(query)[b, h, i], f64(key)[b, h * key_heads // heads, j])
        if mask is not None:
            visible = rng.random((*mask, queries, keys)) < 0.6
            visible[..., 0] = True
            extras.append("mask")
            more.append(visible)
            scores = np.where(visible, scores, -inf)
        if bias is not None:
            added = rand(*bias, queries, keys)
            extras.append("bias")
            more.append(added)
            scores = scores + f64(added)
        if log_size:
            patches = np.log(rng.integers(1, 5, (batch, keys))).astype(F)
            extras.append("logSize")
            more.append(patches)
            scores = scores + f64(patches)[:, None, None, :]
        for i, j in np.ndindex(queries, keys):
            position = i + past
            if (causal and j > position) or (left >= 0 and j < position - left) or (right >= 0 and j > position + right):
                scores[:, :, i, j] = -inf
        weights = softmaxed(scores, 3)
        out = np.zeros((batch, heads, queries, value.shape[3]))
        for b, h in np.ndindex(batch, heads):
            out[b, h] = weights[b, h] @ f64(value)[b, h * key_heads // heads]
        attrs = {"extras": extras} if extras else {}
        attrs["scale"] = scale
        for name, given, usual in (("causal", causal, False), ("left", left, -1), ("right", right, -1), ("past", past, 0), ("logSumExp", lse, False)):
            if given != usual:
                attrs[name] = given
        peak = scores.max(3, keepdims=True)
        total = (np.log(np.exp(scores - peak).sum(3, keepdims=True)) + peak)[..., 0]
        case("attention", "attention", [query, key, value, *more], (out, total) if lse else out, note, **attrs)

    run()
    run("scale 1", scale=1)
    run("value channels of their own", value_channels=3)
    run("grouped heads", sizes=(2, 4, 2, 3, 2), key_heads=2)
    run("one key head", sizes=(1, 3, 2, 2, 2), key_heads=1)
    for mask in ((1, 1), (1, 2), (2, 1), (2, 2)):
        run(f"mask of {mask[0]} batch and {mask[1]} heads", sizes=(2, 2, 2, 3, 2), mask=mask)
        run(f"bias of {mask[0]} batch and {mask[1]} heads", sizes=(2, 2, 2, 3, 2), bias=mask)
    run("sizes of merged tokens", sizes=(2, 2, 2, 3, 2), log_size=True)
    run("causal", sizes=(1, 2, 4, 4, 2), causal=True)
    run("causal with a past", sizes=(1, 1, 2, 5, 2), causal=True, past=3)
    run("causal with more queries than keys", sizes=(1, 1, 4, 2, 2), causal=True)
    run("left window", sizes=(1, 1, 4, 4, 2), left=1)
    run("right window", sizes=(1, 1, 4, 4, 2), right=0)
    run("both windows", sizes=(1, 1, 5, 5, 2), left=1, right=2)
    run("causal window with a past", sizes=(1, 2, 3, 6, 2), causal=True, left=2, past=3)
    run("log-sum-exp", lse=True)
    run("log-sum-exp, causal", sizes=(1, 1, 3, 3, 2), causal=True, lse=True)
    run("one key", sizes=(1, 1, 2, 1, 3))
    run("one query, as in decoding", sizes=(1, 2, 1, 4, 2), causal=True, past=3, key_heads=1)
    for mask, bias, log_size, causal, grouped in product((None, (1, 1)), (None, (1, 4)), (False, True), (False, True), (False, True)):
        run("combined", sizes=(2, 4, 2, 3, 2), key_heads=2 if grouped else 4, mask=mask, bias=bias, log_size=log_size, causal=causal, lse=log_size != causal)
    run("everything", sizes=(2, 4, 3, 6, 3), key_heads=2, value_channels=2, mask=(2, 1), bias=(1, 4), log_size=True, scale=0.577, causal=True, right=1, past=3, lse=True)


# ---- tokens


def match(metric, r, protect):
    """bipartite_soft_matching of ToMe, in numpy."""
    x = f64(metric)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    scores = x[:, ::2] @ np.swapaxes(x[:, 1::2], 1, 2)
    if protect >= 1:
        scores[:, 0, :] = -inf
    if protect >= 2:
        scores[:, :, 0] = -inf
    best, partner = scores.max(-1), scores.argmax(-1)
    order = np.argsort(-best, axis=-1, kind="stable")
    kept, source = order[:, r:], order[:, :r]
    if protect >= 1:
        kept = np.sort(kept, axis=1)
    return kept.astype(I), source.astype(I), np.take_along_axis(partner, source, 1).astype(I)


def tokens():
    for (batch, count, channels), r, protect in (((1, 6, 3), 2, 0), ((2, 7, 4), 2, 1), ((2, 8, 3), 3, 2), ((1, 2, 2), 1, 0), ((1, 5, 2), 2, 0), ((1, 9, 3), 4, 1), ((1, 4, 3), 1, 2)):
        metric = rand(batch, count, channels)
        kept, source, destination = match(metric, r, protect)
        shown = {"protect": protect} if protect else {}
        case("tokens", "tokenMatch", [metric], (kept, source, destination), r=r, **shown)
        x = rand(batch, count, 2)
        for fold in ("sum", "max"):
            even, odd = f64(x)[:, ::2], f64(x)[:, 1::2].copy()
            for b in range(batch):
                (np.add if fold == "sum" else np.maximum).at(odd[b], destination[b], even[b, source[b]])
            left = np.take_along_axis(even, kept[..., None], 1)
            parts = [left[:, :1], odd[:, :1], left[:, 1:], odd[:, 1:]] if protect == 2 else [left, odd]
            case("tokens", "tokenMerge", [x, kept, source, destination], np.concatenate(parts, 1), **shown, **({"reduce": fold} if fold != "sum" else {}))
        merged = rand(batch, count - r, 2)
        out = np.zeros((batch, count, 2))
        for b in range(batch):
            unmerged, odd = f64(merged)[b, : kept.shape[1]], f64(merged)[b, kept.shape[1] :]
            out[b, 1::2] = odd
            out[b, 2 * kept[b]] = unmerged
            out[b, 2 * source[b]] = odd[destination[b]]
        case("tokens", "tokenUnmerge", [merged, kept, source, destination], out, tokens=count)
    metric = np.array([[[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]], F)
    case("tokens", "tokenMatch", [metric], match(metric, 2, 0), "ties go to the lowest index", r=2)


for build in (elementwise, reduce, shape, contraction, gather, window, nn, attention, tokens):
    build()
os.makedirs(FOLDER, exist_ok=True)
for family, cases in families.items():
    with open(os.path.join(FOLDER, f"{family}.json"), "w") as file:
        json.dump({"generator": "scripts/samples.py", "command": COMMAND, "numpy": np.__version__, "cases": cases}, file)
        file.write("\n")
