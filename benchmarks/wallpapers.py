"""Collect the photographs that the feedback of `specs/efficientnet_lite0.yaml` was trained on.

They are in four Debian packages, which are unpacked and not installed:

    apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds \\
        plasma-workspace-wallpapers
    for package in *.deb; do dpkg -x "$package" unpacked; done
    python benchmarks/wallpapers.py unpacked photographs

pcgraph ships none of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

SIDE = 384
"""Pixels of the shorter side; an epoch cuts each photograph many times."""
LOMIRI = (
    *(
        "Bridge_by_Sander_Klootwijk",
        "Dragonfly_by_Bolly",
        "Infinite-Sea_by_Aury88",
        "Kleiber_by_Lukas_Baubkus",
    ),
    *("Picture_0B_by_freespace", "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede", "free_by_Peter_Nerlich"),
    *("aitzgorri_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich"),
    *("life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt"),
    "sunset_by_Aitzol_Berasategi",
)
MATE = (
    *(
        "Aqua",
        "Blinds",
        "Dune",
        "Garden",
        "GreenMeadow",
        "LadyBird",
        "RainDrops",
        "Storm",
        "TwoWings",
        "Wood",
    ),
    "YellowFlower",
)
PLASMA = (
    *("BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite"),
    *("OneStandsOut", "Path", "Volna", "summer_1am"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("unpacked", type=Path, help="where the packages were unpacked")
    parser.add_argument("out", type=Path, help="the folder to write")
    arguments = parser.parse_args()
    share = arguments.unpacked / "usr" / "share"
    files = [share / "backgrounds" / f"{name}.jpg" for name in LOMIRI]
    files += [share / "backgrounds" / "mate" / "nature" / f"{name}.jpg" for name in MATE]
    files += [max((share / "wallpapers" / name / "contents" / "images").glob("*.jpg")) for name in PLASMA]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, file in zip((*LOMIRI, *MATE, *PLASMA), files, strict=True):
        with Image.open(file) as image:
            scale = SIDE / min(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(
                arguments.out / f"{name}.jpg", quality=92
            )
    print(f"{len(files)} photographs in {arguments.out}")


if __name__ == "__main__":
    main()
