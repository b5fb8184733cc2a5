"""A step of train_wide_deep against plain torch and DeepCTR-Torch: the same rows, sizes, batch and precision.

Run: .venv/bin/python bench/wide_deep.py [--rows 400000] [--threads 2] [--repeats 3] [--batch 4096] [--peer FOLDER]

26 slots of up to 100,000 values (Zipf) in tables of 2^17 rows × 16, 13 numbers, about 8% clicks that hang on
values, on pairs of values and on numbers; hidden layers 256 and 128; batches of 4096 (`--batch`: the comparison
alone, with others, at the learning rates of these); fp32. One pass over the training rows, which lie in memory on
every side; NE on 100,000 other rows. Each fit runs in a process of its own, in turn; the first WARM steps are not
timed. Wide & deep: a weight for each value beside the hidden layers. DCN-V2: three cross layers beside them, of
rank 64 (as the config has it unless told) and full.

- ours: `Learner.step`: row-wise Adagrad (the default) or Adam, FTRL of the wide part (L1 is 0 here, as nobody else
  has it). Its threads share rows, and torch has one (the others' spin while they wait, as torch has it).
- plain torch: one fused EmbeddingBag(sparse=True) for all slots and one for the wide part, their places and
  standardised numbers made ahead; torch's sparse Adagrad and dense Adagrad, or SparseAdam and Adam. It counts
  as the peer with whichever is faster, and its NE with whichever is better.
- DeepCTR-Torch: WDL, DCN (matrix) and, of rank 64, DCNMix (one expert) by `fit`, no L2, Adagrad; its rows are
  fewer (`--peer-rows`), its NE is of these, and so is the NE of ours that stands beside it. `--peer` names a
  folder that it and tqdm were installed into (`pip install --no-deps --target FOLDER deepctr-torch tqdm`). On
  import it asks the network for a newer version of itself: a stand-in for `requests`, which is all that is changed
  in it, keeps it from that.
- learning rates: of each side and architecture the best of GRID on other rows (`--tune` prints all).
- two processes: ours, by torchrun, each with one thread and half of each batch, against one with one thread.
- bf16 (`--study` runs this alone): ours on the first `--peer-rows` rows with the layers in fp32 and in bf16, from
  the same SEEDS; what it costs in NE.
- GPU (`--gpu` runs this alone), where there is one: wide & deep with 39 slots, hidden layers 1024, 512, 256 and
  batches of 65,536, fp32 and bf16; `--steps` of them, with the CPU's learning rates, which are not tuned for this.
  Ours takes its rows from the host's memory, plain torch has them on the GPU from the beginning. `phases` is ours
  with the same rows from a Delta table by `clickmill.loader`, which decodes ahead on `--threads` threads; it waits
  for the GPU before and after each phase, so that the time within is its own, which costs speed. `rest` lies
  between the phases: the sums of equal values' gradients, the loss, checks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from logreg import machine
from numpy.typing import NDArray

VALUES, BITS, DIM, NUMBERS, CROSSES = 100_000, 17, 16, 13, 3
TEST = 100_000
ROW_GROUP, FILE = 1 << 17, 1 << 20
"""Rows, of the table that `phases` reads."""
WARM = 5
SEEDS = (1, 2, 3)
SEED, TUNE_SEED = 7, 8
"""Of the rows."""
OURS, TORCH = ("ours adagrad", "ours adam"), ("torch adagrad", "torch adam")
SIDES = (*OURS, *TORCH, "deepctr")
GPU_SIDES = ("ours adagrad", "torch adagrad", "phases")
RANK = 64
ARCHS = {"wide_deep": None, f"dcn_v2_of_rank_{RANK}": RANK, "dcn_v2_full": None}
"""By name, the rank of the cross layers' matrices."""
RATES = {
    "ours adagrad": dict(zip(ARCHS, (0.01, 0.005, 0.01), strict=True)),
    "ours adam": dict(zip(ARCHS, (0.004, 0.002, 0.004), strict=True)),
    "torch adagrad": dict.fromkeys(ARCHS, 0.01),
    "torch adam": dict.fromkeys(ARCHS, 0.004),
    "deepctr": dict.fromkeys(ARCHS, 0.01),
    "phases": dict.fromkeys(ARCHS, 0.01),
}
"""By side and architecture: the best of `--tune`, but for DeepCTR-Torch, which has plain torch's."""
GRID = {"adagrad": (0.005, 0.01, 0.02, 0.05), "adam": (0.0005, 0.001, 0.002, 0.004)}
FLOORS = {"deepctr": 5.0, "torch": 1.3}


