"""A real forward and backward pass of attention and of a small encoder, timed on one device.

``python -m mtbert.doctor.kernels cpu`` prints one JSON object with a list of :class:`PassTiming` under ``timings``. The
passes run in a process of their own, because a kernel that does not fit the hardware can end a process or never return.

Dimension key: N tokens of a batch, D width.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from mtbert.doctor.findings import Finding
from mtbert.messages import reason

if TYPE_CHECKING:
    import torch

MOST_SECONDS = 240.0  # a slow disk loads PyTorch in half a minute, and the first pass on a GPU compiles kernels
LENGTHS = (128, 127, 96, 64, 33, 32, 17, 9, 5, 3, 2, 1) * 2  # tokens of each sequence, 1,034 in all
_WIDTH, _HEADS, _LAYERS = 384, 6, 2  # the shape of MiniLM, with fewer layers
DIFFERENT = 0.05  # largest distance of results from those of float64 on the CPU, as a share of their length
SLOWER = 1.2  # how much slower precision auto may be than fp32 without advice


class PassTiming(TypedDict):
    """Seconds of one forward and backward pass in one precision, and the distance of its results from exact ones."""

    precision: str
    attention: float
    encoder: float
    distance: float  # as a share of the length of float64's results; nan or inf if a result is not finite


def computing() -> list[Finding]:
    """Returns a finding for the CPU and, if there is one, for the GPU: how long a forward and a backward pass take.

    A device is marked as broken if a pass fails on it or gives wrong results.
    """
    from mtbert import environment

    devices = dict.fromkeys(["cpu", environment.device("auto").type])
    busy = environment.others_load()
    found = [_judged(name, *_asked(name)) for name in devices]
    if busy and not found[0].broken:  # the first is the CPU
        beside = f"; measured while other programs wanted the cores too ({busy}), so it may be many times faster alone"
        found[0] = replace(found[0], text=found[0].text + beside)
    return found


def timed_passes(name: str) -> list[PassTiming]:
    """Times forward and backward passes of attention and of a small encoder on the device ``name``.

    The first item of the result has the times in fp32. If the precision ``auto`` means bf16 on this device, a second
    item has the times in bf16.
    """
    import torch

    from mtbert import environment

    device = torch.device(name)
    auto = environment.precision("auto", device)
    exact = _passes(torch.device("cpu"), torch.float64)
    found = [_timing("fp32", _passes(device, torch.float32), exact, device)]
    if auto != torch.float32:
        found.append(_timing("bf16", _passes(device, auto), exact, device))
    return found


Passes = tuple[Callable[[], "torch.Tensor"], Callable[[], "torch.Tensor"]]


def _passes(device: "torch.device", dtype: "torch.dtype") -> Passes:
    """Returns two functions, for attention and for an encoder. Each makes one pass and returns output and gradient."""
    import torch

    from mtbert.batch import Layout, Span
    from mtbert.model.attention import Groups, attend
    from mtbert.model.encoder import Encoder
    from mtbert.model.families import bert

    generator = torch.Generator().manual_seed(0)
    lengths = sorted(LENGTHS)
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    layout = Layout(tuple(ends), {"": Span(0, len(lengths), 0, ends[-1])})
    shape = {"vocab_size": 999, "hidden_size": _WIDTH, "num_hidden_layers": _LAYERS, "num_attention_heads": _HEADS}
    shape |= {"intermediate_size": 4 * _WIDTH, "max_position_embeddings": 128}
    encoder = Encoder(bert.encoder(bert.BertConfig.model_validate(shape)))
    for values in encoder.parameters():
        torch.nn.init.normal_(values, std=0.05, generator=generator)
    encoder.to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    ids_N = torch.randint(999, (ends[-1],), generator=generator).to(device)
    qkv_N3D = torch.randn(ends[-1], 3 * _WIDTH, generator=generator).to(device, dtype)
    weights_ND = torch.randn(ends[-1], _WIDTH, generator=generator).to(device)

    def attention() -> torch.Tensor:
        leaf = qkv_N3D.clone().requires_grad_()
        mixed_ND = attend(leaf, Groups(layout, device), _HEADS, 0.0, None)
        (gradient,) = torch.autograd.grad((mixed_ND * weights_ND).sum(), leaf)
        return torch.cat([mixed_ND.detach().flatten(), gradient.flatten()])

    def encode() -> torch.Tensor:
        groups = Groups(layout, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            x_ND = encoder.embed(ids_N, torch.zeros_like(ids_N), groups.positions_N, None)
            states_ND = encoder.encode(x_ND, groups, None)
        found = torch.autograd.grad((states_ND * weights_ND).sum(), encoder.word_embedding.weight)
        return torch.cat([states_ND.detach().flatten(), found[0].flatten()])

    return attention, encode


def _timing(precision: str, passes: Passes, exact: Passes, device: "torch.device") -> PassTiming:
    import torch

    distances = []
    for one, reference in zip(passes, exact, strict=True):
        found, wanted = one().to("cpu", torch.float64), reference()
        distances.append(float((found - wanted).norm() / wanted.norm()))
    attention, encode = (_seconds(one, device) for one in passes)
    return PassTiming(precision=precision, attention=attention, encoder=encode, distance=max(distances))


def _seconds(one: Callable[[], object], device: "torch.device") -> float:
    """Calls ``one`` four times, and returns the shortest time of the last three calls, in seconds."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        one()
        if device.type != "cpu":
            getattr(__import__("torch"), device.type).synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _asked(name: str) -> tuple[list[PassTiming] | None, str]:
    """Measures forward and backward passes on the device ``name``, in another process.

    Returns the times and an empty text. If the measurement fails, returns None and the reason.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mtbert.doctor.kernels", name],
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer after {MOST_SECONDS:.0f} seconds"
    except OSError as error:
        return None, reason(error)
    if done.returncode == 0:
        return json.loads(done.stdout)["timings"], ""
    last = (done.stderr.strip().splitlines() or [f"ended with the signal {-done.returncode}"])[-1]
    return None, reason(ValueError(last))


def _judged(name: str, timings: list[PassTiming] | None, failure: str) -> Finding:
    """Returns the finding about one device."""
    topic, advice = f"on {name}", []
    if timings is None:
        advice.append(f"A forward and backward pass fails on {name}. Install PyTorch again, or use another device.")
        return Finding(topic, f"fails: {failure}", advice, broken=True, facts={"failure": failure})
    facts: dict[str, Any] = {
        t["precision"]: {
            "attention": t["attention"],
            "encoder": t["encoder"],
            "distance": t["distance"] if math.isfinite(t["distance"]) else None,  # JSON has no nan
        }
        for t in timings
    }
    times = [
        f"{t['precision']} {1e3 * t['attention']:.1f} ms for attention, {1e3 * t['encoder']:.1f} ms for a small encoder"
        for t in timings
    ]
    text = f"forward and backward of {sum(LENGTHS):,} tokens of width {_WIDTH}: {'; '.join(times)}"
    wrong = [t["precision"] for t in timings if not t["distance"] <= DIFFERENT]
    first, last = timings[0], timings[-1]
    if wrong:
        text += f"; results in {wrong[-1]} are wrong"
        advice.append(f"Results in {wrong[-1]} are wrong on {name}. Update PyTorch and the drivers of the device.")
    elif last["encoder"] > SLOWER * first["encoder"]:
        advice.append(f"On {name}, {last['precision']} is slower than fp32 here. Set train.precision: fp32.")
    return Finding(topic, text, advice, broken=bool(wrong), facts=facts)


if __name__ == "__main__":
    print(json.dumps({"timings": timed_passes(sys.argv[1])}))
