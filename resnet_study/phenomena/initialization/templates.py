"""What claims about networks at initialisation say: templates that put numbers into sentences."""

from __future__ import annotations

from resnet_study.reference import VEIT_BLOCKS, VEIT_LENGTHS, VEIT_SHARE

FACTOR = """{{ network }} ({{ setting }}) at initialisation: the activation-gradient norm is
multiplied by {{ factor|number(".4g") }} per layer toward the input, within stages
({{ predicted|number(".4g") }} predicted); stage by stage
{% for stage in factor_by_stage %}{{ ", " if not loop.first }}{{ stage|number(".4g") }}
{%- if predicted_by_stage %} ({{ predicted_by_stage[loop.index0]|number(".4g") }} predicted)
{%- endif %}{% endfor %}; jumps between stages included {{ factor_with_jumps|number(".4g") }}.
{% if predicted_by_stage %} Zero padding included, on maps of {{ sides|join(", ") }} pixels'
side; without borders {{ formula }} = {{ predicted_without_borders|number(".4g") }}.{% endif %}
{% if padded_by_stage %} With zero padding on maps of {{ sides|join(", ") }} pixels' side, which the
source has not, the same mean field gives {{ padded|number(".4g") }}, stage by stage
{% for stage in padded_by_stage %}{{ ", " if not loop.first }}{{ stage|number(".4g") }}{% endfor %}.
{% endif %}
{% if factors_elsewhere %} Other depths: {{ factors_elsewhere|number(".4g") }}.{% endif %}"""
WIDE = """Factor per layer toward the input of plain-{{ depth }} with BN at initialisation, by
filters of the first stage: {{ factors|number(".4g") }}. With {{ width }}, stage by stage
{% for stage in by_stage %}{{ ", " if not loop.first }}{{ stage|number(".4g") }}
{%- endfor %}; predicted with zero padding
{% for stage in padded_by_stage %}{{ ", " if not loop.first }}{{ stage|number(".4g") }}
{%- endfor %}, all together {{ padded|number(".4g") }}; without borders
{{ without_borders|number(".4g") }}."""
IMAGES = """Factor per layer toward the input of plain-{{ depth }} with BN at initialisation, by
images in the mini-batch: {{ factors|number(".4g") }}. With {{ usual }} the theory without borders,
{{ without_borders|number(".4g") }}, lies {{ shortfall|number(".2g") }} % above."""
SLOWER = """Factor per layer toward the input at depth {{ depth }}, within stages, padding
included: {% for one in networks %}{{ "; " if not loop.first }}{{ one.factor|number(".4g") }}
with {{ one.setting }}{% endfor %}. Other depths:
{% for one in networks %}{{ "; " if not loop.first }}{{ one.factors_elsewhere }}{% endfor %}."""
VANISHED = """First/last ratio of the activation-gradient norm in {{ family }} networks without
normalisation at initialisation, geometric mean over seeds:
{% for name, by_depth in ratios.items() %} {{- "; " if not loop.first }}{{ name }}
{{ by_depth|number(".2g") }}{% endfor %}. Judged: its log10 under LeCun initialisation at depth
{{ depth }}."""
RATIOS = """First/last ratio of the activation-gradient norm in {{ family }} networks with BN at
initialisation, geometric mean over seeds: {{ ratios }}."""
BLOCKS = """{% if blocks %} Not judged, ∂L/∂x at the input of the first block over that at the
output of the last: {{ blocks.ratios }}; as a power of depth exponent {{ blocks.exponent }};
misses {{ blocks.misses }}.{% endif %}"""
LAW = (
    RATIOS
    + """ Root mean square miss in ln(ratio), two parameters each: {{ misses }}. The exponential
has a factor of {{ factor_per_layer|number(".4g") }} per layer."""
    + BLOCKS
)
LAW_ANSWER = """The gradient of {{ family }} networks at initialisation grows by a factor of
{{ factor_per_layer.estimate|number(".4g") }} per layer toward the input: an exponential in depth
misses it by {{ misses.exponential }} in ln(ratio), a power of depth by {{ misses.power }}."""
EXPONENT = RATIOS + " As a power of depth: exponent {{ exponent }}." + BLOCKS
BRANCH_SHARE = """{{ network }} ({{ setting }}) at initialisation: every block adds
{{ added_per_block }} to Var(skip)/Var(branch), within stages. In the first stage
Var(branch)/Var(skip) falls as the block's number to the power {{ first_stage_exponent }}; −1
predicted for many blocks, {{ expected_exponent }} for these {{ blocks_per_stage }} with a
rectified stem before them, 1/(l − 1/2). {% if original_depth %} Original blocks at depth
{{ original_depth }}: {{ original_added_per_block }} per block (there ReLU follows the addition,
which the prediction is not for; a random walk that is reflected at 0 would keep 1 − 2/π =
{{ reflected_walk|number(".3f") }} of its variance).{% endif %}"""
VARIANCE_LAW = """{{ network }} ({{ setting }}) at initialisation, channel variance at the block
outputs against the number of the block in its stage, each stage fitted apart: root mean square
miss in ln(variance) {{ misses }}. As an exponential a factor of
{{ factor_per_block|number(".4g") }} per block. {% if expected_by_stage %} He initialisation
gives a branch the second moment of its input, a factor of 2; {{ expected_by_stage|number }} in
the three stages with zero padding, geometric mean {{ expected|number(".4g") }}.{% endif %}"""
RESET = """{{ network }} ({{ setting }}) at initialisation: channel variance at the output of
the first block of stages 2 and 3 over that of the block before: {{ after_over_before }},
geometric mean. Predicted for wide layers {{ predicted|number }} in ln without borders,
{{ padded|number }} with zero padding. The shortcut is option A, whose zero channels halve the mean
over channels; a projection of the normalised input would carry none of the growth on."""
CORRELATIONS = """Autocorrelation of the input gradient at lag 1 along a line between two
images, with BN, at initialisation: plain {{ plain }}; residual {{ residual }}. Judged at depth
{{ depth }}."""
CORRELATION_DECAY = """Correlation of the input gradients at lag 1 as a power of depth, with BN,
at initialisation: exponent
{% for name, family in families.items() %}{{ "; " if not loop.first }}{{ name }}
{{ family.exponent }} ({{ family.correlations }}){% endfor %}.
{% if fitted %} Fitted at {{ fitted|join(", ") }}: at the other depths a seed correlates by less
than {{ detectable|number("g") }}, which is noise.{% endif %} The predictions 1/2^L (plain) and
1/(β√L) (residual) are for two inputs far apart; neighbours start near 1 and come to the former
only when depth has driven them apart."""
PATH_LAW = """{{ network }} ({{ setting }}) at initialisation: gradient g of one path through k
branches, k = 1 to {{ longest }}: root mean square miss in ln g of an exponential in k
{{ misses.exponential }}, of a power of k {{ misses.power }}. Every branch multiplies g by
{{ factor_per_branch|number(".4g") }}. The source measured a trained network."""
PATH_SHARE = (
    """{{ network }} ({{ setting }}) at initialisation: paths through
{{ branches_from }} to {{ branches_to }} of the {{ blocks }} branches carry 95 % of the gradient,
the sum over k of C({{ blocks }}, k)·g(k), with a mean length of {{ mean_length }}; they are
{{ percent_of_paths }} % of all paths. In the source (110 layers, trained): """
    + f"{VEIT_LENGTHS[0]} to {VEIT_LENGTHS[1]} of {VEIT_BLOCKS}, {100 * VEIT_SHARE:g} %."
    + """ If g did not fall with k, 95 % of the gradient would need 95 % of the paths."""
)
NORM_PRESERVATION = """Residual networks with BN at initialisation, ratio of the gradient norms
at input and output of a block, blocks that keep the shape: mean |ln ratio| {{ mean_deviation }};
geometric mean ratio {{ mean_ratio|number(".4g") }}."""
