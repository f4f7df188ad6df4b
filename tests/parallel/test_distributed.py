"""Communication between the processes of a run, in real processes over gloo."""

from typing import Any

import pytest
import torch
import torch.distributed as dist

from support.processes import run_in_processes
from ts2net.parallel import distributed

pytestmark = pytest.mark.spread


@pytest.fixture(scope="module", params=(1, 3))
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_in_processes(all_work, request.param, tmp_path_factory.mktemp("processes"))


def all_work() -> dict[str, Any]:
    """All results that the tests below check, from one start of the processes, which takes seconds."""
    rank = distributed.rank()
    with distributed.cpu_group() as group:
        # No process has row 5. The second process has no rows, and the others have parts of different sizes.
        parts = {0: [numbered(4), numbered(0, 2)], 1: [], 2: [numbered(3), numbered(1)]}[rank]
        answers = {
            "rank": (rank, distributed.num_processes(), distributed.is_main_process()),
            "gather": gathered_and_gradient(),
            "mean": distributed.mean_over_processes(torch.tensor([1.0, 2.0]) * rank),
            "rows": distributed.gather_rows(parts, 6, group),
            "dicts": list(distributed.gather_dicts({rank: f"{rank}", 10 - rank: "high"}, group).items()),
            "objects": distributed.gather_objects({"rank": rank}, group),
            "main": distributed.on_main_process(lambda: f"from {rank}", group),
            "failure": failure_of_the_main_process(group),
        }
        if group is not None:
            dist.barrier(group)
        answers["first"] = [distributed.is_first_process_to("report"), distributed.is_first_process_to("report")]
    return answers


def numbered(*numbers: int) -> distributed.Part:
    rows = torch.tensor(numbers)
    return rows, (rows[:, None] + torch.tensor([0.0, 0.5])), rows % 2 == 0


def gathered_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
    """Gathered entries, and the gradient of a sum in which process r weights entry i by `(r + 1) * i`."""
    local = torch.arange(4.0).view(2, 2) + 10 * distributed.rank()
    local.requires_grad_()
    gathered = distributed.gather_with_gradient(local)
    (gathered * torch.arange(gathered.numel()).view_as(gathered) * (distributed.rank() + 1)).sum().backward()
    return gathered.detach(), local.grad


def failure_of_the_main_process(group: dist.ProcessGroup | None) -> str:
    def fail() -> None:
        raise ValueError("no room\nand advice")

    try:
        distributed.on_main_process(fail, group)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_each_process_knows_which_one_it_is(results: list[dict[str, Any]]) -> None:
    assert [result["rank"] for result in results] == [(rank, len(results), rank == 0) for rank in range(len(results))]


def test_gather_keeps_the_order_and_sums_gradients(results: list[dict[str, Any]]) -> None:
    everything = torch.cat([torch.arange(4.0).view(2, 2) + 10 * rank for rank in range(len(results))])
    weights = torch.arange(4.0 * len(results)).view(-1, 2) * sum(rank + 1 for rank in range(len(results)))
    for result, own_weights in zip(results, weights.split(2), strict=True):
        gathered, gradient = result["gather"]
        assert torch.equal(gathered, everything)
        assert torch.equal(gradient, own_weights)


def test_every_process_gets_the_mean(results: list[dict[str, Any]]) -> None:
    mean_rank = (len(results) - 1) / 2
    for result in results:
        torch.testing.assert_close(result["mean"], torch.tensor([1.0, 2.0]) * mean_rank)


def test_rows_come_to_the_main_process_in_their_order(results: list[dict[str, Any]]) -> None:
    """Rows are gathered in order from parts of any size, also from processes without rows. Missing rows are zero."""
    present = [0, 2, 4] if len(results) == 1 else [0, 1, 2, 3, 4]
    values, is_even = results[0]["rows"]
    for row in range(6):
        expected = [row, row + 0.5] if row in present else [0.0, 0.0]
        assert values[row].tolist() == expected
        assert is_even[row] == (row in present and row % 2 == 0)
    assert all(result["rows"] == [] for result in results[1:])


def test_objects_come_to_the_main_process_in_order_of_rank(results: list[dict[str, Any]]) -> None:
    ranks = range(len(results))
    assert results[0]["objects"] == [{"rank": rank} for rank in ranks]
    assert results[0]["dicts"] == sorted(
        [(rank, f"{rank}") for rank in ranks] + [(10 - rank, "high") for rank in ranks]
    )
    assert all(result["objects"] == [] == result["dicts"] for result in results[1:])


def test_the_main_process_works_for_all(results: list[dict[str, Any]]) -> None:
    assert [result["main"] for result in results] == ["from 0"] * len(results)


def test_no_process_waits_for_a_main_one_that_fails(results: list[dict[str, Any]]) -> None:
    main, *others = (result["failure"] for result in results)
    assert main == "ValueError: no room\nand advice"
    assert others == ["MainProcessError: the main process had to stop: no room"] * len(others)


def test_one_process_is_the_first(results: list[dict[str, Any]]) -> None:
    assert sum(result["first"][0] for result in results) == 1
    assert not any(result["first"][1] for result in results)


def test_a_process_alone_needs_no_run() -> None:
    tensor = torch.ones(2)
    assert (distributed.rank(), distributed.num_processes(), distributed.is_main_process()) == (0, 1, True)
    assert distributed.gather_with_gradient(tensor) is distributed.mean_over_processes(tensor) is tensor
    assert distributed.is_first_process_to("report")
    with distributed.cpu_group() as group:
        assert group is None
