"""The settings of `demo`."""

from dataclasses import dataclass

from config.fields import Config, check_gpus, cuda_flag, flag, gpus_flag


@dataclass(frozen=True)
class DemoConfig(Config):
    """Train the full method for two to four minutes on built-in photographs and score it: no download, no GPU."""

    out_dir: str = flag("./demo_output", "folder for the demo's stores, run, table and picture", affects="place")
    seed: int = flag(3000, "seed of every random draw", low=0)
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()

    def validate(self) -> None:
        """See `Config.validate`."""
        check_gpus(self.gpus)
