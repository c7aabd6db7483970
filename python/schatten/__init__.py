"""Matrix optimizers for PyTorch: the family around Muon, as drop-ins for torch.optim.

    optimizer = schatten.Muon(model, lr=0.02)

Every class is a ``torch.optim.Optimizer``; the work is done by the operators of libschatten (``torch.ops.schatten``).
"""

from __future__ import annotations

from . import _library

_library.load()

from . import stages  # noqa: E402
from ._classes import *  # noqa: E402, F403
from ._classes import __all__ as _classes  # noqa: E402
from ._version import __version__  # noqa: E402
from .around import SAM, Cautious, largest_logits, sample_labels, watch_logits  # noqa: E402
from .compose import compose  # noqa: E402
from .diagnostics import Spectra, spectra  # noqa: E402
from .migrate import convert_state  # noqa: E402
from .optimizer import Optimizer  # noqa: E402

__all__ = [
    *_classes,
    "SAM",
    "Cautious",
    "Optimizer",
    "Spectra",
    "__version__",
    "compose",
    "convert_state",
    "largest_logits",
    "sample_labels",
    "spectra",
    "stages",
    "watch_logits",
]
