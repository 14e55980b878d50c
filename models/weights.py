"""Weights files: written in the format of the released code, read strictly."""

import contextlib
import hashlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import facts
from data.bands import BandList
from formats.kinds import make_kind_error
from models import registry
from models.network import Network, State
from system.errors import UserError, refuse_small_memory
from system.files import atomic_write
from system.records import Field
from utils import print_line

# Key of the state_dict's metadata for the settings that the tensors do not determine.
METADATA_KEY = "architecture"
# No sensor has more bands.
MOST_BANDS = 100_000
WAVELENGTHS = Field(list, items=Field(float, 1e-9), is_optional=True)
METADATA = {
    "n_ovls": Field(int, 0, MOST_BANDS, is_optional=True),
    "n_scale": Field(int, 1, MOST_BANDS, is_optional=True),
    "n_colors": Field(int, 0, MOST_BANDS, is_optional=True),
    "wavelengths": WAVELENGTHS,
    "sensor_bands": Field(int, 1, MOST_BANDS, is_optional=True),
    "sensor_wavelengths": WAVELENGTHS,
    "value_scale": Field(float, 0, facts.LARGEST_SCALE, is_optional=True),
    "dataset_name": Field(str, is_optional=True),
}
# Keys under which files store a state_dict, by precedence: running means of the weights first. They may be nested.
RUNNING_MEANS = ("averaged", "params_ema", "model_ema", "ema", "state_dict_ema")
# Largest depth of nesting; a file may also contain itself.
DEEPEST = 8
CONTAINERS = (
    *RUNNING_MEANS,
    *("model", "state_dict", "model_state_dict", "params", "netG", "generator", "net", "network"),
)
# Prefixes that wrappers add to every name: torch.compile, (Distributed)DataParallel, a module around the network.
PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "netG.", "generator.")
WANTED = "a checkpoint of torch.save or safetensors"
REMEDIES = "download or copy it again", "give a .pth of network weights"
# ZIP ratio limit: torch.save stores uncompressed, and trained weights compress little.
MOST_PACKED = 20
# Buffers that profilers add.
FOREIGN_BUFFERS = ("total_ops", "total_params")


@dataclass(frozen=True)
class Weights:
    """A network with its weights and their metadata.

    Attributes:
        path: of the file.
        model: on the CPU, in eval mode.
        architecture: the arguments of `models.build_model`; 0 for unknown ones.
        wavelengths: centres in nm of the bands of its training, or None if unknown.
        fingerprint: the file's SHA-256.
        value_scale: full-scale value of the sensor that they were fine-tuned for; 0 if not recorded.
        sensor: bands of the sensor whose spectral windows they were fine-tuned on, or None.
    """

    path: Path
    model: Network
    architecture: dict[str, Any]
    wavelengths: np.ndarray | None
    fingerprint: str
    value_scale: float = 0.0
    sensor: BandList | None = None


def save_weights(
    model: Network,
    path: str | Path,
    n_ovls: int,
    wavelengths: Iterable[float] | None = None,
    value_scale: float = 0.0,
    sensor: BandList | None = None,
) -> None:
    """Save a plain state_dict that the released code can load too.

    The state_dict's metadata contains the settings of the network, the overlap of the band groups, the scale, the
    number of bands and, if given, the arguments below.

    Args:
        model: the network.
        path: of the file, written atomically.
        n_ovls: overlap of the band groups.
        wavelengths: band centres in nm.
        value_scale: full-scale value of the sensor; 0: not recorded.
        sensor: bands of the sensor whose spectral windows the weights were fine-tuned on.

    Raises:
        UserError: if the disk is full or the folder is not writable.
    """
    state: Any = model.state_dict()
    for name in list(state):
        state[name] = state[name].detach().to("cpu", memory_format=torch.contiguous_format)
    numbers = {"n_ovls": n_ovls, "n_scale": model.n_scale, "n_colors": model.n_colors}
    metadata: dict[str, Any] = {**model.settings, **numbers}
    if wavelengths is not None:
        metadata["wavelengths"] = [float(w) for w in wavelengths]
    if value_scale:
        metadata["value_scale"] = float(value_scale)
    if sensor is not None:
        metadata["sensor_bands"] = sensor.count
        metadata["sensor_wavelengths"] = [] if sensor.centres is None else [float(w) for w in sensor.centres]
    state._metadata[METADATA_KEY] = metadata
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def load(
    name_or_path: str | Path, n_ovls: int | None = None, n_scale: int | None = None, flag: str = "model_dir"
) -> Weights:
    """Read a weights file and build its network.

    Args:
        name_or_path: a released or own .pth (a plain state_dict, also with DataParallel's `module.` prefix or inside
            {"state_dict": ...}), a run's last.pth, or the name of bundled weights.
        n_ovls, n_scale: overlap of the band groups and scale, for files that do not record them.
        flag: of the command line, for messages.

    Raises:
        UserError: for a file that is missing, is damaged, or does not contain the weights of a known network.
    """
    path = resolve_path(name_or_path, flag)
    content, fingerprint = _read_file(path)
    state, metadata = _extract_state(content, path)
    architecture = read_architecture(state, path, metadata, n_ovls, n_scale)
    try:
        # Built on the meta device first, so that a forged file cannot allocate memory.
        with torch.device("meta"):
            refuse_misfits(registry.build_model(**architecture), state, path)
        model = registry.build_model(**architecture)
    except ValueError as error:
        raise UserError(f"{path}: {error}; give weights of one of this program's networks") from error
    load_strictly(model, state, path)
    wavelengths = _read_wavelengths(metadata, path, architecture["n_colors"])
    value_scale = float(metadata.get("value_scale") or 0)
    sensor = _read_sensor(metadata)
    return Weights(path, model.eval(), architecture, wavelengths, fingerprint, value_scale, sensor)


