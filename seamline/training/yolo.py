"""Training with ultralytics that survives a kill, kept inside a scratch folder.

Nothing is written into the data or the home folder, and nothing is fetched that was not asked for. After every
epoch the whole state is written (seamline/training/checkpoints.py); a run with the same data and parameters resumes
from it, and takes over what was finished (seamline/training/finished.py). On a CPU a training that resumes computes bit
for bit what an uninterrupted one does: every epoch draws its random numbers from a seed of its own.
"""

from __future__ import annotations

import math
import os
import platform
import random
import shutil
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import ultralytics.data.utils
import ultralytics.engine.trainer
import ultralytics.utils
import yaml
from tqdm import tqdm
from ultralytics.cfg import check_cfg
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import guess_model_scale, guess_model_task
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils import ROOT as ULTRALYTICS
from ultralytics.utils.downloads import attempt_download_asset
from ultralytics.utils.torch_utils import unwrap_model

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of, whole_file, write_csv, write_text
from seamline.base.process import ENDS_WITH, SCRATCH, end_with_named
from seamline.models.weights import load_weights, opened_as_data
from seamline.params.train import Train
from seamline.training.checkpoints import State, data_sha256, listed_images, read_state, run_key, write_state
from seamline.training.finished import (
    KEPT_FINISHED,
    Training,
    discard_unfinished,
    holding,
    keep_training,
    kept_training,
    project_around,
)
from seamline.training.trial import DIVERGED, Stopped, tell_progress

ARCHITECTURES = Path("architectures")
MASK_FITNESS = "metrics/mAP50-95(M)"
# What of train: is ours and not an argument of ultralytics'.
OURS = {"model", "device", "val_period", "others"}
# How the processes of a training on several GPUs learn it, as it is no argument of ultralytics'.
VAL_PERIOD = "SEAMLINE_VAL_PERIOD"
# What torch says when memory is short; the last three are what ultralytics takes for it as well.
OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR", "unable to find an engine",
)  # fmt: skip
RELEASES = "https://github.com/ultralytics/assets/releases"
WEIGHTS = SCRATCH / "train" / "weights"


