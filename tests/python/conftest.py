"""One thread, the same numbers in every test, and the classes that the contract is tested for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def quiet_torch(request: pytest.FixtureRequest) -> Iterator[None]:
    """The contract tests run on one thread, so that CI's cores do not matter, from one seed."""
    if not request.path.name.startswith("test_contract"):
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """An argument `cls` stands for every class of the package, `elementwise`, `matrix` and `routed` for those of a kind."""
    kinds = {"cls": "NAMES", "elementwise": "ELEMENTWISE", "matrix": "MATRIX", "routed": "ROUTED"}
    for argument in kinds.keys() & set(metafunc.fixturenames):
        import contract

        names: list[str] = getattr(contract, kinds[argument])
        classes: list[Any] = [contract.CLASSES[name] for name in names]
        metafunc.parametrize(argument, classes, ids=names)
