from __future__ import annotations

from benchmarks.paper import ablations

# What every row shares: the problem, and how much work it is.
PRETRAIN_OF_ALL = {"pre_prune_step", "pre_prune_epochs", "pre_train_epochs"}
SEARCH_OF_ALL = {"accounting", "coding", "size_constraint", "lowest_level", "highest_level", "seed"}


def differences(step, config: str, section: str) -> set[str]:
    settings, shipped = ablations.step_settings(step, section), ablations._all_settings(config, section)
    return {name for name, value in settings.items() if value != shipped[name]}


def test_the_path_leads_from_the_reference_to_ours_by_one_change_at_a_time() -> None:
    first, *_, last = ablations.PATH
    for section, shared in (("pretrain", PRETRAIN_OF_ALL), ("search", SEARCH_OF_ALL)):
        assert not differences(first, "lenet5_mnist_reference", section)
        assert differences(last, "lenet5_mnist", section) <= shared
    for before, after in zip(ablations.PATH, ablations.PATH[1:], strict=False):
        assert set(before.ours) < set(after.ours)


def test_every_row_searches_the_same_problem() -> None:
    searches = [ablations.step_search(step, 20, 0) for step in (*ablations.PATH, *ablations.ASIDE)]
    for name in ("objectives", "dataflow", "accounting", "size_constraint", "lowest_level", "highest_level", "seed"):
        assert len({getattr(search, name) for search in searches}) == 1