class Trainer(SegmentationTrainer):  # type: ignore[misc]
    """ultralytics' trainer; the best model is chosen by mask mAP alone, and every epoch's end can be returned to.

    Where ultralytics runs callbacks, this runs its own method of that name first. On several GPUs it exists once in
    each process, made from its arguments alone; the first process writes.
    """

    best_fitness: float | None
    fitness: float | None
    validated_epoch = -1
    best_epoch = 0  # counted from 1
    step_number = -1  # of the batch in work, over all epochs
    last_step = -1  # the batch after which the optimizer stepped last
    offset = 0

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:
        if RANK != -1:
            end_with_named()  # the launcher between us and the stage outlives it
        self.folder = Path((overrides or {})["project"])
        keep_to_scratch()
        self.history: list[Record] = []
        self.resumed_after: list[int] = []
        self.waiting_gradients: dict[str, torch.Tensor] = {}
        super().__init__(cfg, overrides, _callbacks)

    def run_callbacks(self, event: str) -> None:
        own = getattr(self, event, None)
        if own is not None:
            own()
        super().run_callbacks(event)

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        best_before = self.best_fitness
        metrics, _ = super().validate()
        if metrics is None:  # of several processes only the first one gets them
            return metrics, None
        fitness = float(metrics[MASK_FITNESS])
        self.best_fitness = fitness if best_before is None else max(best_before, fitness)
        self.validated_epoch = self.epoch
        if best_before is None or fitness > best_before:
            self.best_epoch = self.epoch + 1
        return metrics, fitness

    def save_model(self) -> bool:
        return False  # on_fit_epoch_end does, whole and with all that going on needs

    def final_eval(self) -> None:
        """Nothing: the evaluate stage measures the final model."""

    def setup_model(self) -> Any:
        with opened_as_data(Path(self.args.model)):
            return super().setup_model()

    def _setup_train(self) -> None:
        super()._setup_train()
        if self.device.type == "cpu":  # measured 16 to 19% less time a step than the default layout, 2 cores, AVX-512
            self.model.to(memory_format=torch.channels_last)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    # Gradients may be summed over several batches, across the end of an epoch. The loop knows the last step in a
    # variable of its own, -1 at the start; raised by the offset, the number it waits for falls on the same batch.
    @property
    def accumulate(self) -> int:
        return self.nominal_accumulate + self.offset

    @accumulate.setter
    def accumulate(self, value: int) -> None:
        self.nominal_accumulate = value

    def optimizer_step(self) -> None:
        super().optimizer_step()
        self.last_step, self.offset = self.step_number, 0

    def resume_training(self, ckpt: Any) -> None:
        state = read_state(self.folder)
        if state is None:
            return
        try:
            self.restore(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise SeamlineError(
                f"{self.folder}: the state there is not this model's ({str(error).partition(chr(10))[0][:200]}); "
                "delete the folder to train anew."
            ) from None

    def restore(self, state: State) -> None:
        model = unwrap_model(self.model)
        model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.stopper.__dict__.update(state["stopper"])
        self.best_fitness, self.fitness = state["best_fitness"], state["fitness"]
        self.best_epoch, self.history = state["best_epoch"], state["history"]
        self.last_step, self.waiting_gradients = state["last_step"], state["gradients"]
        self.start_epoch = state["epoch"]
        self.resumed_after = [*state["resumed_after"], self.start_epoch]
        if getattr(model.model[-1], "one2one_cv2", None) is not None:  # as ultralytics does on resuming
            model.criterion = model.init_criterion()
            model.criterion.updates = self.start_epoch - 1
            model.criterion.update()

    def on_train_start(self) -> None:
        self.offset = self.last_step + 1
        if self.start_epoch and self.train_loader.num_workers:  # not again the images' order of the first epochs
            self.train_loader.generator.manual_seed(self.epoch_seed(self.start_epoch))
        self.begun = time.perf_counter()
        if RANK in {-1, 0}:
            steps = len(self.train_loader)
            if self.start_epoch:
                tqdm.write(f"goes on after epoch {self.start_epoch} of {self.epochs}")
            self.bar = tqdm(
                total=self.epochs * steps, initial=self.start_epoch * steps, desc="training", unit="step", disable=None
            )

    def on_train_epoch_start(self) -> None:
        self.args.val = (self.epoch + 1) % int(os.environ[VAL_PERIOD]) == 0
        # Or ultralytics would train with another batch size than params.yaml says when memory is short.
        self._oom_retries = 3
        self.step_number = self.epoch * len(self.train_loader) - 1
        for name, parameter in unwrap_model(self.model).named_parameters():
            if name in self.waiting_gradients:
                parameter.grad = self.waiting_gradients[name].to(parameter.device)
        self.waiting_gradients = {}
        if self.train_loader.num_workers == 0:
            self.seed_epoch()

    def seed_epoch(self) -> None:
        """Make the epoch's random numbers depend on seed and epoch alone. (Not where other processes load the images:
        to start them anew every epoch would cost more than it is worth on a GPU, which is not deterministic anyway.)
        """
        seed = self.epoch_seed(self.epoch)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.train_loader.reset()
        self.train_loader.generator.manual_seed(seed)
        dataset = self.train_loader.dataset
        if dataset.cache != "ram":  # mosaics take the images loaded last
            for index in dataset.buffer:
                dataset.ims[index] = dataset.im_hw0[index] = dataset.im_hw[index] = None
            dataset.buffer.clear()

    def epoch_seed(self, epoch: int) -> int:
        return int(np.random.SeedSequence((self.args.seed, epoch)).generate_state(1)[0])

    def on_train_batch_start(self) -> None:
        self.step_number += 1

    def on_train_batch_end(self) -> None:
        if RANK in {-1, 0}:
            self.bar.update()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        tensors = [tensor for tensor in self.ema.ema.state_dict().values() if tensor.is_floating_point()]
        finite = bool(self.loss.isfinite()) and all(bool(tensor.isfinite().all()) for tensor in tensors)
        finite = finite and (self.fitness is None or math.isfinite(self.fitness))
        if RANK != -1:  # all or none: the first process would else write a state that the others say is spoilt
            verdict = torch.tensor(float(not finite), device=self.device)
            torch.distributed.all_reduce(verdict, op=torch.distributed.ReduceOp.MAX)
            finite = not verdict.item()
        if finite:
            return False
        raise SeamlineError(
            f"train: {DIVERGED} in epoch {epoch + 1}; train.lr0 {self.args.lr0:g} may be too high. "
            f"What was trained before that epoch is in {self.folder}."
        )

    def on_fit_epoch_end(self) -> None:
        if RANK not in {-1, 0}:
            return
        self.history.append(epoch_record(self))
        # First the weights, then the state that names them, then what it names no longer.
        if self.best_epoch == self.epoch + 1:
            write_weights(self.ema.ema, dict(vars(self.args)), best_weights(self.folder, self.best_epoch))
        write_state(self.folder, self.state())
        for path in self.folder.glob("best-*.pt"):
            if path != best_weights(self.folder, self.best_epoch):
                path.unlink()
        # Said last: an epoch that was said to be finished is not run again.
        tqdm.write(f"{record_to_line(self.history[-1], self.epochs)}  {time.perf_counter() - self.begun:.0f} s")
        tell_progress(self.history)

    def state(self) -> State:
        model = unwrap_model(self.model)
        waiting = self.last_step != self.step_number
        return {
            "epoch": self.epoch + 1,
            "finished": bool(self.stop),
            "model": model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopper": {key: getattr(self.stopper, key) for key in ("best_fitness", "best_epoch", "possible_stop")},
            "best_fitness": self.best_fitness,
            "fitness": self.fitness,
            "best_epoch": self.best_epoch,
            "history": self.history,
            "resumed_after": self.resumed_after,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
            "last_step": self.last_step,
            "gradients": {
                name: parameter.grad
                for name, parameter in model.named_parameters()
                if waiting and parameter.grad is not None
            },
        }

    def teardown(self) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def epoch_record(trainer: Trainer) -> Record:
    """Losses, learning rate and, where it was validated, metrics of the epoch that has ended."""
    record: Record = {"epoch": trainer.epoch + 1}
    record |= {f"{name.removesuffix('_loss')}_loss": round(float(value), 5) for name, value in trainer.tloss.items()}
    record["lr"] = round(float(trainer.optimizer.param_groups[0]["lr"]), 8)
    if trainer.validated_epoch == trainer.epoch:
        for kind, letter in (("box", "B"), ("mask", "M")):
            for name, key in (("mAP50", "mAP50"), ("mAP50_95", "mAP50-95")):
                record[f"val_{kind}_{name}"] = round(float(trainer.metrics[f"metrics/{key}({letter})"]), 5)
    return record


def record_to_line(record: Record, epochs: int) -> str:
    losses = (f"{key.removesuffix('_loss')} {value:.3f}" for key, value in record.items() if key.endswith("_loss"))
    line = f"epoch {record['epoch']}/{epochs}  {'  '.join(losses)}"
    if "val_mask_mAP50_95" in record:
        line += f"  val mask mAP50-95 {record['val_mask_mAP50_95']:.3f}"
    return line


def best_weights(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch:05d}.pt"


@contextmanager
def finished_training(
    params: Train, split: Path, yolo: Path, scratch: Path, most: int = KEPT_FINISHED
) -> Iterator[Training]:
    """The training of these parameters and data: one that is kept in `scratch`, or made now and kept there.

    While the block lasts no other process makes the same one, or discards it. Downloaded weights are looked for, and
    kept, in WEIGHTS.

    Args:
        most: how many finished trainings are kept, this one included.

    Raises:
        SeamlineError: when the model, its weights or the device is not there, a class has no instance in train, an
            argument is not allowed, memory is short, or the loss is no number any more.
    """
    keep_to_scratch()
    values = {key: getattr(params, key) for key in params.__struct_fields__ if key not in OURS} | params.others
    check_arguments(values)
    model = find_model(params.model, project_around() / WEIGHTS)
    device = find_device(params.device, params.batch)
    described = {**values, "val_period": params.val_period, "device": device, "data_sha256": data_sha256(split, yolo)}
    if model.suffix == ".yaml":  # from whose name ultralytics takes the size
        described["model"] = model.name
    own = [model] if model.is_file() else []
    kind = device_kind(device)
    made_by = {**described, "device": kind, "numpy": np.__version__, "opencv": cv2.__version__}
    key = run_key(made_by, [*own, *own_modules()])
    with holding(scratch, key):
        training = kept_training(scratch, key)
        if training is None:
            discard_unfinished(scratch, key)
            folder = scratch / key
            state = train_to_the_end(params, values, model, device, (split, yolo), folder)
            facts = {
                "device": kind,
                "threads": state["threads"],  # another number rounds differently
                # The same wherever the same was asked for of the same data, also when our code has changed since.
                "training_revision": run_key(described, own),
                "data_sha256": described["data_sha256"],
                **{name: state[name] for name in ("best_epoch", "resumed_after", "history")},
            }
            if model.suffix == ".pt":  # no dependency of the stage, since it may be fetched: so one sees which it was
                facts["weights_sha256"] = sha256_of(model)
            training = keep_training(scratch, key, best_weights(folder, state["best_epoch"]), facts, most)
        else:
            print(f"the same was trained before and is kept in {training.weights.parent}", flush=True)
        yield training


def train_to_the_end(
    params: Train, values: Record, model: Path, device: str, data: tuple[Path, Path], folder: Path
) -> State:
    """Train, or go on with what a killed run has left in the folder; returns the last state."""
    state = read_state(folder)
    if state is not None and state["finished"]:
        return state
    # The links and lists for ultralytics are made anew every time, since the project may have been moved.
    dataset = linked_dataset(*data, folder / "data")
    os.environ[VAL_PERIOD], os.environ[ENDS_WITH] = str(params.val_period), str(os.getpid())
    overrides = {
        "cache": "ram" if device == "cpu" else False,
        "deterministic": True,
        **values,
        "model": str(model),
        "data": str(dataset),
        "device": device,
        "project": str(folder),
        "name": "run",
        "exist_ok": True,
        "plots": False,
        "verbose": False,
        "pretrained": model.suffix == ".pt",
    }
    if device == "cpu":
        overrides["amp"] = False  # which would be bf16 there: slow where the processor has none, and other weights
    try:
        run_trainer(overrides, folder)
    except Stopped:  # nobody goes on with it
        shutil.rmtree(folder)
        raise
    state = read_state(folder)
    if state is None or not state["finished"]:
        raise SeamlineError(f"train: the training ended before its last epoch; run dvc repro to go on ({folder}).")
    return state


def run_trainer(overrides: Record, folder: Path) -> None:
    """Train in this process, or in one for each of several GPUs."""
    try:
        Trainer(overrides=overrides).train()
    except subprocess.CalledProcessError:
        raise SeamlineError("train: a process of a GPU failed; what it says is above.") from None
    except SeamlineError:
        raise
    except Exception as error:  # of any kind: what it takes exception to stands in params.yaml or lies on the disk
        if isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY):
            raise SeamlineError(
                f"train: memory is too small for train.batch {overrides['batch']} at train.imgsz {overrides['imgsz']}; "
                f"take a smaller batch (train.nbs keeps the steps as they are). What was trained is in {folder}."
            ) from None
        write_text(folder / "error.txt", traceback.format_exc())
        first = str(error).strip().partition("\n")[0]
        raise SeamlineError(
            f"train: ultralytics stopped with {type(error).__name__}: {first} ({folder / 'error.txt'} has all of it)."
        ) from None


