"""The strategies that need no evaluation: widths follow from the budget and the ranking alone."""

from __future__ import annotations

from ..costs import Counts, Step, global_counts, uniform_counts
from ..errors import BudgetError
from ..metrics import Ranking, rank
from .problem import Problem, SearchResult, search_strategy


@search_strategy("uniform")
def uniform(problem: Problem) -> SearchResult:
    """The same fraction of every width: exactly with ``ratio``, else the largest one that meets the budget."""
    require_budget(problem)
    ranking = ranked(problem)
    return decided(problem, ranking, uniform_counts(problem.allowance))


@search_strategy("global")
def global_(problem: Problem) -> SearchResult:
    """One ascending list of all widths' steps by mean score; the lowest go until the budget is met."""
    require_budget(problem)
    ranking = ranked(problem)
    return decided(problem, ranking, global_counts(problem.allowance, steps(problem, ranking)))


def steps(problem: Problem, ranking: Ranking) -> list[Step]:
    """From every width's whole size down through its allowed counts."""
    found = []
    for name, allowed in problem.allowance.levels.items():
        ordered = ranking.scores[name][ranking.order[name]]
        size = len(ordered)
        for level in reversed(range(len(allowed) - 1)):
            going = ordered[size - allowed[level + 1] : size - allowed[level]]
            found.append(Step(float(going.mean()), name, level))
    return found


def ranked(problem: Problem) -> Ranking:
    """All widths ranked by the metric of the settings."""
    s = problem.settings
    return rank(problem.model, problem.graph, s.metric, problem.batches, s.seed, s.slots)


def require_budget(problem: Problem) -> None:
    """BudgetError where the strategy has nothing to aim at."""
    if problem.allowance.budget is None:
        name = problem.settings.strategy
        raise BudgetError(f"--search {name} needs a budget: give --macs, --params, --latency or --ratio")


def decided(problem: Problem, ranking: Ranking, counts: Counts) -> SearchResult:
    """Tell and record how much every width keeps, and which groups that are."""
    for width in problem.graph.widths:
        fields = {"width": width.name, "size": width.size, "kept": counts[width.name]}
        if problem.ledger.recorded("decision", **fields) is None:
            problem.ledger.append("decision", fields)
        problem.watcher.on_decision(width.name, width.size, counts[width.name])
    kept = {name: ranking.keep(name, n) for name, n in counts.items()}
    return SearchResult(kept, problem.costs.count({}), problem.costs.predict(kept), notes=ranking.notes)