class Sizes(NamedTuple):
    slots: int
    hidden: tuple[int, ...]
    batch: int
    wide_bits: int
    """Of ours, whose wide part has one table for all slots."""


SIZES = {
    "cpu": Sizes(26, (256, 128), 4096, 22),
    "cuda": Sizes(39, (1024, 512, 256), 65_536, 23),
    "tiny": Sizes(39, (32, 16), 512, 23),
}
"""By device; the tiny ones try the GPU's part where there is no GPU."""


class Data(NamedTuple):
    """n rows."""

    hashes: NDArray[np.int32]
    """(n, slots); values of a slot lie at different lowest BITS bits, but for a few."""
    real: NDArray[np.float32]
    label: NDArray[np.float32]

    def cut(self, first: int, last: int) -> Data:
        return Data(*(part[first:last] for part in self))


class Batch(NamedTuple):
    whole: NDArray[np.int32]
    real: NDArray[np.float32]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]

    def sources(self, _rows: NDArray[np.int64]) -> tuple[str, ...]:
        return ("memory",)


def main() -> None:
    asked = _asked()
    if asked.side:
        print(json.dumps(fit(asked)))
        return
    print(json.dumps({**machine(), "threads": asked.threads, "rows": asked.rows}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        asked.work = Path(folder)
        if asked.gpu or asked.rehearse:
            on_gpu(asked)
            return
        write(asked.work, asked.rows, SIZES["cpu"].slots, seed=TUNE_SEED if asked.tune else SEED)
        if asked.tune:
            tune(asked)
            return
        if asked.study:
            study(asked)
            return
        for arch in ARCHS:
            compare(asked, arch)
        if asked.batch:
            return
        scale(asked)
        study(asked)
        on_gpu(asked)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--peer-rows", type=int, default=150_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, help="the comparison alone, with so many rows a step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="folder that deepctr-torch was installed into")
    parser.add_argument("--tune", action="store_true", help="NE by learning rate, on rows of another seed")
    parser.add_argument("--study", action="store_true", help="what bf16 costs in NE")
    parser.add_argument("--gpu", action="store_true", help="the fits on a GPU alone")
    parser.add_argument("--steps", type=int, default=200, help="of each fit on a GPU")
    parser.add_argument("--rehearse", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=(*SIDES, "phases"), help=argparse.SUPPRESS)
    parser.add_argument("--arch", choices=ARCHS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="fp32", help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=42, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.sizes = SIZES[asked.sizes or asked.device]
    if asked.batch:
        asked.sizes = asked.sizes._replace(batch=asked.batch)
    return asked


def tell(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def compare(asked: argparse.Namespace, arch: str) -> None:
    """All sides in turn, so many times, each turn with a seed of its own; a JSON object for each fit, and one of
    medians and ratios."""
    sides = [side for side in SIDES if side != "deepctr" or asked.peer]
    fits: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for turn in range(asked.repeats):
        for side in sides:
            rows = asked.peer_rows if side == "deepctr" else asked.rows
            fits[side].append(child(asked, side, arch, rows=rows, seed=turn + 1))
            tell(fits[side][-1])
    medians = {
        side: {
            name: statistics.median(fit[name] for fit in found) for name in ("rows_per_s", "rows_per_cpu_s", "ne")
        }
        for side, found in fits.items()
    }
    plain = [medians[side] for side in TORCH]
    found: dict[str, Any] = {"floor": FLOORS["torch"], "ne_torch": min(one["ne"] for one in plain)}
    for side in OURS:
        for by in ("rows_per_s", "rows_per_cpu_s"):
            found[f"{side}, times plain torch, {by}"] = round(medians[side][by] / max(one[by] for one in plain), 2)
    if asked.peer:
        found |= {"floor_deepctr": FLOORS["deepctr"], "ne_deepctr": medians["deepctr"]["ne"]}
        for side in OURS:
            times = medians[side]["rows_per_s"] / medians["deepctr"]["rows_per_s"]
            found[f"{side}, times deepctr"] = round(times, 2)
            found[f"{side}, ne of its rows"] = child(asked, side, arch, rows=asked.peer_rows, seed=1)["ne"]
    tell({"arch": arch, "medians": medians, **found})


def scale(asked: argparse.Namespace) -> None:
    """One process and two, a thread each."""
    asked = argparse.Namespace(**{**vars(asked), "threads": 1})
    one, two = ([child(asked, OURS[0], "wide_deep", ranks=n) for _ in range(asked.repeats)] for n in (1, 2))
    rates = [statistics.median(fit["rows_per_s"] for fit in fits) for fits in (one, two)]
    nes = [fits[0]["ne"] for fits in (one, two)]
    megabytes = two[0]["bytes_per_step"] / 2**20
    tell(
        {
            "processes": [1, 2],
            "rows_per_s": rates,
            "times": round(rates[1] / rates[0], 2),
            "ne": nes,
            "mb": megabytes,
        }
    )


def tune(asked: argparse.Namespace) -> None:
    for arch in ARCHS:
        for side in (*OURS, *TORCH):
            for rate in GRID[side.split()[1]]:
                found = child(asked, side, arch, rate=rate)
                tell({"arch": arch, "side": side, "rate": rate, "ne": found["ne"]})


def study(asked: argparse.Namespace) -> None:
    """NE and speed of both precisions, from the same weights on the same rows, seed by seed."""
    for arch in ARCHS:
        fits = {
            precision: [
                child(asked, OURS[0], arch, rows=asked.peer_rows, precision=precision, seed=seed) for seed in SEEDS
            ]
            for precision in ("fp32", "bf16")
        }
        nes = {precision: [fit["ne"] for fit in found] for precision, found in fits.items()}
        rates = {name: statistics.median(fit["rows_per_s"] for fit in found) for name, found in fits.items()}
        cost = [round(b - a, 5) for a, b in zip(nes["fp32"], nes["bf16"], strict=True)]
        tell({"study": arch, "ne": nes, "bf16_costs": cost, "rows_per_s": rates})


def on_gpu(asked: argparse.Namespace) -> None:
    """Both sides and our phases in turn, so many times; `--rehearse`: on the CPU, with tiny sizes."""
    there = has_cuda() and not asked.rehearse
    if not there and not asked.rehearse:
        tell({"gpu": "not run on a GPU"})
        return
    tell({"gpu": gpu_name() if there else "none: rehearsed on the CPU with tiny sizes, so that no figure counts"})
    where = {"device": "cuda"} if there else {"device": "cpu", "sizes": "tiny"}
    sizes, work = SIZES["cuda" if there else "tiny"], asked.work / "gpu"
    rows = asked.steps * sizes.batch
    write(work, rows, sizes.slots)
    write_table(work, rows)
    for _ in range(asked.repeats):
        for precision in ("fp32", "bf16"):
            for side in GPU_SIDES:
                tell(child(asked, side, "wide_deep", rows=rows, work=work, precision=precision, **where))


def child(asked: argparse.Namespace, side: str, arch: str, **changes: Any) -> dict[str, Any]:
    """One fit in a process (or two) of its own."""
    options = {"rows": asked.rows, "threads": asked.threads, "work": asked.work, "side": side, "arch": arch}
    options |= {name: value for name in ("peer", "batch") if (value := getattr(asked, name))}
    given = [text for name, value in (options | changes).items() for text in (f"--{name}", str(value))]
    start = [sys.executable, __file__]
    if changes.get("ranks", 1) > 1:
        ranks = str(changes["ranks"])
        start = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            ranks,
            __file__,
        ]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(asked.threads))
    environment = {**os.environ, **threads}
    done = subprocess.run([*start, *given], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(
        next(line for line in done.stdout.splitlines()[::-1] if line.startswith("{"))
    )
    return found


# --- the rows ---------------------------------------------------------------------------------


def write(folder: Path, rows: int, slots: int, seed: int = SEED) -> None:
    folder.mkdir(exist_ok=True)
    for name, part in zip(Data._fields, made(rows + TEST, slots, seed), strict=True):
        np.save(folder / f"{name}.npy", part)


def read(folder: Path, rows: int) -> tuple[Data, Data]:
    """The first rows to train on, and the last for the test."""
    every = Data(*(np.load(folder / f"{name}.npy") for name in Data._fields))
    return every.cut(0, rows), every.cut(len(every.label) - TEST, len(every.label))


def write_table(folder: Path, rows: int) -> None:
    """The rows to train on as a Delta table."""
    import pyarrow as pa
    from deltalake import WriterProperties, write_deltalake

    train, _ = read(folder, rows)
    properties = WriterProperties(max_row_group_size=ROW_GROUP)
    for begin in range(0, rows, FILE):
        part = train.cut(begin, min(begin + FILE, rows))
        columns = {f"s_{n}": pa.array(column) for n, column in enumerate(hashed(part).T)}
        columns |= {f"n_{n}": pa.array(column, from_pandas=True) for n, column in enumerate(part.real.T)}
        table = pa.table({**columns, "label": part.label})
        write_deltalake(folder / "table", table, mode="append", writer_properties=properties)


def made(n: int, slots: int, seed: int) -> Data:
    world, rng = np.random.default_rng(99), np.random.default_rng(seed)
    hashes = np.empty((n, slots), np.int32)
    logit = np.full(n, -3.2)
    before = np.zeros((n, 4))
    for slot in range(slots):
        values = (rng.zipf(1.2, n) - 1) % VALUES
        hashes[:, slot] = world.permutation(1 << BITS)[:VALUES][values]
        if slot % 2 == 0:
            logit += world.normal(scale=0.35, size=VALUES)[values]
        traits = world.normal(scale=0.6, size=(VALUES, 4))[values]
        if slot % 4 == 3:
            logit += (traits * before).sum(axis=1) * 0.5
        before = traits
    real = rng.lognormal(sigma=1.5, size=(n, NUMBERS)).astype(np.float32)
    logit += np.log1p(real[:, :4]) @ np.array([0.3, -0.3, 0.2, -0.2])
    real[rng.random(real.shape) < 0.1] = np.nan
    return Data(hashes, real, (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32))


# --- the sides --------------------------------------------------------------------------------


def fit(asked: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1 if asked.side in (*OURS, "phases") else asked.threads)
    train, test = read(asked.work, asked.rows)
    sides: dict[str, Callable[..., dict[str, Any]]] = {
        **dict.fromkeys(OURS, ours),
        "phases": phases,
        "deepctr": deepctr,
    }
    own = {"rate": asked.rate or RATES[asked.side][asked.arch]}
    found = sides.get(asked.side, plain_torch)(asked, train, test, **own)
    if asked.device == "cuda":
        found["gpu_peak_mb"] = torch.cuda.max_memory_allocated() >> 20
    p = found.pop("p")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
    head = {"side": asked.side, "arch": asked.arch, "rows": asked.rows, **own}
    head |= {"batch": asked.sizes.batch, "device": asked.device, "precision": asked.precision}
    return {**head, **found, "ne": round(ne_of(test.label, p), 5), "peak_mb": peak}


def ne_of(label: NDArray[np.float32], p: NDArray[np.floating]) -> float:
    from clickmill.metrics import normalized_entropy

    return normalized_entropy(label, p)


def timed(asked: argparse.Namespace, steps: Iterator[int]) -> dict[str, Any]:
    """What the steps after the first WARM take; each says how many rows it took."""
    done, wall, cpu = 0, 0.0, 0.0
    for step, own in enumerate(steps):
        done += own if step >= WARM else 0
        if step == WARM - 1:
            wait(asked.device)
            wall, cpu = time.perf_counter(), time.process_time()
    wait(asked.device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "rows_per_s": round(done / wall),
        "rows_per_cpu_s": round(done / cpu),
        "timed_rows": min(done, asked.rows),
    }


def wait(device: str) -> None:
    """Until a GPU has done all that it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def ours(asked: argparse.Namespace, train: Data, test: Data, *, rate: float) -> dict[str, Any]:
    batch, whole = asked.sizes.batch, hashed(train)
    with team_of(asked.ranks, asked.work) as team:
        learner = learner_of(asked, train, team, rate)

        def steps() -> Iterator[int]:
            for step, begin in enumerate(range(0, asked.rows, batch)):
                end = min(begin + batch, asked.rows)
                cut = slice(
                    begin + team.rank * (end - begin) // team.size,
                    begin + (team.rank + 1) * (end - begin) // team.size,
                )
                label = train.label[cut]
                learner.step(Batch(whole[cut], train.real[cut], label, np.ones_like(label)), step=step)
                yield end - begin

        found = timed(asked, steps())
        per_step = team.bytes_sent // -(-asked.rows // batch)
    seconds = {name: round(value, 3) for name, value in learner.seconds.items()}
    return {**found, "bytes_per_step": per_step, "seconds": seconds, "p": said(asked, learner, test)}


def phases(asked: argparse.Namespace, train: Data, test: Data, *, rate: float) -> dict[str, Any]:
    """Ours with rows from the table, and the share of the time that each phase takes."""
    from clickmill import reader
    from clickmill.loader import Columns, Loader, counted

    with team_of(1, asked.work) as team:
        learner = learner_of(asked, train, team, rate)
    wait_for_phases(learner, asked.device)
    pieces = counted(
        reader.plan(str(asked.work / "table"), version=-(-asked.rows // FILE) - 1, shards=1)[0].pieces
    )
    columns = Columns(learner.net.layout.whole, learner.net.layout.numbers)
    ahead = {"threads": asked.threads, "ahead": asked.threads}
    loader = Loader(pieces, columns, batch_rows=asked.sizes.batch, seed=asked.seed, **ahead)

    def steps() -> Iterator[int]:
        batches = loader.epoch(0)
        for step in range(loader.steps):
            with learner._timed("reader"):
                batch = next(batches)
            learner.step(batch, step=step)
            yield batch.rows
            if step == WARM - 1:
                learner.seconds = dict.fromkeys(learner.seconds, 0.0)

    found = timed(asked, steps())
    whole = found["timed_rows"] / found["rows_per_s"]
    shares = {name: seconds / whole for name, seconds in learner.seconds.items()}
    shares["rest"] = 1 - sum(shares.values())
    shares = {name: round(share, 3) for name, share in shares.items()}
    return {**found, "shares": shares, "p": said(asked, learner, test)}


def wait_for_phases(learner: Any, device: str) -> None:
    """From now on a phase begins and ends with the device idle; what is sent there is a phase of its own."""
    plain, moved = learner._timed, learner._moved
    learner.seconds = {"reader": 0.0, "host_to_device": 0.0, **learner.seconds}

    @contextmanager
    def alone(phase: str) -> Iterator[None]:
        wait(device)
        with plain(phase):
            yield
            wait(device)

    def sent(part: NDArray[Any]) -> Any:
        with alone("host_to_device"):
            return moved(part)

    learner._timed, learner._moved = alone, sent


def learner_of(asked: argparse.Namespace, train: Data, team: Any, rate: float) -> Any:
    from clickmill.nets.layout import Layout
    from clickmill.nets.net import net_of
    from clickmill.nets.standard import moments, standard_of
    from clickmill.specs import WideDeepSpec
    from clickmill.train.wide_deep.learner import Learner

    sizes = asked.sizes
    slots = tuple(f"s_{n}" for n in range(sizes.slots))
    dcn = asked.arch != "wide_deep"
    settings = {"arch": "dcn_v2" if dcn else "wide_deep", "hidden": sizes.hidden, "learning_rate": rate}
    settings |= {"cross_layers": CROSSES, "cross_rank": ARCHS[asked.arch], "seed": asked.seed}
    settings |= {"optimizer": "adam" if asked.side == "ours adam" else "adagrad"}
    spec = WideDeepSpec.model_validate({**settings, "ftrl": {"l1": 0.0}, "precision": asked.precision})
    numbers = tuple(f"n_{n}" for n in range(NUMBERS))
    tables = (DIM,) * sizes.slots, (BITS,) * sizes.slots, tuple(range(sizes.slots))
    layout = Layout(slots, *tables, numbers, () if dcn else slots, sizes.wide_bits, 1)
    q = float(train.label.mean())
    net = net_of(spec, layout, standard_of(moments(train.real)), float(np.log(q / (1 - q))), threads=asked.threads)
    return Learner(net.to(asked.device), spec, team)


def said(asked: argparse.Namespace, learner: Any, test: Data) -> NDArray[np.float64]:
    whole, batch = hashed(test), asked.sizes.batch
    parts = [slice(at, at + batch) for at in range(0, TEST, batch)]
    return sigmoid(np.concatenate([learner.margins(whole[part], test.real[part]) for part in parts]))


def hashed(data: Data) -> NDArray[np.int32]:
    """Above the lowest BITS bits a slot's values have the slot's own ones, as hashes do."""
    own = np.random.default_rng(5).permutation(2**14)[: data.hashes.shape[1]]
    return data.hashes | (own << BITS).astype(np.int32)


def team_of(ranks: int, work: Path) -> Any:
    from contextlib import nullcontext

    from clickmill.train.wide_deep import team

    return nullcontext(team.Alone()) if ranks == 1 else team.joined("torch", meeting=work)


def plain_torch(asked: argparse.Namespace, train: Data, test: Data, *, rate: float) -> dict[str, Any]:
    """What a good engineer writes by hand."""
    import torch
    from torch import nn

    from clickmill.nets.standard import moments, standard_of

    torch.manual_seed(asked.seed)
    standard = standard_of(moments(train.real))
    slots, hidden_widths, batch, _ = asked.sizes
    width, rank, dcn = slots * DIM + 2 * NUMBERS, ARCHS[asked.arch], asked.arch != "wide_deep"

    def ready(data: Data) -> tuple[torch.Tensor, ...]:
        x = (np.log1p(data.real) - standard.mean) * standard.scale
        missing = np.isnan(x)
        numbers = np.concatenate([np.where(missing, 0, x), missing], axis=1).astype(np.float32)
        places = data.hashes + (np.arange(slots, dtype=np.int32) << BITS)
        return tuple(torch.from_numpy(part).to(asked.device) for part in (places, numbers, data.label))

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.crosses = nn.ModuleList(
                nn.Linear(width, width)
                if rank is None
                else nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
                for _ in range(CROSSES)
            )

        def forward(self, first: torch.Tensor) -> torch.Tensor:
            x = first
            for layer in self.crosses:
                x = first * layer(x) + x
            return x

    q = float(train.label.mean())
    embedding = nn.EmbeddingBag(slots << BITS, DIM, mode="sum", sparse=True).to(asked.device)
    nn.init.normal_(embedding.weight, 0, 0.01)
    wide = nn.EmbeddingBag(slots << BITS, 1, mode="sum", sparse=True).to(asked.device)
    nn.init.zeros_(wide.weight)
    layers: list[nn.Module] = []
    before = width
    for out in hidden_widths:
        layers += [nn.Linear(before, out), nn.ReLU(inplace=True)]
        before = out
    hidden, crosses = nn.Sequential(*layers), Crossed()
    head = nn.Linear(before + width * dcn, 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, np.log(q / (1 - q)))
    dense = nn.ModuleList([hidden, head, *([crosses] if dcn else [])]).to(asked.device)
    tables = [embedding.weight, *([] if dcn else [wide.weight])]
    adam = asked.side == "torch adam"
    sparse_optimizer = (torch.optim.SparseAdam if adam else torch.optim.Adagrad)(tables, lr=rate)
    dense_optimizer = (torch.optim.Adam if adam else torch.optim.Adagrad)(dense.parameters(), lr=rate)

    def margins(places: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        x = torch.cat([embedding(places.view(-1, 1)).view(len(places), -1), numbers], dim=1)
        with torch.autocast(asked.device, torch.bfloat16, enabled=asked.precision == "bf16"):
            made = torch.cat([crosses(x), hidden(x)], dim=1) if dcn else hidden(x)
        out = head(made.float())[:, 0]
        return out if dcn else out + wide(places)[:, 0]

    places, numbers, label = ready(train)

    def steps() -> Iterator[int]:
        for begin in range(0, asked.rows, batch):
            cut = slice(begin, begin + batch)
            loss = nn.functional.binary_cross_entropy_with_logits(margins(places[cut], numbers[cut]), label[cut])
            sparse_optimizer.zero_grad()
            dense_optimizer.zero_grad()
            loss.backward()
            sparse_optimizer.step()
            dense_optimizer.step()
            if not np.isfinite(loss.item()):
                raise SystemExit("the loss is not finite")
            yield len(label[cut])

    found = timed(asked, steps())
    with torch.no_grad():
        test_places, test_numbers, _ = ready(test)
        pairs = zip(test_places.split(batch), test_numbers.split(batch), strict=True)
        said = torch.cat([margins(*pair) for pair in pairs])
    return {**found, "p": sigmoid(said.cpu().numpy())}


def deepctr(asked: argparse.Namespace, train: Data, test: Data, *, rate: float) -> dict[str, Any]:
    import torch

    sys.path.insert(0, str(asked.peer))
    sys.modules["requests"] = ModuleType("requests")  # (it would ask for its newest version)
    from deepctr_torch.inputs import DenseFeat, SparseFeat
    from deepctr_torch.models import DCN, WDL, DCNMix

    from clickmill.nets.standard import moments, standard_of

    standard = standard_of(moments(train.real))
    slots, hidden, batch, _ = asked.sizes
    names = [f"C{n}" for n in range(slots)], [f"I{n}" for n in range(NUMBERS)]
    sparse = [SparseFeat(name, 1 << BITS, embedding_dim=DIM) for name in names[0]]
    features = [*sparse, *(DenseFeat(name, 1) for name in names[1])]

    def ready(data: Data) -> dict[str, NDArray[Any]]:
        x = np.nan_to_num((np.log1p(data.real) - standard.mean) * standard.scale)
        columns = {name: data.hashes[:, n].astype(np.float32) for n, name in enumerate(names[0])}
        return columns | {name: x[:, n].astype(np.float32) for n, name in enumerate(names[1])}

    common = {
        "dnn_hidden_units": hidden,
        "l2_reg_linear": 0,
        "l2_reg_embedding": 0,
        "init_std": 0.01,
        "seed": asked.seed,
    }
    crossed = {"cross_num": CROSSES, "l2_reg_cross": 0}
    if asked.arch == "wide_deep":
        model = WDL(features, features, **common)
    elif rank := ARCHS[asked.arch]:
        model = DCNMix(features, features, **common, **crossed, low_rank=rank, num_experts=1)
    else:
        model = DCN(features, features, **common, **crossed, cross_parameterization="matrix")
    model.compile(torch.optim.Adagrad(model.parameters(), lr=rate), "binary_crossentropy")
    model.fit(ready(train.cut(0, 2 * batch)), train.label[: 2 * batch], batch_size=batch, epochs=1, verbose=0)
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(ready(train), train.label, batch_size=batch, epochs=1, verbose=0)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    rates = {
        name: round(asked.rows / seconds)
        for name, seconds in zip(("rows_per_s", "rows_per_cpu_s"), spent, strict=True)
    }
    return {**rates, "timed_rows": asked.rows, "p": model.predict(ready(test), batch)[:, 0]}


def sigmoid(margins: NDArray[np.floating]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-margins.astype(np.float64)))


def has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