def check_arguments(values: Record) -> None:
    """Raises SeamlineError when ultralytics does not take an argument's value; params/train.py knows their names."""
    for key, value in values.items():
        if key == "cache" and value not in (True, False, "ram"):
            raise SeamlineError(
                f"train.cache: {value!r} is not allowed; true, false or ram; others write into the data."
            )
        try:
            check_cfg({key: value})
        except (TypeError, ValueError) as error:
            raise SeamlineError(f"train.{key}: {str(error).replace(chr(10), ' ')}") from None


def own_modules() -> list[Path]:
    """The code whose change makes another training of it; a state of the old code is none of the new.

    All of this room, but not what it imports that knows nothing of training (files, errors, processes), and not the
    parameters, whose values are known.
    """
    return sorted(Path(__file__).parent.glob("*.py"))


def keep_to_scratch() -> None:
    """Stop what ultralytics does to the data and over the network where nobody asked it to.

    It re-encodes JPEGs with bytes after their end, in place; fetches a font for plots that are not drawn; and, on a
    GPU, fetches another model to see whether mixed precision works.
    """
    ultralytics.data.utils._replace_image = lambda *_: None
    ultralytics.data.utils.check_font = lambda *_: None
    ultralytics.engine.trainer.check_amp = lambda model: next(model.parameters()).is_cuda  # on a CPU it would be bf16
    weights = project_around() / WEIGHTS
    weights.mkdir(parents=True, exist_ok=True)
    ultralytics.utils.SETTINGS["weights_dir"] = str(weights)


