"""cnncodes: a handful of labelled images, a frozen CNN, and a linear classifier whose score can be believed.

All that a user needs is here: the verbs of the command line as functions (`extract`, `fit`, `predict`, …), the files as
classes (`CodesFile`, `ProbeModel`), the estimators for scikit-learn, and the networks. Two more names are for programs
of one's own, and stay in their rooms: `cnncodes.solvers.device.computing_on` fits on a GPU, and
`cnncodes.system.process.own_process` lets a program that has its process to itself start as fast as the command line.

Examples
--------
>>> from cnncodes import extract, fit, predict
>>> extract("photos/", "codes.h5")  # doctest: +SKIP
>>> fit("codes.h5", layers="layer3").save("model.safetensors")  # doctest: +SKIP
>>> predict("new/", "model.safetensors")  # doctest: +SKIP
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true by its name; the import of typing takes longer than all else

__version__ = "0.1.0"

# Names are imported on first use: importing cnncodes loads neither torch nor scikit-learn. Each public name stands
# twice, here for the interpreter and below for editors and type checkers; a test keeps the two equal.
_HOMES = {
    "CNNCodes": "estimators.transformer",
    "CNNCodesClassifier": "estimators.classifier",
    "CnnCodesError": "errors",
    "CodesFile": "codes.file",
    "DenseLinearSVC": "solvers.classifiers",
    "DenseLogisticRegression": "solvers.classifiers",
    "ImageSet": "images.image_set",
    "Preprocessing": "networks.preprocessing",
    "ProbeModel": "models.model",
    "RayCluster": "cluster.ray_cluster",
    "advise": "insight.advise",
    "audit": "insight.audit",
    "compare": "insight.compare",
    "evaluate": "models.evaluate",
    "export": "exporting.export",
    "extract": "extraction.extract",
    "finetune": "finetuning.finetune",
    "fit": "models.fit",
    "list_backbones": "networks.registry",
    "list_layers": "networks.loading",
    "load_backbone": "networks.loading",
    "load_codes": "codes.load_codes",
    "load_images": "images.loading",
    "merge": "extraction.merge",
    "predict": "models.predict",
    "register_backbone": "networks.registry",
    "report": "pages.report",
    "similar": "neighbours.similar",
    "verify": "extraction.verify",
}

if TYPE_CHECKING:
    from cnncodes.cluster.ray_cluster import RayCluster as RayCluster
    from cnncodes.codes.file import CodesFile as CodesFile
    from cnncodes.codes.load_codes import load_codes as load_codes
    from cnncodes.errors import CnnCodesError as CnnCodesError
    from cnncodes.estimators.classifier import CNNCodesClassifier as CNNCodesClassifier
    from cnncodes.estimators.transformer import CNNCodes as CNNCodes
    from cnncodes.exporting.export import export as export
    from cnncodes.extraction.extract import extract as extract
    from cnncodes.extraction.merge import merge as merge
    from cnncodes.extraction.verify import verify as verify
    from cnncodes.finetuning.finetune import finetune as finetune
    from cnncodes.images.image_set import ImageSet as ImageSet
    from cnncodes.images.loading import load_images as load_images
    from cnncodes.insight.advise import advise as advise
    from cnncodes.insight.audit import audit as audit
    from cnncodes.insight.compare import compare as compare
    from cnncodes.models.evaluate import evaluate as evaluate
    from cnncodes.models.fit import fit as fit
    from cnncodes.models.model import ProbeModel as ProbeModel
    from cnncodes.models.predict import predict as predict
    from cnncodes.neighbours.similar import similar as similar
    from cnncodes.networks.loading import list_layers as list_layers
    from cnncodes.networks.loading import load_backbone as load_backbone
    from cnncodes.networks.preprocessing import Preprocessing as Preprocessing
    from cnncodes.networks.registry import list_backbones as list_backbones
    from cnncodes.networks.registry import register_backbone as register_backbone
    from cnncodes.pages.report import report as report
    from cnncodes.solvers.classifiers import DenseLinearSVC as DenseLinearSVC
    from cnncodes.solvers.classifiers import DenseLogisticRegression as DenseLogisticRegression
else:  # hidden from type checkers, for which any misspelt name would otherwise be there
    __all__ = [*sorted(_HOMES), "__version__"]

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__():
        return __all__
