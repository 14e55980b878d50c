"""Sources of patches, indexed by number: cut from scenes and degraded on the device, or read from files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.bands import SameBands
from data.imresize import degrade, upsample
from data.spectral import apply_along_bands
from data.store import ChunkedCube, Contents, Store, describe_folder, is_store
from data.stream import Batch, PatchSource, augment
from formats.calibration import UnitCube
from formats.folders import find_mats, find_pictures, format_names
from formats.images import read_picture
from formats.mat import check_mats, read_mat, read_mat_shapes
from system.devices import send_to
from system.errors import DataError
from system.machine import get_free_memory
from utils import print_line, progress_bar

# Remedy for scenes whose bands differ.
ONE_SENSOR = "use scenes of one sensor: prepare those of each sensor separately"
Cube = np.ndarray | ChunkedCube | UnitCube


class ScenePatches:
    """Patches of scenes, which stay in their number type on the device, in main memory or in chunks on disk.

    Args:
        scenes: tuples (name, H x W x C array or chunked cube, full-scale value, lr_scale: 1 for an HR image, n_scale
            for an LR image).
        size: HR pixels along a patch's edge.
        stride: HR pixels between patches.
        n_scale: upsampling factor.
        origin: file or folder, for messages.
        labelled: True: batches contain gt. False: HR scenes are degraded; LR images are cut at size / n_scale.
        lift: 3 x K matrix from RGB to one band group, or None.
        limit: number of patches to use, scene by scene, row by row; 0 for all.
        contents: of the store of the scenes, or None.

    Raises:
        DataError: for scenes of another scale, or if all scenes are smaller than a patch.
    """

    def __init__(
        self,
        scenes: Iterable[tuple[str, Cube, float, int]],
        size: int,
        stride: int,
        n_scale: int,
        origin: str | Path,
        labelled: bool = True,
        lift: torch.Tensor | None = None,
        limit: int = 0,
        contents: Contents | None = None,
    ) -> None:
        self.n_scale, self.labelled, self.lift, self.origin = n_scale, labelled, lift, origin
        self.size, self.resize_dtype, self.device = size, torch.float32, torch.device("cpu")
        self.contents = contents or Contents(Path(origin), {}, {})
        self.cubes: list[Any] = []
        self.scales: list[float] = []
        self.divisors: list[torch.Tensor] = []
        self.sizes: list[tuple[int, int]] = []
        positions: list[tuple[int, int, int]] = []
        small: list[str] = []
        for number, (name, cube, scale, lr_scale) in enumerate(scenes):
            self._check_scene(name, cube, lr_scale)
            step = 1 if lr_scale == 1 else n_scale
            edge, gap = size // step, max(1, stride // step)
            rows = range(0, cube.shape[0] - edge + 1, gap)
            cols = range(0, cube.shape[1] - edge + 1, gap)
            positions += [(number, i, j) for i in rows for j in cols]
            small += [] if rows and cols else [name]
            self.cubes.append(cube)
            self.scales.append(float(scale))
            self.divisors.append(torch.full((), float(scale)))
            self.sizes.append((edge, lr_scale))
        if not positions:
            raise DataError(
                origin, f"all images are smaller than a patch of {size} pixels", "set a smaller {patch_size}"
            )
        if small:
            print_line(
                f"{origin}: skipping {len(small)} of {len(self.cubes)} images smaller than a patch of {size} pixels "
                f"({format_names(small)}); set a smaller --patch_size to use them"
            )
        self.positions = _limit_items(positions, limit, origin)
        self.n_colors = self.cubes[0].shape[2] if lift is None else lift.shape[1]
        self.reads_files = not all(isinstance(cube, np.ndarray) for cube in self.cubes)
        # Patches are transferred in the scenes' number type, with at most half the bytes of float32. uint16 is viewed
        # as int16, which torch supports on all devices.
        self.is_uint16 = all(cube.dtype == np.uint16 for cube in self.cubes)
        # torch does not convert uint32 and uint64 on all devices.
        kinds = {cube.dtype for cube in self.cubes}
        self.has_one_dtype = len(kinds) == 1 and kinds.isdisjoint({np.dtype(np.uint32), np.dtype(np.uint64)})
        if not self.reads_files:
            self.cubes = [self._as_tensor(cube) for cube in self.cubes]

    def _check_scene(self, name: str, cube: Cube, lr_scale: int) -> None:
        if lr_scale not in (1, self.n_scale):
            raise DataError(
                self.origin,
                f"{name} is an LR image for x{lr_scale}, not x{self.n_scale}",
                f"set {{n_scale}} {lr_scale}, or prepare LR images of x{self.n_scale}",
            )
        if self.labelled and lr_scale != 1:
            raise DataError(
                self.origin, f"{name} is an LR image without HR image", "use it as unlabelled ({train_dir_msunlabel})"
            )

    @property
    def wavelengths(self) -> np.ndarray | None:
        """Band centres in nm, or None if unknown."""
        return self.contents.wavelengths

    def __len__(self) -> int:
        return len(self.positions)

    def to(self, device: str | torch.device) -> "ScenePatches":
        """Create batches on this device; move the scenes to it if they fit into a quarter of its memory."""
        self.device = torch.device(device)
        self.lift = None if self.lift is None else self.lift.to(self.device)
        self.divisors = [torch.full((), scale, device=self.device) for scale in self.scales]
        # float64 is fast on GPUs, and their float32 products may use TF32.
        self.resize_dtype = torch.float32 if self.device.type == "cpu" else torch.float64
        if self.device.type == "cuda" and not self.reads_files:
            fits = sum(cube.nbytes for cube in self.cubes) <= torch.cuda.mem_get_info(self.device)[0] / 4
            self.cubes = [cube.to(self.device) if fits else cube.pin_memory() for cube in self.cubes]
        return self

    def batch(self, numbers: Any, modes: Any) -> Batch:
        """Return the patches of these numbers, augmented by these modes (see `augment`), as a Batch on the device."""
        high: list[tuple[torch.Tensor, int]] = []
        low: list[tuple[torch.Tensor, int]] = []
        where = []
        for number, mode in zip(numbers, modes, strict=True):
            scene, i, j = self.positions[number]
            edge, lr_scale = self.sizes[scene]
            patch = self.cubes[scene][i : i + edge, j : j + edge]
            patch = augment(self._as_tensor(patch) if self.reads_files else patch, int(mode))
            group = high if lr_scale == 1 else low
            where.append((lr_scale == 1, len(group)))
            group.append((patch, scene))
        if not low:
            gt = self._to_bands_first(high)
            ms, lms = degrade(gt, self.n_scale, self.resize_dtype)
            return Batch(ms, lms, gt if self.labelled else None)
        # A batch may contain unlabelled HR scenes and LR images.
        given = self._to_bands_first(low)
        degraded = degrade(self._to_bands_first(high), self.n_scale, self.resize_dtype)[0] if high else given
        ms = torch.stack([(degraded if is_hr else given)[k] for is_hr, k in where])
        ms = ms.contiguous(memory_format=torch.channels_last)
        return Batch(ms, upsample(ms, self.n_scale, self.resize_dtype))

    def _as_tensor(self, pixels: np.ndarray) -> torch.Tensor:
        if not self.has_one_dtype:
            return torch.from_numpy(pixels.astype(np.float32))
        return torch.from_numpy(pixels.view(np.int16) if self.is_uint16 else pixels)

    def _to_bands_first(self, patches: Sequence[tuple[torch.Tensor, int]]) -> torch.Tensor:
        x = send_to(self.device, torch.stack([patch for patch, _ in patches]))
        x = (x.view(torch.uint16) if self.is_uint16 else x).to(torch.float32)
        scenes = [scene for _, scene in patches]
        scales = {self.scales[scene] for scene in scenes}
        # Several divisors are on the device already, which saves a transfer.
        x /= scales.pop() if len(scales) == 1 else torch.stack([self.divisors[k] for k in scenes]).view(-1, 1, 1, 1)
        x = x.permute(0, 3, 1, 2)
        return x if self.lift is None else apply_along_bands(x, self.lift)


class MatPatches:
    """A folder of .mat patches of the released code: gt, ms, ms_bicubic, H x W x C; unlabelled ones need no gt.

    All files are checked first. They are kept in memory if they fit into a quarter of the free memory, else read for
    each batch. Their wavelengths are unknown.

    Args:
        folder: for messages.
        files: its .mat files.
        n_scale: upsampling factor.
        labelled: True: batches contain gt.
        limit: number of files to use; 0 for all.

    Raises:
        DataError: for patches that are damaged, not square, of several sizes or of another scale.
    """

    wavelengths = None

    def __init__(
        self, folder: str | Path, files: list[Path], n_scale: int, labelled: bool = True, limit: int = 0
    ) -> None:
        self.origin, self.n_scale, self.labelled = folder, n_scale, labelled
        self.keys = ("gt", "ms", "ms_bicubic") if labelled else ("ms", "ms_bicubic")
        self.files = _limit_items(files, limit, folder)
        shapes = []
        for k, f in enumerate(progress_bar(self.files, desc=f"check {Path(folder).name}", unit="file", leave=False)):
            # One child process for many files: each takes some milliseconds to start.
            if k % 256 == 0:
                check_mats(self.files[k : k + 256])
            shapes.append(self._check_file(f))
        for path, shape in zip(self.files, shapes, strict=True):
            if shape != shapes[0]:
                raise DataError(
                    path,
                    f"{_format_size(shape)}, but {self.files[0].name} has {_format_size(shapes[0])}",
                    "keep patches of one size in a folder",
                )
        height, width, self.n_colors = shapes[0]
        self.size = height
        self.contents = describe_folder(folder, files, self.n_colors)
        if height != width:
            raise DataError(
                folder,
                f"patches of {_format_size(shapes[0])} are not square and cannot be rotated",
                "cut square patches",
            )
        values = height * width * self.n_colors * (1 + 1 / n_scale**2 + labelled)
        self.held: list[dict[str, np.ndarray]] | None = None
        if 4 * values * len(self.files) <= get_free_memory() / 4:
            self.held = [
                self._read(f)
                for f in progress_bar(self.files, desc=f"read {Path(folder).name}", unit="file", leave=False)
            ]

    @property
    def reads_files(self) -> bool:
        """True if each batch is read from disk."""
        return self.held is None

    def __len__(self) -> int:
        return len(self.files)

    def to(self, device: str | torch.device) -> "MatPatches":
        """Return the source, whose batches are on the CPU."""
        return self

    def batch(self, numbers: Any, modes: Any) -> Batch:
        """Return the patches of these numbers, augmented by these modes (see `augment`), as a Batch on the CPU."""
        stacks: dict[str, list[torch.Tensor]] = {key: [] for key in self.keys}
        for number, mode in zip(numbers, modes, strict=True):
            arrays = self.held[number] if self.held else self._read(self.files[number])
            for key in self.keys:
                stacks[key].append(augment(torch.from_numpy(arrays[key]), int(mode)))
        tensors = {key: torch.stack(patches).permute(0, 3, 1, 2) for key, patches in stacks.items()}
        return Batch(tensors["ms"], tensors["ms_bicubic"], tensors.get("gt"))

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        return read_mat(path, self.keys)

    def _check_file(self, path: Path) -> tuple[int, ...]:
        shapes = read_mat_shapes(path)
        if absent := [k for k in self.keys if k not in shapes]:
            raise DataError(
                path,
                f"contains {', '.join(shapes) or 'no arrays'}, but not {' and '.join(absent)}",
                f"give patches with {', '.join(self.keys)}",
            )
        large, small = shapes["ms_bicubic"], shapes["ms"]
        if len(large) != 3 or len(small) != 3:
            raise DataError(
                path, f"ms_bicubic has shape {large} and ms {small}, not H x W x bands", "cut the patches again"
            )
        if (small[0] * self.n_scale, small[1] * self.n_scale, small[2]) != large:
            raise DataError(
                path,
                f"ms is {_format_size(small)} and ms_bicubic {_format_size(large)}, not x{self.n_scale}",
                "set {n_scale} to the scale of the patches",
            )
        if self.labelled and shapes["gt"] != large:
            raise DataError(
                path,
                f"gt is {_format_size(shapes['gt'])} and ms_bicubic {_format_size(large)}",
                "cut the patches again",
            )
        return large


Source = ScenePatches | MatPatches


def open_labelled(path: str | Path, size: int, stride: int, n_scale: int, limit: int = 0, protocol: str = "") -> Source:
    """Open labelled patches of a store or of a folder of .mat patches.

    Args:
        path: the store or folder.
        size: HR pixels along a patch's edge; ignored for a folder.
        stride: HR pixels between patches; ignored for a folder.
        n_scale: upsampling factor.
        limit: number of patches to use; 0 for all.
        protocol: that defines the full-scale values; "": that of the store.

    Raises:
        DataError: for files that cannot be read or do not contain such images.
    """
    return _open_spectral(path, size, stride, n_scale, True, limit, protocol)


def open_unlabelled(path: str | Path, size: int, stride: int, n_scale: int, protocol: str = "") -> Source:
    """Open unlabelled patches of a store (HR or LR scenes) or of a folder of .mat patches; see `open_labelled`."""
    return _open_spectral(path, size, stride, n_scale, False, 0, protocol)


def open_rgb(path: str | Path, size: int, stride: int, n_scale: int, lift: np.ndarray) -> Source:
    """Open RGB patches of a store, a folder of pictures, or a folder of .mat patches that are lifted already.

    Args:
        path, size, stride, n_scale: see `open_labelled`.
        lift: 3 x n_subs matrix from RGB to one band group.

    Raises:
        DataError: for files that cannot be read or do not contain RGB images.
    """
    if is_store(path):
        store = Store(path)
        if store.n_colors != 3:
            raise DataError(path, f"scenes of {store.n_colors} bands, not RGB", "give rgb.h5 or a folder of pictures")
        store.contents.add_to(SameBands(ONE_SENSOR))
        return ScenePatches(_read_scenes(store), size, stride, n_scale, path, lift=torch.from_numpy(lift).float())
    pictures, mats = find_pictures(path), find_mats(path)
    if pictures and mats:
        raise DataError(path, f"{len(pictures)} pictures and {len(mats)} .mat patches", "keep one kind in the folder")
    if pictures:
        return ScenePatches(_read_pictures(pictures), size, stride, n_scale, path, lift=torch.from_numpy(lift).float())
    if not mats:
        raise DataError(
            path,
            "contains neither pictures nor .mat patches, and is not a store",
            "give rgb.h5 or a folder of pictures",
        )
    source = MatPatches(path, mats, n_scale)
    if source.n_colors != lift.shape[1]:
        raise DataError(
            path,
            f"patches of {source.n_colors} channels, but a band group has {lift.shape[1]}",
            f"give pictures or patches of {lift.shape[1]} channels, or set {{n_subs}} {source.n_colors}",
        )
    return source


def are_whole_pictures(path: str | Path) -> bool:
    """Return True if `open_rgb` uses the pictures of this path at full size; those of a store are halved."""
    return not is_store(path) and bool(find_pictures(path))


def _read_pictures(paths: list[Path]) -> Iterator[tuple[str, np.ndarray, float, int]]:
    for path in progress_bar(paths, desc="read pictures", unit="file", leave=False):
        pixels = read_picture(path)
        yield path.name, pixels, np.iinfo(pixels.dtype).max, 1


def _open_spectral(
    path: str | Path, size: int, stride: int, n_scale: int, labelled: bool, limit: int, protocol: str
) -> Source:
    if is_store(path):
        store = Store(path)
        store.contents.add_to(SameBands(ONE_SENSOR))
        scenes = _read_scenes(store, protocol)
        return ScenePatches(scenes, size, stride, n_scale, path, labelled, limit=limit, contents=store.contents)
    mats = find_mats(path)
    if not mats:
        raise DataError(
            path, "neither a scene store nor a folder of .mat files", "create a store with the command prepare"
        )
    return MatPatches(path, mats, n_scale, labelled, limit)


def compute_band_means(source: PatchSource) -> torch.Tensor:
    """Return the mean of each band over all patches of a labelled source, C values in float64."""
    total = torch.zeros(source.n_colors, dtype=torch.float64)
    for start in progress_bar(range(0, len(source), 16), desc="band means", unit="batch", leave=False):
        numbers = range(start, min(start + 16, len(source)))
        gt = source.batch(numbers, [0] * len(numbers)).gt
        assert gt is not None, "source must be labelled"
        total = total + gt.double().mean((2, 3)).sum(0).cpu()
    return total / len(source)


def to_bands_first(image: np.ndarray) -> torch.Tensor:
    """Convert an H x W x C array to a 1 x C x H x W tensor."""
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def _read_scenes(store: Store, protocol: str = "") -> list[tuple[str, Cube, float, int]]:
    """Return the scenes of a store for `ScenePatches`, under a protocol or else that of the store.

    They are read into memory if they fit into half of the free memory, and the store is closed; else they stay on disk.
    """
    protocol = protocol or store.protocol
    in_memory = store.nbytes <= get_free_memory() / 2
    scenes: list[tuple[str, Cube, float, int]] = []
    for name in progress_bar(store.names, desc=f"read {store.path.name}", unit="scene", leave=False):
        cube = store.read(name).cube if in_memory else store.open_cube(name)
        scenes.append((name, cube, *store.get_scale_and_kind(name, protocol)))
    if in_memory:
        store.close()
    else:
        print_line(f"{store.path}: larger than half of the free memory; reading patches from disk for each batch")
    return scenes


def _limit_items(items: list[Any], limit: int, origin: str | Path) -> list[Any]:
    if limit and limit < len(items):
        print_line(f"{origin}: using the first {limit} of {len(items)}")
        return items[:limit]
    return items


def _format_size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