def find_model(name: str, weights: Path) -> Path:
    """A description of ours or ultralytics', or pretrained weights, fetched by ultralytics where there is internet.

    Raises:
        SeamlineError: when it is neither, or the weights are not here and cannot be fetched.
    """
    path = Path(name)
    if path.suffix == ".yaml":
        known = sorted(ARCHITECTURES.glob("*-seg.yaml")) + sorted((ULTRALYTICS / "cfg" / "models").rglob("*-seg.yaml"))
        places = [path, ARCHITECTURES / name, *(file for file in known if file.name == name)]
        # ultralytics describes yolov8n-seg, yolov8s-seg, ... in one file that its loader finds by name.
        found = next((place for place in places if place.is_file()), path if scaled_description(name, known) else None)
        if found is None:
            names = ", ".join(sorted({file.name for file in known}))
            raise SeamlineError(f"train.model: there is no {name!r}; descriptions are {names}; or name a .pt file.")
        return found
    if path.suffix != ".pt":
        raise SeamlineError(f"train.model: {name!r} is neither a description (.yaml) nor weights (.pt).")
    for place in (path, project_around() / path, weights / path.name):
        if place.is_file():
            check_weights(place)
            return place
    weights.mkdir(parents=True, exist_ok=True)
    try:
        fetched = Path(attempt_download_asset(str(weights / path.name), retry=0))
    except (OSError, RuntimeError):
        fetched = weights / path.name
    if not fetched.is_file():
        raise SeamlineError(
            f"train.model: the weights {name!r} are neither here nor in {weights}, and could not be downloaded; "
            f"put the file there ({RELEASES} has ultralytics'), or train from scratch with {path.stem}.yaml."
        )
    check_weights(fetched)
    return fetched


