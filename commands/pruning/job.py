"""One pruning run: decide how many channels stay, retrain the generated network, publish it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.base import BasicPruning
from ...pruners.bundle import Bundle
from ...pruners.depth import Distance
from ...pruners.errors import BudgetError, CheckpointError, NeedsDataError, NotPrunableError
from ...pruners.hub import foretells
from ...pruners.measure import Measure
from ...pruners.metrics import METRICS
from ...pruners.optimizer_groups import parameter_names
from ...pruners.pipeline import LAYER_BATCHES, Pipeline, closeness
from ...pruners.plan import PruningPlan
from ...pruners.run import copied, images_of
from ...pruners.search import Evaluator, PrefixCache, Scored, SearchResult, SearchSettings, Workers
from ...pruners.transfer import TRANSFERS, TransferImages, chosen_transfer
from ...pruners.weight_transfer import slice_optimizer_state
from ...training.binarization import soft_orthogonality
from ...training.binarization.kinds import recognise
from ...training.data import (
    Data,
    batch_of,
    calibration_images,
    damaged_in,
    foretelling,
    perplexity,
    read_now,
)  # fmt: skip
from ...training.fit import (
    Score,
    Stop,
    Teacher,
    curve_rows,
    device_for,
    evaluate,
    fit,
    resolve_device,
)
from ..cli import PruneOptions
from ..network import Network, adjusted, chosen_regime, execution, new_pruner
from ..show import Shown, Voice, skipped
from .data_checks import (
    NO_LABELS,
    ON_TEXT,
    ONLY_CALIBRATION,
    answers,
    check_transfer,
    doubt,
    doubt_without_labels,
    scored,
    usual_transfer,
)
from .fingerprint import fingerprint
from .timed import measured
from .watcher import SearchWatcher

_RANKING_IMAGES, _BATCH = 256, 128
DEPTHS = (0.875, 0.75, 0.5)  # shares of the layers that --layers auto tries beside all of them


Helpers = Callable[["PruneJob", float | None], AbstractContextManager[Workers | None]]
"""(a job, what the user's own measure gives the whole network) -> other processes that judge candidates, while they are
needed; None where there are none."""


def _nobody(job: PruneJob, before: float | None) -> AbstractContextManager[None]:
    return nullcontext()


class PruneJob:
    """``work``: the folder of the search's ledger and checkpoints; None keeps nothing. ``workers`` help searching."""

    def __init__(
        self, options: PruneOptions, settings: SearchSettings, network: Network, work: Path | None, voice: Voice,
        measure: Measure | None = None, workers: Helpers = _nobody,
    ) -> None:  # fmt: skip
        self.measure, self.workers = measure, workers
        self.options, self.settings, self.network, self.work, self.voice = options, settings, network, work, voice
        usual = usual_transfer(settings.strategy, settings.per, network.data is not None)
        self.transfer = chosen_transfer(options.transfer, options.heal, usual)
        check_transfer(self.transfer, network.data is not None, options.calibration)
        self.data = network.data
        data_name = self.data.name if self.data else ""
        regime = chosen_regime(options.regime, network.arch, network.model, data_name, "retrain", network.kind)
        self.regime, self.execution = adjusted(regime, options), execution(options)
        self.device = device_for(self.execution, resolve_device(options.device), self.regime.optimizer)
        self.shown = Shown(voice.progress, f"transfer by {self.transfer}")
        self.notes: list[str] = []
        self.cache = PrefixCache(int(options.cache_gb * 1e9))
        self._begin(None if options.layers == "auto" else options.layers)

    def _begin(self, layers: float | None) -> None:
        """Make the pruner, which takes out what ``--layers`` asks for: the widths of what is left are pruned."""
        network, self.layers, self.ledger = self.network, layers, self.work and self.work / "search.jsonl"
        self.pruner = new_pruner(
            network, skip=self.options.skip, tied=self.options.tie_declared, provenance=network.facts
        )
        if layers is not None:
            names = self.pruner.shorten(layers, self._distance(self._batches(), LAYER_BATCHES))
            self.voice.remark(f"taken out: {', '.join(names)}")
        if self.options.experts is not None:
            batches = self._batches()
            tokens = None if batches is None else [images_of(b) for b in batches]
            names = self.pruner.fewer_experts(self.options.experts, tokens)
            self.voice.remark(f"experts taken out: {', '.join(names)}")
        self.pipeline = Pipeline(
            self.pruner, self.settings, self.transfer, self._images, seconds=self.options.heal, known=self._known,
            told=self.voice.remark, report=self.shown.report,
        )  # fmt: skip

    def _distance(self, batches: Sequence[Any] | None, most: int) -> Distance | None:
        """How far a network is from the whole one: by the user's own measure, else by outputs on the first batches."""
        if self._scored is not None:
            return self._scored.lost
        return None if batches is None else closeness(self.pruner.model, batches, self._classes, most)

    # -- how many

    def decide(self) -> PruningPlan:
        """Trace, search, and make the plan; with ``--layers auto`` with several numbers of layers, of which that is
        taken which moves the outputs least on another draw of training images than the search looked at."""
        if self.options.layers != "auto":
            return self._decide()
        assert self.data is not None
        sample = self.data.train.sample(_RANKING_IMAGES, self.options.seed + 1)
        judged = [images for images, _ in sample.batches(batch_of(sample, 64))]
        distance = self._distance(judged, len(judged))
        assert distance is not None
        found: list[tuple[float, PruningPlan, BasicPruning, Pipeline, float | None, Path | None]] = []
        for share in (None, *DEPTHS):
            try:
                if share is not None:  # the job has begun with all of them
                    self._begin(share)
                if any(self.pruner.without == pruner.without for _, _, pruner, *_ in found):
                    continue
                self.ledger = self.work and self.work / f"search_{share or 1:g}.jsonl"
                plan = self._decide()
                damage = distance(self.pipeline.weights.finish(self.pruner.model, plan.kept))
            except (BudgetError, NotPrunableError) as error:
                self.voice.remark(f"with {share or 1:g} of the layers: {error}")
                continue
            self.voice.remark(f"with {share or 1:g} of the layers the outputs move by {damage:.4g}")
            found.append((damage, plan, self.pruner, self.pipeline, share, self.ledger))
        if not found:
            raise BudgetError("--layers auto: the budget can't be kept with any number of layers: ask for a larger one")
        _, plan, self.pruner, self.pipeline, self.layers, self.ledger = min(found, key=lambda f: f[0])
        return plan

    def _decide(self) -> PruningPlan:
        graph = self.pruner.graph
        groups = sum(w.size for w in graph.widths)
        self.voice.remark(f"{self.network.name}: {len(graph.widths)} widths with {groups} groups of channels")
        for doubt_of_code in self.pruner.doubts:
            self.voice.warn(doubt_of_code)
        if self.data is not None and not self.options.dry_run and not self.notes:
            self._look_at(self.data)
        latency = measured(self.pipeline, self.options, self.voice)
        before = None if self._scored is None else self._scored.before
        watching = SearchWatcher(self.voice, self.settings, self._scored is not None)
        with self.workers(self, before) as workers, watching as watcher:
            plan = self.pipeline.decide(
                self._decisions(), self.evaluator(before), retrain=self._retrain if self._trains else None,
                ledger=self.ledger, resume=self.options.resume, watcher=watcher, fingerprint=self._fingerprint(),
                workers=workers,
            )  # fmt: skip
        self.cache.clear()
        if note := self.cache.speed.tell(self._evaluations):
            self.voice.remark(note)
        if latency is not None:
            left = latency.fraction({name: len(groups) for name, groups in plan.kept.items()})
            self.voice.remark(f"predicted: {left:.1%} of the time remain")
        return plan

    @cached_property
    def _scored(self) -> Scored | None:
        """The user's own measure, and what it gives the whole network."""
        if self.measure is None:
            return None
        started = time.monotonic()
        before = self._score(copied(self.network.model))
        took = time.monotonic() - started
        self.voice.remark(f"{self.measure.name}: {before:.6g} before pruning, in {took:.1f} seconds")
        return Scored(self._score, before)

    def _score(self, model: nn.Module) -> float:
        assert self.measure is not None
        score = self.measure(model.to(self.device))
        model.to(torch.device("cpu"))
        return score

    def _look_at(self, data: Data) -> None:
        """Say, before anything takes long, where the network seems not to know the images."""
        if self._final_epochs:
            read_now(data)
        if data.labelled:
            doubted = doubt(self._before, data.test.classes)
            if data.only_calibration:
                self._note(ONLY_CALIBRATION)
        else:
            for line in data.told:
                self._note(line, said=True)
            self._note(ON_TEXT if data.is_text else NO_LABELS)
            looked_at = data.train.sample(_RANKING_IMAGES, self.options.seed)
            doubted = doubt_without_labels(answers(self.network.model, looked_at)) if self._classes else ""
        if doubted:  # of weights nobody trained something was said already
            self._note(doubted, said=self.network.weights is None)

    def evaluator(self, before: float | None) -> Evaluator:
        """What judges candidates; ``before``: what the user's own measure gives the whole network."""
        return self.pipeline.evaluator(
            evaluate=self._evaluate if self.data is not None and self.data.labelled else None, batches=self._batches(),
            scored=None if before is None else Scored(self._score, before), cache=self.cache, classes=self._classes,
        )  # fmt: skip

    @property
    def _result(self) -> SearchResult:
        assert self.pipeline.result is not None
        return self.pipeline.result

    @property
    def _evaluations(self) -> int:
        """How many the search tells of, as its bar does: those of an earlier run that was gone on with among them, and
        those that were known when they came up again."""
        return len(self._result.evaluations)

    def _note(self, note: str, said: bool = False) -> None:
        """For the summary, and to be said."""
        self.notes.append(note)
        if not said:
            self.voice.remark(note, highlight=True)

    @property
    def _images(self) -> TransferImages:
        """Candidates get the weights that ``--transfer`` would give them from fewer images than in the end, and are
        fitted to other images than they are judged by, where there are enough."""
        if self.data is None:
            return TransferImages(device=self.device)
        data, seed = self.data, self.options.seed

        def batches(images: Tensor) -> Sequence[Tensor]:
            return images.to(self.device).split(batch_of(data.train, _BATCH))

        return TransferImages(
            lambda: batches(calibration_images(data, self._calibration, seed)),
            lambda: batches(calibration_images(data, 2 * _RANKING_IMAGES, seed)[-_RANKING_IMAGES:]),
            self.device,
        )

    @property
    def _calibration(self) -> int:
        """How many images transfer looks at."""
        return self.options.calibration or TRANSFERS.find(self.transfer).images

    def _known(self, model: nn.Module) -> nn.Module:
        """A written network's layers are classes of their own."""
        if self.network.kind is not None:
            recognise(model, self.network.kind)
        return model

    def _evaluate(self, model: nn.Module, stop: Stop | None = None) -> tuple[float, float]:
        assert self.data is not None
        penalty = 0.0
        if self.options.beta:
            with torch.no_grad():
                penalty = self.options.beta * float(soft_orthogonality(model.to(self.device)))
        asked = None if stop is None else lambda losses, images: stop(losses + penalty, images)
        score = evaluate(model.to(self.device), self.data.val, stop=asked)
        return score.loss + penalty, score.top1

    def _retrain(self, model: nn.Module, epochs: int) -> None:
        assert self.data is not None
        fit(
            model.to(self.device), self.data, self.regime, epochs, seed=self.options.seed, description="retraining",
            progress=self.voice.progress, upkeep=self.network.kind, execution=self.execution, teacher=self._teacher,
        )  # fmt: skip

    @cached_property
    def _teacher(self) -> Teacher | None:
        options = self.options
        if options.distill is None:
            return None
        network = copied(self.network.model).to(self.device).requires_grad_(False)
        return Teacher(network, options.distill, options.temperature or Teacher.temperature)

    def _batches(self) -> list[Any] | None:
        """Training images, with their labels if there are some."""
        if self.data is None:
            return None
        next_tokens = self.data.is_text and METRICS.fact(self.settings.metric, "labels")
        data = foretelling(self.data) if next_tokens else self.data
        sample = data.train.sample(_RANKING_IMAGES, self.options.seed)
        batches = sample.batches(batch_of(sample, 64))
        return list(batches) if data.labelled or next_tokens else [images for images, _ in batches]

    def _fingerprint(self) -> dict[str, Any]:
        """What options that leave a choice came to; the hash of the weights counts, wherever they lie."""
        s, taught = self.settings, self._teacher
        return fingerprint(
            self.options, self.data, self.network.example_input,
            arch=self.network.arch, weights=self.pruner.provenance["weights_sha256"], init_from=None,
            data=self.network.facts["data"], metric=s.metric, search=s.strategy, alpha=s.alpha,
            retrain_epochs=s.retrain_epochs, final_epochs=self._final_epochs, transfer=self.transfer,
            calibration=self._calibration, regime=repr(self.regime), device=self.device.type,
            temperature=None if taught is None else taught.temperature,
        )  # fmt: skip

    def _decisions(self) -> dict[str, Any]:
        s = self.settings
        facts = {"metric": s.metric, "search": s.strategy, "seed": s.seed, "transfer": self.transfer}
        if self.options.score is not None:
            facts["score"] = self.options.score
        if self.layers is not None:
            facts["layers"] = self.layers
        if self.options.experts is not None:
            facts["experts"] = self.options.experts
        if s.budget is not None:
            facts |= s.budget.facts
            if s.budget.kind == "latency":
                facts |= {"device": self.device.type, "latency_batch": self.options.latency_batch}
        if self.options.heal is not None:
            facts["heal"] = self.options.heal
        if self.options.calibration:
            facts["calibration"] = self.options.calibration
        if self.options.beta:
            facts["beta"] = self.options.beta
        if self._teacher is not None:
            facts |= {"distill": self._teacher.share, "temperature": self._teacher.temperature}
        if s.per == "stage":
            facts |= {"alpha": s.alpha, "per": s.per}
        elif s.strategy == "bayesian":
            facts |= {"alpha": s.alpha, "mode": s.mode, "direction": s.direction, "retrain_epochs": s.retrain_epochs}
        if self.data is not None:
            facts["final_epochs"] = self._final_epochs
        return facts

    @property
    def _classes(self) -> bool:
        """Whether rows of outputs may be scores of classes."""
        return self.data is None or self.data.labelled or not self.data.others

    @property
    def _trains(self) -> bool:
        """Whether there is something to retrain on."""
        return self.data is not None and self.data.labelled and not self.data.only_calibration

    @property
    def _final_epochs(self) -> int:
        if not self._trains:
            return 0
        return self.regime.epochs if self.options.final_epochs is None else self.options.final_epochs

    # -- the bundle

    def publish(self, plan: PruningPlan, output: Path) -> Bundle:
        """Write the source, retrain what it defines, verify and publish."""
        self.voice.remark("writing the source")
        try:
            return self.pipeline.publish(
                plan, output, self._measured, files=lambda: self._files(plan), force=self.options.force
            )
        finally:
            self.shown.finish()

    def _measured(self, generated: nn.Module, plan: PruningPlan) -> dict[str, Any]:
        """For the summary."""
        told = {**self._judged(generated), **self.pipeline.compared(generated, plan)}
        if self.data is not None and (damaged := damaged_in(self.data)):
            self._note(skipped(damaged))
        if self.notes:
            told["notes"] = self.notes
        if self.cache.speed.evaluations:
            told["search"] = self.cache.speed.as_dict(self._evaluations)
        return told

    def _files(self, plan: PruningPlan) -> dict[str, bytes]:
        files = {"search.jsonl": self.ledger.read_bytes()} if self.ledger and self.ledger.is_file() else {}
        files |= self._optimizer(plan)
        self.voice.remark("checking the generated file in a fresh process")
        return files

    def _optimizer(self, plan: PruningPlan) -> dict[str, bytes]:
        """The training checkpoint's optimizer state, cut to the new widths; not after retraining, which has its own."""
        state = self.network.optimizer
        if state is not None and self.pruner.without:
            self.voice.warn("the optimizer's state is left out, there is no optimizer.pth: layers were taken out")
            return {}
        if state is None or (self.data and self._final_epochs) or self._result.state is not None:
            return {}
        try:
            names = parameter_names(state, self.network.model)
            sliced = slice_optimizer_state(state, names, self.pruner.graph, plan.kept)
        except CheckpointError as error:
            self.voice.warn(f"the optimizer's state is left out, there is no optimizer.pth: {error}")
            return {}
        buffer = io.BytesIO()
        torch.save(sliced, buffer)
        return {"optimizer.pth": buffer.getvalue()}

    def _judged(self, generated: nn.Module) -> dict[str, Any]:
        """For the summary: the user's own score, accuracies where labels are known, else how many images are taken for
        the same class."""
        accuracy: dict[str, float] = {}
        more: dict[str, Any] = {}
        score: dict[str, Any] = {}
        if self._scored is not None and self.measure is not None:
            score = {"name": self.measure.name, "before": self._scored.before, "pruned": self._score(copied(generated))}
            more["score"] = score
        if self.data is not None and self.data.labelled:
            accuracy, trained = self._retrained(generated)
            if trained:
                more["training"] = trained
            if score and self._final_epochs:
                score["retrained"] = self._score(copied(generated))
        elif self.data is not None and self._classes and not self.data.synthetic:
            before, after = (answers(model, self.data.test) for model in (self.network.model, generated))
            if before is not None and after is not None:
                more["agreement"] = {"pruned": float((before == after).double().mean()), "images": len(before)}
            if self.data.is_text and foretells(self.network.model):
                models = {"before": self.network.model, "pruned": generated}
                more["perplexity"] = {name: perplexity(scored(m, self.data.test)) for name, m in models.items()}
        return {"accuracy": {k: accuracy.get(k) for k in ("before", "pruned", "retrained")}, **more}

    def _retrained(self, generated: nn.Module) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Test accuracies, and the curve of the retraining; the network ends with the weights that did best on the
        validation images."""
        data = self._require_data()
        accuracy = {"before": self._before.top1, "pruned": self._test(generated).top1}
        trained: list[dict[str, float]] = []
        if self._final_epochs:
            result = fit(
                generated, data, self.regime, self._final_epochs, seed=self.options.seed, device=self.device,
                progress=self.voice.progress, description="final retraining", resume=self.options.resume,
                checkpoint_path=self.work and self.work / "retraining.pt", upkeep=self.network.kind,
                execution=self.execution, teacher=self._teacher,
            )  # fmt: skip
            accuracy["retrained"] = self._test(generated).top1
            trained = curve_rows(result.history)
        return accuracy, trained

    @cached_property
    def _before(self) -> Score:
        return self._test(self.network.model)

    def _test(self, model: nn.Module) -> Score:
        score = evaluate(model.to(self.device), self._require_data().test)
        model.to(torch.device("cpu"))
        return score

    def _require_data(self) -> Data:
        if self.data is None:
            raise NeedsDataError("this needs images: add --data")
        return self.data
