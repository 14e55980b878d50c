"""Streams of training batches: patches cut from scenes (or read from files) and degraded on the device.

A source knows its patches by number; a stream shuffles them with their 8 flips and rotations and hands
out batches. Batch k of a stream depends on nothing but the source, the seed and k, so a resumed run
needs no stream's position or generator to be kept, and batches can be read ahead in another thread.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data import readers, store
from data.imresize import degrade, enlarge
from data.spectral import lift_rgb
from utils import UserError, free_memory, progress_bar, random_generator, say

AUGMENTATIONS = 8


@dataclass
class Batch:
    """One mini-batch: ms B x C x h x w, lms and gt B x C x s*h x s*w, float32 in 0..1; gt None if unlabelled.

    weight is what the batch's mean loss counts where the batch is a part of a larger one: its patches over
    those of an even share, so that the mean of the weighted losses of all parts is that of the larger batch.
    """

    ms: torch.Tensor
    lms: torch.Tensor
    gt: torch.Tensor = None
    weight: float = 1.0

    def map(self, function):
        """The batch with a function applied to each tensor that is there."""
        gt = None if self.gt is None else function(self.gt)
        return Batch(function(self.ms), function(self.lms), gt, self.weight)

    def split(self, n):
        """The batch in at most n parts of nearly equal size, each with its weight."""
        size, parts = len(self.ms), []
        n = min(n, size)
        for rows in np.array_split(np.arange(size), n):
            part = self.map(lambda x, rows=rows: x[rows[0] : rows[-1] + 1])
            part.weight = self.weight * len(rows) * n / size
            parts.append(part)
        return parts


def augment(image, mode):
    """Flip or rotate an H x W x C array or tensor: mode 0..7 in the released order.

    Mode 2r + f: r quarter turns counter-clockwise, then, if f, upside down.
    """
    library = torch if isinstance(image, torch.Tensor) else np
    turned = library.rot90(image, mode // 2, (0, 1))
    return library.flip(turned, (0,)) if mode % 2 else turned


class ScenePatches:
    """Patches of scenes in their own number type, on the device, in memory or in chunks on disk.

    Args:
        scenes: tuples (name, H x W x C array or `store.ChunkedCube`, what it is divided by to come to 0..1, lr_scale: 1 for an
            HR image, n_scale for an LR one).
        size, stride: HR pixels.
        n_scale: enlargement.
        labelled: whether batches have gt. Unlabelled HR scenes are degraded and forgotten; LR images
            are cut at size / n_scale.
        lift: 3 x K matrix that turns RGB into one band group, or None.
        origin: file or folder, for messages.
        limit: use only so many patches, scene by scene, row by row; 0 for all.
    """

    def __init__(self, scenes, size, stride, n_scale, origin, labelled=True, lift=None, limit=0):
        self.n_scale, self.labelled, self.lift, self.origin = n_scale, labelled, lift, origin
        self.size, self.resize_dtype, self.device = size, torch.float32, torch.device("cpu")
        self.cubes, self.scales, self.sizes, self.positions = [], [], [], []
        for number, (name, cube, scale, lr_scale) in enumerate(scenes):
            if lr_scale not in (1, n_scale):
                raise UserError(
                    f"{origin}: {name} is an LR image for x{lr_scale}, --n_scale is {n_scale}; prepare LR images of x{n_scale}"
                )
            if labelled and lr_scale != 1:
                raise UserError(
                    f"{origin}: {name} is an LR image without HR; it can only be unlabelled (--train_dir_msunlabel)"
                )
            if self.cubes and cube.shape[2] != self.cubes[0].shape[2]:
                raise UserError(
                    f"{origin}: {name} has {cube.shape[2]} bands, the scenes before it {self.cubes[0].shape[2]}; keep one sensor to a store"
                )
            step = 1 if lr_scale == 1 else n_scale
            edge, gap = size // step, max(1, stride // step)
            rows = range(0, cube.shape[0] - edge + 1, gap)
            cols = range(0, cube.shape[1] - edge + 1, gap)
            self.positions += [(number, i, j) for i in rows for j in cols]
            self.cubes.append(cube)
            self.scales.append(float(scale))
            self.sizes.append((edge, lr_scale))
        if not self.positions:
            raise UserError(f"{origin}: no image is as large as a patch of {size} pixels; set a smaller --patch_size")
        self.positions = _first(self.positions, limit, origin)
        self.n_colors = self.cubes[0].shape[2] if lift is None else lift.shape[1]
        self.reads_files = any(isinstance(cube, store.ChunkedCube) for cube in self.cubes)
        # Patches are moved about in the scenes' own type, half the bytes of float32 or less. Torch moves
        # int16 everywhere, uint16 not; the bits are the same.
        self.is_uint16 = all(cube.dtype == np.uint16 for cube in self.cubes)
        # Of unsigned integers torch knows the short ones well.
        kinds = {cube.dtype for cube in self.cubes}
        self.same_type = len(kinds) == 1 and kinds.isdisjoint({np.dtype(np.uint32), np.dtype(np.uint64)})
        if not self.reads_files:
            self.cubes = [self._as_tensor(cube) for cube in self.cubes]

    def __len__(self):
        return len(self.positions)

    def to(self, device):
        """Make batches on this device, and move the scenes there too if a quarter of its memory is enough."""
        self.device = torch.device(device)
        # GPUs are quick in float64, and may do float32 products in TF32.
        self.resize_dtype = torch.float32 if self.device.type == "cpu" else torch.float64
        if self.device.type == "cuda" and not self.reads_files:
            fits = sum(cube.nbytes for cube in self.cubes) <= torch.cuda.mem_get_info(self.device)[0] / 4
            self.cubes = [cube.to(self.device) if fits else cube.pin_memory() for cube in self.cubes]
        return self

    def batch(self, numbers, modes):
        """The patches of these numbers, each in its flip or rotation, as a Batch on the device."""
        high, low, where = [], [], []
        for number, mode in zip(numbers, modes):
            scene, i, j = self.positions[number]
            edge, lr_scale = self.sizes[scene]
            patch = self.cubes[scene][i : i + edge, j : j + edge]
            patch = augment(self._as_tensor(patch) if self.reads_files else patch, int(mode))
            group = high if lr_scale == 1 else low
            where.append((lr_scale == 1, len(group)))
            group.append((patch, self.scales[scene]))
        if not low:
            gt = self._bands_first(high)
            ms, lms = degrade(gt, self.n_scale, self.resize_dtype)
            return Batch(ms, lms, gt if self.labelled else None)
        # Unlabelled HR scenes and LR images may stand in one batch.
        degraded = degrade(self._bands_first(high), self.n_scale, self.resize_dtype)[0] if high else None
        taken = self._bands_first(low)
        ms = torch.stack([(degraded if is_hr else taken)[k] for is_hr, k in where])
        ms = ms.contiguous(memory_format=torch.channels_last)
        return Batch(ms, enlarge(ms, self.n_scale, self.resize_dtype))

    def _as_tensor(self, pixels):
        if not self.same_type:
            return torch.from_numpy(pixels.astype(np.float32))
        return torch.from_numpy(pixels.view(np.int16) if self.is_uint16 else pixels)

    def _bands_first(self, patches):
        x = torch.stack([patch for patch, _ in patches]).to(self.device, non_blocking=True)
        x = (x.view(torch.uint16) if self.is_uint16 else x).to(torch.float32)
        scales = [scale for _, scale in patches]
        x /= scales[0] if len(set(scales)) == 1 else torch.tensor(scales, device=x.device).view(-1, 1, 1, 1)
        x = x.permute(0, 3, 1, 2)
        return x if self.lift is None else lift_rgb(x, self.lift)


class MatPatches:
    """A folder of released-style .mat patches: gt, ms, ms_bicubic, H x W x C; unlabelled ones need no gt.

    All are checked first. They are held in memory where a quarter of the free memory is enough, else
    read at need.
    """

    def __init__(self, folder, files, n_scale, labelled=True, limit=0):
        self.origin, self.n_scale, self.labelled = folder, n_scale, labelled
        self.keys = ("gt", "ms", "ms_bicubic") if labelled else ("ms", "ms_bicubic")
        self.files = _first(files, limit, folder)
        shapes = [
            self._checked(f)
            for f in progress_bar(self.files, desc=f"check {Path(folder).name}", unit="file", leave=False)
        ]
        for path, shape in zip(self.files, shapes):
            if shape != shapes[0]:
                raise UserError(
                    f"{path}: {_size(shape)}, but {self.files[0].name} has {_size(shapes[0])}; all patches of a folder are of one size"
                )
        height, width, self.n_colors = shapes[0]
        self.size = height
        if height != width:
            raise UserError(
                f"{folder}: patches of {_size(shapes[0])}; they must be square to be rotated, cut them again"
            )
        values = height * width * self.n_colors * (1 + 1 / n_scale**2 + labelled)
        self.held = None
        if 4 * values * len(self.files) <= free_memory() / 4:
            self.held = [
                self._read(f)
                for f in progress_bar(self.files, desc=f"read {Path(folder).name}", unit="file", leave=False)
            ]

    @property
    def reads_files(self):
        """Whether batches are read from disk each time."""
        return self.held is None

    def __len__(self):
        return len(self.files)

    def to(self, device):
        """Nothing to move: batches are made on the CPU."""
        return self

    def batch(self, numbers, modes):
        """The patches of these numbers, each in its flip or rotation, as a Batch on the CPU."""
        stacks = {key: [] for key in self.keys}
        for number, mode in zip(numbers, modes):
            arrays = self.held[number] if self.held else self._read(self.files[number])
            for key in self.keys:
                stacks[key].append(augment(torch.from_numpy(arrays[key]), int(mode)))
        tensors = {key: torch.stack(patches).permute(0, 3, 1, 2) for key, patches in stacks.items()}
        return Batch(tensors["ms"], tensors["ms_bicubic"], tensors.get("gt"))

    def _read(self, path):
        return readers.read_mat(path, self.keys)

    def _checked(self, path):
        shapes = readers.mat_shapes(path)
        if absent := [k for k in self.keys if k not in shapes]:
            raise UserError(
                f"{path}: has no {' and no '.join(absent)}, only {', '.join(shapes) or 'nothing'}; patches need {', '.join(self.keys)}"
            )
        large, small = shapes["ms_bicubic"], shapes["ms"]
        if len(large) != 3 or len(small) != 3:
            raise UserError(f"{path}: ms_bicubic of shape {large}, ms of shape {small}; patches are H x W x bands")
        if (small[0] * self.n_scale, small[1] * self.n_scale, small[2]) != large:
            raise UserError(
                f"{path}: ms is {_size(small)} and ms_bicubic {_size(large)}, not x{self.n_scale}; give the patches' --n_scale"
            )
        if self.labelled and shapes["gt"] != large:
            raise UserError(f"{path}: gt is {_size(shapes['gt'])} and ms_bicubic {_size(large)}; cut the patches again")
        return large


class PatchStream:
    """Shuffled batches of a source without end: one pass after the other, each in an order of its own.

    Args:
        source: ScenePatches or MatPatches.
        batch_size: patches in a batch (of one process).
        seed, purpose: what the orders depend on; the purpose is a word that no other stream has.
        keep_last: whether a pass ends with a smaller batch (the labelled stream, whose pass is the
            epoch) or leaves the remainder out (each pass another one).
        device: where the batches go.
        rank, world_size: which part of each batch this process takes: the streams of all processes
            together are one stream of batches world_size times as large.
    """

    def __init__(self, source, batch_size, seed, purpose, device="cpu", keep_last=False, rank=0, world_size=1):
        self.source = source.to(device)
        self.batch_size, self.seed, self.purpose, self.device = batch_size * world_size, seed, purpose, device
        self.rank, self.world_size = rank, world_size
        items = len(source) * AUGMENTATIONS
        if items < self.batch_size:
            times = f" times {world_size} processes" if world_size > 1 else ""
            raise UserError(
                f"{source.origin}: {len(source)} patches and their flips make {items}, fewer than --batch_size {batch_size}{times}; set a smaller one"
            )
        self.batches_per_pass = -(-items // self.batch_size) if keep_last else items // self.batch_size
        self._order = (None, None)
        self._ahead = (None, None)
        # Files are read ahead in a thread; with everything in memory it would only take a core away.
        self._pool = ThreadPoolExecutor(1) if source.reads_files else None

    def batch(self, k):
        """Batch k = 0, 1, ... of the stream."""
        if self._pool is None:
            return self._make(k)
        number, future = self._ahead
        if number != k:
            future = self._pool.submit(self._make, k)
        self._ahead = (k + 1, self._pool.submit(self._make, k + 1))
        return future.result()

    def close(self):
        """End the thread that reads ahead."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _make(self, k):
        pass_number, position = divmod(k, self.batches_per_pass)
        if self._order[0] != pass_number:
            generator = random_generator(self.seed, self.purpose, pass_number)
            self._order = (pass_number, generator.permutation(len(self.source) * AUGMENTATIONS))
        items = self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
        mine = np.array_split(items, self.world_size)[self.rank]
        # All processes take part in every step: one without a share computes a patch that counts nothing.
        weight = len(mine) * self.world_size / len(items)
        mine = mine if len(mine) else items[:1]
        batch = self.source.batch(mine // AUGMENTATIONS, mine % AUGMENTATIONS)
        batch.weight = weight
        return batch.map(lambda x: x.to(self.device, memory_format=torch.channels_last))


def labelled_source(path, size, stride, n_scale, limit=0, protocol=""):
    """Labelled patches of --train_dir_mslabel: a store, or a folder of .mat patches."""
    return _spectral_source(path, "train_dir_mslabel", size, stride, n_scale, True, limit, protocol)


def unlabelled_source(path, size, stride, n_scale, protocol=""):
    """Unlabelled patches of --train_dir_msunlabel: a store (HR or LR scenes), or a folder of .mat patches."""
    return _spectral_source(path, "train_dir_msunlabel", size, stride, n_scale, False, 0, protocol)


def rgb_source(path, size, stride, n_scale, lift):
    """RGB patches of --train_dir_rgb: a store, a folder of pictures, or one of .mat patches of n_subs channels."""
    if store.is_store(path):
        read = _store_scenes(path)
        if read[0][1].shape[2] != 3:
            raise UserError(
                f"--train_dir_rgb {path}: scenes of {read[0][1].shape[2]} bands, where RGB is needed; give rgb.h5 or pictures"
            )
        return ScenePatches(read, size, stride, n_scale, path, lift=torch.from_numpy(lift).float())
    pictures = readers.find_pictures(path, "train_dir_rgb")
    mats = readers.find_mats(path, "train_dir_rgb")
    if pictures and mats:
        raise UserError(
            f"--train_dir_rgb {path}: {len(pictures)} pictures and {len(mats)} .mat patches; keep one kind in the folder"
        )
    if pictures:
        read = (
            (p.name, pixels, np.iinfo(pixels.dtype).max, 1)
            for p in progress_bar(pictures, desc="read pictures", unit="file", leave=False)
            for pixels in [readers.read_picture(p)]
        )
        return ScenePatches(read, size, stride, n_scale, path, lift=torch.from_numpy(lift).float())
    if not mats:
        raise UserError(
            f"--train_dir_rgb {path}: holds neither pictures nor .mat patches, and is no store; check the path"
        )
    source = MatPatches(path, mats, n_scale)
    if source.n_colors != lift.shape[1]:
        raise UserError(
            f"--train_dir_rgb {path}: patches of {source.n_colors} channels, --n_subs is {lift.shape[1]}; give pictures, or patches of {lift.shape[1]} channels"
        )
    return source


def _spectral_source(path, flag_name, size, stride, n_scale, labelled, limit, protocol):
    if store.is_store(path):
        return ScenePatches(_store_scenes(path, protocol), size, stride, n_scale, path, labelled, limit=limit)
    mats = readers.find_mats(path, flag_name)
    if not mats:
        raise UserError(
            f"--{flag_name} {path}: neither a scene store nor a folder of .mat patches; make a store with the command prepare"
        )
    return MatPatches(path, mats, n_scale, labelled, limit)


def to_bands_first(image):
    """H x W x C array -> 1 x C x H x W tensor."""
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def _store_scenes(path, protocol=""):
    """All scenes of a store as ScenePatches takes them, under a protocol or else the store's own.

    They are read into memory where half of what is free is enough, else left in the store.
    """
    protocol = protocol or store.protocol_of(path)
    in_memory = store.size_in_memory(path) <= free_memory() / 2
    scenes = []
    for name in progress_bar(store.scene_names(path), desc=f"read {Path(path).name}", unit="scene", leave=False):
        cube = store.read_scene(path, name).cube if in_memory else store.ChunkedCube(path, name)
        scenes.append((name, cube, *store.scale_and_kind(path, name, protocol)))
    if not in_memory:
        say(f"{path}: larger than half of the free memory; patches are read from the store as they are needed")
    return scenes


def _first(items, limit, origin):
    if limit and limit < len(items):
        say(f"{origin}: the first {limit} of {len(items)} are used, as asked")
        return items[:limit]
    return items


def _size(shape):
    return " x ".join(map(str, shape))