def check_weights(path: Path) -> None:
    """Raises SeamlineError unless the file holds an ultralytics segmentation model, and no code."""
    try:
        task = guess_model_task(load_weights(path)[0].yaml)  # by its head, whatever the file says of it
    except SeamlineError:
        raise
    except Exception as error:  # unpickling a foreign file may raise anything
        reason = str(error).partition("\n")[0]
        raise SeamlineError(f"train.model: {path} is no model of ultralytics' ({reason[:200]}).") from None
    if task != "segment":
        raise SeamlineError(f"train.model: {path} is a model for the task {task}; training needs a -seg model.")


def scaled_description(name: str, known: list[Path]) -> bool:
    """Whether a name such as yolov8n-seg.yaml is a size of a family's description, here yolov8-seg.yaml."""
    scale = guess_model_scale(name)
    return bool(scale) and any(file.name == name.replace(f"{scale}-seg", "-seg") for file in known)


def find_device(name: str, batch: int) -> str:
    """auto: the first GPU where there is one.

    Raises:
        SeamlineError: when a GPU is asked for that is not there, or the batch cannot be shared out.
    """
    count = torch.cuda.device_count()
    if name == "auto":
        return "0" if count else "cpu"
    numbers = [] if name == "cpu" else name.split(",")
    if any(not number.strip().isdigit() or int(number) >= count for number in numbers):
        raise SeamlineError(f"train.device: {name!r} is not there; this machine has {count} GPUs: use auto or cpu.")
    if batch % max(len(numbers), 1):
        raise SeamlineError(f"train.batch: {batch} cannot be shared out evenly over the {len(numbers)} GPUs {name!r}.")
    return ",".join(number.strip() for number in numbers) or name


