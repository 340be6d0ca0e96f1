"""1. Ceilings: what decoding alone, encoding alone and matrix products alone reach on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import decoding, encoding
from .child import ChildError
from .context import Context
from .report import Row, Section, Target, number
from .timing import Rounds, alternate

ENCODER_SHARE = 0.85
GPU_RATE = 30_000.0


def measure(context: Context) -> Section:
    """Decode, decode and resize, encode, multiply."""
    rows = [row for kind in context.sizes.resolutions for row in _decoding(context, kind)]
    context.drop("decoder", *(f"plain decoder {core}" for core in range(context.cores)))
    found = _encoding(context)
    rows += _encoder_rows(context, found)
    shape = encoding.shape_of(context.model)
    notes = [
        f"Decoding: {context.cores} processes, spans of at least 500 frames as extract cuts them. 'Decode and resize' "
        "runs through extract's own worker pool, whose pictures are dropped; 'decode' calls the same decoder with a "
        "sink that drops whole frames.",
        f"Products: the four of each of the {shape.layers} layers of {context.model} at batch x {shape.tokens} rows, "
        "the weights of all layers in turn; on a CPU one thread and one batch per core, as the encoder computes. "
        "'linear' is torch.nn.functional.linear; 'laid out' are the same products with weights laid out for oneDNN "
        "beforehand, as the encoder calls them where it can; the roofline is the faster of the two.",
        f"Roofline: FLOP/s / {number(shape.frame_flop / 1e9)} GFLOP a frame.",
    ]
    return Section("1. Ceilings", rows, notes)


def _decoding(context: Context, kind: str) -> list[Row]:
    repeats = decoding.warm_up(context, kind)
    decoding.plain_rate(context, kind, 1)
    sides = {
        "decode": partial(decoding.plain_rate, context, kind, repeats),
        "resize": partial(decoding.resized_rate, context, kind, repeats),
    }
    rounds = alternate(sides, context.sizes.rounds)
    return [
        Row(f"decode, {kind}", rounds.median("decode"), "frames/s", runs=rounds.count),
        Row(
            f"decode and resize, {kind}; ratio to decode",
            rounds.median("resize"),
            "frames/s",
            rounds.ratio("resize", "decode"),
            runs=rounds.count,
        ),
    ]


def _encoding(context: Context) -> dict[tuple[str, int], Rounds]:
    """What each precision and batch reaches: encoder in pictures/s, products in FLOP/s."""
    precisions = ("fp32", "bf16", "fp16") if context.on_gpu else ("fp32", "bf16")
    batches = context.sizes.gpu_batches if context.on_gpu else context.sizes.cpu_batches
    kinds = ("linear",) if context.on_gpu else ("linear", "laid out")
    found = {}
    for precision in precisions:
        for batch in batches:
            sides: dict[str, Callable[[], float]] = {"encoder": partial(encoder_rate, context, precision, batch)}
            sides |= {kind: partial(_product_rate, context, precision, batch, kind) for kind in kinds}
            found[precision, batch] = alternate(sides, context.sizes.rounds)
    context.drop("products")
    return found


def encoder_rate(context: Context, precision: str | None = None, batch: int | None = None) -> float:
    """Pictures/s of the encoder alone, by default in the precision and batch that extract chooses."""
    precision, batch = precision or context.placement["precision"], batch or context.placement["batch_size"]
    asked = {"weights": context.weights(), "model": context.model, "precision": precision, "batch": batch}
    return float(context.child("encoder").call(encoding.run_encoder, **asked, seconds=context.sizes.seconds))


def _product_rate(context: Context, precision: str, batch: int, kind: str) -> float:
    """FLOP/s; 0 where torch has no such products here."""
    asked = {"model": context.model, "precision": precision, "batch": batch, "device": context.placement["device"]}
    asked |= {"seconds": context.sizes.seconds, "packed": kind == "laid out"}
    try:
        return float(context.child("products").call(encoding.run_products, **asked))
    except ChildError:
        if kind == "linear":
            raise
        return 0.0


def _encoder_rows(context: Context, found: dict[tuple[str, int], Rounds]) -> list[Row]:
    flop = encoding.shape_of(context.model).frame_flop
    best = max(found, key=lambda key: found[key].median("encoder"))
    rows = []
    for (precision, batch), rounds in found.items():
        what, is_best = f"{precision}, batches of {batch}", (precision, batch) == best
        rows += [
            Row(f"products, {what}, {kind}", rounds.median(kind) / 1e12, "TFLOP/s", runs=rounds.count)
            for kind in rounds.values
            if kind != "encoder" and rounds.median(kind)
        ]
        roofline = partial(_roofline, flop)
        rows.append(Row(f"roofline, {what}", rounds.median_of(roofline), "frames/s", runs=rounds.count))
        target = Target(">=", ENCODER_SHARE) if is_best else None
        label = f"encoder, {what}{' (the fastest)' if is_best else ''}; ratio to its roofline"
        ratio = rounds.ratio_to("encoder", roofline)
        rows.append(Row(label, rounds.median("encoder"), "frames/s", ratio, target, rounds.count))
    if context.on_gpu:
        fastest, bound = found[best].median("encoder"), Target(">=", GPU_RATE, of_value=True)
        rows.append(Row("encoder, the fastest (the target is for an H200)", fastest, "frames/s", None, bound))
    return rows


def _roofline(flop: float, one: dict[str, float]) -> float:
    """Frames/s that the faster kind of products would allow, in one round."""
    return max(rate for kind, rate in one.items() if kind != "encoder") / flop
