"""The network that scores: columns of `features` → hashes and numbers by rows → margins. Loads torch on use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.errors import ArtifactError, PlatformError
from clickmill.lookup import Lookup
from clickmill.models.card import Card
from clickmill.models.logreg import hashes
from clickmill.models.xgboost import numbers
from clickmill.nets.layout import Layout
from clickmill.specs import WideDeepSpec

if TYPE_CHECKING:
    from clickmill.nets.net import Net

WIDE = "wide.weight"
"""The tensor of a network's wide part; an artifact has its weights other than 0 alone, as arrays."""
ARRAYS = {"wide_index": np.uint32, "wide_weight": np.float32}
ROWS = 4096
"""So many go through the network together: what they become stays in a core's cache."""


def parts_in(place: Path) -> tuple[dict[str, NDArray[Any]], bytes]:
    """A network's tensors, in a file of safetensors → the arrays of an artifact, and its other file.

    By way of another file beside it: memory holds the tensors once, and not four times.
    """
    from safetensors.numpy import load_file, save_file

    tensors = load_file(place)
    wide = tensors.pop(WIDE, np.empty(0, np.float32))
    index = np.flatnonzero(wide)
    arrays = {"wide_index": index.astype(np.uint32), "wide_weight": wide[index]}
    rest = place.with_suffix(".deep")
    save_file(tensors, rest)
    del tensors, wide
    return arrays, rest.read_bytes()


def put_whole(model: WideDeepModel, place: Path) -> None:
    """Writes the file that `parts_in` was given."""
    from safetensors.numpy import load, save_file

    tensors = load(model.network)
    if model.layout.wide:
        tensors[WIDE] = np.zeros(1 << model.layout.wide_bits, np.float32)
        tensors[WIDE][model.wide_index] = model.wide_weight
    save_file(tensors, place)


@dataclass(frozen=True)
class WideDeepModel:
    """margin = the deep part's, and the sum of the wide part's weights.

    network: tensors of the deep part, as safetensors. wide_index: (k,) uint32, rising, hashes reduced to
    `layout.wide_bits` bits; wide_weight: (k,) float32.
    """

    card: Card
    layout: Layout
    network: bytes
    wide_index: NDArray[np.uint32]
    wide_weight: NDArray[np.float32]

    @classmethod
    def from_files(cls, card: Card, arrays: Mapping[str, NDArray[Any]], network: bytes | None) -> WideDeepModel:
        """Raises ArtifactError where something is missing or does not fit."""
        if network is None or card.layout is None:
            raise ArtifactError(f"{card.model_id}: such a model has a network and its layout, and one is missing")
        found = {name: (str(array.dtype), array.ndim) for name, array in arrays.items()}
        if found != {name: (np.dtype(kind).name, 1) for name, kind in ARRAYS.items()}:
            raise ArtifactError(f"{card.model_id}: such a model has the arrays {list(ARRAYS)}, found {found}")
        model = cls(card, Layout.of(card.layout), network, arrays["wide_index"], arrays["wide_weight"])
        index = model.wide_index
        if len(index) != len(model.wide_weight) or np.any(index[1:] <= index[:-1]):
            raise ArtifactError(f"{card.model_id}: the wide part's indices do not rise, or have no weight each")
        return model

    @cached_property
    def spec(self) -> WideDeepSpec:
        return WideDeepSpec.model_validate(self.card.spec)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of `features` that `margins` needs."""
        return (*self.layout.whole, *self.layout.numbers)

    @property
    def encoded(self) -> tuple[str, ...]:
        """None: it eats values by their hashes."""
        return ()

    def looking_up(self, folder: str) -> WideDeepModel:  # noqa: ARG002  (a Model's)
        """Itself: it looks nothing up."""
        return self

    def margins(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """logit of p_sampled of each of n rows, (n,); of p where `card.correction` is `weight`.

        Raises MissingColumnsError, PlatformError where torch is missing, ArtifactError.
        """
        out, layout = np.zeros(batch.num_rows), self.layout
        for column in layout.wide:
            self._lookup.add_weights(hashes(batch, column), self._weights, 0.0, out)
        whole = np.empty((batch.num_rows, len(layout.slots)), np.int32)
        real = np.empty((batch.num_rows, len(layout.numbers)), np.float32)
        for place, column in enumerate(layout.slots):
            whole[:, place] = hashes(batch, column)
        for place, column in enumerate(layout.numbers):
            real[:, place] = numbers(batch, column)
        return out + self._deep(whole, real)

    def _deep(self, whole: NDArray[np.int32], real: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) of the deep part, of n rows' (n, slots) hashes and (n, f) numbers."""
        net, out = self._net, np.empty(len(whole), np.float32)
        import torch

        with one_thread(), torch.inference_mode():
            for start in range(0, len(out), ROWS):
                own = slice(start, start + ROWS)
                out[own] = net(torch.from_numpy(whole[own]), torch.from_numpy(real[own])).numpy()
        return out

    @cached_property
    def _net(self) -> Net:
        """The deep part alone."""
        try:
            return _built(self.network, replace(self.layout, wide=()), self.spec.model_dump_json())
        except ImportError as error:
            said = f"{self.card.model_id}: scoring with it needs torch ({error}): run `make deep`"
            raise PlatformError(said) from None
        except ValueError as error:
            raise ArtifactError(f"{self.card.model_id}: the network cannot be read: {error}") from None

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.wide_index, self.layout.wide_bits)

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return self.wide_weight.astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to workers: without what each process makes of it."""
        made = {"spec", "columns", "_net", "_lookup", "_weights"}
        return {name: value for name, value in self.__dict__.items() if name not in made}


@lru_cache(maxsize=4)
def _built(network: bytes, layout: Layout, spec: str) -> Net:
    """The network, made once in a worker's life, however often Spark sends it the model. Raises ImportError,
    ArtifactError, and ValueError for bytes that are no tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from clickmill.nets.net import net_of
    from clickmill.nets.standard import standard_of

    try:
        tensors = load(network)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    nothing = standard_of([[0, 0, 0]] * len(layout.numbers))
    net: Net = net_of(WideDeepSpec.model_validate_json(spec), layout, nothing, 0.0)
    net.load(tensors)
    net.eval()
    return net


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's own threads wait: the workers beside this one have the other cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
