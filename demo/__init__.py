"""The demo: the whole method, briefly, on scenes made of built-in photographs."""

import dataclasses
from pathlib import Path

import torch

import pictures
from config import TrainConfig
from demo.scenes import write_demo_data
from evaluation import results
from evaluation import scoring as evaluator
from evaluation.scenes import SceneSet
from models import build_model, weights
from trainer import Trainer
from utils import replacing

# x2 and a narrow network, because at x4 more steps are needed than fit into a minute or two.
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
}


def run_demo(config):
    """Make scenes, train on some of them with all four losses, score on another, draw a picture.

    Args:
        config: a DemoConfig.

    Returns:
        Paths of the files written.
    """
    out_dir = Path(config.out_dir).expanduser()
    print("1/3  lifting scikit-image's photographs to 31 bands (see data/demo_scenes.py)", flush=True)
    labelled, unlabelled, test, rgb = data = write_demo_data(out_dir / "data")
    print("2/3  training on 2 scenes with all four losses (a small network, a short run)", flush=True)
    flags = {**RECIPE, "seed": config.seed, "cuda": config.cuda, "gpus": config.gpus}
    trainer = Trainer(
        TrainConfig.from_flags(
            {
                **flags,
                "train_dir_mslabel": str(labelled),
                "train_dir_msunlabel": str(unlabelled),
                "train_dir_rgb": str(rgb),
                "save_dir": str(out_dir / "runs"),
            }
        )
    )
    files = trainer.train()
    trained = next(f for f in reversed(files) if f.suffix == ".pth")
    print("3/3  scoring on a scene that was not trained on", flush=True)
    scenes = SceneSet(test, "test_dir", trainer.config.n_scale)
    model = weights.load(trained).model.to(trainer.device, memory_format=torch.channels_last)
    rows = {}
    for name, network in (("bicubic", build_model("Bicubic", trainer.n_colors, scenes.n_scale)), ("DeepShare", model)):
        rows[name], _ = evaluator.evaluate(network, scenes, trainer.device)
    lines = [["scene", "method", *results.PRINTED]]
    for scene in rows["bicubic"]:
        for name in rows:
            lines.append([scene, name, *results.cells(rows[name][scene])])
    means = {name: results.mean_row(r) for name, r in rows.items()}
    print(results.in_columns(lines))
    gain = means["DeepShare"]["MPSNR"] - means["bicubic"]["MPSNR"]
    angle = means["bicubic"]["SAM"] - means["DeepShare"]["SAM"]
    print(
        f"x{scenes.n_scale}: {gain:+.2f} dB MPSNR and {-angle:+.2f} degrees SAM against bicubic, after {trainer.iteration} iterations"
    )
    description = {**dataclasses.asdict(config), "iterations": trainer.iteration}
    files += [results.write(out_dir / f"{name}_results.json", name, scenes, rows[name], description) for name in rows]
    picture = out_dir / "comparison.png"
    scene = scenes.load(scenes.entries[0])
    output = evaluator.super_resolve(model, scene, trainer.device)
    sheet = pictures.comparison(
        *map(evaluator.as_image, (scene.ms, scene.lms)), output, evaluator.as_image(scene.gt), scene.wavelengths
    )
    with replacing(picture) as temporary:
        sheet.save(temporary, format="PNG")
    return [*data, *files, picture]
