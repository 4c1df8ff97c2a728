"""Tables 2, 4, 5 and 6 of Won et al. 2025: mean and standard error of each model under five explainers.

The columns are Grad-CAM, IBA, SmoothGrad, integrated gradients, guided backpropagation and Average.
"""

from __future__ import annotations

IMAGES = 2000
"""Section 3.3; the text gives this number for localization on ImageNet only."""

Table = dict[tuple[str, str], tuple[tuple[float, float], ...]]
"""Group and model -> mean and standard error of each column."""


def _table(text: str) -> Table:
    lines = [line.split() for line in text.strip().splitlines()]
    return {
        (group, model): tuple((float(mean), float(error)) for mean, error in (cell.split("±") for cell in cells))
        for group, model, *cells in lines
    }


TABLE_2 = _table("""
EnergyPG Baseline 0.549±0.004 0.637±0.004 0.494±0.003 0.465±0.003 0.651±0.004 0.559±0.002
EnergyPG Mixup 0.53±0.004 0.608±0.004 0.485±0.003 0.42±0.003 0.403±0.004 0.489±0.002
EnergyPG CutMix 0.521±0.004 0.56±0.004 0.493±0.004 0.441±0.003 0.485±0.004 0.5±0.002
EnergyPG SaliencyMix 0.52±0.004 0.562±0.004 0.498±0.003 0.44±0.003 0.362±0.004 0.476±0.002
EnergyPG RecursiveMix 0.569±0.004 0.596±0.004 0.508±0.003 0.447±0.003 0.532±0.004 0.53±0.002
EnergyPG PixMix 0.462±0.003 0.531±0.004 0.506±0.003 0.464±0.003 0.658±0.004 0.524±0.002
EHR Baseline 0.484±0.003 0.449±0.003 0.255±0.002 0.187±0.002 0.254±0.002 0.326±0.002
EHR Mixup 0.477±0.003 0.404±0.003 0.272±0.002 0.272±0.002 0.114±0.002 0.308±0.002
EHR CutMix 0.474±0.003 0.417±0.003 0.273±0.002 0.174±0.002 0.167±0.002 0.301±0.002
EHR SaliencyMix 0.478±0.003 0.414±0.003 0.279±0.002 0.173±0.002 0.079±0.002 0.285±0.002
EHR RecursiveMix 0.507±0.003 0.425±0.003 0.286±0.002 0.179±0.002 0.178±0.003 0.315±0.002
EHR PixMix 0.475±0.003 0.407±0.003 0.266±0.002 0.188±0.002 0.254±0.002 0.318±0.001
""")
"""Energy pointing game and effective heat ratio."""

TABLE_5 = _table("""
CIFAR-10 Baseline 57.74±0.52 50.04±0.58 62.26±0.48 61.87±0.48 55.08±0.49 57.4±0.23 29.87±0.49
CIFAR-10 Mixup 39.78±0.41 39.77±0.4 51.33±0.32 49.71±0.3 41.96±0.36 44.51±0.17 32.36±0.42
CIFAR-10 CutMix 50.47±0.46 45.62±0.49 55.04±0.47 57.17±0.44 50.89±0.47 51.84±0.21 36.15±0.48
CIFAR-10 SaliencyMix 53.13±0.36 48.66±0.38 52.81±0.41 56.87±0.4 50.59±0.42 52.41±0.18 34.45±0.45
CIFAR-10 RecursiveMix 55.67±0.41 49.2±0.48 53.96±0.44 54.71±0.41 47.85±0.43 52.28±0.2 32.8±0.43
CIFAR-10 PixMix 63.75±0.37 55.9±0.41 73.71±0.39 67.52±0.4 59.82±0.4 64.14±0.19 39.88±0.35
ImageNet Baseline 73.56±0.37 74.76±0.4 69.39±0.44 60.36±0.47 62.61±0.5 63.14±0.2 16±0.21
ImageNet Mixup 74.78±0.33 76.96±0.36 73.19±0.4 59.31±0.48 58.02±0.5 68.45±0.2 18.69±0.24
ImageNet CutMix 68.39±0.29 71.16±0.31 67.67±0.34 60.69±0.38 59.04±0.42 65.39±0.16 19.23±0.22
ImageNet SaliencyMix 67.78±0.29 72.02±0.31 69.84±0.33 63.5±0.37 58.39±0.4 66.3±0.16 20.49±0.23
ImageNet RecursiveMix 76.87±0.28 79.28±0.29 76.38±0.32 67.48±0.38 68.94±0.4 73.79±0.16 21.16±0.21
ImageNet PixMix 79.43±0.29 79.39±0.32 77.83±0.34 69.61±0.4 74.11±0.39 76.08±0.16 27.22±0.31
""")
"""Vanilla LeRF times 100; the last column is RaO."""

TABLE_6 = _table("""
CIFAR-10 Baseline 27.87±0.47 20.17±0.49 32.39±0.44 32±0.38 25.21±0.35 27.53±0.2
CIFAR-10 Mixup 7.42±0.3 7.41±0.27 18.96±0.3 17.34±0.26 9.6±0.21 12.15±0.13
CIFAR-10 CutMix 14.32±0.36 9.47±0.36 18.89±0.34 21.02±0.3 14.73±0.27 15.69±0.15
CIFAR-10 SaliencyMix 18.68±0.4 14.21±0.4 18.36±0.41 22.43±0.29 16.14±0.27 17.96±0.16
CIFAR-10 RecursiveMix 22.87±0.35 16.41±0.36 21.17±0.35 21.91±0.3 15.05±0.27 19.48±0.15
CIFAR-10 PixMix 23.87±0.37 16.02±0.39 33.83±0.32 27.64±0.28 19.94±0.29 24.26±0.16
ImageNet Baseline 57.55±0.33 58.75±0.34 53.38±0.37 44.35±0.42 46.6±0.39 52.13±0.18
ImageNet Mixup 56.09±0.3 58.27±0.31 54.5±0.35 40.63±0.45 39.33±0.4 49.76±0.18
ImageNet CutMix 49.16±0.26 51.93±0.27 48.44±0.28 41.46±0.32 39.81±0.31 46.16±0.14
ImageNet SaliencyMix 47.29±0.26 51.53±0.27 49.35±0.27 43.01±0.32 37.9±0.31 45.82±0.14
ImageNet RecursiveMix 55.71±0.25 58.11±0.26 55.22±0.27 46.32±0.34 47.77±0.31 52.63±0.14
ImageNet PixMix 52.21±0.3 52.17±0.35 50.61±0.31 42.39±0.38 46.89±0.31 48.85±0.15
""")
"""Inter-model deletion times 100."""

TABLE_4 = {"CIFAR-10": (0.512, -0.020), "ImageNet": (0.869, -0.192)}
"""Pearson correlation of RaO with LeRF, and with inter-model deletion."""