def load_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file without building a network; see `load`."""
    return _extract_state(_read_file(Path(path))[0], Path(path))[0]


def resolve_path(name_or_path: str | Path, flag: str = "model_dir") -> Path:
    """Return the path of a weights file, given as a path or as the name of bundled weights.

    Raises:
        UserError: for an unknown name.
    """
    shipped = {p.stem: p for p in sorted(registry.PRETRAINED.glob("*.pth"))}
    path = Path(name_or_path).expanduser()
    if path.name != str(name_or_path) or path.is_file() or path.suffix == ".pth":
        return path
    if str(name_or_path) not in shipped:
        raise UserError(
            f"--{flag} {name_or_path}: neither a file nor the name of bundled weights "
            f"({', '.join(shipped) or 'none'}); give a .pth file"
        )
    return shipped[str(name_or_path)]


def read_checkpoint(path: str | Path) -> Any:
    """Return the content of a file of torch.save, on the CPU; no code of the file is run.

    Raises:
        UserError: for a file that is missing or damaged, or contains Python objects.
    """
    return _read_file(Path(path))[0]


def read_architecture(
    state: State,
    path: Path,
    metadata: dict[str, Any] | None = None,
    n_ovls: int | None = None,
    n_scale: int | None = None,
) -> dict[str, Any]:
    """Determine a network's architecture from its tensors and metadata.

    Settings that the tensors do not determine (n_ovls; for some baselines n_scale and n_colors; settings of single
    networks) are read from the file's metadata, else (n_ovls) from "Ovls<N>" in the name of released files, else from
    config.json of the run beside the file. Otherwise the arguments count. Without them, n_ovls is 2 as published,
    n_colors 0 (any number of bands), and other settings have their published values.

    Returns:
        dict of the keyword arguments of `models.build_model` that the network has.

    Raises:
        UserError: if the tensors match no network, or the scale is unknown.
    """
    path = Path(path)
    entry = registry.find_entry(state)
    try:
        if entry is None:
            raise LookupError("unknown names of tensors")
        architecture = {"name": entry.name, **entry.network_class.read_settings(state)}
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        found, known = ", ".join(list(state)[:3]), " or ".join(registry.list_trainable_names())
        raise UserError(
            f"{path}: not the weights of a {entry.name if entry else known} (its first tensors are {found}); "
            "give a checkpoint trained by this program or by the released code"
        ) from error
    if "n_ovls" in entry.settings:
        architecture["n_ovls"] = _reconcile("n_ovls", _find_setting("n_ovls", path, metadata), n_ovls, path)
        if architecture["n_ovls"] is None:
            print_line(
                f'{path}: n_ovls is not recorded; assuming 2 as published (set "n_ovls": N in a config.json beside it)'
            )
            architecture["n_ovls"] = 2
    if "n_scale" not in architecture:
        architecture["n_scale"] = _reconcile("n_scale", _find_setting("n_scale", path, metadata), n_scale, path)
        if architecture["n_scale"] is None:
            raise UserError(
                f"{path}: the scale of these weights is not recorded; set --n_scale, e.g. 4, or put a config.json "
                'with "n_scale": 4 beside them'
            )
    if "n_colors" not in architecture:
        architecture["n_colors"] = _find_setting("n_colors", path, metadata) or 0
    for name, default in entry.settings.items():
        if name not in architecture:
            found = _find_setting(name, path, metadata, type(default))
            architecture[name] = default if found is None else found
    return architecture


def load_strictly(model: Network, state: State, path: str | Path) -> None:
    """Load a state_dict whose tensors are exactly those of the model.

    Raises:
        UserError: naming the first tensors that do not match, or one that is not finite.
    """
    refuse_misfits(model, state, path)
    for name, tensor in state.items():
        if not is_plain_tensor(tensor):
            raise UserError(
                f"{path}: {name} is sparse, quantised or complex ({str(tensor.dtype).removeprefix('torch.')}); save "
                "its state_dict() in float32"
            )
        # Converted, as isfinite does not support 8-bit types.
        if not torch.isfinite(tensor.float()).all():
            raise UserError(
                f"{path}: {name} has values that are not finite (the training may have diverged); give an earlier "
                "checkpoint"
            )
    model.load_state_dict(state, strict=True)


def is_plain_tensor(tensor: Any) -> bool:
    """Return True for a dense tensor of real, unquantised numbers on the CPU."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return not tensor.is_quantized and not tensor.is_complex()


