"""`landmark-zoo train`, `demo` and `pack`."""

from pathlib import Path
from typing import Literal

from landmark_zoo import extras
from landmark_zoo.commands import Count, Flag, Positive, Seed


def train(
    *,
    framework: Literal["torch", "paddle"],
    recipe: Path,
    data: Path,
    out: Path,
    model: str | None = None,
    seed: Seed | None = None,
    set: list[str] | None = None,
    init: Path | None = None,
    overwrite: Flag = False,
    device: str = "auto",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    no_channels_last: Flag = False,
    compile: Flag = False,
    workers: Count | None = None,
    state_minutes: Positive = 10.0,
    tensorboard: Path | None = None,
) -> None:
    """Train an ArcMargin model in this process. If interrupted, the same command resumes.

    For several processes, start the module with the framework's launcher: `torchrun -m torch_models.train`.

    Args:
        framework: what trains it.
        recipe: a YAML file; `python -m training.reference` lists every key.
        data: a data set in the layout of Google Landmarks v2.
        out: the checkpoint to write (.safetensors).
        model: variant; default: the recipe's, if it names only one.
        seed: instead of the recipe's; members with different seeds ensemble better.
        set: values that replace the recipe's, for example stages.0.margin=0.3.
        init: a checkpoint to start from; its classes may be others.
        overwrite: train again if the checkpoint exists.
        device: auto (a GPU if there is one), cpu, cuda or cuda:N.
        precision: of the activations; float16 scales the loss.
        no_channels_last: PyTorch: keep the features as N, C, H, W.
        compile: PyTorch: compile the network (torch.compile).
        workers: threads that decode images.
        state_minutes: save the state at least this often.
        tensorboard: folder for TensorBoard's files.
    """
    import importlib

    from training import command

    with extras.explained():
        module = importlib.import_module(f"{framework}_models.train")
    how = command.execution(device, module.count_gpus(), precision, no_channels_last, compile)
    options = command.Options(model, seed, set or (), init, overwrite, workers, state_minutes, tensorboard)
    command.train(module.Trainer, module.join, recipe, data, out, how, options)
    print(out)


def demo(*, out: Path, data: Path | None = None, recipe: Path | None = None, owner: str = "landmark-zoo") -> None:
    """Run the full pipeline: train, export, check, combine, search, score, report. About three minutes on two cores.

    If interrupted, the same command resumes.

    Args:
        out: folder of this run.
        data: a data set in the layout of Google Landmarks v2; default: render a small one.
        recipe: models and training schedule; default: recipes/demo.yaml of this installation.
        owner: Kaggle user name in the packed submission.
    """
    from landmark_zoo.api import EXPORT_PACKAGES, FRAMEWORK_PACKAGES

    extras.require(*EXPORT_PACKAGES, *(package for names in FRAMEWORK_PACKAGES.values() for package in names))
    with extras.explained():
        from pipeline.run import DEMO_RECIPE, run_pipeline

        print(run_pipeline(recipe or DEMO_RECIPE, data, out, owner))


def pack(
    *,
    saved_model: Path,
    owner: str,
    out: Path,
    slug: str | None = None,
    title: str | None = None,
    licence: str | None = None,
    metadata: Path | None = None,
    include: list[Path] | None = None,
    data: Path | None = None,
    predictions: Path | None = None,
    no_verify: Flag = False,
    overwrite: Flag = False,
) -> None:
    """Check a SavedModel as the contest's scorer would, make the folder that becomes a Kaggle data set, and run it in TensorFlow 2.2.

    Args:
        saved_model: the SavedModel to submit.
        owner: your Kaggle user name, or an organisation's.
        out: folder to make.
        slug: the data set's name in its address; default: that of --metadata.
        title: the data set's title; default: that of --metadata.
        licence: the data set's licence in Kaggle's spelling; default: that of --metadata.
        metadata: your own dataset-metadata.json, with subtitle and description.
        include: more files to upload.
        data: a data set to rank in TensorFlow 2.2; needs --predictions.
        predictions: the ranking of --data that TensorFlow 2.2 must find as well.
        no_verify: do not run what was packed in TensorFlow 2.2.
        overwrite: replace the folder if it holds something.
    """
    with extras.explained():
        from submission.pack import pack as pack_

        path = pack_(
            saved_model,
            out,
            owner=owner,
            slug=slug,
            title=title,
            licence=licence,
            metadata=metadata,
            include=include or (),
            data=data,
            predictions=predictions,
            verified=not no_verify,
            overwrite=overwrite,
        )
    print(path)
