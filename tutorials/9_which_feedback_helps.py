# %% [markdown]
# # Which feedback helps?
#
# A wiring is better than another if it answers more noisy images rightly. With other first weights and other
# images, would it still? A **study** compares wirings in one file and one command, and says how sure it is.
# Here it is done at a size that takes a minute, and is far too small: that is the lesson. The shipped
# network `digits` has three nodes above its input, `e1`, `e2`, `e3`.

# %%
import csv
import subprocess
import sys
from pathlib import Path

from pcgraph.study import Arms, CellStore, Plan, Results, load_study
from pcgraph.study.comparisons import comparisons

STUDY = """
study: small
base: digits
seeds: 2
reset: [weights, dynamics.nodes]          # nothing that was trained or tuned before
share: {feedback: target, error: source}  # more edges are not more feedback
arms:
  none: none
  chain: chain                            # each node predicts the one below it
  top: [{source: e3, target: e2}]
  long: [chain, {source: e3, target: input}]
  dense: dense                            # each node predicts all below it
lesions: {of: chain, each: edge}
train: {data: "digits:train:0-499", epochs: 2, batch: 50}
evaluate: {data: digits, noise: {gaussian: [0.5, 1.0]}, limit: 100, steps: 6}
reference: none
contrasts: [[dense, chain]]
"""
Path("study.yaml").write_text(STUDY)

# %% [markdown]
# ## What would be computed
#
# On the command line that is `pcgraph study study.yaml --plan`. One training of all edges a seed serves
# all arms: an edge learns to reconstruct its target whatever other edges there are. What does not depend on
# the seed, the network without feedback, is measured once.

# %%
study = load_study("study.yaml")
plan = Plan(study, Arms(study))
kinds = [cell.kind for cell in plan.cells]
print(len(plan.arms.wirings), "wirings;", {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)})
assert kinds.count("train") == len(study.seeds)

# %% [markdown]
# ## Run it
#
# `pcgraph study study.yaml`. A second time it computes nothing; with an arm more in the file, only that
# arm. Its folder holds every number (`study.csv`), a line an arm (`arms.csv`), the figures as PNG, SVG
# and PDF, and `report.html`, which has all of it on one page.


# %%
def pcgraph(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pcgraph", *words], check=True)


pcgraph("study", "study.yaml", "--out", "small", "--workers", "1")
print(sorted(path.name for path in Path("small").iterdir()))

# %% [markdown]
# ## What the table says
#
# The difference is that of the accuracy under noise, in points of a per cent. Its interval is for other seeds
# *and* other images, and holds together with those of all other arms in 19 of 20 such studies.

# %%
with Path("small/arms.csv").open(newline="") as file:
    arms = list(csv.DictReader(file))
for arm in arms:
    if arm["difference"]:
        value, low, high = (100 * float(arm[name]) for name in ("difference", "low", "high"))
        print(f"{arm['arm']:>26} {value:+6.1f} points, {low:+7.1f} to {high:+7.1f}")

# %% [markdown]
# ## What it does not say
#
# Every wiring comes out some points below the plain network: its feedback has seen 500 images twice. But the
# intervals reach tens of points to both sides.
# They say nearly nothing, and that is right: two seeds can agree by chance. A lesion that costs two points,
# or a wiring that gains one, may do the opposite with the next seed. Intervals that hold zero are no proof
# that wirings are equal, either. `detectable` is the power of the design: the smallest
# true difference that would be found in 80 of 100 such studies.

# %%
results = Results(plan, CellStore(Path("small/cells")))
family = comparisons(results)
one = next(one for one in family if (one.first, one.second) == ("dense", "chain"))
low, high = (100 * end for end in (one.interval.low, one.interval.high))
print(f"dense less chain: {one.difference.points:+.1f} points, {low:+.1f} to {high:+.1f}")
for seeds, images in ((2, 100), (5, 1000), (10, 10_000)):
    for count in (1, len(family)):
        smallest = 100 * one.difference.detectable(seeds=seeds, images=images, comparisons=count)
        print(f"{seeds:>2} seeds, {images:>6} images, {count} comparisons: {smallest:6.1f} points or more")
powers = [
    one.difference.detectable(seeds=seeds, images=1000, comparisons=len(family)) for seeds in (2, 5, 10)
]
assert powers[0] > powers[1] > powers[2]

# %% [markdown]
# Two seeds and 100 images find a difference of about 20 points, and as one of eight comparisons none at all;
# ten seeds and 10,000 images would find two points. So a study begins with a pilot like this one, whose
# variances say how many seeds and images it takes. Then few comparisons are planned (`reference`,
# `contrasts`), and a study of that size is run. `specs/studies/which_feedback.yaml` is one with five seeds.
# [Statistics of studies](../study_statistics.md) tells what the intervals mean and where they were tried,
# [Studies](../studies.md) how the figures are read.
#
# The figures say the same. In `forest.png` every interval crosses zero. `lesions.png` has no intervals at
# all: its dots are the two seeds, as far apart as the bars are long. `steps.png` shows means over seeds, and
# a line that lies above another there is no finding.
