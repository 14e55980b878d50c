"""DeepShare, its training step and the metrics as in the paper, without optimisations: the reference of benchmarks.

Band groups one after the other, NCHW, float32, unfused Adam, the loss read after each step, metrics pixel by pixel and
band by band.
"""

import math

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import nn


def conv(n, m, k=3):
    return nn.Conv2d(n, m, k, padding=k // 2)


class Attention(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.conv_du = nn.Sequential(conv(f, max(1, f // 16), 1), nn.ReLU(), conv(max(1, f // 16), f, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.conv_du(nn.functional.adaptive_avg_pool2d(x, 1))


class Residual(nn.Module):
    def __init__(self, f, k, attention):
        super().__init__()
        self.body = nn.Sequential(conv(f, f, k), nn.ReLU(), conv(f, f, k), *([Attention(f)] if attention else []))

    def forward(self, x):
        return x + self.body(x) * 0.1


class Block(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.spa, self.spc = Residual(f, 3, False), Residual(f, 1, True)

    def forward(self, x):
        return self.spc(self.spa(x))


class Body(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.net1, self.net2, self.net3 = Block(f), Block(f), Block(f)

    def forward(self, x):
        return x + self.net3(self.net2(self.net1(x)))


class Part(nn.Module):
    def __init__(self, n, f, up=1, out=None):
        super().__init__()
        self.head, self.body = conv(n, f), Body(f)
        steps = [m for _ in range(int(math.log2(up))) for m in (conv(f, 4 * f), nn.PixelShuffle(2))]
        self.upsample = nn.Sequential(*steps)
        self.tail = conv(f, out) if out else None

    def forward(self, x):
        x = self.upsample(self.body(self.head(x)))
        return self.tail(x) if self.tail else x


class PlainDeepShare(nn.Module):
    """Loads the weights of a `models.deepshare.DeepShare` for x4 or x8, 31 bands, groups of 8 that share 2."""

    def __init__(self, n_colors, n_scale, f):
        super().__init__()
        self.starts, self.n_colors, self.n_scale = [0, 6, 12, 18, 23], n_colors, n_scale
        self.branch1, self.branch2 = Part(8, f, n_scale // 2), Part(f, f, 2, 8)
        self.trunk, self.skip_conv, self.final = Part(n_colors, f), conv(n_colors, f), conv(f, n_colors)
        self.trunk_RGB, self.skip_conv_RGB, self.final_RGB = Part(8, f), conv(8, f), conv(f, 8)

    def forward(self, ms, lms, modality="spectral"):
        if modality == "rgb":
            y = self.branch2(self.branch1(ms))
            return self.final_RGB(self.trunk_RGB(y) + self.skip_conv_RGB(lms))
        y, coverage = torch.zeros_like(lms), torch.zeros(self.n_colors)
        for start in self.starts:
            y[:, start : start + 8] += self.branch2(self.branch1(ms[:, start : start + 8]))
            coverage[start : start + 8] += 1
        y = y / coverage.view(1, -1, 1, 1)
        return self.final(self.trunk(y) + self.skip_conv(lms))


def compute_loss(y, t):
    b, c, h, w = y.shape
    rows = ((y[:, :, 1:] - y[:, :, :-1]) ** 2).sum() / (c * (h - 1) * w)
    cols = ((y[..., 1:] - y[..., :-1]) ** 2).sum() / (c * h * (w - 1))
    bands = 2 * ((y[:, 1:] - y[:, :-1]) ** 2).sum() / ((c - 1) * h * w)
    return nn.functional.l1_loss(y, t) + 1e-3 * (rows + cols) / b + 1e-3 * bands / b


def train_step(model, optimizer, ms, lms, gt, modality="spectral"):
    """Take one Adam step; return the loss as a float."""
    optimizer.zero_grad()
    loss = compute_loss(model(ms, lms, modality), gt)
    loss.backward()
    optimizer.step()
    return loss.item()


def compute_metrics(gt, pred, ratio=4):
    """Compute the seven metrics of H x W x C images; the spectral angle pixel by pixel."""
    gt, pred = gt.astype(np.float64), pred.astype(np.float64)
    bands = range(gt.shape[2])
    mse = [((gt[..., k] - pred[..., k]) ** 2).mean() for k in bands]
    angles = []
    for i in range(gt.shape[0]):
        for j in range(gt.shape[1]):
            a, b = gt[i, j], pred[i, j]
            norm = np.linalg.norm(a) * np.linalg.norm(b)
            if norm > 0:
                angles.append(np.arccos(np.clip(a.dot(b) / norm, -1, 1)))
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [
        np.mean([structural_similarity(gt[..., k], pred[..., k], data_range=1.0, **how) for k in bands])
        for how in ({}, gaussian)
    ]
    return {
        "MPSNR": np.mean([10 * np.log10(1 / m) for m in mse]),
        "MSSIM": ssim[0],
        "MSSIM_gaussian": ssim[1],
        "ERGAS": 100 / ratio * np.sqrt(np.mean([mse[k] / gt[..., k].mean() ** 2 for k in bands])),
        "SAM": np.degrees(np.mean(angles)),
        "CrossCorrelation": np.mean([np.corrcoef(gt[..., k].ravel(), pred[..., k].ravel())[0, 1] for k in bands]),
        "RMSE": np.sqrt(np.mean(mse)),
    }
