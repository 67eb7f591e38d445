"""Fine-tunes the network of a classifier that is fitted to codes in memory."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.errors import ImagesError, SettingError
from cnncodes.estimators.folding import group_names, seed_of
from cnncodes.images.image_set import ImageSet
from cnncodes.models.fitted_model import C_CHOSEN, C_GIVEN, PROTOCOL, fitted_model
from cnncodes.models.scores import Scores
from cnncodes.probes.scaling import scaling_of
from cnncodes.probes.scores import majority_accuracy, neighbour_accuracy, score
from cnncodes.probes.search import Search
from cnncodes.vocabulary import AUTO, PENULTIMATE, as_names

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from cnncodes.finetuning.result import Finetuning
    from cnncodes.models.model import ProbeModel

__all__ = ["check_tuning", "decide_images", "tune", "tuned_model"]


def check_tuning(classifier: Any, sample_weight: object) -> None:
    """Refuse what cannot be fine-tuned, before anything is computed.

    Raises
    ------
    SettingError
        Another layer than `penultimate`, or weights of classes or images.
    BackboneError
        The network has no such part.
    """
    if classifier.finetune is None:
        return
    from cnncodes.extraction.settings import load_named_backbone
    from cnncodes.networks.cut import layer_below

    if as_names(classifier.layer) != (PENULTIMATE,):
        raise SettingError(f"finetune starts from the probe on {PENULTIMATE!r}, and layer is {classifier.layer!r}")
    for name, value in (("class_weight", classifier.class_weight), ("sample_weight", sample_weight)):
        if value is not None:
            raise SettingError(f"finetune weighs all images alike; {name} must be None with it")
    layer_below(load_named_backbone(classifier.codes_._settings(None)), classifier.finetune)


def tune(
    classifier: Any,
    images: ImageSet,
    labels: np.ndarray,
    codes: np.ndarray,
    search: Search,
    groups: ArrayLike | None,
) -> Finetuning:
    """Train the upper part of the network from the fitted probe on, and say whether that beats the probe.

    Parameters
    ----------
    classifier : CNNCodesClassifier
        With the probe and the transformer that were fitted.
    images : ImageSet
    labels : ndarray, shape (n,)
    codes : ndarray, shape (n, n_features) or (n, n_views, n_features)
    search : Search
        The cross-validation of the probe.
    groups : array-like, shape (n,), optional

    Raises
    ------
    BackboneError, MismatchError, ProbeError, SettingError
        As for `cnncodes.finetuning.finetune.finetune`.
    """
    from cnncodes.extraction.in_memory import require_same_weights
    from cnncodes.extraction.settings import load_named_backbone, settings_of
    from cnncodes.extraction.sources import all_digests
    from cnncodes.finetuning.cached_maps import CachedMaps, computed_maps
    from cnncodes.finetuning.out_of_fold import Task, answer_folds, train_on_all
    from cnncodes.finetuning.result import HeldOut, make_result
    from cnncodes.finetuning.schedule import Recipe
    from cnncodes.finetuning.state import State
    from cnncodes.networks.cut import cut_before
    from cnncodes.runtime.devices import resolve_device
    from cnncodes.system.process import inference_settings

    started, n, none = perf_counter(), len(labels), labels[:0]
    provenance, names = classifier.codes_.provenance_, group_names(groups, n)
    backbone = load_named_backbone(settings_of(provenance))
    require_same_weights(backbone, provenance)
    cut = cut_before(backbone, classifier.finetune)
    device = None if classifier.device == AUTO else classifier.device
    if cut.below == PENULTIMATE and len(cut.map_shape) == 1:
        maps = CachedMaps(codes, cut.map_shape)
    else:
        maps = computed_maps(images, provenance, cut, device=device, workers=classifier.workers)
    task = Task(
        X=codes,
        maps=maps,
        truth=np.searchsorted(search.classes, labels),
        classes=search.classes,
        groups=np.full(n, "") if names is None else names,
        search=search,
        clf=classifier.clf,
        scale=classifier.scale,
        scaling=scaling_of(classifier.scale, classifier.codes_._widths),
        cut=cut,
        pooling=provenance.pooling,
        recipe=Recipe(seed=seed_of(classifier.random_state)),
        device=resolve_device(classifier.device),
    )
    digests = np.frombuffer(b"".join(all_digests(images)), np.uint8).reshape(n, -1)
    scores = _scores_of(classifier, task.groups, labels, codes, search, task.recipe.seed)
    fitted = fitted_model(classifier.probe_, search, scores, provenance, digests)
    with inference_settings():
        state = State(None, "")
        answers = answer_folds(task, state)
        share = answers.best_share()
        trained = train_on_all(task, share, state) if share else None
        held_out = HeldOut(none, task.groups[:0])
        seconds = perf_counter() - started
        result = make_result(fitted, task, answers, trained, share, classifier.finetune, held_out, seconds, digests)
    _sort_by_name(result.model)
    return result


def _scores_of(classifier: Any, groups: np.ndarray, y: np.ndarray, X: np.ndarray, search: Search, seed: int) -> Scores:
    searched, scale = classifier.C == AUTO, scaling_of(classifier.scale, [X.shape[-1]])
    return Scores(
        n=len(y),
        n_cv=len(y),
        classes=[str(label) for label in search.classes],
        clf=classifier.clf,
        layers=[PENULTIMATE],
        n_features=X.shape[-1],
        scale=classifier.scale,
        C=search.C,
        cv=len(search.folds),
        seed=seed,
        C_searched=searched,
        cross_validated=score(y, search.predictions, folds=search.folds, groups=groups),
        protocol=PROTOCOL.format(choice=C_CHOSEN if searched else C_GIVEN),
        baseline_accuracy=majority_accuracy(y),
        neighbour_accuracy=neighbour_accuracy(X, y, search.folds, scale=scale),
    )


def _sort_by_name(model: ProbeModel) -> None:
    """Put the classes in the order of their names, as a model file has them: 10 stands before 2 there."""
    order = np.argsort(model.classes)
    if len(order) > 2:
        model.coef, model.intercept = model.coef[order], model.intercept[order]
    elif order[0]:
        model.coef, model.intercept = -model.coef, -model.intercept
    model.classes = [model.classes[i] for i in order]
    if model.class_means is not None:
        model.class_means = model.class_means[order]
    if model.answered is not None:
        model.answered = replace(model.answered, classes=np.argsort(order)[model.answered.classes])
    model.scores.classes[:] = model.classes


def tuned_model(result: Finetuning | None) -> ProbeModel | None:
    """Return the fine-tuned model, if one is kept."""
    return result.model if result is not None and result.model.tuned is not None else None


def decide_images(model: ProbeModel, images: ImageSet, classes: np.ndarray, workers: int | None) -> np.ndarray:
    """Return decision values of images with a column for each of the classes, or one column where there are two.

    Raises
    ------
    ImagesError
        An image cannot be read.
    """
    computed = model.compute_codes(images, workers=workers)
    for row, reason in computed.failures.items():
        raise ImagesError(f"{images.ids[row]}: {reason}; leave this image out")
    decision = model.decision_function(model.concatenated(computed.codes))
    order = [model.classes.index(str(label)) for label in classes]
    if decision.shape[1] > 1:
        return decision[:, order]
    return -decision if order[0] else decision
