"""The settings of `demo`."""

from dataclasses import dataclass

from config.fields import Config, cuda_flag, flag, gpus_flag


@dataclass(frozen=True)
class DemoConfig(Config):
    """Train and score the method in two to four minutes, without downloads."""

    out_dir: str = flag("./demo_output", "folder for the stores, run, table and figure", "output", affects="place")
    seed: int = flag(3000, "seed of all random numbers", "optimisation", low=0)
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()
