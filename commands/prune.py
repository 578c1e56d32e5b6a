"""``app.py prune``: from a network to a bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ..pruners.bundle import check_free, discard, held
from ..pruners.costs import Budget
from ..pruners.errors import ConflictError, NeedsDataError, OptionError, OutputError
from ..pruners.measure import Measure
from ..pruners.metrics import METRICS
from ..pruners.pipeline import points
from ..pruners.search import NO_LOSSES, ONE_BY_ONE, SEARCHES, SearchSettings
from ..pruners.transfer import chosen_transfer
from ..training.data import with_workers
from .cli import (
    GENERATED,
    ProfileOptions,
    PruneOptions,
    budget_of,
    bundle_name,
    check_work,
    data_of,
    forget_finished,
    streams,
    work_folder,
)
from .network import (
    Network,
    chosen_kind,
    execution,
    network_from,
    pruner_class,
    with_trained_weights,
)
from .profile import layers_of
from .pruning import (
    PruneJob,
    check_data,
    check_transfer,
    first_look,
    preview_text,
    preview_values,
    usual_transfer,
    workers_for,
)
from .show import Voice, minutes, outcome


def run(options: PruneOptions) -> None:
    settings = settings_from(options)
    with Voice(options.verbose, options.json) as voice, ExitStack() as stack:
        measure = Measure.named(options.score, options.score_seconds) if options.score else None
        network = network_from(options, voice)
        check_data(options, settings, network)
        if options.dry_run:
            job = _job(options, settings, network, None, voice, measure)
            plan = job.decide()
        else:
            output = options.output or GENERATED / bundle_name(network.label, options)
            state = stack.enter_context(held(output))
            forget_finished(output)
            check_free(output, options.force)
            with _work_folder(output, options, state, keep=network.data is not None or measure is not None) as work:
                job = _job(options, settings, network, work, voice, measure)
                bundle = job.publish(job.decide(), output)
            voice.remark(f"done in {minutes(time.monotonic() - streams.STARTED)}")
    if options.dry_run:
        values = preview_values(job.pruner, plan)
        voice.result(preview_text(values), values)
        return
    looked = [] if options.json else first_look(bundle, network.model)
    shown, values = [*looked, *outcome(bundle)], dict(bundle.summary)
    if options.profile:
        rows, told = layers_of(bundle, options.example, ProfileOptions.repeats)
        shown, values = [*shown, "", *rows], {**values, "profile": told}
    voice.result(shown, values)


def _job(
    options: PruneOptions, settings: SearchSettings, network: Network, work: Path | None, voice: Voice,
    measure: Measure | None,
) -> PruneJob:
    if network.data is not None:
        network = replace(network, data=with_workers(network.data, options.workers))
    trained = with_trained_weights(
        network, voice, options.seed, options.device, keep=work is not None, how=execution(options)
    )
    return PruneJob(options, settings, trained, work, voice, measure, workers_for)


@contextmanager
def _work_folder(output: Path, options: PruneOptions, state: Path, keep: bool) -> Iterator[Path]:
    """The folder of what a run needs to go on after an interruption; gone when the run ends well. ``keep``: or ends
    otherwise, because what it holds took long."""
    work = work_folder(output)
    check_work(work, options)
    if not options.resume:
        discard(work, state)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} can't be written: {error.strerror}; choose another folder with -o") from None
    done = False
    try:
        yield work
        done = True
    finally:
        if done or not keep or not any(work.iterdir()):
            discard(work, state)


def settings_from(options: PruneOptions) -> SearchSettings:
    """Settings that are known to be valid, before anything slow begins."""
    budget = budget_of(options)
    with_data = data_of(options) is not None
    judged = with_data or options.score is not None
    strategy = options.search or _usual_search(budget, judged, bool(options.layers or options.experts))
    SEARCHES.find(strategy)
    transfer = chosen_transfer(options.transfer, options.heal, usual_transfer(strategy, options.per, with_data))
    check_transfer(transfer, True, options.calibration)  # whether there are images is known later
    if options.metric:
        METRICS.find(options.metric)
    if options.final_epochs is not None and options.final_epochs < 0:
        raise OptionError(f"--final-epochs {options.final_epochs}: must be 0 or more")
    if options.score is not None and options.stop_early:
        raise NeedsDataError(NO_LOSSES)
    if options.jobs > 1 and options.stop_early:
        raise ConflictError(ONE_BY_ONE)
    if options.temperature is not None and options.distill is None:
        raise ConflictError("--temperature is for --distill: add it, or leave --temperature out")
    epochs = SearchSettings.retrain_epochs if options.retrain_epochs is None else options.retrain_epochs
    settings = SearchSettings(
        strategy=strategy,
        metric=options.metric or _usual_metric(options, transfer),
        budget=budget,
        round_to=options.round_to,
        min_channels=options.min_channels,
        alpha=_alpha(options),
        mode=options.mode,
        direction=options.direction,
        per=options.per,
        **points(options.per),
        stop_early=options.stop_early,
        retrain_epochs=epochs,
        seed=options.seed,
    )
    _ = settings.limits  # refuses what is out of range
    return settings


def _usual_metric(options: PruneOptions, transfer: str) -> str:
    """On text, what least squares can best make up for where they are to: all widths of a kind are cut alike there, so
    much depends on which channels go."""
    fitted = (options.data or "").startswith("text:") and transfer in ("heal", "lstsq")
    return "reconstruction" if fitted else pruner_class(options.arch or "").metric


def _usual_search(budget: Budget | None, judged: bool, layers: bool) -> str:
    """``--ratio`` asks for the same share of every width; otherwise images or a score, if any, tell which width can
    give."""
    if budget is None:
        return "uniform" if layers else "bayesian"
    return "sensitivity" if judged and budget.kind != "ratio" else "uniform"


def _alpha(options: PruneOptions) -> float:
    """What was asked for, else what suits the kind of network."""
    if options.alpha is not None:
        return options.alpha
    chosen = chosen_kind(options)
    return SearchSettings.alpha if chosen is None else chosen.kind.default_alpha(chosen.first_layer, chosen.last_layer)
