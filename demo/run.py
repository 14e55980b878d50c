"""The demo: a short run of the whole method on scenes synthesised from scikit-image's photographs."""

from pathlib import Path
from typing import Any

from config import DemoConfig, TrainConfig
from demo.synthetic import write_demo_data
from evaluation import results, scoring
from evaluation.scene_sets import SceneSet
from models import build_model, weights
from system.errors import Interrupted
from trainer import Trainer

# x2 and a narrow network: at x4, a few minutes of training are not enough.
RECIPE = {
    "dataset_name": "Demo",
    "n_scale": 2,
    "n_feats": 16,
    "batch_size": 4,
    "patch_size": 24,
    "patch_stride": 40,
    "epochs": 7,
    "learning_rate": 1e-3,
    "UseRGB": 1,
    "theta_rgb": 1,
    "UseLabeledSpectralMixUp": 1,
    "theta_LabeledSpectralMixUp": 1,
    "UseUnlabelConsistency": 1,
    "theta_unlabel": 1,
    "global_residual": 1,
    "init": "identity",
    "clip_gradient": 0.05,
}


def run_demo(config: DemoConfig) -> list[Path]:
    """Synthesise scenes, train on two of them with all four objectives, score on another, draw a picture.

    Returns:
        Paths of the files written.
    """
    out_dir = Path(config.out_dir).expanduser()
    print("1/3  lifting scikit-image's photographs to 31 bands (see demo/synthetic.py)", flush=True)
    data = write_demo_data(out_dir / "data")
    print("2/3  training on 2 scenes with all four objectives (a small network, a short run)", flush=True)
    trainer = Trainer(_make_config(config, data, out_dir), has_flags=False)
    try:
        files = trainer.train()
    except Interrupted as stop:
        raise Interrupted(stop.exit_code - 128, "the same command starts the demo again") from stop
    trained = next(f for f in reversed(files) if f.suffix == ".pth")
    print("3/3  scoring on a test scene", flush=True)
    scenes = SceneSet(data[2], "test_dir", trainer.config.n_scale)
    model = weights.load(trained).model.move_to(trainer.device)
    methods = {"bicubic": build_model("Bicubic", trainer.n_colors, scenes.n_scale), "DeepShare": model}
    rows = {name: scoring.evaluate(network, scenes, trainer.device)[0] for name, network in methods.items()}
    _print_table(rows, f"x{scenes.n_scale}", trainer.iteration)
    description = {**config.as_dict(), "iterations": trainer.iteration}
    files += [results.write(out_dir / f"{name}_results.json", name, scenes, rows[name], description) for name in rows]
    scene = scenes.load(scenes.entries[0])
    output = scoring.super_resolve(model, scene, trainer.device)
    return [*data, *files, scoring.save_picture(out_dir / "comparison.png", scene, output)]


def _make_config(config: DemoConfig, data: list[Path], out_dir: Path) -> TrainConfig:
    labelled, unlabelled, _, rgb = map(str, data)
    folders = {"train_dir_mslabel": labelled, "train_dir_msunlabel": unlabelled, "train_dir_rgb": rgb}
    asked = {"seed": config.seed, "cuda": config.cuda, "gpus": config.gpus, "save_dir": str(out_dir / "runs")}
    return TrainConfig.from_flags({**RECIPE, **folders, **asked})


def _print_table(rows: dict[str, Any], scale: str, iterations: int) -> None:
    """Print the table of both methods and what was gained."""
    lines = [["scene", "method", *results.printed_metrics()]]
    for scene in rows["bicubic"]:
        lines += [[scene, name, *results.cells(row[scene])] for name, row in rows.items()]
    print(results.in_columns(lines))
    bicubic, trained = (results.mean_row(rows[name]) for name in ("bicubic", "DeepShare"))
    gain, angle = trained["MPSNR"] - bicubic["MPSNR"], trained["SAM"] - bicubic["SAM"]
    print(f"{scale}: {gain:+.2f} dB MPSNR and {angle:+.2f} degrees SAM against bicubic, after {iterations} iterations")