def refuse_misfits(model: Network, state: State, path: str | Path) -> None:
    """Check that names and shapes of tensors are those of a model, which may be on the meta device.

    Raises:
        UserError: naming the first tensors that do not match.
    """
    own = model.state_dict()
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or surplus or reshaped:
        parts = [
            f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for kind, names in (("missing", missing), ("unknown", surplus), ("of another shape", sorted(reshaped)))
            if names
        ]
        raise UserError(f"{path}: the tensors do not fit the network: {'; '.join(parts)}; give the matching checkpoint")


def _read_file(path: Path) -> tuple[Any, str]:
    """Return (content of a file of torch.save or safetensors, the file's SHA-256)."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a .pth checkpoint")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if not content:
        raise UserError(f"{path}: the file is empty; copy or download it again")
    is_safetensors = _is_safetensors(content)
    if not is_safetensors and not _is_torch_file(content):
        raise make_kind_error(path, WANTED, "weights", REMEDIES, f"it begins with the bytes {content[:8].hex(' ')}")
    loaded = _load_safetensors(content, path) if is_safetensors else _load_torch(content, path)
    return loaded, hashlib.sha256(content).hexdigest()


def _load_torch(content: bytes, path: Path) -> Any:
    """Unpickle the bytes of a file of torch.save; no code of the file is run."""
    try:
        if content.startswith(b"PK"):
            _check_archive(zipfile.ZipFile(io.BytesIO(content)), len(content))
        else:
            _refuse_endless(content)
        # Checkpoints often contain NumPy scalars, such as a score.
        with torch.serialization.safe_globals(_list_numpy_globals()):
            return torch.load(io.BytesIO(content), "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)|(an array of bytes|Unsupported operand \d+)", str(error))
        objects = found and (found[1] or found[2])
        if objects is None or objects.startswith("Unsupported"):
            raise make_kind_error(path, WANTED, "weights", REMEDIES, objects or error) from error
        raise UserError(
            f"{path}: contains Python objects ({objects}), which are not loaded for safety; "
            "save its state_dict() with torch.save instead"
        ) from error
    # torch and zipfile raise errors of nearly any type for incomplete files.
    except Exception as error:
        refuse_small_memory(path, error)
        raise make_kind_error(path, WANTED, "weights", REMEDIES, error) from error


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Check the checksums of a ZIP archive of size bytes, which torch ignores, and its uncompressed size."""
    if (unpacked := sum(record.file_size for record in archive.infolist())) > max(2**26, MOST_PACKED * size):
        raise zipfile.BadZipFile(f"{unpacked / 1e9:.1f} GB unpacked, of {size / 1e6:.1f} MB")
    if record := archive.testzip():
        raise zipfile.BadZipFile(f"the checksum of its record {record} does not match")
    for name in archive.namelist():
        if name.endswith(".pkl"):
            _refuse_endless(archive.read(name))


def _refuse_endless(pickled: bytes) -> None:
    """Refuse bytearray, the only global allowed by torch that lets a small pickle allocate any amount of memory."""
    if b"bytearray" in pickled:
        raise pickle.UnpicklingError("an array of bytes")


def _is_torch_file(content: bytes) -> bool:
    """Return True for the first bytes of a file of torch.save: ZIP archive, or in old versions pickle or tar."""
    return content.startswith((b"PK", b"\x80")) or content[257:262] == b"ustar"


def _is_safetensors(content: bytes) -> bool:
    """Return True for the first bytes of a safetensors file: the length of a JSON object, then the object."""
    return len(content) > 9 and content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content)