def device_kind(device: str) -> str:
    """What computes: on another kind the same training gives other weights."""
    if device == "cpu":
        return f"CPU, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return ", ".join(torch.cuda.get_device_name(int(number)) for number in device.split(","))


def linked_dataset(split: Path, yolo: Path, target: Path) -> Path:
    """A data.yaml for ultralytics over links to images and labels, so that its label cache falls into scratch.

    Raises:
        SeamlineError: when a split is empty, or a class has no instance in train.
    """
    names: dict[int, str] = yaml.safe_load((split / "data.yaml").read_text(encoding="utf-8"))["names"]
    shutil.rmtree(target, ignore_errors=True)
    for part in ("train", "val"):
        files = listed_images(split / f"{part}.txt")
        if not files:
            raise SeamlineError(f"{split / part}.txt: is empty; ask for more images (subset.images) or other ratios.")
        folder = target.resolve() / part
        folder.mkdir(parents=True)
        for kind in ("images", "labels"):
            (folder / kind).symlink_to((yolo / kind).resolve())
        listing = "".join(f"{folder / 'images' / file}\n" for file in files)
        (target / f"{part}.txt").write_text(listing, encoding="utf-8")
        if part == "train":
            check_classes_shown(names, [(folder / "labels" / file).with_suffix(".txt") for file in files])
    data = {"path": str(target.resolve()), "train": "train.txt", "val": "val.txt", "names": names}
    (target / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return target / "data.yaml"


def check_classes_shown(names: dict[int, str], labels: list[Path]) -> None:
    instances = Counter(
        int(line.split(maxsplit=1)[0]) for label in labels for line in label.read_text(encoding="ascii").splitlines()
    )
    unseen = [name for index, name in names.items() if not instances[index]]
    if unseen:
        raise SeamlineError(
            f"train: no training image shows {unseen[0]!r}; ask for more images or leave the class out."
        )


def write_weights(ema: torch.nn.Module, train_args: Record, target: Path) -> None:
    """Keep of a model what inference and fine-tuning need, and nothing that differs from run to run.

    ultralytics stores dates, absolute paths and git remotes; two equal trainings would give different files.
    """
    model: Any = deepcopy(ema).half().to(memory_format=torch.contiguous_format).eval()
    model.criterion = None
    kept = {key: train_args[key] for key in ("task", "imgsz", "overlap_mask", "mask_ratio", "single_cls")}
    model.args = kept
    model.yaml = {key: value for key, value in model.yaml.items() if key != "yaml_file"}
    if hasattr(model, "pt_path"):
        del model.pt_path
    for parameter in model.parameters():
        parameter.requires_grad = False
    stored = {"model": model, "train_args": kept, "version": ultralytics.__version__, "epoch": -1}
    with whole_file(target) as temporary, temporary.open("wb") as stream:
        torch.save(stored, stream)


def write_history(history: list[Record], losses: Path, validation: Path) -> None:
    """Losses and learning rate of every epoch, and the metrics of those that were validated, as CSV for dvc plots."""
    for path, validated in ((losses, False), (validation, True)):
        keys = ["epoch", *(key for key in history[-1] if key != "epoch" and key.startswith("val_") == validated)]
        write_csv(path, keys, ([record[key] for key in keys] for record in history if keys[-1] in record))
