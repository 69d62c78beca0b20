# %% [markdown]
# # From records to a figure, a claim and a network of your own
#
# A notebook in cells (`# %%`): editors open it as it is, `jupytext --to ipynb docs/notebook.py`
# makes a Jupyter notebook of it, as the tests do, and `python docs/notebook.py` runs it. It trains
# two small networks on digits at the end; all else reads the committed records of the quick study.

# %%
from pathlib import Path

import seaborn

from resnet_study.drawing.render import figure, render
from resnet_study.drawing.style import FAMILIES, finish, label, new_figure
from resnet_study.judging.claim import Claim
from resnet_study.judging.compare import Question, compare, differences
from resnet_study.judging.judge import judge
from resnet_study.judging.measurement import Measurement, Missing, arms_by_depth
from resnet_study.judging.selections import conv_layers, layer_quantity, over_last, rows_at
from resnet_study.launch.resources import Pool
from resnet_study.phenomena.gradients.figures import signal_and_turn
from resnet_study.records import read_frames
from resnet_study.studies.find import home
from resnet_study.studies.run import run_study
from resnet_study.studies.study import Study

OUTPUT = Path("notebook")

# %% [markdown]
# ## Records
#
# Three tables: a row per run, per run and logged iteration, per run, recorded iteration and layer.
# They are Parquet files, so pandas alone reads them too.

# %%
frames = read_frames([home() / "results" / "reference" / "quick"])
print(frames.runs[["family", "depth", "seed", "train_error_last", "test_error_last"]].head())
print(frames.layers.columns.tolist())

# %% [markdown]
# ## Comparing
#
# What `resnet-study compare` prints: the error of every network, and by how much that of the
# residual one differs from that of the plain one of the same seed.

# %%
print(compare(frames, Question("error", split="train")))
print(differences(frames, Question("error", split="train", where=["depth<=56"]), "family"))

# %% [markdown]
# ## A plot of your own, and one of the project's
#
# The signal ‖w‖·‖∂L/∂w‖ of every layer after 100 iterations.

# %%
rows = conv_layers(rows_at(frames.layers, 100))
rows = rows[rows["depth"] == 56].assign(signal=layer_quantity(rows, "signal"))
colours = {family: style.colour for family, style in FAMILIES.items()}
drawing, axes = new_figure(1, 1, 2.5, ["56 layers, iteration 100"])
axes[0, 0].set_yscale("log")
seaborn.lineplot(
    rows,
    x="layer",
    y="signal",
    hue="family",
    palette=colours,
    estimator="median",
    errorbar=("pi", 100),
    ax=axes[0, 0],
    legend=False,
)
label(axes, "layer", "‖w‖·‖∂L/∂w‖")
drawing = finish(drawing, [], ["Orange plain, blue residual; bands: all seeds."])
drawing  # noqa: B018 (shown by a notebook)

# %%
signal_and_turn(frames)

# %% [markdown]
# ## A claim of your own
#
# A measure gives one number per seed, a threshold and the claimed side. Fix them before you look at
# the runs that are to decide.


# %%
def turn_of_layer_2(frames):
    """Layer 2 over the last convolution, residual networks of 56 layers, after 100 iterations."""
    ratios = rows_at(over_last(frames, "angular_step"), 100)
    arms = arms_by_depth(ratios, "residual", "ratio")
    if 56 not in arms:
        return Missing()
    numbers = {"ratio": float(arms[56].median())}
    return Measurement((arms[56],), 1.0, "above", "layer 2/last", numbers)


EARLY_TURNS_MORE = Claim(
    "residual_early_layers_turn_more",
    "After 100 iterations layer 2 of a residual network of 56 layers turns more than the last one.",
    "hypothesis of this notebook",
    None,
    turn_of_layer_2,
    "residual runs of depth 56 with layer records, 5 seeds or more",
    words="Median ratio {{ ratio }}.",
)

(finding,) = judge([EARLY_TURNS_MORE], frames)
print(finding.verdict, finding.n, finding.detail)

# %% [markdown]
# ## Networks of your own
#
# A plain and a residual network of eight layers, 40 iterations. What is finished is not trained
# again.


# %%
@figure("Weights", "Norm of the weights by layer at the end; bands: all seeds.")
def weights(frames):
    """The norm of the weights of every convolution."""
    rows = conv_layers(rows_at(frames.layers, None))
    drawing, axes = new_figure(1, 1, 2.5)
    seaborn.lineplot(rows, x="layer", y="weight_norm", hue="family", palette=colours, ax=axes[0, 0])
    return finish(drawing, [], [f"n = {rows['seed'].nunique()} seeds."])


STUDY = Study(
    name="mine",
    title="Small networks",
    question="How large are the weights of small networks after 40 iterations?",
    sweeps=(
        {
            "method": "grid",
            "parameters": {
                "model.depth": {"value": 8},
                "model.residual": {"values": [False, True]},
                "data.name": {"value": "digits"},
                "schedule.iterations": {"value": 40},
            },
        },
    ),
    figures=(weights,),
    claims=(),
)

# Workers are processes of their own, which must not begin here again.
if __name__ == "__main__":
    run_study(STUDY, OUTPUT / "mine", "notebook", pool=Pool(workers=1))
    mine = read_frames([OUTPUT / "mine"])
    print(compare(mine, Question("weight_norm", "layer")))
    render([weights], mine, OUTPUT / "figures")