def _load_safetensors(content: bytes, path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load as load_safetensors
    except ImportError as error:
        raise UserError(f"{path}: a safetensors file needs the package safetensors; pip install safetensors") from error
    try:
        return load_safetensors(content)
    # safetensors raises its own error type.
    except Exception as error:
        refuse_small_memory(path, error)
        raise make_kind_error(path, WANTED, "weights", REMEDIES, error) from error


def _list_numpy_globals() -> list[Any]:
    """Return the globals in pickles of NumPy scalars, which consist of bytes and a type and run no code."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]


def _extract_state(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return (state_dict, metadata) of a file's content; the metadata of a run's checkpoint is its config."""
    metadata: dict[str, Any] = {}
    keys: list[str] = []
    for _ in range(DEEPEST):
        held = content if isinstance(content, dict) else {}
        found = [k for k in CONTAINERS if isinstance(held.get(k), dict) and held[k]]
        if not found:
            break
        config = content.get("config")
        metadata = config if isinstance(config, dict) else metadata
        keys = list(map(str, content))
        if found[0] in RUNNING_MEANS[1:] and len(found) > 1:
            print_line(f"{path}: using the running mean of the weights ({found[0]}), not {found[1]}")
        content = content[found[0]]
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, dict) else {}
    for name, tensor in tensors.items():
        if tensor.layout is torch.strided and tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            raise UserError(f"{path}: some values of {name} are missing in the file; copy or download it again")
    state = _strip_prefixes(tensors)
    if not tensors or (len(tensors) < len(content) and registry.find_entry(state) is None):
        keys = list(map(str, content)) if isinstance(content, dict) else keys
        kind = "an empty dict" if content == {} else f"a {type(content).__name__}"
        found_text = ", ".join(keys[:6]) + (", ..." if len(keys) > 6 else "") if keys else kind
        raise UserError(f"{path}: contains no state_dict (found {found_text}); give a .pth of network weights")
    own = getattr(content, "_metadata", None)
    own = own.get(METADATA_KEY) if isinstance(own, dict) else None
    # A foreign config can mean anything: only its possible values are used.
    known = {k: v for k, v in metadata.items() if k not in METADATA or METADATA[k].is_possible(v)}
    metadata = known if own is None else _check_metadata(own, path)
    if entry := registry.find_entry(state):
        state, remark = entry.network_class.complete_state(state)
        if remark:
            print_line(f"{path}: {remark}")
    return state, metadata


def _check_metadata(metadata: Any, path: Path) -> dict[str, Any]:
    """Return the metadata of a state_dict.

    Raises:
        UserError: naming the first entry that is not possible.
    """
    try:
        Field(dict, fields=METADATA).check(metadata)
        for centres, bands in (("wavelengths", "n_colors"), ("sensor_wavelengths", "sensor_bands")):
            found, count = metadata.get(centres), metadata.get(bands)
            if found and count and len(found) != count:
                raise ValueError(f"{centres} has {len(found)} values, for {count} bands")
    except ValueError as error:
        raise UserError(f"{path}: its metadata: {error}; copy it again, or save its state_dict() alone") from error
    output: dict[str, Any] = metadata
    return output


def _is_container(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _strip_prefixes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors without what wrappers put before their names, in whatever order, and without profilers' buffers."""
    state = {
        str(name).replace("._orig_mod.", "."): tensor
        for name, tensor in tensors.items()
        if str(name).rpartition(".")[2] not in FOREIGN_BUFFERS
    }
    while state and registry.find_entry(state) is None:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_wavelengths(metadata: dict[str, Any], path: Path, n_colors: int) -> np.ndarray | None:
    """Return the wavelengths in the metadata, else those of the data set."""
    recorded = metadata.get("wavelengths")
    if isinstance(recorded, list) and len(recorded) == n_colors:
        return np.array(recorded)
    return facts.get_wavelengths(metadata.get("dataset_name", path.name.split("_")[0]), n_colors)


def _read_sensor(metadata: dict[str, Any]) -> BandList | None:
    """Return the bands of the sensor whose spectral windows the weights were fine-tuned on, or None."""
    if not metadata.get("sensor_bands"):
        return None
    centres = metadata.get("sensor_wavelengths")
    return BandList(metadata["sensor_bands"], np.array(centres, dtype=np.float64) if centres else None)


def _reconcile(name: str, recorded: int | None, given: int | None, path: Path) -> int | None:
    """Return a setting as recorded, else as given, else None; raise UserError if the two differ."""
    if None not in (recorded, given) and recorded != given:
        raise UserError(f"--{name} {given}: {path} has {name} {recorded}; leave the flag out, or give other weights")
    return given if recorded is None else recorded


def _find_setting(name: str, path: Path, metadata: dict[str, Any] | None, kind: type | None = None) -> Any:
    """Return a setting from the metadata, the file's name or the run's config.json, or None.

    Args:
        kind: type of a setting that only one network has.
    """
    metadata = metadata or {}
    named = re.search(r"Ovls=?(\d+)", path.name) if name == "n_ovls" else None
    if named and name not in metadata:
        return int(named[1])
    beside = path.parent / "config.json"
    if name not in metadata and beside.is_file():
        with contextlib.suppress(ValueError, OSError):
            content = json.loads(beside.read_text(encoding="utf-8"))
            metadata = content if isinstance(content, dict) else {}
    value = metadata.get(name)
    is_possible = type(value) is kind if kind else METADATA[name].is_possible(value)
    return value if is_possible else None
